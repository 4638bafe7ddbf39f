"""Transcription over HTTP, and uploads that are never held."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import sys
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.sandbox.hearing import Listener
from proxy.sandbox.multipart import MultipartScanner
from proxy.sandbox.shapes import Malformed
from proxy.sandbox.sound import Instrument, compose, wav_header
from tests.sandbox.conftest import Running

CONFIG = {"modelId": "inworld/inworld-stt-1", "audioEncoding": "AUTO_DETECT", "language": "en-US"}


def recording(text: str) -> bytes:
    tune = compose(text, voice="Ashley", rate=16_000)
    return wav_header(tune.samples, tune.rate) + b"".join(Instrument().play(tune))


def encoded(audio: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(audio).decode()}


async def test_the_sandboxes_own_speech_is_transcribed_exactly(sandbox: Running) -> None:
    audio = recording("Whatever I say.")
    body = {"transcribeConfig": CONFIG | {"includeWordTimestamps": True}, "audioData": encoded(audio)}
    answer = await sandbox.json("POST", "/stt/v1/transcribe", body)
    assert answer["transcription"]["transcript"] == "Whatever I say."
    assert answer["transcription"]["isFinal"] is True
    assert [word["word"] for word in answer["transcription"]["wordTimestamps"]] == ["Whatever", "I", "say."]
    assert answer["usage"] == {"transcribedAudioMs": (len(audio) - 44) // 32, "modelId": "inworld/inworld-stt-1"}


async def test_of_other_audio_its_length_is_told(sandbox: Running) -> None:
    flat = {"model_id": "groq/whisper-large-v3", "audio_data": encoded(bytes(64_000))}
    answer = await sandbox.json("POST", "/stt/v1/transcribe", flat)
    assert answer["transcription"]["transcript"] == "The sandbox heard 2.0 seconds of audio."


@pytest.mark.parametrize(
    "body", [{}, {"transcribeConfig": CONFIG}, {"transcribeConfig": {}, "audioData": {"content": "AA=="}}]
)
async def test_a_transcription_needs_a_model_and_audio(sandbox: Running, body: dict[str, Any]) -> None:
    assert (await sandbox.ask("POST", "/stt/v1/transcribe", json=body)).status == 400


async def result_of(sandbox: Running, operation: dict[str, Any]) -> dict[str, Any]:
    path = f"/lro/v1alpha/{operation['name']}"
    assert (await sandbox.json("GET", path))["done"] is False
    response = (await sandbox.json("GET", path))["response"]
    assert response["expireTime"].endswith("Z")
    return dict(await (await sandbox.session.get(response["resultUri"])).json())


async def test_a_job_from_json_ends_in_a_document_behind_a_link(sandbox: Running) -> None:
    body = {"transcribeConfig": CONFIG, "audioData": encoded(recording("A long meeting."))}
    document = await result_of(sandbox, await sandbox.json("POST", "/stt/v1/transcribe:async", body))
    assert document["transcript"] == document["segments"][0]["transcript"] == "A long meeting."
    assert isinstance(document["segments"][0]["endTimeMs"], str)
    elsewhere = {"transcribeConfig": CONFIG, "audioUri": "https://example.com/a.wav"}
    document = await result_of(sandbox, await sandbox.json("POST", "/stt/v1/transcribe:async", elsewhere))
    assert document["transcript"] == "The sandbox does not fetch recordings."


def head(name: str, extra: str = "") -> bytes:
    return f'--b0\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode()


async def form(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def upload(sandbox: Running, *parts: bytes) -> Any:
    headers = {"Content-Type": "multipart/form-data; boundary=b0"}
    return await sandbox.ask("POST", "/stt/v1/transcribe:async", data=form(*parts), headers=headers)


async def test_an_upload_is_counted_exactly_as_it_was_sent(sandbox: Running) -> None:
    audio = recording("Uploaded.")
    parts = [
        head("transcribeConfig"), json.dumps(CONFIG).encode(), b"\r\n",
        head("file", '; filename="a.wav"'), audio[:7], audio[7:], b"\r\n--b0--\r\n",
    ]  # fmt: skip
    response = await upload(sandbox, *parts)
    assert (await result_of(sandbox, await response.json()))["transcript"] == "Uploaded."
    record = (await sandbox.seen())[0]
    sent = b"".join(parts)
    assert (record["bodyBytes"], record["bodySha256"]) == (len(sent), hashlib.sha256(sent).hexdigest())
    assert record["upload"] == {"fileBytes": len(audio), "fileSha256": hashlib.sha256(audio).hexdigest()}


async def test_a_configuration_after_the_audio_is_found_too_late(sandbox: Running) -> None:
    config = [head("transcribeConfig"), json.dumps(CONFIG).encode(), b"\r\n"]
    response = await upload(sandbox, head("file"), b"audio\r\n", *config, b"--b0--\r\n")
    assert (response.status, (await response.json())["message"]) == (400, "transcribeConfig must come before file")
    unfinished = await upload(sandbox, *config, head("file"), b"audio")
    assert unfinished.status == 400


async def test_a_large_upload_is_received_in_flat_memory(sandbox: Running) -> None:
    total, block = 128 * 1024 * 1024, bytes(256 * 1024)

    async def parts() -> AsyncIterator[bytes]:
        yield head("transcribeConfig") + json.dumps(CONFIG).encode() + b"\r\n" + head("file")
        for _ in range(total // len(block)):
            yield block
        yield b"\r\n--b0--\r\n"

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    headers = {"Content-Type": "multipart/form-data; boundary=b0"}
    response = await sandbox.ask("POST", "/stt/v1/transcribe:async", data=parts(), headers=headers)
    assert response.status == 200
    # Kilobytes on Linux, bytes on macOS; either way far below the upload.
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < total // 2
    assert (await sandbox.seen())[-1]["upload"]["fileBytes"] == total


def test_a_listener_keeps_only_so_much() -> None:
    listener, block = Listener(), bytes(1024 * 1024)
    tracemalloc.start()
    try:
        for _ in range(64):
            listener.hear(block)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert listener.milliseconds == 64 * 1024 * 1024 // 32


FORM = (
    b"\r\npreamble\r\n"
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--not\r\n'
    b'--b\r\nContent-Type: x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\n\r\n'
    b'--b \r\nContent-Disposition: form-data; name="z"\r\n\r\nlast\r\n--b--\r\nepilogue'
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
def test_a_form_is_read_the_same_however_it_is_cut(size: int) -> None:
    scanner = MultipartScanner("b")
    parts: dict[str, bytes] = {}
    for at in range(0, len(FORM), size):
        for part, piece in scanner.feed(FORM[at : at + size]):
            parts[part.name] = parts.get(part.name, b"") + piece
    assert parts == {"a": b"one\r\n--not", "z": b"last"}
    assert scanner.finished


def test_a_part_without_a_name_or_without_an_end_to_its_head_is_refused() -> None:
    for form in (b"--b\r\nContent-Type: x\r\n\r\n", b"--b\r\n" + b"x" * 20_000):
        with pytest.raises(Malformed):
            list(MultipartScanner("b").feed(form))
