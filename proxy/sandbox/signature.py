"""IW1-HMAC-SHA256: reading the signed Authorization header of a session-token mint, and recomputing its signature.

What belongs here: the algorithm and the header's grammar, as plain functions. What does not: which hosts and methods
are acceptable, the clock, and replay, which need the sandbox's state (``mints.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

SCHEME = "IW1-HMAC-SHA256"

_HEADER = re.compile(
    r"IW1-HMAC-SHA256 ApiKey=(?P<key>[^,\s]+),DateTime=(?P<datetime>[0-9]{14}),"
    r"Nonce=(?P<nonce>[^,\s]{1,64}),Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """The four fields of the header."""

    key_id: str
    datetime: str
    nonce: str
    signature: str

    def moment(self) -> float:
        """The DateTime field as seconds since the epoch; raises ``ValueError`` for a date that does not exist."""
        return datetime.strptime(self.datetime, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


def read_header(value: str) -> SignedHeader | None:
    """The header's fields, or None if it is not such a header."""
    match = _HEADER.fullmatch(value)
    if match is None:
        return None
    return SignedHeader(match["key"], match["datetime"], match["nonce"], match["signature"])


def sign(secret: str, parts: Iterable[str]) -> str:
    """The signature over DateTime, host, method and nonce, in that order.

    Raw digests are chained. The vendor's sample README chains their hexadecimal form instead; its own code does not.
    """
    key = f"IW1{secret}".encode()
    for part in parts:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, b"iw1_request", hashlib.sha256).hexdigest()


def signed_by(header: SignedHeader, secret: str, *, hosts: Iterable[str], method: str) -> bool:
    """True if the header was signed with this secret for this method and one of these hosts."""
    matches = [
        hmac.compare_digest(header.signature, sign(secret, (header.datetime, host, method, header.nonce)))
        for host in hosts
    ]
    return any(matches)


def without_port_443(host: str) -> str:
    """The host as the JavaScript clients sign it: they remove the first ``:443``, wherever it stands."""
    return host.replace(":443", "", 1)
