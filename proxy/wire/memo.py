"""Same head, same answer: what one connection's last head was read and decided as.

Programs that call an API send the same head again and again, but for the digits of Content-Length. Reading and deciding
are pure, so the same bytes under the same snapshot have the same answer, and comparing them saves 17 us of the 58 a
request took without a network (2026-11-21; a head that never repeats saves nothing). Only an Allow is remembered, only
for this connection, and only within one second of the wall clock, because a caller's own token may expire.
"""

from __future__ import annotations

import re

from proxy.core.model import Allow, Kind, Snapshot
from proxy.wire.head import CHUNKED, RequestParts

_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)

MOST_REMEMBERED = 2048
"""Bytes of a head; a connection that waits for its next request keeps three times as much in memory at most."""


class Memo:
    """One head and its answer. ``before`` and ``after`` are the head around the digits of Content-Length."""

    __slots__ = ("_after", "_before", "_second", "_snapshot", "allow", "parts")

    def __init__(self, raw: bytes, snapshot: Snapshot, second: int, parts: RequestParts, allow: Allow) -> None:
        self._snapshot = snapshot
        self._second = second
        self.parts = parts
        self.allow = allow
        match = _LENGTH_LINE.search(raw)
        if match is None:
            self._before, self._after = raw, b""
        else:
            self._before, self._after = raw[: match.start(1)], raw[match.end(1) :]

    def own(self, raw: bytes) -> bytes:
        """The same bytes as this recalled head; the very object that is kept here, where it is kept in one piece.

        For whoever keeps heads: so many of them take no room, and are in a cache.
        """
        return raw if self._after else self._before

    def recall(self, raw: bytes, snapshot: Snapshot, second: int) -> RequestParts | None:
        """The parts of this head, if it is the remembered one but for its length; then ``allow`` holds for it too."""
        before, after = self._before, self._after
        if snapshot is not self._snapshot or second != self._second or not raw.startswith(before):
            return None
        if not after:
            return self.parts if len(raw) == len(before) else None
        digits = raw[len(before) : len(raw) - len(after)]
        if not raw.endswith(after) or not digits.isdigit() or len(digits) > 18:
            return None
        length = int(digits)
        parts = self.parts
        return parts if length == parts.length else parts.with_length(length)


def remember(raw: bytes, snapshot: Snapshot, second: int, parts: RequestParts, allow: Allow) -> Memo | None:
    """What to keep of this head, or None when it is not worth it or its length decides more than a body's end."""
    if len(raw) > MOST_REMEMBERED or allow.operation.kind is Kind.WEBSOCKET:
        return None
    if parts.length == CHUNKED or b"expect" in parts.head.noted:  # whether it waits depends on the length
        return None
    return Memo(raw, snapshot, second, parts, allow)
