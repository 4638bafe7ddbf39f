"""The ids of a request on its way: what a caller may say about them, and the lines that go out.

What belongs here: the grammar of ``X-Request-Id``, and of ``traceparent`` and ``tracestate`` (W3C Trace Context, level
1), read once per head. What does not: making ids, and which requests are exported (``observe/tracing.py``).

Whatever a caller sends, one ``traceparent`` of version 00 and one ``X-Request-Id`` go out, and no byte of theirs can
end a line, in a head or in the log.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.recognition import read_presented

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
"""What UUIDs, ULIDs, hexadecimal, base64 and the ids of proxies are made of. No blank, comma, quote or semicolon: it
stands in a field, a log line and a command line alike, and two values joined by a comma are none."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?")
"""Trace Context section 3.2. A later version may say more behind another hyphen, and only there (section 3.2.4). No
comma: two lines joined are none."""

_NO_TRACE = b"0" * 32
_NO_PARENT = b"0" * 16
_SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3
"""Sampled, and the flag of level 2 that says that the trace id is random; what is not known is not passed on."""

_FLAGS: Final = ("00", "01", "02", "03")

_MEMBER = re.compile(rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
"""Trace Context section 3.3.1.3."""
LONGEST_STATE: Final = 512
"""Bytes of ``tracestate``: what section 3.3.1.5 asks everyone to pass on. A longer one is dropped whole."""
MOST_MEMBERS: Final = 32


class TraceContext:
    """What a head says: ``request_id`` and ``trace_id`` are empty where it says nothing usable.

    ``flags`` (0 to 3) become two hexadecimal digits, ``recorded`` the same with the sampled flag set. ``state`` is the
    complete line of ``tracestate``, or empty. One value may serve many requests; nothing changes it.
    """

    __slots__ = ("flags", "parent_id", "recorded", "request_id", "sampled", "state", "trace_id")

    def __init__(
        self, request_id: str, trace_id: str = "", parent_id: str = "", flags: int = 0, state: bytes = b""
    ) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.sampled = flags & _SAMPLED != 0
        self.flags = _FLAGS[flags]
        self.recorded = _FLAGS[flags | _SAMPLED]
        self.state = state


NOTHING_SAID: Final = TraceContext("")


def read_context(noted: dict[bytes, bytes]) -> TraceContext:
    """What these fields say (lines of one name joined by commas): of a malformed one, that it is not there."""
    said = noted.get(b"x-request-id")
    parent = noted.get(b"traceparent")
    if said is None and parent is None:
        return NOTHING_SAID
    request_id = "" if said is None or not _is_usable(said, noted) else said.decode("ascii")
    match = None if parent is None else _TRACEPARENT.fullmatch(parent)
    if match is None:
        return TraceContext(request_id)
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace_id == _NO_TRACE or parent_id == _NO_PARENT:
        return TraceContext(request_id)
    known = int(flags, 16) & _KNOWN_FLAGS
    return TraceContext(request_id, trace_id.decode("ascii"), parent_id.decode("ascii"), known, _state_line(noted))


def _is_usable(said: bytes, noted: dict[bytes, bytes]) -> bool:
    """Is it an id, and none that has the caller's own token in it? It would stand in the log, and go upstream."""
    if _REQUEST_ID.fullmatch(said) is None:
        return False
    return not any(presented.token and presented.token in said for presented in read_presented(noted))


def _state_line(noted: dict[bytes, bytes]) -> bytes:
    state = noted.get(b"tracestate", b"")
    members = [member for part in state.split(b",") if (member := part.strip(b" \t"))]
    if len(state) > LONGEST_STATE or not 0 < len(members) <= MOST_MEMBERS:
        return b""
    if any(_MEMBER.fullmatch(member) is None for member in members):
        return b""
    return b"tracestate: " + b",".join(members) + b"\r\n"


def onward_lines(context: TraceContext, request_id: str, trace_id: str, span_id: str, *, recorded: bool) -> bytes:
    """The lines for the upstream. ``recorded``: the span ``span_id`` is one that will be exported."""
    flags = context.recorded if recorded else context.flags
    lines = f"traceparent: 00-{trace_id}-{span_id}-{flags}\r\nX-Request-Id: {request_id}\r\n".encode("ascii")
    return lines + context.state if context.state else lines


def request_id_line(request_id: str) -> bytes:
    """The line for the caller."""
    return f"X-Request-Id: {request_id}\r\n".encode("ascii")
