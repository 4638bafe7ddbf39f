"""Where callers get tokens: by purpose, at most so many a minute each, and tokens that work where they are meant to."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from proxy.core.model import CredentialUnavailable, IssuedToken, KeyPower, KeyType
from proxy.credentials.api_key import check_api_key
from proxy.credentials.clock import Clock
from proxy.credentials.desk import ONE_TIME, REALTIME, Desk, OneTimeIssuer, SessionTokenIssuer
from proxy.credentials.live import LiveSecret
from proxy.credentials.mint import SessionTokenMint
from proxy.credentials.one_time import OneTimeMint
from proxy.credentials.secret import Secret
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import EnvironmentSource
from proxy.credentials.token_endpoint import MintError, MintFailure
from proxy.sandbox.app import make_application
from proxy.sandbox.keys import DEMO_KEYS
from proxy.sandbox.options import SandboxOptions
from tests.credentials.test_token_endpoint import endpoint_at

KEYS = {key.name: key for key in DEMO_KEYS}
SOCKET = "/api/v1/realtime/session?key=mine&protocol=realtime"


class Numbered:
    """An issuer that counts, or fails as told."""

    def __init__(self, failure: MintError | None = None) -> None:
        self.failure = failure
        self.callers: list[str] = []

    async def __call__(self, caller: str) -> IssuedToken:
        self.callers.append(caller)
        if self.failure is not None:
            raise self.failure
        return IssuedToken(f"token-{len(self.callers)}", 1.0, once=False)


async def test_each_purpose_has_its_issuer_and_each_token_its_caller() -> None:
    realtime, once = Numbered(), Numbered()
    desk = Desk({REALTIME: realtime, ONE_TIME: once}, 30)
    assert desk.purposes == ("realtime", "one-time")
    assert (await desk.issue("realtime", "a")).token == "token-1"
    assert (await desk.issue("realtime", "b")).token == "token-2"
    assert (await desk.issue("one-time", "a")).token == "token-1"
    assert (realtime.callers, once.callers) == (["a", "b"], ["a"])


def test_one_caller_never_takes_anothers_share() -> None:
    now = 100.0
    desk = Desk({REALTIME: Numbered()}, 2, clock=Clock(monotonic=lambda: now))
    assert [desk.wait("a"), desk.wait("a"), desk.wait("b")] == [0, 0, 0]
    now = 110.0
    assert desk.wait("a") == 50
    assert [desk.wait("b"), desk.wait("b")] == [0, 50]
    now = 160.0
    assert [desk.wait("a"), desk.wait("a"), desk.wait("a")] == [0, 0, 60]


@pytest.mark.parametrize(("said", "told"), [(0.0, 1.0), (0.4, 0.4), (42.0, 42.0)])
async def test_a_mint_that_fails_says_when_to_ask_again(said: float, told: float) -> None:
    failure = MintError(MintFailure.UNAVAILABLE, "down", retry_after=said)
    desk = Desk({ONE_TIME: Numbered(failure)}, 30)
    with pytest.raises(CredentialUnavailable) as raised:
        await desk.issue("one-time", "a")
    assert raised.value.retry_after == told
    assert raised.value.__cause__ is failure


# -- against the sandbox ----------------------------------------------------------------------------------------------


class Place:
    """A sandbox, a desk in front of it, and a session to use its tokens with."""

    def __init__(self, server: TestServer, session: aiohttp.ClientSession) -> None:
        self.port = server.port or 0
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = session

    def desk(self, realtime: str = "realtime-only", once: str = "standard-read", seconds: int = 60) -> Desk:
        endpoint = endpoint_at(self.port)
        live = LiveSecret(
            "live", EnvironmentSource("KEY"), Secret(KEYS[realtime].basic), check=check_api_key, environ={}
        )
        mint = SessionTokenMint(endpoint, host="api.inworld.ai")
        credential = SessionToken("live", live, KeyPower(KeyType.REALTIME_ONLY), mint)
        one_time = OneTimeMint(endpoint, lambda: Secret(KEYS[once].basic))
        return Desk({REALTIME: SessionTokenIssuer(credential), ONE_TIME: OneTimeIssuer(one_time, seconds)}, 30)

    async def speaks(self, token: str) -> int:
        body = {"text": "Hello.", "voiceId": "Ashley", "modelId": "inworld-tts-1.5-max"}
        bearer = {"Authorization": f"Bearer {token}"}
        async with self.session.post(f"{self.url}/tts/v1/voice", json=body, headers=bearer) as response:
            return response.status


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    server = TestServer(make_application(SandboxOptions()))
    await server.start_server()
    async with aiohttp.ClientSession() as session:
        yield Place(server, session)
    await server.close()


async def test_a_session_token_opens_a_realtime_session_and_each_caller_gets_another(place: Place) -> None:
    desk = place.desk()
    first, second = await desk.issue("realtime", "a"), await desk.issue("realtime", "a")
    assert first.token != second.token
    assert not first.once
    assert time.time() + 60 < first.expires
    for issued in (first, second, first):
        bearer = {"Authorization": f"Bearer {issued.token}"}
        async with place.session.ws_connect(place.url + SOCKET, headers=bearer) as socket:
            assert (await socket.receive_json(timeout=60))["type"] == "session.created"


async def test_a_one_time_token_is_good_for_one_request_and_names_its_caller(place: Place) -> None:
    issued = await place.desk(seconds=60).issue("one-time", "the page")
    assert issued.once
    assert 50 < issued.expires - time.time() <= 61
    assert [await place.speaks(issued.token), await place.speaks(issued.token)] == [200, 401]
    async with place.session.get(f"{place.url}/_sandbox/seen?settled=5") as response:
        seen = (await response.json())["requests"]
    assert [(each["operation"], each["status"]) for each in seen[1:]] == [
        ("tts.synthesize", 200), ("tts.synthesize", 401),
    ]  # fmt: skip
    assert (seen[0]["target"], seen[0]["credential"]) == ("/auth/v1/tokens", "standard-read")


async def test_a_key_that_the_upstream_refuses_is_unavailable_to_the_caller(place: Place) -> None:
    gone = Secret(base64.b64encode(b"nobody:nothing-at-all").decode())
    desk = Desk({ONE_TIME: OneTimeIssuer(OneTimeMint(endpoint_at(place.port), lambda: gone), 60)}, 30)
    with pytest.raises(CredentialUnavailable) as raised:
        await desk.issue("one-time", "a")
    assert raised.value.retry_after >= 1
