"""What is kept of a handshake for as long as its WebSocket is open: enough to ask whether it may stay, and no more."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from proxy.core.headers import TRACE_FIELDS
from proxy.core.model import RequestHead

_ANY_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
"""One of the right form: it stands for each of those that were sent, which are all different and decide nothing."""


class Asked(NamedTuple):
    """A handshake's head as far as it decides anything, kept small: there may be ten thousand of them."""

    target: str
    version: int
    noted: bytes
    uid: int | None = None

    @classmethod
    def of(cls, head: RequestHead) -> Asked:
        """What to keep of this head."""
        noted = {name: value for name, value in head.noted.items() if name not in TRACE_FIELDS}
        noted[b"sec-websocket-key"] = _ANY_KEY
        return cls(head.target, head.version, b"\n".join(b"%b:%b" % item for item in noted.items()), head.uid)

    def is_like(self, other: Asked) -> bool:
        """Do the two say the same? Takes as long whatever the difference: there may be a token in it."""
        same = (self.target, self.version, self.uid) == (other.target, other.version, other.uid)
        return same and hmac.compare_digest(self.noted, other.noted)

    def head(self) -> RequestHead:
        """The head again, without the fields that decide nothing."""
        noted = {name: value for name, _, value in (line.partition(b":") for line in self.noted.split(b"\n"))}
        return RequestHead("GET", self.target, self.version, [], noted, self.uid)

    def __repr__(self) -> str:
        return "Asked(…)"  # the fields may hold the caller's token
