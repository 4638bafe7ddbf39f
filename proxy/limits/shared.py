"""The callers' rates as one budget of several processes: one task asks for the leases of all callers.

What belongs here: when to ask, whether somebody answers, and what is said about that. What does not: what is asked for
(``leases.py``) and of whom (``store.py`` says what it must be able to do, ``redis_store.py`` does it).

One task for the whole process and one round trip at a time: what is asked for while one is under way goes together with
the next. A round trip that takes longer than ``ROUND_TRIP`` has failed, and then the choice of the configuration holds
for all callers at once until somebody answers again. So a request waits for the end of a round trip and for its own at
most, which is ``PATIENCE``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from proxy.core.model import CallerLimits, RunningTask, SharedLimitsState, Spawn
from proxy.limits.leases import PATIENCE, CallAt, Clock, Counts, LeasedPace, Timer
from proxy.limits.store import Store, StoreError

ROUND_TRIP = PATIENCE / 2
"""Seconds for one round trip. In one data centre it takes a millisecond; across an ocean nobody should count."""

OPENING = 2.0
"""Seconds for a connection with its TLS handshake, login and first question. No request waits for it so long."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between attempts while nobody answers; each pause is twice the one before. A connection a second from each
replica is nothing to a server that comes back, and a second later all count together again."""

PROBE = 5.0
"""Seconds without a question until one is asked only to see whether there is an answer."""

MOST_AT_ONCE = 128
"""Callers in one round trip; the others go with the next. Keeps a round trip short where there are thousands."""

logger = logging.getLogger("proxy")


class SharedRates:
    """The lessor of one process, between ``start()`` and ``close()``."""

    def __init__(self, store: Store, *, fail_open: bool, counts: Counts, clock: Clock, call_at: CallAt) -> None:
        self.answers = True  # until it is known otherwise: the first requests wait a moment and are not refused
        self.fail_open = fail_open
        self.counts = counts
        self.clock = clock
        self.call_at = call_at
        self._store = store
        self._up = False
        self._fault: str | None = None
        self._paces: set[LeasedPace] = set()
        self._asking: list[LeasedPace] = []
        self._asked = asyncio.Event()
        self._late: Timer | None = None
        self._task: RunningTask | None = None

    def start(self, spawn: Spawn) -> None:
        """Connects, and asks from then on."""
        self._task = spawn(self._run())

    def close(self) -> None:
        """Asks no more."""
        if self._late is not None:
            self._late.cancel()
        if self._task is not None:
            self._task.cancel()

    def pace(self, gate: Line, limits: CallerLimits) -> LeasedPace:
        """The rate of one caller, for its gate."""
        pace = LeasedPace(gate.name, limits, self, gate.wanted, gate.advance)
        self._paces.add(pace)
        return pace

    def ask(self, pace: LeasedPace) -> None:
        """Asks for what this one needs, with the next round trip."""
        self._asking.append(pace)
        self._asked.set()
        if not self._up and self._late is None:
            self._late = self.call_at(self.clock() + PATIENCE, self._on_late)

    def forget(self, pace: LeasedPace) -> None:
        """Its gate does not use this one any more."""
        self._paces.discard(pace)

    def state(self) -> SharedLimitsState:
        """How it is now."""
        return SharedLimitsState(self._up, self._fault, dict(self.counts.leases), dict(self.counts.fallback))

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                try:
                    await self._open()
                    pause = FIRST_PAUSE
                    while True:
                        await self._round()
                except StoreError as exc:
                    self._on_down(exc.reason)
                await self._store.close()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        except Exception:
            self._on_down("the proxy failed at asking it")  # a bug: the task's owner logs it, and nobody waits for it
            raise
        finally:
            await self._store.close()

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(OPENING):
                await self._store.open()
        except TimeoutError:
            raise StoreError("it did not answer in time") from None
        self._up = self.answers = True
        self._fault = None
        logger.info("shared limits: the callers' rates are counted in %s", self._store.where)
        for pace in [*self._paces]:
            pace.resume()

    async def _round(self) -> None:
        """Waits until there is something to ask, and asks it."""
        try:
            async with asyncio.timeout(PROBE):
                await self._asked.wait()
        except TimeoutError:
            pass  # so only whether somebody is there
        asking = self._asking[:MOST_AT_ONCE]
        del self._asking[:MOST_AT_ONCE]
        if not self._asking:
            self._asked.clear()
        sent = [(pace, ask) for pace in asking if pace in self._paces and (ask := pace.request()) is not None]
        if asking and not sent:
            return
        results = self.counts.leases
        try:
            async with asyncio.timeout(ROUND_TRIP):
                answers = await self._store.lease([ask for _, ask in sent])
        except (TimeoutError, StoreError) as exc:
            results["failed"] += len(sent)
            raise exc if isinstance(exc, StoreError) else StoreError("it did not answer in time") from None
        for (pace, ask), answer in zip(sent, answers, strict=True):
            if ask.wanted:
                results["granted" if answer.granted else "exhausted"] += 1
            if pace in self._paces:
                pace.on_answer(ask, answer)

    def _on_late(self) -> None:
        """Somebody has waited for the first connection as long as one may."""
        if not self._up and self.answers:
            self._on_down("there is no connection to it yet")

    def _on_down(self, reason: str) -> None:
        if reason != self._fault:
            meanwhile = "each process counts for itself" if self.fail_open else "callers with a rate are refused"
            logger.warning("shared limits: %s cannot be asked: %s; meanwhile %s", self._store.where, reason, meanwhile)
        self._fault = reason
        self._up = self.answers = False
        self._asking.clear()
        self._asked.clear()
        for pace in [*self._paces]:
            pace.fall_back()


class Line(Protocol):
    """What is needed of a gate."""

    @property
    def name(self) -> str:
        """The caller's name."""

    def wanted(self) -> int:
        """How many are in line for the rate alone."""

    def advance(self) -> None:
        """Lets go who may go, and refuses who may not wait any longer."""
