"""``websockets`` through the proxy: the three sockets, with every way in which a client carries its key."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pytest

from tests.clients.processes import (
    ANYTHING,
    BETWEEN,
    PATIENCE,
    READER,
    STOREFRONT,
    STRANGER,
    STUDIO,
    Proxy,
    Sandbox,
    fields_of,
    needed,
)

websockets = needed("websockets")

TTS = "/tts/v1/voice:streamBidirectional"
STT = "/stt/v1/transcribe:streamBidirectional"
REALTIME = "/api/v1/realtime/session?key=session-of-mine&protocol=realtime"
EVERY = pytest.mark.parametrize("path", [TTS, STT, REALTIME], ids=["tts", "stt", "realtime"])
CREATE: dict[str, Any] = {
    "voiceId": "Ashley",
    "modelId": "inworld-tts-1.5-max",
    "audioConfig": {"audioEncoding": "PCM", "sampleRateHertz": 16000},
}
TEXT = "One two three four five six."


def connect(proxy: Proxy, path: str, token: str | None = STUDIO, **extra: Any) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return websockets.connect(
        proxy.ws + path, additional_headers={**headers, **extra.pop("headers", {})}, max_size=None, proxy=None,
        open_timeout=PATIENCE, close_timeout=PATIENCE, **extra,
    )  # fmt: skip


async def receive(socket: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return json.loads(await socket.recv())


async def send(socket: Any, message: dict[str, Any]) -> None:
    await socket.send(json.dumps(message))


def spoken_by(sandbox: Sandbox) -> bytes:
    answer = sandbox.ask("POST", "/tts/v1/voice", {"text": TEXT, **CREATE})
    return base64.b64decode(answer.json()["audioContent"])


async def speak(socket: Any, pace: dict[str, Any], sandbox: Sandbox) -> tuple[list[bytes], list[float]]:
    """Creates a context, speaks into it, and returns its chunks and when they came."""
    await send(socket, {"contextId": "c", "create": {**CREATE, "sandbox": pace}})
    assert "contextCreated" in (await receive(socket))["result"]
    await send(socket, {"contextId": "c", "send_text": {"text": TEXT, "flush_context": {}}})
    chunks, arrivals = [], []
    while "flushCompleted" not in (result := (await receive(socket))["result"]):
        chunks.append(base64.b64decode(result["audioChunk"]["audioContent"]))
        arrivals.append(time.monotonic())
        if "gate" in pace:
            sandbox.open_gate(pace["gate"])
    await send(socket, {"contextId": "c", "close_context": {}})
    assert "contextClosed" in (await receive(socket))["result"]
    return chunks, arrivals


async def test_every_chunk_on_the_speech_socket_arrives_before_the_next_is_sent(proxy: Proxy, sandbox: Sandbox) -> None:
    async with connect(proxy, TTS) as socket:
        chunks, _ = await speak(socket, {"between": 0, "gate": sandbox.new_gate()}, sandbox)
    assert b"".join(chunks) == spoken_by(sandbox)
    assert len(chunks) > 5
    seen = sandbox.only()
    assert (seen["operation"], seen["status"], seen["messages"]) == ("tts.synthesize_ws", 101, 3)
    assert (seen["outcome"], seen["closeCode"]) == ("finished", 1000)


async def test_chunks_on_the_speech_socket_arrive_as_far_apart_as_they_were_sent(
    open_proxy: Proxy, sandbox: Sandbox
) -> None:
    async with connect(open_proxy, TTS, ANYTHING) as socket:
        chunks, arrivals = await speak(socket, {}, sandbox)
    planned = BETWEEN * (len(chunks) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2


async def test_speech_is_transcribed_on_the_socket_while_it_is_sent(proxy: Proxy, sandbox: Sandbox) -> None:
    audio = spoken_by(sandbox)
    transcripts = []
    async with connect(proxy, STT) as socket:
        config = {"modelId": "inworld/inworld-stt-1", "audioEncoding": "LINEAR16", "sampleRateHertz": 16000}
        await send(socket, {"transcribe_config": config})
        await send(socket, {"audio_chunk": {"content": base64.b64encode(audio[:32_000]).decode()}})
        # What has been sent is heard before the rest is sent.
        assert "speechStarted" in (await receive(socket))["result"]
        await send(socket, {"audio_chunk": {"content": base64.b64encode(audio[32_000:]).decode()}})
        await send(socket, {"close_stream": {}})
        while "usage" not in (result := (await receive(socket))["result"]):
            transcripts.append(result["transcription"])
        async with asyncio.timeout(PATIENCE):
            await socket.wait_closed()
    assert (transcripts[-1]["transcript"], transcripts[-1]["isFinal"]) == (TEXT, True)
    assert result["usage"]["transcribedAudioMs"] == len(audio) * 1000 // 32_000
    assert socket.close_code == 1000
    assert sandbox.only()["operation"] == "stt.transcribe_ws"


async def test_every_delta_on_the_realtime_socket_arrives_before_the_next_is_sent(
    proxy: Proxy, sandbox: Sandbox
) -> None:
    gate = sandbox.new_gate()
    async with connect(proxy, REALTIME, STOREFRONT) as socket:
        assert (await receive(socket))["session"]["id"] == "session-of-mine"
        await send(socket, {"type": "session.update", "session": {"output_modalities": ["text"]}})
        await send(socket, {"type": "response.create", "sandbox": {"between": 0, "gate": gate}})
        deltas = []
        while (event := await receive(socket))["type"] != "response.done":
            if event["type"] == "response.output_text.delta":
                deltas.append(event["delta"])
                sandbox.open_gate(gate)
    assert "".join(deltas) == event["response"]["output"][0]["content"][0]["text"] == "Hello from the sandbox."
    assert len(deltas) > 1
    seen = sandbox.only()
    assert seen["target"] == REALTIME
    assert seen["credential"] == "realtime-only"


async def first_of(socket: Any, path: str) -> None:
    if path is REALTIME:
        assert (await receive(socket))["type"] == "session.created"


@EVERY
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_frames_of_every_kind_and_size_go_both_ways_unchanged(
    proxy: Proxy, path: str, compression: str | None
) -> None:
    async with connect(proxy, path, compression=compression) as socket:
        await first_of(socket, path)
        assert bool(socket.protocol.extensions) is (compression is not None)
        for message in ("", "text", "ü" * 70_000, b"", bytes(range(256)) * 5_000):
            await socket.send(message)
            async with asyncio.timeout(PATIENCE):
                assert await socket.recv() == message
        async with asyncio.timeout(PATIENCE):
            await (await socket.ping())


@EVERY
async def test_the_close_code_of_the_client_reaches_the_sandbox(proxy: Proxy, sandbox: Sandbox, path: str) -> None:
    async with connect(proxy, path) as socket:
        await first_of(socket, path)
        await socket.close(4321, "enough")
    assert sandbox.only()["closeCode"] == 4321


@EVERY
async def test_a_client_that_vanishes_ends_the_sandboxs_side(proxy: Proxy, sandbox: Sandbox, path: str) -> None:
    async with connect(proxy, path) as socket:
        await first_of(socket, path)
        socket.transport.abort()
        async with asyncio.timeout(PATIENCE):
            await socket.wait_closed()
    assert sandbox.only()["outcome"] == "aborted"


@pytest.mark.parametrize("path", [TTS, REALTIME], ids=["tts", "realtime"])
@pytest.mark.parametrize("prefix", ["bearer_", "openai-insecure-api-key."])
async def test_a_browsers_token_in_a_subprotocol_is_recognised_selected_and_kept_here(
    proxy: Proxy, sandbox: Sandbox, path: str, prefix: str
) -> None:
    token = f"{prefix}{STUDIO}"
    async with connect(proxy, path, None, subprotocols=[token]) as socket:
        await first_of(socket, path)
        assert socket.subprotocol == token
    assert "sec-websocket-protocol" not in fields_of(sandbox.only())


async def test_another_subprotocol_beside_the_token_is_passed_on(proxy: Proxy, sandbox: Sandbox) -> None:
    async with connect(proxy, REALTIME, None, subprotocols=["realtime", f"openai-insecure-api-key.{STUDIO}"]) as socket:
        await first_of(socket, REALTIME)
        assert socket.subprotocol == "realtime"
    assert fields_of(sandbox.only())["sec-websocket-protocol"] == ["realtime"]


@pytest.mark.parametrize("name", ["authorization", "Authorization", "access_token", "token", "api_key"])
async def test_a_credential_in_the_query_stays_here(open_proxy: Proxy, sandbox: Sandbox, name: str) -> None:
    async with connect(open_proxy, f"{TTS}?{name}=Basic%20{ANYTHING}&keep=1", None) as socket:
        await socket.send("echo")
        async with asyncio.timeout(PATIENCE):
            assert await socket.recv() == "echo"
    assert sandbox.only()["target"] == f"{TTS}?keep=1"


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        (TTS, READER, 403, "operation_not_granted"),
        (STT, STOREFRONT, 403, "operation_not_granted"),
        (REALTIME, READER, 403, "operation_not_granted"),
        (REALTIME, STRANGER, 401, "unknown_caller"),
        (TTS, None, 401, "caller_required"),
        ("/v1/session/open", STUDIO, 404, "no_operation"),
        ("/tts/v1/voices", STUDIO, 400, "upgrade_not_allowed"),
    ],
)
async def test_a_refused_handshake_says_why_in_the_answer(
    proxy: Proxy, sandbox: Sandbox, path: str, token: str | None, status: int, code: str
) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(proxy, path, token)
    response = refused.value.response
    assert response.status_code == status
    assert code in json.dumps(json.loads(response.body))
    assert response.headers["Proxy-Status"].endswith(f'; details="{code}"')
    assert sandbox.seen() == []


async def test_a_handshake_that_the_upstream_refuses_gets_through_as_it_is(proxy: Proxy, sandbox: Sandbox) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(proxy, "/api/v1/realtime/session?key=only")
    assert refused.value.response.status_code == 400
    assert "Proxy-Status" not in refused.value.response.headers
    assert b"key and protocol=realtime are required" in refused.value.response.body
    assert sandbox.only()["status"] == 400
