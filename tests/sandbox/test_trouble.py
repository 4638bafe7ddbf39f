"""What can be set: latency, failures, limits. And what a test can ask about afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import aiohttp
import pytest
from yarl import URL

from proxy.sandbox.keys import Access, KeyType, key_from_text
from proxy.sandbox.options import FaultRule, fault_from_text
from tests.sandbox.conftest import KEYS, Running, Start

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
SYNTHESIS = {"text": "hello", "voiceId": "Ashley", "modelId": "m"}
SPEECH = {"model": "m", "voice": "v", "input": "hello there"}


async def test_a_failure_is_told_in_the_shape_of_its_stack_and_only_for_its_operation(start: Start) -> None:
    sandbox = await start(faults=(FaultRule("tts.synthesize*", 503), FaultRule("llm.*", 500)))
    plain = await sandbox.ask("POST", "/tts/v1/voice", json=SYNTHESIS)
    assert (plain.status, (await plain.json())["code"]) == (503, 14)
    streamed = await sandbox.ask("POST", "/tts/v1/voice:stream", json=SYNTHESIS)
    assert (streamed.status, (await streamed.json())["error"]["code"]) == (503, 14)
    chat = await sandbox.ask("POST", "/v1/chat/completions", json=CHAT)
    assert (chat.status, (await chat.json())["error"]["type"]) == (500, "server_error")
    assert (await sandbox.ask("GET", "/tts/v1/voices")).status == 200


async def test_failures_fall_the_same_for_the_same_seed(start: Start) -> None:
    async def statuses(seed: int) -> list[int]:
        sandbox = await start(faults=(FaultRule("llm.chat_completions", 503, 0.5),), seed=seed)
        return [(await sandbox.ask("POST", "/v1/chat/completions", json=CHAT)).status for _ in range(20)]

    first = await statuses(7)
    assert first == await statuses(7)
    assert first != await statuses(8)
    assert set(first) == {200, 503}


async def test_mints_fail_as_often_as_asked(start: Start) -> None:
    sandbox = await start(mint_failures=1.0)
    assert (await sandbox.ask("POST", "/auth/v1/tokens", json={"single_use": True})).status == 503
    assert (await sandbox.ask("POST", "/v1/sessionTokens/token:generate", None, json={})).status == 503


async def test_a_reset_drops_the_connection_before_the_head(start: Start) -> None:
    sandbox = await start(faults=(FaultRule("llm.chat_completions", "reset"),))
    with pytest.raises(aiohttp.ClientConnectionError):
        await sandbox.ask("POST", "/v1/chat/completions", json=CHAT)
    record = (await sandbox.seen())[-1]
    assert (record["status"], record["outcome"]) == (None, "aborted")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/audio/speech", SPEECH), ("/tts/v1/voice:stream", SYNTHESIS)],
)
async def test_a_cut_breaks_off_inside_the_body(start: Start, path: str, body: dict[str, Any]) -> None:
    sandbox = await start(faults=(FaultRule("*", "cut"),))
    response = await sandbox.open_stream(path, body | {"sandbox": {"chunkBytes": 1_000}})
    assert response.status == 200
    with pytest.raises(aiohttp.ClientError):
        await response.read()
    assert (await sandbox.seen())[-1]["outcome"] == "aborted"


async def test_a_cut_socket_breaks_off_after_its_first_message(start: Start) -> None:
    sandbox = await start(faults=(FaultRule("realtime.session", "cut"),))
    socket = await sandbox.socket("/api/v1/realtime/session?key=k&protocol=realtime")
    assert (await socket.receive_json())["type"] == "session.created"
    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert socket.close_code == 1006
    assert (await sandbox.seen())[-1]["outcome"] == "aborted"


async def test_a_stalled_request_ends_when_its_client_leaves(start: Start) -> None:
    sandbox = await start(faults=(FaultRule("llm.chat_completions", "stall"),))
    asking = asyncio.ensure_future(sandbox.ask("POST", "/v1/chat/completions", json=CHAT))
    while not (await sandbox.json("GET", "/_sandbox/seen"))["requests"]:
        pass
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await sandbox.seen())[-1]["outcome"] == "aborted"


async def test_more_requests_than_the_limit_are_429_for_the_whole_workspace(start: Start) -> None:
    sandbox = await start(rate_limit=2.0)
    keys = ["full", "standard-read", "full"]
    assert [(await sandbox.ask("GET", "/tts/v1/voices", key)).status for key in keys] == [200, 200, 429]
    assert (await sandbox.ask("GET", "/tts/v1/voices", "other-workspace")).status == 200
    sandbox.clock.now += 0.5
    assert (await sandbox.ask("GET", "/tts/v1/voices")).status == 200
    refused = await sandbox.ask("GET", "/tts/v1/voices")
    assert (await refused.json())["code"] == 8
    assert "Retry-After" not in refused.headers


async def test_latency_is_before_the_first_chunk_and_between_chunks(start: Start) -> None:
    """Bounded from below only: a machine may be slow, never early."""
    sandbox = await start(latency_first=0.05, latency_between=0.02)
    now = asyncio.get_running_loop().time
    begun = now()
    response = await sandbox.open_stream("/v1/audio/speech", SPEECH | {"sandbox": {"chunkBytes": 20_000}})
    assert now() - begun >= 0.05
    await response.read()
    assert now() - begun >= 0.05 + 0.02
    begun = now()
    await sandbox.json("POST", "/v1/chat/completions", CHAT)
    assert now() - begun >= 0.05


async def test_a_request_may_ask_for_a_pace_of_its_own(sandbox: Running) -> None:
    for pace in ({"first": -1}, {"between": 4_000}, {"chunkBytes": 0}, {"bytes": -1}, "fast"):
        response = await sandbox.ask("POST", "/v1/chat/completions", json=CHAT | {"sandbox": pace})
        assert response.status == 400


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_download_is_made_of_known_bytes(sandbox: Running, chunked: bool) -> None:
    size = 64 * 1024 * 1024 + 5
    body = SPEECH | {"sandbox": {"bytes": size, "chunked": chunked}}
    response = await sandbox.open_stream("/v1/audio/speech", body)
    assert response.headers.get("Content-Length") == (None if chunked else str(size))
    digest, received = hashlib.sha256(), 0
    async for chunk in response.content.iter_any():
        digest.update(chunk)
        received += len(chunk)
    expected = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert (received, digest.digest()) == (size, hashlib.sha256(expected).digest())


async def test_what_was_seen_is_remembered_exactly_and_can_be_forgotten(start: Start) -> None:
    sandbox = await start(seen_limit=2)
    await sandbox.ask("GET", "/v1/models", None)
    headers = {"X-Odd-CASE": "a b", "x-twice": "1"}
    headers["Authorization"] = f"Basic {KEYS['full'].basic}"
    url = URL(f"{sandbox.url}/v1/chat/completions?a=%2F&b", encoded=True)
    await (await sandbox.session.post(url, data=b"{}", headers=headers)).read()
    await sandbox.ask("GET", "/nowhere", None)
    records = await sandbox.seen()
    assert [record["number"] for record in records] == [2, 3]
    chat = records[0]
    assert (chat["method"], chat["target"]) == ("POST", "/v1/chat/completions?a=%2F&b")
    assert ["X-Odd-CASE", "a b"] in chat["headers"]
    assert (chat["operation"], chat["credential"], chat["credentialKind"]) == (
        "llm.chat_completions", "full", "basic-api-key",
    )  # fmt: skip
    assert (chat["bodyBytes"], chat["bodySha256"]) == (2, hashlib.sha256(b"{}").hexdigest())
    assert (records[1]["operation"], records[1]["status"]) == (None, 404)
    await sandbox.session.delete(f"{sandbox.url}/_sandbox/seen")
    assert await sandbox.seen() == []


async def test_a_client_that_leaves_in_the_middle_is_noticed_at_once(sandbox: Running) -> None:
    body = SPEECH | {"sandbox": {"gate": "never", "chunkBytes": 1_000}}
    response = await sandbox.open_stream("/v1/audio/speech", body)
    await response.content.readany()
    response.close()
    assert (await sandbox.seen())[-1]["outcome"] == "aborted"


async def test_the_seam_shows_the_keys_and_is_closed_to_web_pages_and_rebound_names(sandbox: Running) -> None:
    url = f"{sandbox.url}/_sandbox/keys"
    assert (await (await sandbox.session.get(url)).json())["full"]["basic"] == KEYS["full"].basic
    for headers in ({"Origin": "https://evil.example"}, {"Host": "rebound.evil.example"}):
        assert (await sandbox.session.get(url, headers=headers)).status == 403
    for host in ("localhost:9000", "sandbox", "[::1]:9000"):
        assert (await sandbox.session.get(url, headers={"Host": host})).status == 200
    names = (await (await sandbox.session.get(f"{sandbox.url}/_sandbox/operations")).json())["operations"]
    assert "tts.synthesize" in {row["name"] for row in names}


def test_a_failure_is_written_as_operation_status_and_share() -> None:
    assert fault_from_text("tts.synthesize=503:0.3") == FaultRule("tts.synthesize", 503, 0.3)
    assert fault_from_text("llm.*=reset") == FaultRule("llm.*", "reset", 1.0)
    for text in ("tts", "tts=", "=503", "tts=200", "tts=explode", "tts=503:2", "tts=503:x"):
        with pytest.raises(ValueError):  # noqa: PT011 - the sentences differ, and are for people.
            fault_from_text(text)


def test_a_key_is_written_as_its_fields() -> None:
    key = key_from_text("name=studio,voices=write,router=none,id=i,secret=s")
    assert (key.name, key.type, key.voices, key.router) == ("studio", KeyType.STANDARD, Access.WRITE, Access.NONE)
    assert key.basic == "aTpz"
    generated = key_from_text("name=x")
    assert (len(generated.key_id), len(generated.secret)) == (32, 64)
    for text in ("", "voices=write", "name=x,colour=red", "name=x,type=y", "name=x,id=a:b", "name"):
        with pytest.raises(ValueError):  # noqa: PT011 - as above.
            key_from_text(text)
