"""One session token: signed for, asked for, and read.

What belongs here: the request of each variant, and what an answer must look like. What does not: when to mint and how
long a token is used (``session_token.py``).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from proxy.credentials.clock import Clock
from proxy.credentials.iw1 import DOCUMENTED, MintVariant, authorization_value, signed_host, split_key
from proxy.credentials.secret import Secret
from proxy.credentials.token_endpoint import TIME_LIMIT, MintError, MintFailure, Reply, TokenEndpoint

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")
"""RFC 6750 section 2.1. Anything else could end the field line that the token goes into."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A token, when it ends (Unix seconds by the endpoint's clock), and how far that clock is ahead of ours."""

    token: Secret
    expires: float
    skew: float | None


@dataclass(frozen=True, slots=True)
class SessionTokenMint:
    """Everything about a mint but the key. ``host`` replaces the host string that is signed.

    A ``workspace`` is needed by the variant that names one.
    """

    endpoint: TokenEndpoint
    variant: MintVariant = DOCUMENTED
    workspace: str | None = None
    host: str | None = None
    clock: Clock = field(default_factory=Clock)
    time_limit: float = TIME_LIMIT

    def __post_init__(self) -> None:
        # Here, while a configuration is read, and not on the loop that serves.
        import jwt  # noqa: F401, PLC0415 - it brings cryptography: 7 % of a start, for those who mint nothing

    async def __call__(self, key: Secret, skew: float) -> Minted:
        """Mints from ``key``, the Base64 of ``id:secret``, signed at our time corrected by ``skew``.

        Raises ``MintError``.
        """
        variant = self.variant
        key_id, secret = split_key(base64.b64decode(key.reveal()).decode())
        authorization = authorization_value(
            key_id,
            secret,
            host=self.host or signed_host(variant, self.endpoint.upstream.host),
            method=variant.method,
            moment=self.clock.wall() + skew,
            nonce=variant.nonce(secrets.token_hex(16)),
        )
        reply = await self.endpoint.post(
            variant.path,
            authorization,
            variant.body(key_id, self.workspace),
            clock=self.clock,
            time_limit=self.time_limit,
        )
        return read_session_token(reply)


def read_session_token(reply: Reply) -> Minted:
    """The token of an answer. Raises ``MintError`` when there is none, or nothing says when it ends."""
    token = bearer_token(reply, "token")
    if str(reply.members.get("type", "Bearer")).lower() != "bearer":
        raise MintError(MintFailure.INVALID, "the token endpoint gave a token of another type", skew=reply.skew)
    ends = [end for end in (moment(reply.members, "expirationTime"), _own_expiry(token)) if end is not None]
    if not ends:
        raise MintError(MintFailure.INVALID, "the token endpoint gave a token without an end", skew=reply.skew)
    return Minted(token, min(ends), reply.skew)


def bearer_token(reply: Reply, member: str) -> Secret:
    """The token in this member of an answer. Raises ``MintError`` when it could not stand in a header field."""
    token = reply.members.get(member)
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise MintError(MintFailure.INVALID, "the token endpoint gave no usable token", skew=reply.skew)
    return Secret(token)


def moment(members: Mapping[str, object], member: str) -> float | None:
    """A moment of an answer (RFC 3339) as Unix seconds; None when it is missing, malformed or without an offset."""
    text = members.get(member)
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
        return when.timestamp() if when is not None and when.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _own_expiry(token: Secret) -> float | None:
    """The ``exp`` of a token that is a JWT. Not verified: it is ours to send, and only the end is believed, earlier."""
    import jwt  # noqa: PLC0415 - see SessionTokenMint

    try:
        end = jwt.decode(token.reveal(), options={"verify_signature": False}).get("exp")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return float(end) if isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < 1e12 else None
