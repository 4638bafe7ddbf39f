"""The TTS and STT sockets in their documented messages, and the echo that all three have."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest

from proxy.sandbox.sound import Instrument, compose, read_texts
from tests.sandbox.conftest import Running, Start

TTS = "/tts/v1/voice:streamBidirectional"
STT = "/stt/v1/transcribe:streamBidirectional"
REALTIME = "/api/v1/realtime/session?key=abc&protocol=realtime"
CREATE = {"voiceId": "Ashley", "modelId": "inworld-tts-1.5", "audioConfig": {"audioEncoding": "PCM"}}
Socket = aiohttp.ClientWebSocketResponse


def kind(result: dict[str, Any]) -> str:
    return next(name for name in result if name not in ("contextId", "status"))


async def until(socket: Socket, last: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    while not results or last not in results[-1]:
        results.append((await socket.receive_json(timeout=60))["result"])
    return results


def audio_of(results: list[dict[str, Any]]) -> bytes:
    chunks = [result["audioChunk"]["audioContent"] for result in results if "audioChunk" in result]
    return b"".join(map(base64.b64decode, chunks))


async def test_a_context_is_created_spoken_into_flushed_and_closed(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    await socket.send_json({"create": CREATE | {"timestampType": "WORD"}, "contextId": "c"})
    await socket.send_json({"send_text": {"text": "Hello "}, "contextId": "c"})
    await socket.send_json({"send_text": {"text": "you."}, "contextId": "c"})
    await socket.send_json({"flush_context": {}, "contextId": "c"})
    await socket.send_json({"close_context": {}, "contextId": "c"})
    results = await until(socket, "contextClosed")
    assert {result["contextId"] for result in results} == {"c"}
    assert all(result["status"]["code"] == 0 for result in results)
    kinds = [kind(result) for result in results]
    assert (kinds[0], set(kinds[1:-2]), kinds[-2:]) == (
        "contextCreated", {"audioChunk"}, ["flushCompleted", "contextClosed"],
    )  # fmt: skip
    assert read_texts(audio_of(results)) == ["Hello you."]
    aligned = [result["audioChunk"]["timestampInfo"]["wordAlignment"] for result in results[1:-2]]
    assert [word for alignment in aligned for word in alignment["words"]] == ["Hello", "you."]
    await socket.close()


async def test_a_browser_style_flush_within_send_text_and_snake_case_create_work(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    await socket.send_json({"create": {"voice_id": "Ashley", "model_id": "m"}})
    created = (await until(socket, "contextCreated"))[0]
    await socket.send_json({"send_text": {"text": "now", "flush_context": {}}})
    results = await until(socket, "flushCompleted")
    assert {result["contextId"] for result in results} == {created["contextId"]}
    assert audio_of(results).startswith(b"RIFF")
    await socket.close()


async def test_with_auto_mode_a_whole_sentence_is_spoken_at_once(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    await socket.send_json({"create": CREATE | {"autoMode": True}, "contextId": "c"})
    await socket.send_json({"send_text": {"text": "No full stop yet"}, "contextId": "c"})
    await socket.send_json({"send_text": {"text": ", but now."}, "contextId": "c"})
    assert read_texts(audio_of(await until(socket, "flushCompleted"))) == ["No full stop yet, but now."]
    await socket.close()


async def test_text_that_waits_too_long_for_more_is_spoken(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    await socket.send_json({"create": CREATE | {"maxBufferDelayMs": 1}, "contextId": "c"})
    await socket.send_json({"send_text": {"text": "impatient"}, "contextId": "c"})
    assert read_texts(audio_of(await until(socket, "flushCompleted"))) == ["impatient"]
    await socket.close()


async def test_contexts_speak_side_by_side_and_one_is_cancelled_in_the_middle(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    held = CREATE | {"sandbox": {"gate": "held", "chunkBytes": 1_000}}
    await socket.send_json({"create": held, "contextId": "a"})
    await socket.send_json({"send_text": {"text": "A long story.", "flush_context": {}}, "contextId": "a"})
    await until(socket, "audioChunk")
    await socket.send_json({"create": CREATE, "contextId": "b"})
    await socket.send_json({"send_text": {"text": "Short.", "flush_context": {}}, "contextId": "b"})
    results = await until(socket, "flushCompleted")
    assert {result["contextId"] for result in results} == {"b"}
    await socket.send_json({"cancel_context": {}, "contextId": "a"})
    assert (await until(socket, "contextClosed"))[-1]["contextId"] == "a"
    await socket.send_json({"close_context": {}, "contextId": "b"})
    assert (await until(socket, "contextClosed"))[-1]["contextId"] == "b"
    await socket.close()


async def test_what_a_context_refuses_is_said_with_its_id(sandbox: Running) -> None:
    socket = await sandbox.socket(TTS)
    await socket.send_json({"send_text": {"text": "x"}, "contextId": "nobody"})
    assert (await socket.receive_json())["result"]["status"]["code"] == 5
    for number in range(5):
        await socket.send_json({"create": CREATE, "contextId": f"{number}"})
        await until(socket, "contextCreated")
    await socket.send_json({"create": CREATE, "contextId": "sixth"})
    refused = (await socket.receive_json())["result"]
    assert (refused["contextId"], refused["status"]["code"]) == ("sixth", 8)
    await socket.send_json({"send_text": {"text": "x" * 1_001}, "contextId": "0"})
    assert (await socket.receive_json())["result"]["status"]["code"] == 3
    await socket.close()


async def test_one_socket_too_many_is_429_at_the_handshake(start: Start) -> None:
    sandbox = await start(tts_sockets=1)
    first = await sandbox.socket(TTS)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await sandbox.socket(TTS)
    assert refused.value.status == 429
    await first.close()
    await sandbox.seen()
    await (await sandbox.socket(TTS)).close()


def spoken(text: str) -> bytes:
    return b"".join(Instrument().play(compose(text, voice="Ashley", rate=16_000)))


async def test_audio_is_transcribed_turn_by_turn(sandbox: Running) -> None:
    socket = await sandbox.socket(STT)
    config = {"modelId": "inworld/inworld-stt-1", "audioEncoding": "LINEAR16", "sampleRateHertz": 16_000}
    await socket.send_json({"transcribeConfig": config})
    finals = []
    for text in ("first turn", "second turn"):
        audio = spoken(text)
        for at in range(0, len(audio), 3_200):
            chunk = base64.b64encode(audio[at : at + 3_200]).decode()
            await socket.send_json({"audioChunk": {"content": chunk}})
        await socket.send_json({"endTurn": {}})
        results = await until(socket, "transcription")
        assert "speechStarted" in results[0]
        while not results[-1]["transcription"]["isFinal"]:
            results += await until(socket, "transcription")
        finals.append(results[-1]["transcription"]["transcript"])
    assert finals == ["first turn", "second turn"]
    await socket.send_json({"closeStream": {}})
    usage = (await until(socket, "usage"))[-1]["usage"]
    assert usage["transcribedAudioMs"] == sum(len(spoken(text)) // 32 for text in ("first turn", "second turn"))
    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert socket.close_code == 1000


async def test_half_a_second_of_silence_ends_a_turn(sandbox: Running) -> None:
    socket = await sandbox.socket(STT)
    await socket.send_json({"transcribe_config": {"model_id": "m", "sample_rate_hertz": 16_000}})
    for audio in (spoken("hush"), bytes(16_000)):
        await socket.send_json({"audio_chunk": {"content": base64.b64encode(audio).decode()}})
    results = await until(socket, "transcription")
    while not results[-1]["transcription"]["isFinal"]:
        results += await until(socket, "transcription")
    assert results[-1]["transcription"]["transcript"] == "hush"
    await socket.close()


async def test_the_stt_socket_wants_its_configuration_first(sandbox: Running) -> None:
    socket = await sandbox.socket(STT)
    await socket.send_json({"audioChunk": {"content": ""}})
    assert (await socket.receive_json())["error"]["code"] == 3
    await socket.close()


@pytest.mark.parametrize("path", [TTS, STT, REALTIME])
@pytest.mark.parametrize("compress", [0, 15])
async def test_what_a_socket_does_not_know_comes_back_as_it_was(sandbox: Running, path: str, compress: int) -> None:
    socket = await sandbox.socket(path, compress=compress)
    if path is REALTIME:
        assert (await socket.receive_json())["type"] == "session.created"
    assert bool(socket.compress) is bool(compress)
    texts = ["", "plain", '{"type": "unknown"}', "[1]", "{broken", "é" * 1_000]
    for text in texts:
        await socket.send_str(text)
        assert await socket.receive_str() == text
    for data in (b"", bytes(range(256)), b"\x00\xff" * (5 * 1024 * 1024 // 2 + 1)):
        await socket.send_bytes(data)
        assert await socket.receive_bytes() == data
    big = json.dumps({"unknown": "x" * 6_000_000})
    await socket.send_str(big)
    assert await socket.receive_str() == big
    await socket.close(code=4001)
    record = (await sandbox.seen())[-1]
    assert (record["status"], record["outcome"], record["closeCode"]) == (101, "finished", 4001)
    assert record["messages"] == len(texts) + 4


async def test_an_idle_socket_is_closed(start: Start) -> None:
    sandbox = await start(socket_idle=0.01)
    socket = await sandbox.socket(STT)
    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert socket.close_code == 1000


@pytest.mark.parametrize("path", [TTS, STT])
async def test_the_query_form_of_a_credential_is_accepted_so_that_a_leak_shows(sandbox: Running, path: str) -> None:
    from tests.sandbox.conftest import KEYS

    socket = await sandbox.session.ws_connect(
        sandbox.url + path, params={"authorization": f"Basic {KEYS['full'].basic}"}
    )
    await socket.send_str("echo")
    assert await socket.receive_str() == "echo"
    await socket.close()


async def test_a_socket_path_without_an_upgrade_is_an_ordinary_refusal(sandbox: Running) -> None:
    assert (await sandbox.ask("GET", TTS)).status == 400
    assert (await sandbox.ask("GET", TTS, None)).status == 401
