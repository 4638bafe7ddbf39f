"""Tokens for browsers and mobile apps: asked for by a caller, minted from a key of the operator's choice, handed out.

What belongs here: which mint serves a purpose, and how often a caller may ask. What does not: who is a caller and what
the answer looks like (``core/``, ``wire/``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.core.model import CredentialUnavailable, IssuedToken
from proxy.credentials.clock import Clock
from proxy.credentials.one_time import OneTimeMint, Rate
from proxy.credentials.session_token import SessionToken
from proxy.credentials.token_endpoint import MintError

PERIOD = 60.0
"""Seconds over which a caller's tokens are counted."""

REALTIME = "realtime"
ONE_TIME = "one-time"


class Issuer(Protocol):
    """Mints for one purpose."""

    async def __call__(self, caller: str) -> IssuedToken:
        """A fresh token. Raises ``MintError``."""


@dataclass(frozen=True, slots=True)
class SessionTokenIssuer:
    """Session tokens, one for each who asks: the proxy's own is never handed out, so it can be dropped at will."""

    credential: SessionToken

    async def __call__(self, caller: str) -> IssuedToken:  # noqa: ARG002 - the mint has no place for a reference
        """See ``Issuer``."""
        minted = await self.credential.mint_another()
        return IssuedToken(minted.token.reveal(), minted.expires, once=False)


@dataclass(frozen=True, slots=True)
class OneTimeIssuer:
    """One-time tokens of this many ``seconds``; the caller's name goes with them, for the upstream's own records."""

    mint: OneTimeMint
    seconds: int

    async def __call__(self, caller: str) -> IssuedToken:
        """See ``Issuer``."""
        minted = await self.mint.mint(seconds=self.seconds, reference=caller.encode("ascii", "replace").decode())
        return IssuedToken(minted.token.reveal(), minted.expires, once=True)


class Desk:
    """Where callers get tokens. Implements ``TokenDesk``. ``per_minute`` is for each caller.

    ``old`` is the desk that this one takes the place of: the minute of each caller goes on. The two share it, because
    callers are served by either while one follows the other.
    """

    def __init__(
        self, issuers: Mapping[str, Issuer], per_minute: int, *, old: Desk | None = None, clock: Clock | None = None
    ) -> None:
        self._issuers = dict(issuers)
        self._per_minute = per_minute
        self._clock = clock or Clock()
        self.rates: dict[str, Rate] = old.rates if old is not None else {}

    @property
    def purposes(self) -> tuple[str, ...]:
        """See ``TokenDesk``."""
        return tuple(self._issuers)

    def wait(self, caller: str) -> float:
        """See ``TokenDesk``. Callers are those of the configuration, so there are few."""
        rate = self.rates.get(caller)
        if rate is None:
            rate = self.rates[caller] = Rate(self._per_minute, PERIOD)
        rate.resize(self._per_minute)
        return rate.take(self._clock.monotonic())

    async def issue(self, purpose: str, caller: str) -> IssuedToken:
        """See ``TokenDesk``."""
        try:
            return await self._issuers[purpose](caller)
        except MintError as exc:
            raise CredentialUnavailable(purpose, exc.retry_after or 1.0) from exc
