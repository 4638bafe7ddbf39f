"""Both variants of the session-token mint against the sandbox, which verifies every signature."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp.test_utils import TestServer

from proxy.credentials.clock import Clock
from proxy.credentials.iw1 import DOCUMENTED, SAMPLES, MintVariant
from proxy.credentials.mint import SessionTokenMint, read_session_token
from proxy.credentials.one_time import OneTimeMint
from proxy.credentials.secret import Secret
from proxy.credentials.token_endpoint import MintError, MintFailure, Reply
from proxy.sandbox.app import make_application
from proxy.sandbox.keys import DEMO_KEYS
from proxy.sandbox.options import SandboxOptions
from tests.credentials.test_token_endpoint import endpoint_at

KEYS = {key.name: Secret(key.basic) for key in DEMO_KEYS}
Start = Callable[..., Awaitable[SessionTokenMint]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers = []

    async def begin(variant: MintVariant = DOCUMENTED, **options: Any) -> SessionTokenMint:
        server = TestServer(make_application(replace(SandboxOptions(), **options)))
        await server.start_server()
        servers.append(server)
        workspace = "sandbox-demo" if variant.needs_workspace else None
        return SessionTokenMint(endpoint_at(server.port or 0, authority="localhost"), variant, workspace)

    yield begin
    for server in servers:
        await server.close()


@pytest.mark.parametrize("variant", [DOCUMENTED, SAMPLES], ids=lambda variant: variant.name)
@pytest.mark.parametrize("key", ["full", "realtime-only"])
async def test_the_token_of_each_variant_is_accepted(start: Start, variant: MintVariant, key: str) -> None:
    mint = await start(variant, token_lifetime=600.0)
    minted = await mint(KEYS[key], 0.0)
    assert minted.expires == pytest.approx(time.time() + 600, abs=3)
    assert minted.skew == 0.0
    assert "eyJ" not in repr(minted)
    url = f"http://127.0.0.1:{mint.endpoint.upstream.port}/v1/realtime/ice-servers"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Authorization": f"Bearer {minted.token.reveal()}"}) as response,
    ):
        assert response.status == 200


async def test_a_key_that_the_endpoint_does_not_know_is_refused(start: Start) -> None:
    mint = await start()
    with pytest.raises(MintError) as raised:
        await mint(Secret(base64.b64encode(b"nobody:nothing").decode()), 0.0)
    assert raised.value.failure is MintFailure.REFUSED


@pytest.mark.parametrize("host", ["localhost:8080", "api-engine.inworld.ai"])
async def test_a_host_that_the_endpoint_does_not_expect_is_refused_unless_it_is_configured(
    start: Start, host: str
) -> None:
    mint = replace(await start(), host=host)
    with pytest.raises(MintError) as raised:
        await mint(KEYS["full"], 0.0)
    assert raised.value.failure is MintFailure.REFUSED
    mint = replace(await start(signed_hosts=(host,)), host=host)
    assert (await mint(KEYS["full"], 0.0)).token.reveal()


async def test_a_clock_that_is_wrong_is_measured_by_a_refusal_and_put_right(start: Start) -> None:
    mint = replace(await start(), clock=Clock(wall=lambda: time.time() - 1200))
    with pytest.raises(MintError) as raised:
        await mint(KEYS["full"], 0.0)
    assert raised.value.failure is MintFailure.REFUSED
    assert raised.value.skew == pytest.approx(1200, abs=2)
    minted = await mint(KEYS["full"], raised.value.skew or 0.0)
    assert minted.skew == pytest.approx(1200, abs=2)


async def test_a_mint_that_fails_on_purpose_is_unavailable(start: Start) -> None:
    mint = await start(mint_failures=1.0)
    with pytest.raises(MintError) as raised:
        await mint(KEYS["full"], 0.0)
    assert raised.value.failure is MintFailure.UNAVAILABLE


# -- what an answer must look like ------------------------------------------------------------------------------------


def answer(**members: Any) -> Reply:
    return Reply({"token": "opaque", "type": "Bearer", "expirationTime": "2026-05-20T12:00:00Z"} | members, 0.0)


def token_ending(end: Any) -> str:
    return jwt.encode({"exp": end} if end is not None else {}, "k" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("members", "expires"),
    [
        ({}, 1779278400),
        ({"expirationTime": "2026-05-20T12:00:00.123456789Z"}, 1779278400.123456),
        ({"expirationTime": "2026-05-20T14:00:00+02:00"}, 1779278400),
        ({"token": token_ending(1779278000)}, 1779278000),
        ({"token": token_ending(1779279000)}, 1779278400),
        ({"token": token_ending(None)}, 1779278400),
        ({"token": token_ending(1779278000.5), "expirationTime": "soon"}, 1779278000.5),
        ({"token": token_ending(10**400)}, 1779278400),
        ({"token": "a.b.c"}, 1779278400),
        ({"type": "bearer"}, 1779278400),
    ],
)
def test_the_earlier_end_counts(members: dict[str, Any], expires: float) -> None:
    assert read_session_token(answer(**members)).expires == pytest.approx(expires)


@pytest.mark.parametrize(
    "members",
    [
        {"token": ""},
        {"token": None},
        {"token": 7},
        {"token": "a\r\nX-Injected: 1"},
        {"token": "a b"},
        {"token": "ä"},
        {"token": "x" * 20_000},
        {"type": "Basic"},
        {"expirationTime": "2026-05-20T12:00:00"},
        {"expirationTime": 1779278400},
        {"expirationTime": None},
        {"expirationTime": "9" * 5000},
        {"token": token_ending("x" * 9), "expirationTime": None},
    ],
)
def test_an_answer_without_a_usable_token_is_invalid(members: dict[str, Any]) -> None:
    with pytest.raises(MintError) as raised:
        read_session_token(answer(**members))
    assert raised.value.failure is MintFailure.INVALID


# -- one-time tokens --------------------------------------------------------------------------------------------------


async def test_a_one_time_token_is_good_for_one_request(start: Start) -> None:
    session_mint = await start()
    minted = await OneTimeMint(session_mint.endpoint, lambda: KEYS["full"]).mint(seconds=60, reference="user 7")
    assert minted.expires == pytest.approx(time.time() + 60, abs=2)
    assert "eyJ" not in repr(minted)
    url = f"http://127.0.0.1:{session_mint.endpoint.upstream.port}/tts/v1/voices"
    headers = {"Authorization": f"Bearer {minted.token.reveal()}"}
    statuses = []
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(url, headers=headers) as response:
                statuses.append(response.status)
    assert statuses[0] == 200
    assert statuses[1] in {401, 403}
