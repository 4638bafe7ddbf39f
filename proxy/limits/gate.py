"""One gate per caller: what goes through now, what waits in line, and what is refused.

Own code and not a rate-limiting library, for what such a library does not have: a line that is first come, first
served and bounded, a limit on what is in flight, and both answers from one question on the event loop. Libraries keep
their counts behind locks and string keys because they count for threads and stores; here one loop asks, so a caller
within its limits costs one call and a few comparisons, a caller without limits one comparison with None, and neither a
lock, a task or a timer. Only a line that is not empty has a timer: one, however many wait.

Each caller has a gate and a line of its own, so no caller can delay another. The clock and the timer are given, and
nothing here waits.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from proxy.core.errors import Code
from proxy.core.model import CallerLimits
from proxy.limits.pace import CLOCK_TICK, Pace

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


class Timer(Protocol):
    """What ``call_at`` returns."""

    def cancel(self) -> None:
        """It is not called any more."""


Clock = Callable[[], float]
CallAt = Callable[[float, Callable[[], None]], Timer]


class Place(NamedTuple):
    """A place in line: since when, and until when at most."""

    since: float
    until: float


class Gate:
    """The limits of one caller. ``in_flight`` counts what was let through and has not left."""

    __slots__ = ("_advancing", "_call_at", "_clock", "_closed", "_concurrent", "_line", "_pace", "_timer", "_wakes_at",
                 "in_flight", "limits", "name")  # fmt: skip

    def __init__(self, name: str, limits: CallerLimits, clock: Clock, call_at: CallAt) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        self._clock = clock
        self._call_at = call_at
        self._pace = Pace(limits.rate, limits.burst)
        self._concurrent = _or_no_limit(limits.concurrent)
        self._line: OrderedDict[Waiter, Place] = OrderedDict()
        self._timer: Timer | None = None
        self._wakes_at = NO_LIMIT
        self._advancing = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def adapt(self, limits: CallerLimits) -> None:
        """New limits. What is in flight still counts; who waits keeps the place and the time that it was given."""
        if limits.rate != self.limits.rate:
            self._pace = Pace(limits.rate, limits.burst)
        self.limits = limits
        self._concurrent = _or_no_limit(limits.concurrent)
        self._advance()

    def enter(self, waiter: Waiter) -> Refusal | bool:
        """True: through, until ``leave()``. False: in line, and the waiter is called. Or why not."""
        now = self._clock()
        line, pace = self._line, self._pace
        if not line and self.in_flight < self._concurrent and pace.ready_at <= now:
            self.in_flight += 1
            pace.take(now)
            return True
        until = now + self.limits.queue
        # Who cannot get a turn in time by the rate alone is told so now, and not after having waited for nothing.
        in_vain = pace.ready_at + len(line) * pace.interval > until
        if self.limits.queue <= 0 or in_vain or len(line) >= MOST_WAITING:
            return self._refusal(now)
        line[waiter] = Place(now, until)
        self._watch()
        return False

    def leave(self) -> None:
        """One that was let through is over; its place goes to the first in line."""
        self.in_flight -= 1
        if self._line:
            self._advance()

    def abandon(self, waiter: Waiter) -> float:
        """Gives a place in line up. Returns the seconds that it was held."""
        place = self._line.pop(waiter)
        self._watch()
        return self._clock() - place.since

    def close(self) -> None:
        """Nobody is let through or called any more: the process is going away."""
        self._closed = True
        self._watch()

    def _advance(self) -> None:
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
                elif place.until <= now + CLOCK_TICK:
                    del self._line[waiter]
                    waiter.on_refused(self._refusal(now), now - place.since)
                else:
                    break
        finally:
            self._advancing = False
            self._watch()

    def _watch(self) -> None:
        """Sets the timer to when the first in line may go or has waited too long."""
        if not self._line or self._closed:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._advancing:
            return
        first = next(iter(self._line.values()))
        due = first.until if self.in_flight >= self._concurrent else min(first.until, self._pace.ready_at)
        if self._timer is not None:
            if self._wakes_at <= due:
                return  # it looks once too often and is set again: cheaper than a new timer for each that leaves
            self._timer.cancel()
        self._wakes_at = due
        self._timer = self._call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._advance()

    def _refusal(self, now: float) -> Refusal:
        limits = self.limits
        where = f"`callers.{self.name}.limits"
        waited = "" if limits.queue <= 0 else f", and there was no turn for this one within {limits.queue:g} s"
        if limits.rate is None or self.in_flight >= self._concurrent:
            message = (
                f"The caller `{self.name}` may have {limits.concurrent} requests in flight{waited} "
                f"({where}.concurrent` in the proxy's configuration)."
            )
            return Refusal(Code.CONCURRENCY_LIMITED, message, 1)
        ahead = len(self._line) * self._pace.interval
        retry_after = max(1, math.ceil(self._pace.ready_at - now + ahead))
        message = (
            f"The caller `{self.name}` may send {_spell_rate(limits.rate)}{waited} "
            f"({where}.requests` in the proxy's configuration)."
        )
        return Refusal(Code.RATE_LIMITED, message, retry_after)


class Gates:
    """The gates of one process, by the caller's name; a gate outlives the configuration that made it."""

    __slots__ = ("_by_name", "_call_at", "_clock")

    def __init__(self, clock: Clock, call_at: CallAt) -> None:
        self._clock = clock
        self._call_at = call_at
        self._by_name: dict[str, Gate] = {}

    def of(self, name: str, limits: CallerLimits) -> Gate:
        """The gate of this caller, with these limits from now on."""
        gate = self._by_name.get(name)
        if gate is None:
            gate = self._by_name[name] = Gate(name, limits, self._clock, self._call_at)
        elif gate.limits is not limits:
            gate.adapt(limits)
        return gate

    def waiting(self) -> dict[str, int]:
        """How many wait in line, by caller."""
        return {name: gate.waiting for name, gate in self._by_name.items()}

    def close(self) -> None:
        """Nobody is let through any more, and no timer is left."""
        for gate in self._by_name.values():
            gate.close()


def _or_no_limit(concurrent: int | None) -> float:
    return NO_LIMIT if concurrent is None else concurrent


def _spell_rate(rate: float) -> str:
    if rate >= 1:
        return f"{rate:g} requests a second"
    return f"{rate * 60:g} requests a minute" if rate * 60 >= 1 else f"{rate * 3600:g} requests an hour"
