"""One gate per caller: what goes through now, what waits in line, and what is refused.

Own code and not a rate-limiting library, for what such a library does not have: a line that is first come, first
served and bounded, a limit on what is in flight, and both answers from one question on the event loop. Libraries keep
their counts behind locks and string keys because they count for threads and stores; here one loop asks, so a caller
within its limits costs one call and a few comparisons, a caller without limits one comparison with None, and neither a
lock, a task or a timer. Only a line that is not empty has a timer: one, however many wait.

Each caller has a gate and a line of its own, so no caller can delay another. The clock and the timer are given, and
nothing here waits.

A rate that several processes count together (``shared.py``) changes nothing for a request within what was leased. One
that comes when nothing is leased stands in line, even without a queue, for as long as it takes to learn what is left.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple, Protocol

from proxy.core.errors import MESSAGES, Code
from proxy.core.model import CallerLimits, SharedLimits, SharedLimitsState, Spawn
from proxy.limits.leases import PATIENCE, CallAt, Clock, Counts, LeasedPace, Timer
from proxy.limits.pace import CLOCK_TICK, Pace, spell_rate
from proxy.limits.redis_store import RedisStore
from proxy.limits.shared import SharedRates

MOST_WAITING = 1000
"""Requests of one caller in line. Each keeps a connection and up to 64 KiB of its body, so 64 MiB at the very most."""

NO_LIMIT = float("inf")


class Refusal(NamedTuple):
    """Why not, in a sentence for the caller, and after how many seconds to try again."""

    code: Code
    message: str
    retry_after: int


class Waiter(Protocol):
    """Who waits in line. One of the two is called, once, unless the waiter gave up before."""

    def on_admitted(self, waited: float) -> None:
        """Its turn has come, after so many seconds. It counts as in flight until ``leave()``."""

    def on_refused(self, refusal: Refusal, waited: float) -> None:
        """Its turn did not come in time."""


class Place(NamedTuple):
    """A place in line: since when, and until when at most."""

    since: float
    until: float


class Gate:
    """The limits of one caller. ``in_flight`` counts what was let through and has not left."""

    __slots__ = ("_advancing", "_call_at", "_clock", "_closed", "_concurrent", "_line", "_pace", "_shared", "_timer",
                 "_wakes_at", "in_flight", "limits", "name")  # fmt: skip

    def __init__(
        self, name: str, limits: CallerLimits, clock: Clock, call_at: CallAt, shared: SharedRates | None = None
    ) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        self._clock = clock
        self._call_at = call_at
        self._concurrent = _or_no_limit(limits.concurrent)
        self._line: OrderedDict[Waiter, Place] = OrderedDict()
        self._timer: Timer | None = None
        self._wakes_at = NO_LIMIT
        self._advancing = False
        self._closed = False
        self._shared = shared
        self._pace = self._make_pace()

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def left(self) -> int | None:
        """How many could go now by the rate alone, were they to come; None where there is no rate."""
        return None if self.limits.rate is None else self._pace.left(self._clock())

    def adapt(self, limits: CallerLimits) -> None:
        """New limits. What is in flight still counts; who waits keeps the place and the time that it was given."""
        changed = limits.rate != self.limits.rate
        self.limits = limits
        self._concurrent = _or_no_limit(limits.concurrent)
        if changed:
            self._replace_pace()
        self.advance()

    def share(self, shared: SharedRates | None) -> None:
        """From now on the rate is counted there; None: here."""
        self._shared = shared
        self._replace_pace()
        self.advance()

    def enter(self, waiter: Waiter) -> Refusal | bool:
        """True: through, until ``leave()``. False: in line, and the waiter is called. Or why not."""
        now = self._clock()
        line, pace = self._line, self._pace
        if not line and self.in_flight < self._concurrent and pace.ready_at <= now:
            self.in_flight += 1
            pace.take(now)
            return True
        until = now + self.limits.queue
        turn = pace.turn(now, len(line))
        # Who cannot get a turn in time by the rate alone is told so now, and not after having waited for nothing.
        in_vain = turn is not None and turn > until
        if in_vain or self._is_full or len(line) >= MOST_WAITING:
            return self._refusal(now)
        line[waiter] = Place(now, until)
        self._watch()
        return False

    def leave(self) -> None:
        """One that was let through is over; its place goes to the first in line."""
        self.in_flight -= 1
        if self._line:
            self.advance()

    def abandon(self, waiter: Waiter) -> float:
        """Gives a place in line up. Returns the seconds that it was held."""
        place = self._line.pop(waiter)
        self._watch()
        return self._clock() - place.since

    def close(self) -> None:
        """Nobody is let through or called any more: the process is going away."""
        self._closed = True
        self._pace.close()
        self._watch()

    def wanted(self) -> int:
        """How many are in line for the rate alone."""
        return int(max(0, min(len(self._line), self._concurrent - self.in_flight)))

    def advance(self) -> None:
        """Calls who is first in line for as long as it may go, or has waited too long."""
        if self._advancing or self._closed:
            return  # called from within a waiter's own call: the loop below goes on
        self._advancing = True
        try:
            while self._line:
                now = self._clock()
                waiter, place = next(iter(self._line.items()))
                if self.in_flight < self._concurrent and self._pace.ready_at <= now:
                    del self._line[waiter]
                    self.in_flight += 1
                    self._pace.take(now)
                    waiter.on_admitted(now - place.since)
                elif self._deadline(place, now) > now + CLOCK_TICK:
                    break
                elif not self._pace.give_up():
                    del self._line[waiter]
                    waiter.on_refused(self._refusal(now), now - place.since)
        finally:
            self._advancing = False
            self._watch()

    @property
    def _is_full(self) -> bool:
        """Is there no room for one more? Without a queue, those in line wait to learn the rate, and fill it too."""
        return self.limits.queue <= 0 and self.in_flight + len(self._line) >= self._concurrent

    def _deadline(self, place: Place, now: float) -> float:
        """Until when who is first in line stays there: no longer than its turn can still come."""
        turn = self._pace.turn(now, 0)
        if turn is None:
            return min(max(place.until, place.since + PATIENCE), self._pace.gives_up_at)
        return place.until if turn <= place.until + CLOCK_TICK else now

    def _watch(self) -> None:
        """Sets the timer to when the first in line may go or has waited too long."""
        if not self._line or self._closed:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._advancing:
            return
        self._pace.look()
        due = self._deadline(next(iter(self._line.values())), self._clock())
        if self.in_flight < self._concurrent:
            due = min(due, self._pace.ready_at)
        if self._timer is not None:
            if self._wakes_at <= due:
                return  # it looks once too often and is set again: cheaper than a new timer for each that leaves
            self._timer.cancel()
        self._wakes_at = due
        self._timer = self._call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.advance()

    def _make_pace(self) -> Pace | LeasedPace:
        limits, shared = self.limits, self._shared
        if shared is None or limits.rate is None:
            return Pace(limits.rate, limits.burst)
        return shared.pace(self, limits)

    def _replace_pace(self) -> None:
        self._pace.close()
        self._pace = self._make_pace()

    def _refusal(self, now: float) -> Refusal:
        limits, pace = self.limits, self._pace
        if pace.refuses():
            return Refusal(Code.LIMITS_UNAVAILABLE, MESSAGES[Code.LIMITS_UNAVAILABLE], 1)
        where = f"`callers.{self.name}.limits"
        waited = "" if limits.queue <= 0 else f", and there was no turn for this one within {limits.queue:g} s"
        if limits.rate is None or self.in_flight >= self._concurrent or self._is_full:
            message = (
                f"The caller `{self.name}` may have {limits.concurrent} requests in flight{waited} "
                f"({where}.concurrent` in the proxy's configuration)."
            )
            return Refusal(Code.CONCURRENCY_LIMITED, message, 1)
        turn = pace.turn(now, len(self._line))
        retry_after = 1 if turn is None else max(1, math.ceil(turn - now))
        message = (
            f"The caller `{self.name}` may send {spell_rate(limits.rate)}{waited} "
            f"({where}.requests` in the proxy's configuration)."
        )
        return Refusal(Code.RATE_LIMITED, message, retry_after)


class Gates:
    """The gates of one process, by the caller's name; a gate outlives the configuration that made it."""

    __slots__ = ("_by_name", "_call_at", "_clock", "_counts", "_rates", "_shared")

    def __init__(self, clock: Clock, call_at: CallAt) -> None:
        self._clock = clock
        self._call_at = call_at
        self._by_name: dict[str, Gate] = {}
        self._shared: SharedLimits | None = None
        self._rates: SharedRates | None = None
        self._counts = Counts()

    def of(self, name: str, limits: CallerLimits) -> Gate:
        """The gate of this caller, with these limits from now on."""
        gate = self._by_name.get(name)
        if gate is None:
            gate = self._by_name[name] = Gate(name, limits, self._clock, self._call_at, self._rates)
        elif gate.limits is not limits:
            gate.adapt(limits)
        return gate

    def share(self, shared: SharedLimits | None, spawn: Spawn) -> None:
        """From now on the rates are counted there; None: here. May be called again at any time."""
        if shared == self._shared:
            return
        old, self._shared, self._rates = self._rates, shared, None
        if shared is not None:
            self._rates = SharedRates(
                RedisStore(shared.url),
                fail_open=shared.fail_open,
                counts=self._counts,
                clock=self._clock,
                call_at=self._call_at,
            )
            self._rates.start(spawn)
        for gate in self._by_name.values():
            gate.share(self._rates)
        if old is not None:
            old.close()

    def shared_state(self) -> SharedLimitsState | None:
        """How counting together goes; None where each process counts for itself."""
        return None if self._rates is None else self._rates.state()

    def find(self, name: str) -> Gate | None:
        """The gate of this caller, if it was ever asked."""
        return self._by_name.get(name)

    def waiting(self) -> dict[str, int]:
        """How many wait in line, by caller."""
        return {name: gate.waiting for name, gate in self._by_name.items()}

    def close(self) -> None:
        """Nobody is let through any more, and no timer is left."""
        for gate in self._by_name.values():
            gate.close()
        if self._rates is not None:
            self._rates.close()


def _or_no_limit(concurrent: int | None) -> float:
    return NO_LIMIT if concurrent is None else concurrent
