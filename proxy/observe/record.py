"""What is known about one request: filled in as it goes, read once when it is over."""

from __future__ import annotations

from enum import IntEnum

from proxy.core.enums import at_hand
from proxy.core.errors import Code
from proxy.core.model import Allow, Deny, Local, RequestHead

GONE = 499
"""What is counted and logged, nginx's way, as the status of a request whose caller left before it was answered."""


@at_hand
class Ending(IntEnum):
    """How a request ended. Exactly one is true of every request that was accepted.

    Integers, because they index a list of counters: an Enum as a dictionary key is hashed in Python.
    """

    ANSWERED = 0
    REFUSED = 1
    FAILED = 2
    CALLER_GONE = 3
    ABORTED = 4

    @property
    def word(self) -> str:
        """As it stands in the log and in the metric."""
        return self.name.lower()


class Evidence:
    """What the inspector can show of one request besides its record: the heads, and what was decided.

    ``received`` is the caller's head as it came, ``answered`` the upstream's with its credential masked, ``returned``
    what the caller got; empty where there was none. What was sent is made again from ``head``, ``length`` (of the body,
    as in ``RequestParts``) and ``decision``, so that no head has the bytes of a credential; ``decision`` names the
    credential itself until ``forget()``. ``denied`` is why it was refused or failed.
    """

    __slots__ = ("answered", "decision", "denied", "head", "length", "received", "returned")

    def __init__(self, received: bytes, head: RequestHead | None, decision: Allow | Local | None, length: int) -> None:
        self.received = received
        self.head = head
        self.decision = decision
        self.length = length
        self.denied: Deny | None = None
        self.answered = b""
        self.returned = b""

    def answer_here(self, answer: bytes, denied: Deny | None = None) -> None:
        """This was answered by the proxy itself. Its body is not kept: there may be a token in it."""
        self.denied = denied
        self.returned = answer[: answer.find(b"\r\n\r\n") + 4]

    def forget(self) -> None:
        """Keeps nothing by which a credential of an earlier configuration could be found."""
        self.decision = None
        if self.denied is not None:
            self.denied = Deny(self.denied.code, self.denied.message)


class Record:
    """One request. Times are ``time.monotonic()`` seconds (``moment``: Unix time), sizes bytes of bodies or frames.

    ``path`` has no query and is safe to print only when ``operation`` is set or it was found canonical; the log
    escapes it otherwise. ``request_id`` and the ids of the trace are made here or were found harmless
    (``tracing.py``); ``span_id`` is what the upstream is told as its parent, and the id of a span that is exported if
    this is ``recorded``. A mutable class, not a frozen value, because it is the one thing that happens over time.
    """

    __slots__ = (
        "caller",
        "code",
        "credential",
        "ended",
        "ending",
        "evidence",
        "first_byte",
        "inworld_request_id",
        "messages_in",
        "messages_out",
        "method",
        "moment",
        "operation",
        "parent_id",
        "path",
        "peer",
        "received",
        "recorded",
        "request_bytes",
        "request_id",
        "response_bytes",
        "retried",
        "reused",
        "sent",
        "span_id",
        "status",
        "trace_id",
        "tunnel_opened",
        "upstream",
        "websocket",
        "would_refuse",
    )

    def __init__(self, received: float, moment: float, method: str, path: str, peer: str) -> None:
        self.received = received
        self.moment = moment
        self.method = method
        self.path = path
        self.peer = peer
        self.operation: str | None = None
        self.caller: str | None = None
        self.credential: str | None = None
        self.upstream: str | None = None
        self.status = 0
        self.code: Code | None = None
        self.would_refuse: Code | None = None
        self.ending = Ending.ANSWERED
        self.sent = 0.0
        self.first_byte = 0.0
        self.ended = 0.0
        self.tunnel_opened = 0.0
        self.request_bytes = 0
        self.response_bytes = 0
        self.messages_in = 0
        self.messages_out = 0
        self.websocket = False
        self.reused = False
        self.retried = False
        self.inworld_request_id: str | None = None
        self.request_id = ""
        self.trace_id = ""
        self.span_id = ""
        self.parent_id = ""
        self.recorded = False
        self.evidence: Evidence | None = None  # there is one while the inspector is on
