"""Many deadlines, one timer: none is missed, none is early, and a moved one costs nothing."""

from __future__ import annotations

import asyncio
import heapq
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.deadlines import NEVER, TICK, Deadlines


class FakeTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop(asyncio.AbstractEventLoop):
    """A clock and timers, and nothing else of a loop."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], object], FakeTimer]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback, *args, context=None):
        self._count += 1
        timer = FakeTimer()
        heapq.heappush(self._timers, (self.now + delay, self._count, lambda: callback(*args), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Time goes by; timers run when they are due."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, run, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if not timer.cancelled:
                run()
        self.now = end

    @property
    def timers(self) -> int:
        return sum(1 for *_, timer in self._timers if not timer.cancelled)


class Timed:
    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.deadline = NEVER
        self.looked_at = NEVER
        self.fired: list[float] = []

    def on_deadline(self) -> None:
        self.fired.append(self._loop.now)


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def deadlines(loop: FakeLoop) -> Deadlines:
    return Deadlines(loop)


def _set(deadlines: Deadlines, timed: Timed, deadline: float) -> None:
    timed.deadline = deadline
    deadlines.watch(timed)


def test_a_deadline_fires_once_when_it_has_passed(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed = Timed(loop)
    _set(deadlines, timed, loop.now + 10)
    loop.advance(9.99)
    assert timed.fired == []
    loop.advance(TICK * 2 + 0.01)
    assert len(timed.fired) == 1
    loop.advance(100)
    assert len(timed.fired) == 1


def test_a_deadline_moved_later_fires_later(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed = Timed(loop)
    _set(deadlines, timed, loop.now + 10)
    for _ in range(10):
        loop.advance(9)
        timed.deadline = loop.now + 10
    loop.advance(9.9)
    assert timed.fired == []
    loop.advance(1)
    assert len(timed.fired) == 1


def test_a_deadline_moved_within_a_tick_is_watched_already(loop: FakeLoop, deadlines: Deadlines) -> None:
    """Whoever is asked a hundred times in that time compares two numbers a hundred times, and does nothing else."""
    timed = Timed(loop)
    for ahead in (10.2, 10.2 + TICK / 100, 10.2 - TICK / 100):
        _set(deadlines, timed, loop.now + ahead)
        assert timed.deadline >= timed.looked_at
        assert len(deadlines._buckets) == 1


def test_a_deadline_moved_earlier_fires_earlier(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed = Timed(loop)
    _set(deadlines, timed, loop.now + 100)
    _set(deadlines, timed, loop.now + 1)
    loop.advance(1 + 2 * TICK)
    assert len(timed.fired) == 1
    loop.advance(200)
    assert len(timed.fired) == 1


def test_a_deadline_taken_back_does_not_fire(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed = Timed(loop)
    _set(deadlines, timed, loop.now + 1)
    timed.deadline = NEVER
    loop.advance(100)
    assert timed.fired == []


def test_what_has_ended_is_not_kept(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed, other = Timed(loop), Timed(loop)
    _set(deadlines, other, loop.now + 100)
    _set(deadlines, timed, loop.now + 100)
    _set(deadlines, timed, loop.now + 50)
    deadlines.forget(timed)
    deadlines.forget(timed)
    assert timed.deadline == NEVER
    fired, gone = timed.fired, weakref.ref(timed)
    del timed
    assert gone() is None
    loop.advance(200)
    assert (fired, len(other.fired)) == ([], 1)


def test_a_bug_in_one_does_not_end_the_limits_of_all(loop: FakeLoop, deadlines: Deadlines) -> None:
    class Broken(Timed):
        def on_deadline(self) -> None:
            raise ZeroDivisionError

    other = Timed(loop)
    _set(deadlines, Broken(loop), loop.now + 1)
    _set(deadlines, other, loop.now + 5)
    with pytest.raises(ZeroDivisionError):
        loop.advance(2)
    loop.advance(10)
    assert len(other.fired) == 1


def test_one_may_forget_another_while_both_are_looked_at(loop: FakeLoop, deadlines: Deadlines) -> None:
    class Ends(Timed):
        def on_deadline(self) -> None:
            super().on_deadline()
            deadlines.forget(self.other)

    one, other = Ends(loop), Ends(loop)
    one.other, other.other = other, one
    _set(deadlines, one, loop.now + 1)
    _set(deadlines, other, loop.now + 1)
    loop.advance(10)
    assert len(one.fired) + len(other.fired) == 1


def test_a_deadline_may_be_set_anew_when_it_fires(loop: FakeLoop, deadlines: Deadlines) -> None:
    class Again(Timed):
        def on_deadline(self) -> None:
            super().on_deadline()
            if len(self.fired) < 5:
                self.deadline = self._loop.now + 3

    timed = Again(loop)
    _set(deadlines, timed, loop.now + 3)
    loop.advance(100)
    assert len(timed.fired) == 5


def test_a_deadline_in_the_past_fires_with_the_next_tick(loop: FakeLoop, deadlines: Deadlines) -> None:
    timed = Timed(loop)
    _set(deadlines, timed, loop.now - 5)
    loop.advance(2 * TICK)
    assert len(timed.fired) == 1


def test_there_is_one_timer_for_all_and_none_for_none(loop: FakeLoop, deadlines: Deadlines) -> None:
    everyone = [Timed(loop) for _ in range(1000)]
    for number, timed in enumerate(everyone):
        _set(deadlines, timed, loop.now + number / 100)
    assert loop.timers == 1
    loop.advance(20)
    assert all(len(timed.fired) == 1 for timed in everyone)
    assert loop.timers == 0


def test_a_tick_that_comes_late_misses_nothing(loop: FakeLoop, deadlines: Deadlines) -> None:
    """The loop was blocked, or the machine asleep."""
    everyone = [Timed(loop) for _ in range(50)]
    for number, timed in enumerate(everyone):
        _set(deadlines, timed, loop.now + number)
    loop.now += 1000
    loop.advance(2 * TICK)
    assert all(len(timed.fired) == 1 for timed in everyone)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 30), st.floats(0, 5)), max_size=30))
def test_no_deadline_is_early_and_none_is_more_than_two_ticks_late(moves: list[tuple[int, float, float]]) -> None:
    loop = FakeLoop()
    deadlines = Deadlines(loop)
    everyone = [Timed(loop) for _ in range(5)]
    for which, ahead, wait in moves:
        timed = everyone[which]
        fired = len(timed.fired)
        deadline = loop.now + ahead
        _set(deadlines, timed, deadline)
        loop.advance(wait)
        for moment in timed.fired[fired:]:
            assert deadline <= moment <= deadline + 2 * TICK + 1e-6
        for each in everyone:
            assert each.deadline == NEVER or each.deadline + 2 * TICK + 1e-6 >= loop.now
    loop.advance(100)
    assert all(timed.deadline == NEVER for timed in everyone)
    assert loop.timers == 0
