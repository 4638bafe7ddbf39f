"""The ring of the last requests: numbered, bounded, resized while it is used; and reasons counted, bounded too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Code
from proxy.observe.record import Ending, Evidence, Record
from proxy.observe.trail import BURST, LONGEST_KEPT, MOST_OPEN, MOST_REASONS, RATE, Trail


def record(path: str = "/", code: Code | None = None, operation: str | None = None, moment: float = 1.0) -> Record:
    made = Record(1.0, moment, "GET", path, "127.0.0.1")
    made.code, made.operation = code, operation
    return made


def paths(trail: Trail, number: int = 0, most: int = 0) -> list[str]:
    return [each.path for each in trail.after(number, most)]


def test_the_last_ones_are_kept_under_their_numbers() -> None:
    trail = Trail(3)
    for number in range(1, 6):
        trail.add(record(str(number)))
    assert (trail.count, paths(trail), paths(trail, 4), paths(trail, 0, 2), paths(trail, 5)) == (
        5, ["3", "4", "5"], ["5"], ["4", "5"], []
    )  # fmt: skip
    assert [found.path if (found := trail.find(number)) else None for number in range(-1, 8)] == [
        None, None, None, None, "3", "4", "5", None, None
    ]  # fmt: skip


@given(st.lists(st.integers(0, 7) | st.none(), max_size=60))
def test_however_it_is_resized_what_is_kept_are_the_newest_under_their_numbers(steps: list[int | None]) -> None:
    """None: one more request; a number: so many are kept from now on."""
    trail, kept, keep, count = Trail(4), list[int](), 4, 0
    for step in steps:
        if step is None:
            if trail.on:
                count += 1
                trail.add(record(str(count)))
                kept = [*kept, count][-keep:]
        else:
            trail.configure(step)
            keep, kept = step, kept[-step:] if step else []
        assert (trail.on, trail.count, paths(trail)) == (keep > 0, count, list(map(str, kept)))
        for number in range(count + 2):
            found = trail.find(number)
            assert (None if found is None else found.path) == (str(number) if number in kept else None)


def test_what_is_displaced_keeps_no_heads_wherever_its_record_still_waits() -> None:
    trail = Trail(3)
    records = [record(str(number)) for number in range(5)]
    for each in records:
        each.evidence = trail.evidence(b"head", None, None, 0)
        trail.add(each)
    assert [each.evidence is not None for each in records] == [False, False, True, True, True]
    trail.configure(2)
    assert [each.evidence is not None for each in records] == [False, False, False, True, True]
    trail.configure(0)
    assert not any(each.evidence for each in records)


def test_what_ends_after_the_credentials_that_it_was_begun_with_loses_its_way_to_them_too() -> None:
    trail, decision, kept = Trail(3), (None, None), []
    for received, forgets in ((1.0, 0.0), (2.0, 2.0), (2.5, 0.0)):
        made = Record(received, 1.0, "GET", "/", "127.0.0.1")
        made.evidence = trail.evidence(b"head", None, decision, 0)  # type: ignore[arg-type]
        if forgets:
            trail.forget(forgets)
        trail.add(made)
        kept.append(made.evidence.decision)
        assert made.evidence.received == b"head"
    assert kept == [decision, None, decision]
    trail.forget(1.0)
    late = Record(1.5, 1.0, "GET", "/", "127.0.0.1")
    late.evidence = trail.evidence(b"", None, decision, 0)  # type: ignore[arg-type]
    trail.add(late)
    assert late.evidence.decision is None


def test_reasons_are_counted_and_the_newest_is_the_last() -> None:
    trail = Trail(1)
    for code, operation, moment in ((Code.NO_ROUTE, "a", 1.0), (Code.DRAINING, None, 2.0), (Code.NO_ROUTE, "a", 3.0)):
        trail.add(record(code=code, operation=operation, moment=moment))
    trail.count_reason(Code.ADDRESS_LIMITED, None, moment=4.0)
    told = [(key[0], key[1], reason.count, reason.last) for key, reason in trail.reasons.items()]
    assert told == [
        (Code.DRAINING, None, 1, 2.0), (Code.NO_ROUTE, "a", 2, 3.0), (Code.ADDRESS_LIMITED, None, 1, 4.0)
    ]  # fmt: skip


def test_reasons_are_bounded_and_the_one_not_seen_for_longest_makes_room() -> None:
    trail = Trail(1)
    for number in range(MOST_REASONS + 1):
        trail.add(record(code=Code.NO_ROUTE, operation=f"op{number}"))
    assert len(trail.reasons) == MOST_REASONS
    assert (Code.NO_ROUTE, "op0", None, False) not in trail.reasons
    assert (Code.NO_ROUTE, f"op{MOST_REASONS}", None, False) in trail.reasons


@pytest.mark.parametrize(("size", "kept"), [(LONGEST_KEPT, True), (LONGEST_KEPT + 1, False)])
def test_a_head_is_kept_up_to_a_size(size: int, kept: bool) -> None:
    assert bool(Trail(1).evidence(b"x" * size, None, None, 0).received) == kept


def test_of_an_answer_made_here_the_body_is_not_kept_because_there_may_be_a_token_in_it() -> None:
    evidence = Evidence(b"", None, None, 0)
    evidence.answer_here(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"token": "t"}')
    assert evidence.returned == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def ended(moment: float, **facts: object) -> Record:
    """A request that was answered well but for these facts, and ended then."""
    made = record()
    made.status, made.ended = 200, moment
    for name, fact in facts.items():
        setattr(made, name, fact)
    return made


def test_of_many_at_once_that_went_well_some_are_kept_and_the_others_counted() -> None:
    trail = Trail(5000)
    records = [ended(10.0) for _ in range(int(BURST) + 7)]
    for each in records:
        each.evidence = trail.evidence(b"head", None, None, 0)
        trail.add(each)
    assert (trail.count, trail.passed, len(trail.after(0))) == (BURST, 7, BURST)
    assert [each.evidence is None for each in records[-8:]] == [False] + [True] * 7


def test_of_many_for_long_as_many_a_second_are_kept_as_are_said() -> None:
    trail = Trail(10)
    for number in range(20_000):
        trail.add(ended(10.0 + number / 10_000))
    assert trail.count == pytest.approx(BURST + 2 * RATE, abs=2)
    assert trail.count + trail.passed == 20_000
    trail.add(ended(13.0))
    assert trail.after(0)[-1].ended == 13.0


@pytest.mark.parametrize(
    "fact",
    [{"status": 400}, {"code": Code.UPSTREAM_CLOSED}, {"ending": Ending.CALLER_GONE}, {"ending": Ending.ABORTED},
     {"would_refuse": Code.NO_ROUTE}, {"websocket": True}],
)  # fmt: skip
def test_what_did_not_go_well_is_always_kept(fact: dict[str, object]) -> None:
    trail = Trail(5000)
    for _ in range(int(BURST) + 7):
        trail.add(ended(10.0))
    count = trail.count
    for _ in range(300):
        trail.add(ended(10.0, **fact))
    assert (trail.count, trail.passed) == (count + 300, 7)


@pytest.mark.parametrize(("keep", "most"), [(3, 3), (500, MOST_OPEN), (0, 0)])
def test_of_open_websockets_the_heads_of_some_are_kept_and_of_no_more_than_of_requests(keep: int, most: int) -> None:
    trail = Trail(keep)
    assert [trail.has_room_for_tunnel(number) for number in range(600)] == [number < most for number in range(600)]
