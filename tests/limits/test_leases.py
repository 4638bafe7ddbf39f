"""A rate counted elsewhere, used in leases: what goes at once, what waits for an answer, and what an outage changes."""

from __future__ import annotations

import random

import pytest

from proxy.core.errors import Code
from proxy.core.model import CallerLimits
from proxy.limits.gate import Gate, Refusal
from proxy.limits.leases import GAP, LAPSE, LEAD, PATIENCE
from proxy.limits.store import Answer
from tests.limits.lines import Asker, Budget, Clock, Replica


def make() -> tuple[Clock, Replica]:
    clock = Clock()
    return clock, Replica(Budget(clock))


def enter(gate: Gate, log: list[str], name: str = "x") -> Refusal | bool:
    return gate.enter(Asker(name, log))


def warm(clock: Clock, replica: Replica, gate: Gate, rate: float, seconds: float = 1.0) -> int:
    """So many a second, evenly, for so long; every answer comes at once. Returns how many went through."""
    log: list[str] = []
    through = 0
    for _ in range(round(rate * seconds)):
        through += enter(gate, log) is True
        replica.serve()
        clock.advance(1 / rate)
    return through + log.count("x+")


# -- a request and its lease ------------------------------------------------------------------------------------------


def test_the_first_request_waits_for_an_answer_and_is_not_refused() -> None:
    clock, replica = make()
    gate = replica.gate(queue=0.0)
    log: list[str] = []
    assert enter(gate, log) is False
    assert (gate.in_flight, gate.waiting, len(replica.asking)) == (0, 1, 1)
    clock.advance(0.1)
    assert [ask.wanted for ask in replica.serve()] == [1]
    assert log == ["x+"]
    assert (gate.in_flight, gate.waiting) == (1, 0)


def test_a_cold_burst_goes_together_with_one_question() -> None:
    _, replica = make()
    gate = replica.gate(50.0)
    log: list[str] = []
    assert [enter(gate, log) for _ in range(60)] == [False] * 60
    assert [ask.wanted for ask in replica.serve()] == [60]
    assert log == ["x+"] * 50 + ["x-"] * 10


def test_one_that_comes_between_an_answer_and_its_effect_is_not_refused() -> None:
    clock, replica = make()
    gate = replica.gate(50.0)
    log: list[str] = []
    enter(gate, log, "a")
    pace = replica.asking.pop()
    ask = pace.request()
    assert ask is not None
    pace.on_answer(ask, Answer(5, 0.0))
    assert enter(gate, log, "b") is False  # behind the first, who goes in a moment
    clock.advance(0)
    assert log == ["a+", "b+"]


def test_who_is_refused_by_what_is_counted_elsewhere_is_told_when_to_come_back() -> None:
    clock, replica = make()
    gate = replica.gate(0.1)
    log: list[str] = []
    enter(gate, log)
    replica.serve()
    asker = Asker("y", log)
    assert gate.enter(asker) is False
    replica.serve()
    assert log == ["x+", "y-"]
    assert asker.refusal is not None
    assert (asker.refusal.code, asker.refusal.retry_after) == (Code.RATE_LIMITED, 10)
    clock.advance(4)
    refusal = enter(gate, log)  # it is known by now: nobody has to be asked
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after == 6
    assert not replica.asking


def test_a_request_within_the_lease_asks_nobody() -> None:
    clock, replica = make()
    gate = replica.gate(1000.0)
    warm(clock, replica, gate, 500.0)
    log: list[str] = []
    while not replica.asking:
        assert enter(gate, log) is True
    replica.serve()
    questions = len(replica.budget.asked)
    at_once = 0
    while not replica.asking:
        assert enter(gate, log) is True
        at_once += 1
    assert at_once >= 500 * LEAD / 2 * 0.8
    assert len(replica.budget.asked) == questions
    # Asked for while there is still half of it: whoever comes meanwhile does not wait either.
    assert [enter(gate, log) for _ in range(at_once // 2)] == [True] * (at_once // 2)


@pytest.mark.parametrize("rate", [20.0, 100.0, 400.0, 2000.0])
def test_a_busy_caller_is_asked_for_some_twenty_times_a_second(rate: float) -> None:
    clock, replica = make()
    gate = replica.gate(4000.0)
    assert warm(clock, replica, gate, rate) == rate
    before = len(replica.budget.asked)
    assert warm(clock, replica, gate, rate, 5.0) == rate * 5
    assert (len(replica.budget.asked) - before) / 5 <= 30


def test_a_lone_request_leases_nothing_ahead() -> None:
    clock, replica = make()
    gate = replica.gate(50.0)
    log: list[str] = []
    for _ in range(5):
        enter(gate, log)
        clock.advance(0.001)
        assert [ask.wanted for ask in replica.serve()] == [1]
        assert not replica.asking
        clock.advance(1)
    assert log == ["x+"] * 5


@pytest.mark.parametrize("rate", [0.1, 1.0, 9.0])
def test_a_low_rate_is_leased_one_by_one(rate: float) -> None:
    clock, replica = make()
    gate = replica.gate(rate)
    for _ in range(50):
        enter(gate, [])
        assert all(ask.wanted <= 1 for ask in replica.serve())
        clock.advance(0.01)


def test_what_is_not_used_is_given_back() -> None:
    clock, replica = make()
    gate = replica.gate(1000.0)
    warm(clock, replica, gate, 500.0)
    replica.serve()
    clock.advance(LAPSE)
    (ask,) = replica.serve()
    assert ask.wanted == 0
    assert 0 < ask.back <= 500 * LEAD + 1
    assert enter(gate, []) is False
    assert clock.timers == 1  # of the gate's line; an idle caller has none
    replica.serve()
    clock.advance(3 * LAPSE)
    replica.serve()
    assert clock.timers == 0


def test_concurrency_stays_per_process_and_takes_nothing_of_the_rate() -> None:
    _, replica = make()
    gate = replica.gate(50.0, concurrent=2)
    log: list[str] = []
    assert [enter(gate, log), enter(gate, log)] == [False, False]
    refusal = enter(gate, log)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.CONCURRENCY_LIMITED
    assert [ask.wanted for ask in replica.serve()] == [2]
    assert log == ["x+", "x+"]


def test_a_line_for_concurrency_leases_when_there_is_room() -> None:
    clock, replica = make()
    gate = replica.gate(50.0, concurrent=1, queue=5.0)
    log: list[str] = []
    for name in "abc":
        enter(gate, log, name)
    assert [ask.wanted for ask in replica.serve()] == [1]
    assert log == ["a+"]
    clock.advance(3)
    assert replica.serve() == []
    gate.leave()
    assert [ask.wanted for ask in replica.serve()] == [1]
    assert log == ["a+", "b+"]


def test_a_line_for_the_rate_goes_as_the_budget_fills() -> None:
    clock, replica = make()
    gate = replica.gate(10.0, queue=2.0)
    log: list[str] = []
    askers = [Asker("x", log) for _ in range(15)]
    for asker in askers:
        assert gate.enter(asker) is False
    for _ in range(200):
        replica.serve()
        clock.advance(0.005)
    assert log == ["x+"] * 15
    waits = [asker.waited for asker in askers[10:]]
    assert waits == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], abs=0.02)


def test_an_exhausted_caller_is_not_asked_for_without_end() -> None:
    clock, replica = make()
    gate = replica.gate(5000.0)
    log: list[str] = []
    through = 0
    for _ in range(2000):  # ten a millisecond, twice the rate, for two seconds
        through += sum(enter(gate, log) is True for _ in range(10))
        replica.serve()
        clock.advance(0.001)
    through += log.count("x+")
    assert len(replica.budget.asked) <= 2 / GAP + 5000 / (5000 * LEAD / 2) + 20
    assert 5000 * 2 * 0.95 <= through <= 5000 * 3 + 1


# -- several replicas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_replicas_together_keep_to_the_rate_whatever_comes(seed: int) -> None:
    dice = random.Random(seed)
    clock = Clock()
    budget = Budget(clock)
    rate, count = dice.choice([3.0, 50.0, 400.0]), dice.choice([2, 5])
    queue = dice.choice([0.0, 0.5])
    replicas = [Replica(budget) for _ in range(count)]
    gates = [replica.gate(rate, queue=queue) for replica in replicas]
    log: list[str] = []
    went: list[float] = []
    for _ in range(6000):
        which = dice.randrange(count)
        asked = dice.choice([0, 1, 1, 2, int(rate / 20)])
        went.extend(clock.now for _ in range(asked) if enter(gates[which], log) is True)
        for replica in replicas:
            if dice.random() < 0.3:
                replica.serve()
        clock.advance(dice.choice([0.0005, 0.002, 0.01]))
        went.extend(clock.now for entry in log if entry == "x+")
        log.clear()
    elapsed = went[-1] - went[0]
    burst = CallerLimits(rate).burst
    held = count * int(rate * LEAD)
    assert not any(replica.counts.fallback["open"] for replica in replicas)
    assert len(went) <= burst + rate * elapsed + held + 1
    assert len(went) >= 0.8 * rate * elapsed  # and nothing is lost: there was always somebody who asked
    for first in range(0, len(went), 50):  # and in every second
        within = sum(went[first] <= moment < went[first] + 1 for moment in went[first : first + 3000])
        assert within <= burst + rate + held + 1


def test_a_replica_that_is_hardly_used_leaves_the_budget_to_the_others() -> None:
    clock = Clock()
    budget = Budget(clock)
    quiet, busy = [Replica(budget) for _ in range(9)], Replica(budget)
    quiet_gates, gate = [replica.gate(50.0) for replica in quiet], busy.gate(50.0)
    log: list[str] = []
    through = 0
    for step in range(400):  # 40 a second here, and one a second on each of nine others
        through += enter(gate, log) is True
        busy.serve()
        if step % 40 < 9:
            enter(quiet_gates[step % 40], log)
            quiet[step % 40].serve()
        clock.advance(0.025)
    assert log.count("x-") == 0
    assert through + log.count("x+") == 400 + 90


def test_callers_have_budgets_of_their_own() -> None:
    _, replica = make()
    greedy, modest = replica.gate(5.0, name="greedy"), replica.gate(5.0, name="modest")
    log: list[str] = []
    for _ in range(100):
        enter(greedy, log, "g")
    enter(modest, log, "m")
    asks = replica.serve()
    assert [(ask.name, ask.wanted) for ask in asks] == [("greedy", 100), ("modest", 1)]
    assert (log.count("g+"), log.count("m+"), log.count("m-")) == (5, 1, 0)


# -- nobody answers ---------------------------------------------------------------------------------------------------


def test_open_counts_here_alone_until_somebody_answers() -> None:
    clock, replica = make()
    gate = replica.gate(50.0)
    log: list[str] = []
    enter(gate, log)
    replica.fail()
    assert log == ["x+"]
    assert sum(enter(gate, log) is True for _ in range(100)) == 49
    refusal = enter(gate, log)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.RATE_LIMITED
    clock.advance(0.1)
    assert sum(enter(gate, log) is True for _ in range(100)) == 5
    assert replica.counts.fallback == {"open": 55, "closed": 0}
    replica.recover()
    assert enter(gate, log, "y") is False
    replica.serve()
    assert log == ["x+", "y+"]
    assert replica.counts.fallback["open"] == 55


def test_an_outage_is_no_second_burst() -> None:
    clock, replica = make()
    gate = replica.gate(50.0)
    log: list[str] = []
    for _ in range(50):
        enter(gate, log)
    replica.serve()
    assert log == ["x+"] * 50
    clock.advance(0.01)
    replica.fail()
    assert sum(enter(gate, log) is True for _ in range(100)) <= 1
    for _ in range(20):  # nor are many short ones
        replica.recover()
        replica.fail()
    assert sum(enter(gate, log) is True for _ in range(100)) <= 1


def test_closed_refuses_until_somebody_answers() -> None:
    _, replica = make()
    replica.fail_open = False
    gate = replica.gate(50.0, queue=2.0)
    log: list[str] = []
    waiter = Asker("a", log)
    assert gate.enter(waiter) is False
    replica.fail()
    assert log == ["a-"]
    assert waiter.refusal is not None
    assert (waiter.refusal.code, waiter.refusal.retry_after) == (Code.LIMITS_UNAVAILABLE, 1)
    refusal = enter(gate, log)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.LIMITS_UNAVAILABLE
    assert replica.counts.fallback == {"open": 0, "closed": 2}
    replica.recover()
    assert enter(gate, log, "y") is False
    replica.serve()
    assert log == ["a-", "y+"]


@pytest.mark.parametrize(("fail_open", "became"), [(True, "x+"), (False, "x-")])
@pytest.mark.parametrize("queue", [0.0, 0.1])
def test_without_any_answer_a_request_waits_no_longer_than_the_patience(
    fail_open: bool, became: str, queue: float
) -> None:
    clock, replica = make()
    replica.fail_open = fail_open
    gate = replica.gate(50.0, queue=queue)
    log: list[str] = []
    asker = Asker("x", log)
    assert gate.enter(asker) is False
    clock.advance(PATIENCE - 0.01)
    assert log == []
    clock.advance(0.02)
    assert log == [became]
    assert asker.waited == pytest.approx(PATIENCE, abs=0.002)
    if not fail_open:
        assert asker.refusal is not None
        assert asker.refusal.code is Code.LIMITS_UNAVAILABLE
    # The answer that comes after all ends it.
    replica.serve()
    assert enter(gate, log, "y") is True
    enter(gate, log, "z")
    replica.serve()
    assert log[1:] == ["z+"]


def test_a_gate_made_during_an_outage_knows_of_it() -> None:
    _, replica = make()
    replica.fail()
    assert enter(replica.gate(50.0), []) is True
    replica.fail_open = False
    assert isinstance(enter(replica.gate(50.0), []), Refusal)


def test_a_replaced_rate_is_leased_anew_and_the_old_one_is_forgotten() -> None:
    _, replica = make()
    gate = replica.gate(1.0)
    log: list[str] = []
    enter(gate, log, "a")
    enter(gate, log, "b")
    gate.adapt(CallerLimits(2.0))
    assert len(replica.paces) == 1
    assert [ask.interval for ask in replica.serve()] == [0.5]
    assert log == ["a+", "b+"]
    gate.adapt(CallerLimits(None, 5))
    assert not replica.paces
    assert enter(gate, log) is True


def test_sharing_can_begin_and_end_while_somebody_waits() -> None:
    clock, replica = make()
    gate = Gate("shop", CallerLimits(1.0, queue=5.0), clock.time, clock.call_at)
    log: list[str] = []
    assert enter(gate, log) is True
    assert enter(gate, log, "a") is False
    gate.share(replica)  # type: ignore[arg-type]
    replica.serve()
    assert log == ["a+"]
    assert enter(gate, log, "b") is False
    gate.share(None)
    assert log == ["a+", "b+"]
    assert not replica.paces


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_waiter_is_called_once_and_in_time(seed: int) -> None:
    dice = random.Random(seed)
    clock, replica = make()
    replica.fail_open = dice.random() < 0.5
    queue = dice.choice([0.0, 0.05, 0.5])
    gate = replica.gate(dice.choice([0.5, 20.0, 300.0]), dice.choice([None, 4]), queue)
    log: list[str] = []
    askers: list[Asker] = []
    through = refused = lined_up = inside = 0
    for number in range(2000):
        match dice.randrange(8):
            case 0 | 1 | 2:
                asker = Asker(str(number), log)
                entered = gate.enter(asker)
                through += entered is True
                refused += isinstance(entered, Refusal)
                if entered is False:
                    lined_up += 1
                    askers.append(asker)
            case 3 | 4:
                replica.serve()
            case 5 if dice.random() < 0.1:
                replica.fail()
            case 6 if not replica.answers:
                replica.recover()
            case _:
                clock.advance(dice.random() / 50)
        inside = through + sum(entry.endswith("+") for entry in log)
        assert gate.in_flight <= inside
        if gate.in_flight and dice.random() < 0.5:
            gate.leave()
    for _ in range(1000):
        while gate.in_flight:
            gate.leave()
        replica.serve()
        clock.advance(0.01)
    assert gate.waiting == 0
    assert len(log) == lined_up == len({*log})
    assert all(asker.waited <= max(queue, PATIENCE) + 0.002 for asker in askers)
