"""The three token mints: what they ask for, what they answer, and what their tokens open."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from proxy.sandbox import mints
from proxy.sandbox.signature import sign
from tests.sandbox.conftest import KEYS, Running, Start

DOCUMENTED = ("/v1/sessionTokens/token:generate", "api_key", mints.DOCUMENTED_HOST, mints.DOCUMENTED_METHOD)
SAMPLES = ("/auth/v1/tokens/token:generate", "key", mints.SAMPLES_HOST, mints.SAMPLES_METHOD)
VARIANTS = pytest.mark.parametrize("variant", [DOCUMENTED, SAMPLES], ids=["documented", "samples"])
ICE = "/v1/realtime/ice-servers"
VOICES = "/tts/v1/voices"
Variant = tuple[str, str, str, str]


def signed(sandbox: Running, key: str, host: str, method: str, *, nonce: str = "0123456789a", age: float = 0) -> str:
    moment = datetime.fromtimestamp(sandbox.clock.now - age, UTC).strftime("%Y%m%d%H%M%S")
    name = KEYS[key]
    made = sign(name.secret, (moment, host, method, nonce))
    return f"IW1-HMAC-SHA256 ApiKey={name.key_id},DateTime={moment},Nonce={nonce},Signature={made}"


async def mint(sandbox: Running, variant: Variant, authorization: str, key: str = "full") -> Any:
    path, member, _host, _method = variant
    body = {member: KEYS[key].key_id, "resources": ["workspaces/sandbox-demo"]}
    return await sandbox.ask("POST", path, None, json=body, headers={"Authorization": authorization})


async def session_token(sandbox: Running, key: str, variant: Variant = DOCUMENTED, nonce: str = "00") -> str:
    answer = await mint(sandbox, variant, signed(sandbox, key, variant[2], variant[3], nonce=nonce), key)
    assert answer.status == 200
    return str((await answer.json())["token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@VARIANTS
async def test_a_signed_request_gets_a_session_token_that_opens_what_its_key_opens(
    sandbox: Running, variant: Variant
) -> None:
    answer = await mint(sandbox, variant, signed(sandbox, "full", variant[2], variant[3]))
    body = await answer.json()
    assert body["type"] == "Bearer"
    assert body["expirationTime"].endswith("Z")
    assert body["sessionId"].startswith("default:")
    assert jwt.get_unverified_header(body["token"])["alg"] == "RS256"
    for path in (VOICES, ICE, "/voices/v1/voices"):
        assert (await sandbox.ask("GET", path, None, headers=bearer(body["token"]))).status == 200
    assert [(seen["credential"], seen["credentialKind"]) for seen in await sandbox.seen()] == [
        ("full", "iw1-signature"),
        ("full", "session-token"),
        ("full", "session-token"),
        ("full", "session-token"),
    ]


@VARIANTS
async def test_the_sandboxes_own_host_may_be_signed_and_others_only_if_configured(
    start: Start, variant: Variant
) -> None:
    sandbox = await start(signed_hosts=("voice.example",))
    own = sandbox.url.removeprefix("http://")
    for number, (host, status) in enumerate([(own, 200), ("voice.example", 200), ("evil.example", 403)]):
        header = signed(sandbox, "full", host, variant[3], nonce=f"{number}")
        assert (await mint(sandbox, variant, header)).status == status


@VARIANTS
async def test_a_signature_that_does_not_fit_is_403(sandbox: Running, variant: Variant) -> None:
    other = SAMPLES if variant is DOCUMENTED else DOCUMENTED
    wrong = [
        signed(sandbox, "full", other[2], variant[3]),
        signed(sandbox, "full", variant[2], other[3]),
        signed(sandbox, "full", variant[2], variant[3])[:-1] + "0",
        signed(sandbox, "full", variant[2], variant[3]).replace(KEYS["full"].key_id, "nobody"),
        signed(sandbox, "full", variant[2], variant[3], age=301),
        signed(sandbox, "full", variant[2], variant[3], age=-301),
    ]
    for header in wrong:
        answer = await mint(sandbox, variant, header)
        body = await answer.json()
        assert (answer.status, body["code"]) == (403, 7)
        assert body["message"].startswith("invalid authorization signature")


async def test_a_nonce_counts_once(sandbox: Running) -> None:
    header = signed(sandbox, "full", DOCUMENTED[2], DOCUMENTED[3])
    assert (await mint(sandbox, DOCUMENTED, header)).status == 200
    assert (await mint(sandbox, DOCUMENTED, header)).status == 403


async def test_only_a_signature_mints_a_session_token(sandbox: Running) -> None:
    answer = await sandbox.ask("POST", DOCUMENTED[0], "full", json={"api_key": KEYS["full"].key_id})
    assert answer.status == 401


async def test_a_realtime_only_key_mints_a_token_that_opens_realtime_and_nothing_else(sandbox: Running) -> None:
    token = await session_token(sandbox, "realtime-only")
    assert (await sandbox.ask("GET", ICE, None, headers=bearer(token))).status == 200
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(token))).status == 403


async def test_a_session_token_ends_with_its_lifetime_and_with_its_key(start: Start) -> None:
    sandbox = await start(token_lifetime=60.0)
    token = await session_token(sandbox, "full")
    sandbox.clock.now += 59
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(token))).status == 200
    sandbox.clock.now += 1
    expired = await sandbox.ask("GET", VOICES, None, headers=bearer(token))
    assert (expired.status, (await expired.json())["details"][0]["errorType"]) == (401, "SESSION_TOKEN_EXPIRED")
    fresh = await session_token(sandbox, "full", nonce="01")
    await sandbox.session.delete(f"{sandbox.url}/_sandbox/keys/full")
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(fresh))).status == 403


async def test_a_self_made_token_is_refused_for_its_algorithm_or_its_signature(sandbox: Running) -> None:
    homemade = jwt.encode({"sub": KEYS["full"].key_id}, "k" * 32, algorithm="HS256")
    answer = await sandbox.ask("GET", VOICES, None, headers=bearer(homemade))
    assert (answer.status, (await answer.json())["message"]) == (401, "signing method HS256 is invalid")
    forged = (await session_token(sandbox, "full"))[:-4] + "AAAA"
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(forged))).status == 401


async def one_time(sandbox: Running, key: str = "full", **body: Any) -> Any:
    return await sandbox.ask("POST", "/auth/v1/tokens", key, json={"single_use": True} | body)


async def test_a_one_time_token_authenticates_once_even_if_the_request_then_fails(sandbox: Running) -> None:
    answer = await one_time(sandbox, ttl="300s", client_reference_id="player 7")
    body = await answer.json()
    assert body["name"].startswith("tokens/")
    assert body["singleUse"] is True
    assert body["clientReferenceId"] == "player 7"
    assert body["apiKey"] == f"workspaces/sandbox-demo/apikeys/{KEYS['full'].key_id}"
    token = body["accessToken"]
    assert (await sandbox.ask("POST", "/tts/v1/voice", None, json={}, headers=bearer(token))).status == 400
    spent = await sandbox.ask("GET", VOICES, None, headers=bearer(token))
    assert spent.status == 401


async def test_realtime_takes_no_one_time_token_and_does_not_use_it_up(sandbox: Running) -> None:
    token = (await (await one_time(sandbox)).json())["accessToken"]
    assert (await sandbox.ask("GET", ICE, None, headers=bearer(token))).status == 401
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(token))).status == 200


async def test_a_token_never_makes_a_token(sandbox: Running) -> None:
    token = await session_token(sandbox, "full")
    for header in (bearer(token), bearer(KEYS["full"].basic)):
        answer = await sandbox.ask("POST", "/auth/v1/tokens", None, json={"single_use": True}, headers=header)
        assert answer.status == 401


@pytest.mark.parametrize(
    "body",
    [
        {"single_use": False},
        {"ttl": "0s"},
        {"ttl": "3601s"},
        {"ttl": "300"},
        {"ttl": "300s", "expire_time": "2026-06-01T00:00:00Z"},
        {"expire_time": "tomorrow"},
        {"expire_time": "2030-01-01T00:00:00Z"},
        {"client_reference_id": "é"},
        {"client_reference_id": "x" * 257},
    ],
)
async def test_a_one_time_token_is_asked_for_within_its_rules(sandbox: Running, body: dict[str, Any]) -> None:
    assert (await one_time(sandbox, **body)).status == 400


async def test_a_key_makes_sixty_one_time_tokens_a_minute(start: Start) -> None:
    sandbox = await start(mints_per_minute=3)
    statuses = [(await one_time(sandbox)).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert (await one_time(sandbox, "standard-read")).status == 200
    sandbox.clock.now += 60
    assert (await one_time(sandbox)).status == 200


async def test_a_one_time_token_opens_one_tts_socket_by_subprotocol(sandbox: Running) -> None:
    token = (await (await one_time(sandbox)).json())["accessToken"]
    path = "/tts/v1/voice:streamBidirectional"
    socket = await sandbox.socket(path, None, protocols=[f"bearer_{token}"])
    assert socket.protocol == f"bearer_{token}"
    await socket.send_str("echo")
    assert await socket.receive_str() == "echo"
    await socket.close()
    again = await sandbox.socket(path, None, protocols=[f"bearer_{token}"])
    assert (await again.receive_json())["error"]["message"] == "one-time token has already been used"
    await again.close()


async def test_the_tally_says_what_became_of_every_credential_and_how_many_mints_ran_at_once(start: Start) -> None:
    sandbox = await start(token_lifetime=10.0, mint_seconds=0.05)
    token = await session_token(sandbox, "full")
    both = [session_token(sandbox, "standard-read", nonce=nonce) for nonce in ("01", "02")]
    await asyncio.gather(*both)
    assert (await mint(sandbox, DOCUMENTED, "IW1-HMAC-SHA256 nonsense")).status == 401
    assert (await sandbox.ask("GET", VOICES, None, headers=bearer(token))).status == 200
    sandbox.clock.now += 11
    for headers in (bearer(token), {"Authorization": "Basic bm90OmtleQ=="}):
        assert (await sandbox.ask("GET", VOICES, None, headers=headers)).status in (401, 403)
    assert (await sandbox.ask("GET", VOICES, "realtime-only")).status == 403
    tally = await (await sandbox.session.get(f"{sandbox.url}/_sandbox/tally")).json()
    assert tally == {
        "accepted": {"full": {"session-token": 1}},
        "refused": {"401 SESSION_TOKEN_EXPIRED": 1, "403": 2},
        "mints": {"200": 3, "401": 1},
        "mostMintsAtOnce": {KEYS["full"].key_id: 1, KEYS["standard-read"].key_id: 2, "unsigned": 1},
    }
