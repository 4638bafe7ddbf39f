"""The life of a session token, on a clock that stands until told and against a mint that does as told."""

from __future__ import annotations

import asyncio
import logging
import pickle

import pytest

from proxy.core.model import CredentialUnavailable
from proxy.credentials.token_endpoint import TIME_LIMIT
from tests.credentials.conftest import KEY, OTHER_KEY, Stage, refused, unavailable

pytestmark = pytest.mark.asyncio(loop_factories=["still"])


async def fresh(stage: Stage) -> str | None:
    if stage.credential.authorization() is None:
        await stage.credential.refresh()
    return stage.shown()


async def test_the_first_token_is_minted_before_anybody_asks(stage: Stage) -> None:
    assert stage.credential.authorization() is None
    await stage.start()
    assert stage.credential.authorization() == b"Authorization: Bearer token-1\r\n"
    assert stage.mint.asked == [(KEY, 0.0)]
    assert stage.credential.renews


async def test_a_thousand_requests_on_a_cold_token_cause_one_mint(stage: Stage) -> None:
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = [asyncio.ensure_future(fresh(stage)) for _ in range(1000)]
    await stage.loop.settle()
    assert not any(task.done() for task in waiting)
    stage.mint.gate.set()
    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert len(stage.mint.asked) == 1


async def test_a_thousand_requests_on_an_expiring_token_wait_for_nothing_and_cause_one_mint(stage: Stage) -> None:
    await stage.start()
    stage.mint.gate = asyncio.Event()
    await stage.loop.advance(3000)
    assert len(stage.mint.asked) == 2
    assert {await fresh(stage) for _ in range(1000)} == {"token-1"}
    stage.mint.gate.set()
    await stage.loop.settle()
    assert stage.shown() == "token-2"
    assert (len(stage.mint.asked), stage.mint.most_in_flight) == (2, 1)


async def test_a_token_is_replaced_when_a_fifth_of_its_life_is_left(stage: Stage) -> None:
    await stage.start()
    await stage.loop.advance(3600 * 0.75 - 2)
    assert stage.shown() == "token-1"
    await stage.loop.advance(4)
    assert stage.shown() == "token-2"


@pytest.mark.parametrize("life", [2.0, 10.0, 60.0, 3600.0])
async def test_an_expired_token_is_never_shown_and_there_is_always_one_while_mints_succeed(
    stage: Stage, life: float
) -> None:
    stage.mint.life = life
    await stage.start()
    ends: dict[str, float] = {}
    for _ in range(400):
        shown = stage.shown()
        assert shown is not None
        end = ends.setdefault(shown, stage.credential.state().expires_at or 0.0)
        assert stage.wall() < end
        await stage.loop.advance(life / 40)
    assert 10 <= len(ends) <= 25


async def test_nothing_is_shown_in_the_last_moments_of_a_token_that_cannot_be_replaced(stage: Stage) -> None:
    await stage.start()
    stage.mint.answers = [unavailable()] * 10_000
    await stage.loop.advance(3594)
    assert stage.shown() == "token-1"
    await stage.loop.advance(2)
    assert stage.shown() is None


async def test_a_valid_token_keeps_serving_while_mints_fail(stage: Stage) -> None:
    await stage.start()
    stage.mint.answers = [unavailable()] * 10
    await stage.loop.advance(2703)
    assert len(stage.mint.asked) > 5
    assert stage.shown() == "token-1"
    assert stage.credential.state().mints["unavailable"] >= 5
    await stage.loop.advance(300)
    assert stage.shown() not in (None, "token-1")


async def test_requests_wait_through_the_first_failures(stage: Stage) -> None:
    stage.mint.answers = [unavailable()] * 5
    await stage.start()
    waiting = [asyncio.ensure_future(fresh(stage)) for _ in range(10)]
    await stage.loop.advance(3)
    assert set(await asyncio.gather(*waiting)) == {"token-6"}


async def test_a_failure_is_remembered_and_requests_in_its_pause_are_refused_at_once(stage: Stage) -> None:
    stage.mint.answers = [unavailable()] * 1000
    await stage.start()
    await stage.loop.advance(60)
    asked = len(stage.mint.asked)
    before = stage.loop.now
    outcomes = await stage.gather([stage.credential.refresh() for _ in range(1000)])
    assert all(isinstance(outcome, CredentialUnavailable) for outcome in outcomes)
    assert all(1 <= outcome.retry_after <= 40 for outcome in outcomes)
    assert {outcome.credential for outcome in outcomes} == {"live"}
    assert (stage.loop.now, len(stage.mint.asked)) == (before, asked)


async def test_failed_mints_become_rarer_and_rarer(stage: Stage) -> None:
    stage.mint.answers = [unavailable()] * 1000
    await stage.start()
    counts = []
    for _ in range(4):
        asked = len(stage.mint.asked)
        await stage.loop.advance(60)
        counts.append(len(stage.mint.asked) - asked)
    assert counts[0] > counts[1] >= counts[3]
    assert counts[3] <= 3


async def test_it_recovers_by_itself_after_an_outage(stage: Stage) -> None:
    stage.mint.answers = [unavailable()] * 12
    await stage.start()
    await stage.loop.advance(60)
    assert stage.shown() == "token-13"
    await stage.loop.advance(60)
    assert len(stage.mint.asked) == 13


async def test_the_endpoint_may_ask_for_a_longer_pause(stage: Stage) -> None:
    stage.mint.answers = [unavailable(retry_after=30.0)]
    await stage.start()
    with pytest.raises(CredentialUnavailable) as raised:
        await stage.credential.refresh()
    assert raised.value.retry_after == pytest.approx(30, abs=1)
    await stage.loop.advance(29)
    assert len(stage.mint.asked) == 1
    await stage.loop.advance(2)
    assert stage.shown() == "token-2"


async def test_a_request_waits_for_one_mint_at_the_longest(stage: Stage) -> None:
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = asyncio.ensure_future(stage.credential.refresh())
    await stage.loop.advance(TIME_LIMIT - 1)
    assert not waiting.done()
    await stage.loop.advance(2)
    with pytest.raises(CredentialUnavailable):
        await waiting


async def test_one_that_leaves_takes_nothing_with_it(stage: Stage) -> None:
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = [asyncio.ensure_future(fresh(stage)) for _ in range(10)]
    await stage.loop.settle()
    for task in waiting[:9]:
        task.cancel()
    await stage.loop.settle()
    assert stage.mint.cancelled == 0
    stage.mint.gate.set()
    assert await waiting[9] == "token-1"
    assert len(stage.mint.asked) == 1


async def test_all_that_leave_leave_a_token_behind(stage: Stage) -> None:
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = [asyncio.ensure_future(fresh(stage)) for _ in range(10)]
    await stage.loop.settle()
    for task in waiting:
        task.cancel()
    stage.mint.gate.set()
    await stage.loop.settle()
    assert stage.shown() == "token-1"


@pytest.mark.parametrize("skew", [-600.0, 600.0])
async def test_clocks_that_differ_by_ten_minutes_change_nothing(stage: Stage, skew: float) -> None:
    stage.mint.skew = skew
    await stage.start()
    assert stage.credential.state().skew == skew
    assert stage.credential.state().expires_at == pytest.approx(stage.wall() + 3600)
    await stage.loop.advance(3000)
    assert stage.mint.asked == [(KEY, 0.0), (KEY, skew)]
    assert stage.shown() == "token-2"


async def test_a_signature_refused_for_its_time_is_made_again_at_once_with_the_right_time(stage: Stage) -> None:
    stage.mint.answers = [refused(skew=-900.0)]
    stage.mint.skew = -900.0
    await stage.start()
    await stage.loop.advance(1)
    assert stage.mint.asked == [(KEY, 0.0), (KEY, -900.0)]
    assert stage.shown() == "token-2"


async def test_the_skew_measured_before_stands_where_an_answer_has_no_date(stage: Stage) -> None:
    stage.mint.skew = 600.0
    await stage.start()
    stage.mint.skew = None
    stage.mint.life = 3600.0 + 600.0  # on the other clock
    await stage.loop.advance(3000)
    assert stage.shown() == "token-2"
    assert stage.credential.state().skew == 600.0
    assert stage.credential.state().expires_at == pytest.approx(stage.wall() + 3600, abs=600)


async def test_a_token_that_has_ended_already_is_a_failed_mint(stage: Stage) -> None:
    stage.mint.answers = [0.0, -5.0]
    await stage.start()
    assert stage.shown() is None
    await stage.loop.advance(5)
    assert stage.shown() == "token-3"
    assert stage.credential.state().mints["invalid"] == 2


async def test_tokens_of_no_life_to_speak_of_are_not_minted_in_a_storm(stage: Stage) -> None:
    stage.mint.life = 0.01
    await stage.start()
    await stage.loop.advance(10)
    assert len(stage.mint.asked) <= 21


async def test_a_wall_clock_that_jumps_ahead_ends_the_token(stage: Stage) -> None:
    """A laptop that slept for hours: the other clock stood still, and so did the timer of the refresh."""
    await stage.start()
    stage.ahead = 7200.0
    assert stage.shown() is None
    assert await stage.soon(fresh(stage)) == "token-2"


async def test_a_wall_clock_that_is_set_back_prolongs_nothing(stage: Stage) -> None:
    await stage.start()
    stage.mint.answers = [unavailable()] * 10_000
    stage.ahead = -7200.0
    await stage.loop.advance(3596)
    assert stage.shown() is None


# -- refused by the upstream ------------------------------------------------------------------------------------------


async def test_a_refused_token_is_dropped_and_a_fresh_one_may_be_tried(stage: Stage) -> None:
    await stage.start()
    await stage.loop.advance(100)
    line = stage.credential.authorization()
    assert line is not None
    assert stage.credential.refused(line) is True
    assert stage.credential.authorization() is None
    assert await stage.soon(fresh(stage)) == "token-2"
    assert stage.credential.state().refusals == 1


async def test_a_token_that_was_replaced_already_is_not_dropped_twice(stage: Stage) -> None:
    await stage.start()
    await stage.loop.advance(100)
    line = stage.credential.authorization()
    assert line is not None
    assert [stage.credential.refused(line) for _ in range(100)] == [True] * 100
    await stage.loop.settle()
    assert [stage.credential.refused(line) for _ in range(100)] == [True] * 100
    assert stage.shown() == "token-2"
    assert (len(stage.mint.asked), stage.credential.state().refusals) == (2, 1)


async def test_tokens_refused_one_after_the_other_are_no_storm_of_mints(stage: Stage) -> None:
    await stage.start()
    tried = []
    for _ in range(600):
        line = stage.credential.authorization()
        if line is not None:
            tried.append(stage.credential.refused(line))
        await stage.loop.advance(0.1)
    assert len(stage.mint.asked) < 20
    assert tried[0] is True
    assert tried[-1] is False


async def test_refusals_far_apart_are_not_held_against_each_other(stage: Stage) -> None:
    await stage.start()
    for count in range(1, 10):
        await stage.loop.advance(60)
        line = stage.credential.authorization()
        assert line is not None
        assert stage.credential.refused(line) is True
        assert await stage.soon(fresh(stage)) == f"token-{count + 1}"


async def test_a_refused_key_is_reported_and_asked_about_rarely(stage: Stage) -> None:
    stage.mint.answers = [refused()] * 1000
    await stage.start()
    assert stage.credential.state().refused
    with pytest.raises(CredentialUnavailable) as raised:
        await stage.credential.refresh()
    assert raised.value.retry_after > 3
    await stage.loop.advance(300)
    assert len(stage.mint.asked) <= 12


async def test_doubts_replace_a_token_that_stays_in_use_meanwhile(stage: Stage) -> None:
    await stage.start()
    stage.mint.gate = asyncio.Event()
    line = stage.credential.authorization()
    assert line is not None
    await stage.loop.advance(5)
    for _ in range(2):
        stage.credential.doubted(line)
    await stage.loop.advance(5)
    assert len(stage.mint.asked) == 1
    stage.credential.doubted(line)
    await stage.loop.settle()
    assert (len(stage.mint.asked), stage.shown()) == (2, "token-1")
    stage.mint.gate.set()
    await stage.loop.settle()
    assert stage.shown() == "token-2"


async def test_many_doubts_replace_one_token_a_minute_at_most(stage: Stage) -> None:
    await stage.start()
    for _ in range(600):
        line = stage.credential.authorization()
        assert line is not None
        stage.credential.doubted(line)
        stage.credential.doubted(b"another")
        await stage.loop.advance(1)
    assert 8 <= len(stage.mint.asked) <= 11


# -- a key that is replaced -------------------------------------------------------------------------------------------


async def test_a_replaced_key_is_minted_from_at_once_and_no_request_waits(stage: Stage) -> None:
    await stage.start()
    stage.mint.gate = asyncio.Event()
    stage.replace_key()
    await stage.loop.settle()
    assert stage.mint.asked == [(KEY, 0.0), (OTHER_KEY, 0.0)]
    assert stage.shown() == "token-1"
    stage.mint.gate.set()
    await stage.loop.settle()
    assert stage.shown() == "token-2"


async def test_what_is_minted_from_a_key_while_it_is_replaced_is_not_used(stage: Stage) -> None:
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = [asyncio.ensure_future(fresh(stage)) for _ in range(10)]
    await stage.loop.settle()
    stage.replace_key()
    await stage.loop.settle()
    assert stage.mint.asked == [(KEY, 0.0)]
    stage.mint.gate.set()
    assert set(await asyncio.gather(*waiting)) == {"token-2"}
    assert stage.mint.asked == [(KEY, 0.0), (OTHER_KEY, 0.0)]
    assert stage.mint.most_in_flight == 1
    assert stage.credential.state().mints["discarded"] == 1


async def test_a_replaced_key_ends_the_pause_of_the_one_before(stage: Stage) -> None:
    stage.mint.answers = [refused()] * 3
    await stage.start()
    await stage.loop.advance(20)
    assert stage.credential.state().refused
    stage.replace_key()
    await stage.loop.settle()
    assert stage.shown() == "token-4"
    assert not stage.credential.state().refused


async def test_a_replacement_that_is_refused_leaves_the_token_of_the_key_before_in_use(stage: Stage) -> None:
    await stage.start()
    stage.mint.answers = [refused()] * 1000
    stage.replace_key()
    await stage.loop.advance(600)
    assert stage.shown() == "token-1"
    assert stage.credential.state().refused


# -- its own life -----------------------------------------------------------------------------------------------------


async def test_before_it_starts_and_after_it_ends_nobody_waits(stage: Stage) -> None:
    with pytest.raises(CredentialUnavailable):
        await stage.credential.refresh()
    stage.mint.gate = asyncio.Event()
    await stage.start()
    waiting = asyncio.ensure_future(stage.credential.refresh())
    await stage.loop.settle()
    stage.credential.close()
    with pytest.raises(CredentialUnavailable):
        await waiting
    await stage.loop.settle()
    assert stage.mint.cancelled == 1
    assert not stage.tasks
    with pytest.raises(CredentialUnavailable):
        await stage.credential.refresh()


async def test_a_token_at_hand_outlives_the_end_for_those_who_are_still_served(stage: Stage) -> None:
    await stage.start()
    stage.credential.close()
    await stage.loop.advance(3000)
    assert stage.shown() == "token-1"
    assert len(stage.mint.asked) == 1


async def test_a_bug_in_a_mint_is_seen_and_is_not_the_end(stage: Stage) -> None:
    broken = stage.mint.answers
    broken.append("neither a life nor a failure")  # type: ignore[arg-type]
    await stage.start()
    assert [type(failure) for failure in stage.failures] == [TypeError]
    stage.failures.clear()
    await stage.loop.advance(2)
    assert await stage.soon(fresh(stage)) == "token-2"


async def test_its_state_says_how_it_is_without_a_secret(stage: Stage) -> None:
    await stage.start()
    state = stage.credential.state()
    assert (state.ready, state.source, state.refused, state.fault, state.skew) == (True, "env", False, None, 0.0)
    assert state.mints == {"success": 1, "discarded": 0, "refused": 0, "unavailable": 0, "invalid": 0}
    assert state.succeeded_at == stage.wall()
    assert "token-1" not in repr(state)
    assert "s3cr3t" not in repr(state)


async def test_failures_are_logged_without_a_secret_and_not_each_of_them(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.mint.answers = [unavailable()] * 5
    with caplog.at_level(logging.INFO, "proxy"):
        await stage.start()
        await stage.loop.advance(10)
    assert len(caplog.records) == 1
    assert "credential live: unavailable; next attempt in 0.1 s" in caplog.text
    assert "token-" not in caplog.text


async def test_it_cannot_be_printed_or_pickled(stage: Stage) -> None:
    await stage.start()
    assert repr(stage.credential) == "SessionToken('live')"
    with pytest.raises(TypeError):
        pickle.dumps(stage.credential)
