"""One-time tokens are minted no faster than the upstream allows."""

from __future__ import annotations

import json
from typing import Any, Self

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials.clock import Clock
from proxy.credentials.one_time import PER_PERIOD, OneTimeMint, Rate
from proxy.credentials.secret import Secret
from proxy.credentials.token_endpoint import MintError, MintFailure
from tests.credentials.test_token_endpoint import endpoint_at


@given(st.lists(st.floats(0, 10), max_size=200))
def test_no_minute_ever_holds_more_than_its_share(gaps: list[float]) -> None:
    rate, now, granted = Rate(5, 60.0), 0.0, []
    for gap in gaps:
        now += gap
        wait = rate.take(now)
        if wait == 0:
            granted.append(now)
        else:
            assert 0 < wait <= 60
    assert all(later - earlier >= 60 for earlier, later in zip(granted, granted[5:], strict=False))


def test_a_wait_that_was_said_is_enough() -> None:
    rate = Rate(2, 60.0)
    assert (rate.take(0), rate.take(10)) == (0, 0)
    assert rate.take(20) == 40
    assert rate.take(60) == 0
    assert rate.take(60) == 10


class Served:
    """A token endpoint that counts, with a client whose clock a test sets."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Any]] = []
        self.now = 0.0
        self.key = "first"
        application = web.Application()
        application.router.add_post("/auth/v1/tokens", self.handle)
        self.server = TestServer(application)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.headers["Authorization"], json.loads(await request.read())))
        return web.json_response(self.answer)

    async def __aenter__(self) -> Self:
        await self.server.start_server()
        clock = Clock(monotonic=lambda: self.now)
        self.mint = OneTimeMint(endpoint_at(self.server.port or 0), lambda: Secret(self.key), clock=clock).mint
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()


GOOD = {"accessToken": "t0ken", "expireTime": "2026-05-20T12:00:00Z"}


async def test_the_mint_is_asked_with_the_key_as_it_is_now_and_basic_only() -> None:
    async with Served(GOOD) as served:
        assert (await served.mint(seconds=300)).token.reveal() == "t0ken"
        served.key = "second"
        await served.mint(seconds=5, reference="page 1")
    assert served.asked == [
        ("Basic first", {"single_use": True, "ttl": "300s"}),
        ("Basic second", {"single_use": True, "ttl": "5s", "client_reference_id": "page 1"}),
    ]


async def test_the_sixty_first_in_a_minute_is_refused_without_asking() -> None:
    async with Served(GOOD) as served:
        for _ in range(PER_PERIOD):
            await served.mint(seconds=60)
        with pytest.raises(MintError) as raised:
            await served.mint(seconds=60)
        assert raised.value.failure is MintFailure.UNAVAILABLE
        assert 60 < raised.value.retry_after <= 61
        assert len(served.asked) == PER_PERIOD
        served.now += raised.value.retry_after
        await served.mint(seconds=60)


@pytest.mark.parametrize("wrong", [{"accessToken": "a\nb"}, {"accessToken": None}, {"expireTime": "later"}])
async def test_an_answer_without_a_usable_token_is_invalid(wrong: dict[str, Any]) -> None:
    async with Served(GOOD | wrong) as served:
        with pytest.raises(MintError) as raised:
            await served.mint(seconds=60)
    assert raised.value.failure is MintFailure.INVALID


@pytest.mark.parametrize(
    ("seconds", "reference"), [(0, ""), (3601, ""), (60, "x" * 257), (60, "a\nb"), (60, "ü\u202e")]
)
async def test_what_the_endpoint_would_refuse_is_not_asked_for(seconds: int, reference: str) -> None:
    async with Served(GOOD) as served:
        with pytest.raises(ValueError, match="one-time token"):
            await served.mint(seconds=seconds, reference=reference)
    assert served.asked == []
