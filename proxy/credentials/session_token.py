"""The credential kind ``session-token``: a short-lived token, minted from a key, sent as ``Bearer``.

What belongs here: who waits, who mints, and which token is shown. What does not: the rules as numbers
(``token_life.py``) and the mint itself (``mint.py``).

One task mints and nobody else, so there is never more than one mint in flight. Requests that find no token wait for
what that task does next; one that leaves takes nothing with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, NoReturn

from proxy.core.model import CredentialState, CredentialUnavailable, KeyPower, RunningTask, Spawn
from proxy.credentials.clock import Clock
from proxy.credentials.definition import Definition
from proxy.credentials.live import LiveSecret
from proxy.credentials.mint import Minted
from proxy.credentials.secret import Secret
from proxy.credentials.token_endpoint import TIME_LIMIT, MintError, MintFailure
from proxy.credentials.token_life import (
    DOUBTS_APART,
    MOST_DOUBTS,
    PATIENCE,
    SHORTEST_USE,
    SKEW_THAT_EXPLAINS,
    YOUNG,
    pause_after,
    plan_life,
)
from proxy.credentials.token_state import DISCARDED, SUCCESS, TokenState

if TYPE_CHECKING:
    from proxy.credentials.api_key import ApiKey

Mint = Callable[[Secret, float], Awaitable[Minted]]
"""The key and the skew to sign with in; a token out. Raises ``MintError``."""

logger = logging.getLogger("proxy")


class SessionToken:
    """A token that keeps itself fresh between ``start()`` and ``close()``. Implements ``Credential``."""

    __slots__ = (
        "_attempted", "_chance", "_generation", "_keeping", "_mint", "_monotonic", "_predecessor", "_spawn", "_task",
        "_token", "_wake", "_wall", "definition", "live", "name", "power",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        live: LiveSecret,
        power: KeyPower,
        mint: Mint,
        *,
        definition: Definition | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        self.name = name
        self.power = power
        self.definition = definition
        self._predecessor: SessionToken | None = None
        self.live = live
        self._mint = mint
        self._wall, self._monotonic, self._chance = clock.wall, clock.monotonic, clock.chance
        self._token = TokenState()
        self._generation = 0
        # The task that mints, and those who wait for it.
        self._spawn: Spawn | None = None
        self._task: RunningTask | None = None
        self._keeping = False
        self._wake = asyncio.Event()
        self._attempted = asyncio.Event()

    @property
    def renews(self) -> bool:
        """A refused token is replaced by another."""
        return True

    @property
    def kind(self) -> str:
        """Always ``session-token``."""
        return "session-token"

    def authorization(self) -> bytes | None:
        """The field line, as long as the token in it is sure to arrive in time."""
        if self._monotonic() < self._token.until and self._wall() < self._token.until_wall:
            return self._token.line
        return None

    async def refresh(self) -> None:
        """Waits until there is a token: through short pauses between mints, and no longer than one mint may take.

        Raises ``CredentialUnavailable``, at once while the next mint is further off than ``PATIENCE``.
        """
        give_up = self._monotonic() + TIME_LIMIT
        while self.authorization() is None:
            now = self._monotonic()
            pause = self._token.not_before - now
            if self._spawn is None or pause > PATIENCE or now >= give_up:
                raise CredentialUnavailable(self.name, max(1.0, pause))
            if not self._keeping:
                self._begin(self._spawn)
            self._wake.set()
            try:
                async with asyncio.timeout(give_up - now):
                    await self._attempted.wait()
            except TimeoutError:
                continue

    async def mint_another(self) -> Minted:
        """One more token, from the same key, for somebody else to use. Raises ``MintError``."""
        return await self._mint(self.live.current, self._token.skew or 0.0)

    def refused(self, line: bytes) -> bool:
        """Drops the token if it is still the one refused. True when a fresh one is at hand or will be in a moment."""
        now = self._monotonic()
        if line == self._token.line:
            self._token.refusals += 1
            self._token.in_row = self._token.in_row + 1 if now - self._token.minted_at < YOUNG else 1
            self._token.drop()
            if self._token.in_row > 1:
                pause = pause_after(self._token.in_row - 1, MintFailure.UNAVAILABLE, chance=self._chance())
                self._token.not_before = max(self._token.not_before, now + pause)
            self.live.ask()
            self._wake.set()
        return self.authorization() is not None or (
            self._spawn is not None and self._token.not_before - now <= PATIENCE
        )

    def doubted(self, line: bytes) -> None:
        """After a few doubts about the same token it is replaced; until then it stays in use."""
        now = self._monotonic()
        if line != self._token.line or now - self._token.doubted_at < DOUBTS_APART:
            return
        self._token.doubts += 1
        if self._token.doubts >= MOST_DOUBTS:
            self._token.doubts = 0
            self._token.doubted_at = now
            self._token.wanted = True
            self._wake.set()

    def inherit(self, old: ApiKey | SessionToken) -> bool:
        """Begins, once it starts, with the token of another that is in force now. False: their keys differ."""
        if not isinstance(old, SessionToken) or old.live.current != self.live.current:
            return False
        self._predecessor = old
        return True

    def hand_on(self) -> TokenState:
        """What a successor begins with. From now on this one mints for those who wait for it, and not ahead of time."""
        return self._token.hand_on()

    def start(self, spawn: Spawn) -> None:
        """Mints the first token, unless one was inherited, and every next one ahead of time."""
        self._spawn = spawn
        old, self._predecessor = self._predecessor, None
        if old is not None and old.live.current == self.live.current:
            self._token = old.hand_on()
            self.live.inherit(old.live)
        self.live.start(spawn, self._on_secret)
        self._begin(spawn)

    def close(self) -> None:
        """Stops minting. A token at hand is still given out until its end."""
        self._spawn = None
        self.live.close()
        if self._task is not None:
            self._task.cancel()
        self._tell()

    def state(self) -> CredentialState:
        """How it is now."""
        ready = self.authorization() is not None
        return CredentialState(
            ready=ready,
            source=self.live.kind,
            place=self.live.place,
            succeeded_at=self._token.minted_wall,
            source_reads=dict(self.live.reads),
            refused=self._token.failure is MintFailure.REFUSED or (not ready and self._token.in_row > 0),
            refusals=self._token.refusals,
            fault=self.live.fault,
            expires_at=self._token.life.ends if self._token.life is not None else None,
            mints=dict(self._token.mints),
            mint_seconds=self._token.seconds,
            last_mint_seconds=self._token.last_seconds,
            skew=self._token.skew,
        )

    # -- the task that mints ------------------------------------------------------------------------------------------

    def _begin(self, spawn: Spawn) -> None:
        self._keeping = True
        self._task = spawn(self._keep())

    async def _keep(self) -> None:
        try:
            while True:
                pause = self._due() - self._monotonic()
                if pause <= 0:
                    await self._attempt()
                    continue
                self._wake.clear()
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._keeping = False
            self._tell()

    def _due(self) -> float:
        if self._token.life is None or self._token.wanted or self.authorization() is None:
            return self._token.not_before
        return max(self._token.life.refresh_at, self._token.not_before)

    async def _attempt(self) -> None:
        generation, skew = self._generation, self._token.skew or 0.0
        began = self._monotonic()
        outcome: Minted | MintError | None = None
        try:
            outcome = await self._mint(self.live.current, skew)
        except MintError as exc:
            outcome = exc
        finally:
            if outcome is None:
                # It ended in a way that nobody foresaw: a bug, not repeated at full speed when the task begins again.
                self._token.not_before = self._monotonic() + pause_after(1, MintFailure.INVALID, chance=1.0)
        self._token.last_seconds = self._monotonic() - began
        self._token.seconds += self._token.last_seconds
        if generation != self._generation:
            # The key was replaced meanwhile; what was minted from the old one is not used.
            self._token.mints[DISCARDED] += 1
            self._token.not_before = -inf
        elif isinstance(outcome, Minted):
            self._take(outcome)
        else:
            self._on_failure(outcome, skew)
        self._tell()

    def _take(self, minted: Minted) -> None:
        now, wall = self._monotonic(), self._wall()
        self._token.skew = minted.skew if minted.skew is not None else self._token.skew
        skew = self._token.skew or 0.0
        life = plan_life(minted.expires, skew=skew, wall=wall, monotonic=now, chance=self._chance())
        if life is None:
            reason = "the token endpoint gave a token that has ended already"
            self._on_failure(MintError(MintFailure.INVALID, reason, skew=minted.skew), skew)
            return
        self._token.line = f"Authorization: Bearer {minted.token.reveal()}\r\n".encode("ascii")
        self._token.life, self._token.until, self._token.until_wall = life, life.until, life.until_wall
        self._token.minted_at, self._token.minted_wall = now, wall
        self._token.not_before = now + SHORTEST_USE
        self._token.wanted = False
        self._token.doubts = self._token.failures = 0
        self._token.failure = None
        self._token.mints[SUCCESS] += 1

    def _on_failure(self, error: MintError, skew: float) -> None:
        self._token.failures += 1
        self._token.failure = error.failure
        self._token.mints[error.failure.value] += 1
        spacing = error.failure
        if error.skew is not None:
            if spacing is MintFailure.REFUSED and abs(error.skew - skew) > SKEW_THAT_EXPLAINS:
                spacing = MintFailure.UNAVAILABLE
            self._token.skew = error.skew
        if error.failure is MintFailure.REFUSED:
            self.live.ask()
        pause = max(pause_after(self._token.failures, spacing, chance=self._chance()), error.retry_after)
        self._token.not_before = self._monotonic() + pause
        if self._token.failures == 1 or pause > PATIENCE:
            logger.warning("credential %s: %s; next attempt in %.1f s", self.name, error.reason, pause)

    def _on_secret(self) -> None:
        """The key was replaced. Its token follows at once; until then the one at hand is still good."""
        self._generation += 1
        self._token.failures = self._token.in_row = 0
        self._token.failure = None
        self._token.not_before, self._token.wanted = -inf, True
        self._wake.set()

    def _tell(self) -> None:
        """Wakes all who wait; they look for themselves what came of it."""
        attempted, self._attempted = self._attempted, asyncio.Event()
        attempted.set()

    def __repr__(self) -> str:
        return f"SessionToken({self.name!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential cannot be copied or pickled")
