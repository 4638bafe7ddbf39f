"""How long a token is used, when it is replaced, and how failed mints are spaced."""

from typing import Any

import pytest

from proxy.credentials.token_endpoint import MintFailure
from proxy.credentials.token_life import LONGEST_LIFE, PATIENCE, Life, pause_after, plan_life

WALL, MONOTONIC = 1_780_000_000.0, 5_000.0


def planned(seconds: float, **changed: Any) -> Life:
    given: dict[str, Any] = {"skew": 0.0, "wall": WALL, "monotonic": MONOTONIC, "chance": 0.0} | changed
    life = plan_life(WALL + seconds, **given)
    assert life is not None
    return life


@pytest.mark.parametrize(
    ("seconds", "used", "refreshed", "refreshed_at_the_earliest"),
    [
        (4 * 3600, 4 * 3600 - 5, 11520, 10080),  # a fifth, and a tenth more by chance
        (600, 595, 480, 420),
        (100, 95, 80, 70),
        (40, 35, 30, 26),  # ten seconds ahead at the least
        (20, 15, 10, 8),
        (10, 7.5, 5, 4),  # a short life is halved
        (2, 1.5, 1, 0.8),
    ],
)
def test_a_token_is_replaced_ahead_of_time_and_not_sent_close_to_its_end(
    seconds: float, used: float, refreshed: float, refreshed_at_the_earliest: float
) -> None:
    life = planned(seconds)
    assert life.until - MONOTONIC == pytest.approx(used)
    assert life.until_wall - WALL == pytest.approx(used)
    assert life.ends == pytest.approx(WALL + seconds)
    assert life.refresh_at - MONOTONIC == pytest.approx(refreshed)
    assert planned(seconds, chance=1.0).refresh_at - MONOTONIC == pytest.approx(refreshed_at_the_earliest)


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
def test_a_token_that_has_ended_has_no_life(seconds: float) -> None:
    assert plan_life(WALL + seconds, skew=0.0, wall=WALL, monotonic=MONOTONIC, chance=0.0) is None


@pytest.mark.parametrize("seconds", [1e6, 1e11, float("inf")])
def test_a_token_that_says_it_never_ends_is_replaced_every_day(seconds: float) -> None:
    assert planned(seconds).until <= MONOTONIC + LONGEST_LIFE


@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_the_end_is_read_on_the_other_clock(skew: float) -> None:
    life = planned(3600, skew=skew)
    assert life.ends == pytest.approx(WALL + 3600 - skew)
    assert life.until - MONOTONIC == pytest.approx(3600 - skew - 5)


def test_a_clock_far_behind_ends_nothing_early_and_one_far_ahead_can_end_all() -> None:
    assert plan_life(WALL + 60, skew=61, wall=WALL, monotonic=MONOTONIC, chance=0.0) is None
    assert planned(-60, skew=-120).until > MONOTONIC


def test_pauses_grow_up_to_a_limit() -> None:
    for failure in MintFailure:
        pauses = [pause_after(count, failure, chance=0.5) for count in range(1, 40)]
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[3] < pauses[-1] == pause_after(10**9, failure, chance=0.5) <= 60


def test_requests_wait_through_the_first_failures_of_an_endpoint_and_not_for_a_refused_key() -> None:
    waited_out = [count for count in range(1, 20) if pause_after(count, MintFailure.UNAVAILABLE, chance=1.0) < PATIENCE]
    assert waited_out == [1, 2, 3, 4, 5, 6, 7]
    assert pause_after(1, MintFailure.REFUSED, chance=0.0) > PATIENCE


def test_chance_spreads_pauses_and_does_not_shorten_them_to_nothing() -> None:
    least, most = (pause_after(1, MintFailure.REFUSED, chance=chance) for chance in (0.0, 1.0))
    assert (least, most) == (pytest.approx(4.0), pytest.approx(6.0))
