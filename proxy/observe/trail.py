"""The last requests, kept so that the inspector can show them: references to what was there anyway, made into words
later.

What belongs here: what is kept of a request, how many, and why requests were refused how often. What does not: what is
shown of it, and what of that is masked (``admin/inspector/``). Never kept: a body, and the bytes of the upstream's
credential in a head; what was decided names the credential itself until that is retired. A caller's own token is in
the head that it sent, and stays in memory until the head is displaced.
"""

from __future__ import annotations

from math import inf
from typing import Final

from proxy.core.errors import Code
from proxy.core.model import Allow, Local, RequestHead
from proxy.observe.record import Ending, Evidence, Record

_ANSWERED: Final = Ending.ANSWERED

LONGEST_KEPT = 4096
"""Bytes of a head that are kept; of a longer one nothing is. A ring of 500 then takes 8.5 MB at most (measured,
2026-11-22), since what crosses is there once more; with heads of 200 bytes 0.9."""

RATE: Final = 1000.0
BURST: Final = 500.0
"""Of the requests that were answered well so many a second are kept, and so many at once. Of more nobody reads any,
what went wrong among them would be displaced within moments, and each that is kept takes memory that is in no cache:
3 % of a request (bench/README.md)."""

MOST_OPEN: Final = 50
"""WebSockets whose heads are kept while they are open, for when they are over: 2 KB each, beside the 3.8 KB of an idle
one (1,000 of them, 2026-11-22), and they may stay for hours."""

MOST_REASONS = 500
"""Codes by operation and caller that are counted; the one that was not seen for longest makes room."""


class Reason:
    """How often requests were refused, or failed, for one reason, and when last (Unix seconds)."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0


class Trail:
    """A ring of records. ``on`` is False where nothing is kept.

    ``count`` is how many were put into it: numbered from 1 in the order in which they ended. ``passed`` is how many
    were not: see ``RATE``.
    """

    __slots__ = ("_begin", "_last", "_left", "_retired_before", "_ring", "count", "keep", "on", "passed", "reasons")

    def __init__(self, keep: int = 0) -> None:
        self.keep = keep
        self.on = keep > 0
        self.count = 0
        self.passed = 0
        self.reasons: dict[tuple[Code, str | None, str | None, bool], Reason] = {}
        """By code, operation, caller, and whether it was let through in audit mode; the last seen is the last."""
        self._ring: list[Record | None] = [None] * keep
        self._begin = 0
        self._retired_before = -inf
        self._last = 0.0
        self._left = BURST

    def configure(self, keep: int) -> None:
        """Keeps so many from now on, the newest of those that there are among them; 0: none, and what was counted
        goes."""
        if keep == self.keep:
            return
        kept = self.after(0)
        displaced = max(0, len(kept) - keep)
        for record in kept[:displaced]:
            record.evidence = None
        kept = kept[displaced:]
        self.keep = keep
        self.on = keep > 0
        self._ring = [None] * keep
        self._begin = self.count - len(kept)
        for number, record in enumerate(kept, self._begin):
            self._ring[number % keep] = record
        if not keep:
            self.reasons = {}

    def evidence(self, raw: bytes, head: RequestHead | None, decision: Allow | Local | None, length: int) -> Evidence:
        """What is kept of a request from its head on; of too long a head nothing. ``head`` is None when unreadable."""
        return Evidence(raw, head, decision, length) if len(raw) <= LONGEST_KEPT else Evidence(b"", None, decision, 0)

    def has_room_for_tunnel(self, open_ones: int) -> bool:
        """Are the heads of one more WebSocket kept while it is open, beside those of so many?"""
        return open_ones < min(self.keep, MOST_OPEN)

    def add(self, record: Record) -> None:
        """One request is over."""
        if _is_ordinary(record):
            left = min(BURST, self._left + (record.ended - self._last) * RATE)
            self._last = record.ended
            if left < 1.0:
                self._left = left
                self.passed += 1
                record.evidence = None  # the record may still wait to be exported, and needs none for that
                return
            self._left = left - 1.0
        count = self.count
        place = count % self.keep
        displaced = self._ring[place]
        if displaced is not None:
            displaced.evidence = None
        evidence = record.evidence
        if evidence is not None and record.received <= self._retired_before:
            evidence.forget()
        self._ring[place] = record
        self.count = count + 1
        code = record.code
        if code is not None:
            self.count_reason(code, record)
        if record.would_refuse is not None:
            self.count_reason(record.would_refuse, record, audited=True)

    def count_reason(self, code: Code, record: Record | None, *, audited: bool = False, moment: float = 0.0) -> None:
        """Something was refused or failed for this reason. ``moment``: when, where there is no record."""
        key = (code, None if record is None else record.operation, None if record is None else record.caller, audited)
        reason = self.reasons.pop(key, None)
        if reason is None:
            reason = Reason()
            if len(self.reasons) >= MOST_REASONS:
                self.reasons.pop(next(iter(self.reasons)))
        reason.count += 1
        reason.last = moment if record is None else record.moment
        self.reasons[key] = reason

    def after(self, number: int, most: int = 0) -> list[Record]:
        """What is kept of the requests after this number, oldest first; of more than ``most`` (0: any) the newest.

        The last of them has the number ``count``.
        """
        begin = max(number, self._begin, self.count - self.keep)
        if most:
            begin = max(begin, self.count - most)
        kept = []
        for index in range(begin, self.count):
            record = self._ring[index % self.keep]
            if record is not None:
                kept.append(record)
        return kept

    def forget(self, adopted_at: float) -> None:
        """Credentials of an earlier configuration have ended: what was begun before this one loses its way to them,
        also what is not over yet."""
        self._retired_before = max(self._retired_before, adopted_at)
        for record in self._ring:
            if record is not None and record.evidence is not None and record.received <= adopted_at:
                record.evidence.forget()

    def find(self, number: int) -> Record | None:
        """The request with this number, if it is still kept."""
        if not max(self._begin, self.count - self.keep) < number <= self.count:
            return None
        return self._ring[(number - 1) % self.keep]


def _is_ordinary(record: Record) -> bool:
    """Was it answered well, and let through because that is allowed?"""
    return (
        record.ending is _ANSWERED
        and record.status < 400
        and record.code is None
        and record.would_refuse is None
        and not record.websocket
    )
