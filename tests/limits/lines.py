"""A clock that the test moves, and who stands in line by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor

from proxy.core.model import CallerLimits
from proxy.limits.gate import Gate, Refusal
from proxy.limits.leases import Counts, LeasedPace
from proxy.limits.store import Answer, Ask


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Time, and the timers that are due as it moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, Timer, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        timer = Timer()
        self._timers.append((when, timer, call))
        return timer

    @property
    def timers(self) -> int:
        self._timers = [each for each in self._timers if not each[1].cancelled]
        return len(self._timers)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timers:
            when, timer, call = min(self._timers, key=lambda each: each[0])
            if when > until:
                break
            self._timers.remove((when, timer, call))
            self.now = max(self.now, when)
            call()
        self.now = until


class Asker:
    """A waiter that writes down what became of it, and may do something then."""

    def __init__(self, name: str, log: list[str], then: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.log = log
        self.then = then
        self.waited = 0.0
        self.refusal: Refusal | None = None

    def on_admitted(self, waited: float) -> None:
        self.log.append(f"{self.name}+")
        self.waited = waited
        self.then()

    def on_refused(self, refusal: Refusal, waited: float) -> None:
        self.log.append(f"{self.name}-")
        self.waited = waited
        self.refusal = refusal
        self.then()


class Budget:
    """What a store counts, by the clock of the test: the script of ``redis_store.py`` in Python."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.spent: dict[str, float] = {}
        self.asked: list[list[Ask]] = []

    def lease(self, asks: Sequence[Ask]) -> list[Answer]:
        self.asked.append([*asks])
        return [self._lease(ask) for ask in asks]

    def _lease(self, ask: Ask) -> Answer:
        now = self.clock.now
        full = now + ask.burst * ask.interval
        spent = min(max(self.spent.get(ask.name, now) - ask.back * ask.interval, now), full)
        granted = max(0, min(ask.wanted, floor((full - spent) / ask.interval + 0.001)))
        self.spent[ask.name] = spent = spent + granted * ask.interval
        return Answer(granted, max(0.0, spent + ask.interval - full))


class Replica:
    """One process's lessor, whose answers come when the test says so."""

    def __init__(self, budget: Budget, *, fail_open: bool = True) -> None:
        self.budget = budget
        self.answers = True
        self.fail_open = fail_open
        self.counts = Counts()
        self.clock = budget.clock.time
        self.call_at = budget.clock.call_at
        self.asking: list[LeasedPace] = []
        self.paces: list[LeasedPace] = []
        self.log: list[str] = []

    def pace(self, gate: Gate, limits: CallerLimits) -> LeasedPace:
        self.paces.append(LeasedPace(gate.name, limits, self, gate.wanted, gate.advance))
        return self.paces[-1]

    def ask(self, pace: LeasedPace) -> None:
        self.asking.append(pace)

    def forget(self, pace: LeasedPace) -> None:
        self.paces.remove(pace)

    def gate(self, rate: float = 50.0, concurrent: int | None = None, queue: float = 0.0, name: str = "shop") -> Gate:
        limits = CallerLimits(rate, concurrent, queue)
        return Gate(name, limits, self.clock, self.call_at, self)  # type: ignore[arg-type]  # stands in for SharedRates

    def serve(self) -> list[Ask]:
        """One round trip: everything asked for is answered, and who may go goes. Returns what was asked."""
        asking, self.asking = self.asking, []
        sent = [(pace, ask) for pace in asking if pace in self.paces and (ask := pace.request()) is not None]
        if sent:
            for (pace, ask), answer in zip(sent, self.budget.lease([ask for _, ask in sent]), strict=True):
                pace.on_answer(ask, answer)
        self.budget.clock.advance(0)
        return [ask for _, ask in sent]

    def fail(self) -> None:
        """Nobody answers any more."""
        self.answers = False
        self.asking.clear()
        for pace in self.paces:
            pace.fall_back()
        self.budget.clock.advance(0)

    def recover(self) -> None:
        self.answers = True
        for pace in self.paces:
            pace.resume()
        self.budget.clock.advance(0)
