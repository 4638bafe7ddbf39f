"""One caller's gate: what goes through, what waits and for how long, on a clock that the test moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from proxy.core.errors import Code
from proxy.core.model import CallerLimits
from proxy.limits.gate import MOST_WAITING, Gate, Gates, Refusal
from tests.limits.lines import Asker, Clock


class Bench:
    """A gate, its clock, and everybody who asks."""

    def __init__(self, rate: float | None = None, concurrent: int | None = None, queue: float = 0.0) -> None:
        self.clock = Clock()
        self.gate = Gate("shop", CallerLimits(rate, concurrent, queue), self.clock.time, self.clock.call_at)
        self.log: list[str] = []

    def ask(self, name: str = "x", then: Callable[[], object] = lambda: None) -> Refusal | bool:
        return self.gate.enter(Asker(name, self.log, then))

    def line(self, *names: str) -> list[Asker]:
        askers = [Asker(name, self.log) for name in names]
        for asker in askers:
            assert self.gate.enter(asker) is False
        return askers

    def admitted(self, count: int) -> int:
        """How many of so many are let through at once."""
        return sum(self.ask() is True for _ in range(count))


# -- rate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "burst"), [(50.0, 50), (10.0, 10), (2.5, 3), (1.0, 1), (0.1, 1), (5000.0, 5000)])
def test_one_seconds_worth_goes_through_at_once_and_no_more(rate: float, burst: int) -> None:
    bench = Bench(rate)
    assert CallerLimits(rate).burst == burst
    assert burst <= bench.admitted(2 * burst + 2) <= burst + rate * 0.001 + 1e-9


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 50.0, 1000.0])
@pytest.mark.parametrize("step", [0.003, 0.1, 1.0])
def test_in_the_long_run_the_rate_is_exact(rate: float, step: float) -> None:
    bench = Bench(rate)
    through = 0
    steps = round(60 / step)
    for _ in range(steps):
        through += bench.admitted(int(rate * step) + 2)
        bench.clock.advance(step)
    burst = bench.gate.limits.burst
    assert rate * 60 - 2 <= through <= rate * 60 + burst + 1


def test_what_was_not_used_is_not_saved_beyond_the_burst() -> None:
    bench = Bench(5.0)
    bench.clock.advance(3600)
    assert bench.admitted(20) == 5


def test_a_refusal_by_rate_says_when_to_come_back() -> None:
    bench = Bench(0.1)
    assert bench.ask() is True
    bench.clock.advance(2.5)
    refusal = bench.ask()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after) == (Code.RATE_LIMITED, 8)
    assert "`shop` may send 6 requests a minute (`callers.shop.limits.requests`" in refusal.message
    bench.clock.advance(refusal.retry_after)
    assert bench.ask() is True


@pytest.mark.parametrize(
    ("rate", "spelled"), [(50.0, "50 requests a second"), (0.5, "30 requests a minute"), (0.01, "36 requests an hour")]
)
def test_the_rate_is_said_in_a_unit_that_suits_it(rate: float, spelled: str) -> None:
    bench = Bench(rate)
    bench.admitted(100)
    refusal = bench.ask()
    assert isinstance(refusal, Refusal)
    assert spelled in refusal.message


def test_a_refused_request_costs_nothing_of_the_rate() -> None:
    bench = Bench(1.0)
    assert bench.admitted(1000) == 1
    bench.clock.advance(1.0)
    assert bench.ask() is True


def test_who_is_refused_for_concurrency_costs_nothing_of_the_rate() -> None:
    bench = Bench(2.0, 1)
    assert bench.admitted(10) == 1
    bench.gate.leave()
    assert bench.ask() is True


# -- concurrency ------------------------------------------------------------------------------------------------------


def test_as_many_are_in_flight_as_the_limit_says() -> None:
    bench = Bench(concurrent=3)
    assert bench.admitted(10) == 3
    refusal = bench.ask()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after) == (Code.CONCURRENCY_LIMITED, 1)
    assert "`shop` may have 3 requests in flight (`callers.shop.limits.concurrent`" in refusal.message
    bench.gate.leave()
    assert bench.admitted(10) == 1
    assert bench.clock.timers == 0


# -- the line ---------------------------------------------------------------------------------------------------------


def test_the_first_in_line_goes_first_when_one_leaves() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    assert bench.ask() is True
    first, second, _ = bench.line("a", "b", "c")
    bench.clock.advance(0.5)
    bench.gate.leave()
    assert bench.log == ["a+"]
    bench.clock.advance(0.25)
    bench.gate.leave()
    assert bench.log == ["a+", "b+"]
    assert (first.waited, second.waited) == (0.5, 0.75)
    assert (bench.gate.in_flight, bench.gate.waiting) == (1, 1)


def test_nobody_overtakes_the_line() -> None:
    bench = Bench(10.0, queue=5.0)
    assert bench.admitted(10) == 10
    bench.line("a", "b")
    bench.clock.now += 10  # the timer is late: there is room for many, but not before those who wait
    bench.line("c")
    bench.clock.advance(0)
    assert bench.log == ["a+", "b+", "c+"]


def test_with_a_rate_each_goes_when_its_turn_comes() -> None:
    bench = Bench(10.0, queue=2.0)
    assert bench.admitted(10) == 10
    askers = bench.line("a", "b", "c")
    assert bench.clock.timers == 1
    bench.clock.advance(1.0)
    assert bench.log == ["a+", "b+", "c+"]
    assert [asker.waited for asker in askers] == pytest.approx([0.1, 0.2, 0.3], abs=0.0011)
    assert bench.clock.timers == 0


def test_who_waited_long_enough_is_refused() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    (first,) = bench.line("a")
    bench.clock.advance(1.0)
    (second,) = bench.line("b")
    bench.clock.advance(1.5)
    assert bench.log == ["a-"]
    assert first.refusal is not None
    assert first.refusal.code is Code.CONCURRENCY_LIMITED
    assert "no turn for this one within 2 s" in first.refusal.message
    assert first.waited == pytest.approx(2.0, abs=0.0011)
    bench.clock.advance(1.0)
    assert bench.log == ["a-", "b-"]
    assert second.waited == pytest.approx(2.0, abs=0.0011)
    assert bench.clock.timers == 0
    assert (bench.gate.in_flight, bench.gate.waiting) == (1, 0)


def test_who_could_not_get_a_turn_in_time_does_not_wait_for_it() -> None:
    bench = Bench(1.0, queue=2.0)
    assert bench.ask() is True
    bench.line("a", "b")
    refusal = bench.ask()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after) == (Code.RATE_LIMITED, 3)
    bench.clock.advance(2.0)
    assert bench.log == ["a+", "b+"]


def test_the_line_has_an_end() -> None:
    bench = Bench(concurrent=1, queue=60.0)
    bench.ask()
    bench.line(*["w"] * MOST_WAITING)
    assert isinstance(bench.ask(), Refusal)
    bench.gate.leave()
    assert bench.ask() is False


def test_who_gives_up_frees_the_place() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    first, second, third = bench.line("a", "b", "c")
    bench.clock.advance(0.5)
    assert bench.gate.abandon(first) == 0.5
    assert bench.gate.abandon(third) == 0.5
    bench.gate.leave()
    assert bench.log == ["b+"]
    assert second.waited == 0.5
    assert (bench.gate.in_flight, bench.gate.waiting, bench.clock.timers) == (1, 0, 0)


def test_one_that_fails_at_once_when_admitted_leaves_its_place_to_the_next() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    for name in ("a", "b", "c"):
        assert bench.ask(name, bench.gate.leave) is False
    bench.gate.leave()
    assert bench.log == ["a+", "b+", "c+"]
    assert (bench.gate.in_flight, bench.gate.waiting, bench.clock.timers) == (0, 0, 0)


def test_one_that_asks_again_when_called_stands_at_the_end() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    bench.ask("a", lambda: bench.ask("again"))
    bench.line("b")
    bench.gate.leave()
    bench.gate.leave()
    bench.gate.leave()
    assert bench.log == ["a+", "b+", "again+"]


def test_a_thousand_in_line_that_fail_at_once_need_no_deep_stack() -> None:
    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    for _ in range(MOST_WAITING):
        bench.ask("x", bench.gate.leave)
    bench.gate.leave()
    assert len(bench.log) == MOST_WAITING


def test_a_waiter_that_raises_does_not_stop_the_line() -> None:
    def fail() -> None:
        raise ValueError("a bug")

    bench = Bench(concurrent=1, queue=2.0)
    bench.ask()
    bench.ask("a", fail)
    bench.line("b")
    with pytest.raises(ValueError, match="a bug"):
        bench.gate.leave()
    bench.gate.leave()
    assert bench.log == ["a+", "b+"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_limit_holds_and_every_waiter_is_called_once(seed: int) -> None:
    dice = random.Random(seed)
    bench = Bench(dice.choice([None, 20.0, 200.0]), 5, 0.5)
    state = {"in": 0, "most": 0}

    def come_in() -> None:
        state["in"] += 1
        state["most"] = max(state["most"], state["in"])

    waiting: dict[Asker, None] = {}

    def called(asker: Asker) -> None:
        del waiting[asker]
        if asker.refusal is None:
            come_in()

    asked = through = refused = given_up = 0
    for number in range(3000):
        match dice.randrange(4):
            case 0 | 1:
                asked += 1
                asker = Asker(str(number), bench.log)
                asker.then = partial(called, asker)
                entered = bench.gate.enter(asker)
                if entered is True:
                    through += 1
                    come_in()
                elif entered is False:
                    waiting[asker] = None
                else:
                    refused += 1
            case 2 if state["in"]:
                state["in"] -= 1
                bench.gate.leave()
            case _:
                if waiting and dice.random() < 0.3:
                    asker = dice.choice([*waiting])
                    del waiting[asker]
                    bench.gate.abandon(asker)
                    given_up += 1
                bench.clock.advance(dice.random() / 50)
        assert bench.gate.waiting == len(waiting)
        assert bench.gate.in_flight == state["in"]
        assert bench.clock.timers == bool(waiting)
    assert state["most"] <= 5
    while state["in"]:
        state["in"] -= 1
        bench.gate.leave()
    bench.clock.advance(1)
    while state["in"]:
        state["in"] -= 1
        bench.gate.leave()
    assert asked == through + refused + given_up + len(bench.log)
    assert (bench.gate.in_flight, bench.gate.waiting, bench.clock.timers) == (0, 0, 0)
    assert len(set(bench.log)) == len(bench.log)


# -- several callers, new limits, the end -----------------------------------------------------------------------------


def test_callers_have_gates_of_their_own() -> None:
    clock = Clock()
    gates = Gates(clock.time, clock.call_at)
    limits = CallerLimits(concurrent=1, queue=1.0)
    log: list[str] = []
    assert [gates.of("a", limits).enter(Asker("a", log)) for _ in range(3)] == [True, False, False]
    assert gates.of("b", limits).enter(Asker("b", log)) is True
    assert gates.waiting() == {"a": 2, "b": 0}
    assert gates.of("a", limits) is gates.of("a", limits)


def test_new_limits_hold_at_once_and_what_is_in_flight_still_counts() -> None:
    clock = Clock()
    gates = Gates(clock.time, clock.call_at)
    log: list[str] = []
    old = gates.of("a", CallerLimits(concurrent=1, queue=5.0))
    for name in ("one", "two", "three"):
        old.enter(Asker(name, log))
    new = gates.of("a", CallerLimits(concurrent=2))
    assert new is old
    assert log == ["two+"]
    assert isinstance(new.enter(Asker("four", log)), Refusal)
    lower = gates.of("a", CallerLimits(concurrent=1))
    lower.leave()
    assert log == ["two+"]
    lower.leave()
    assert log == ["two+", "three+"]


def test_a_changed_rate_begins_with_a_full_burst_and_an_unchanged_one_goes_on() -> None:
    bench = Bench(1.0)
    bench.ask()
    bench.gate.adapt(CallerLimits(1.0, 7))
    assert isinstance(bench.ask(), Refusal)
    bench.gate.adapt(CallerLimits(2.0, 7))
    assert bench.admitted(5) == 2


def test_after_the_end_nobody_is_called() -> None:
    clock = Clock()
    gates = Gates(clock.time, clock.call_at)
    log: list[str] = []
    gate = gates.of("a", CallerLimits(concurrent=1, queue=1.0))
    gate.enter(Asker("in", log))
    waiter = Asker("waits", log)
    gate.enter(waiter)
    gates.close()
    gate.leave()
    clock.advance(10)
    gate.abandon(waiter)
    assert (log, clock.timers, gate.waiting) == ([], 0, 0)
