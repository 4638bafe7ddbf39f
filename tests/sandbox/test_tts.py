"""Speech over HTTP: documented limits, encodings, streaming line by line, jobs and the older routes."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any

import pytest

from proxy.sandbox.sound import read_texts
from tests.sandbox.conftest import Running

SYNTHESIS: dict[str, Any] = {"text": "Hello there, world.", "voiceId": "Ashley", "modelId": "inworld-tts-1.5"}


def with_audio(**audio: Any) -> dict[str, Any]:
    return SYNTHESIS | {"audioConfig": audio}


def decoded(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["audioContent"])


async def test_synthesis_returns_a_wav_file_that_plays_and_what_it_cost(sandbox: Running) -> None:
    answer = await sandbox.json("POST", "/tts/v1/voice", with_audio(audioEncoding="LINEAR16", sampleRateHertz=24_000))
    assert answer["usage"] == {"processedCharactersCount": 19, "modelId": "inworld-tts-1.5"}
    with wave.open(io.BytesIO(decoded(answer))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.getnframes() > 12_000


async def test_snake_case_is_understood_as_well(sandbox: Running) -> None:
    snake = {"text": SYNTHESIS["text"], "voice_id": "Ashley", "model_id": "inworld-tts-1.5"}
    audio = {"audio_config": {"audio_encoding": "WAV", "sample_rate_hertz": 16_000}}
    camel = with_audio(audioEncoding="WAV", sampleRateHertz=16_000)
    assert await sandbox.json("POST", "/tts/v1/voice", snake | audio) == await sandbox.json(
        "POST", "/tts/v1/voice", camel
    )


async def test_pcm_is_the_same_without_the_header(sandbox: Running) -> None:
    wav = decoded(await sandbox.json("POST", "/tts/v1/voice", with_audio(audioEncoding="WAV")))
    pcm = decoded(await sandbox.json("POST", "/tts/v1/voice", with_audio(audioEncoding="PCM")))
    assert wav[44:] == pcm


async def test_words_or_characters_are_timed_if_asked(sandbox: Running) -> None:
    words = await sandbox.json("POST", "/tts/v1/voice", SYNTHESIS | {"timestampType": "WORD"})
    assert words["timestampInfo"]["wordAlignment"]["words"] == ["Hello", "there,", "world."]
    letters = await sandbox.json("POST", "/tts/v1/voice", SYNTHESIS | {"timestampType": "CHARACTER"})
    alignment = letters["timestampInfo"]["characterAlignment"]
    assert "".join(alignment["characters"]) == "Hellothere,world."
    assert alignment["characterStartTimeSeconds"] == sorted(alignment["characterStartTimeSeconds"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": "x" * 2_000}, 200),
        ({"text": "x" * 2_001}, 400),
        ({"text": " "}, 400),
        ({"text": 7}, 400),
        ({"voiceId": ""}, 400),
        ({"voiceId": "Nobody"}, 404),
        ({"voiceId": "", "voiceDesign": {"designPrompt": "A deep voice"}}, 200),
        ({"modelId": ""}, 400),
        ({"audioConfig": {"audioEncoding": "CASSETTE"}}, 400),
        ({"audioConfig": {"sampleRateHertz": 96_000}}, 400),
        ({"audioConfig": {"speakingRate": 2.0}}, 400),
    ],
)
async def test_requests_outside_the_documented_limits_are_refused(
    sandbox: Running, change: dict[str, Any], status: int
) -> None:
    response = await sandbox.ask("POST", "/tts/v1/voice", json=SYNTHESIS | change)
    assert response.status == status
    if status == 400:
        assert (await response.json())["code"] == 3


async def test_a_body_that_is_not_json_is_400(sandbox: Running) -> None:
    for data in (b"{", b"[1]"):
        assert (await sandbox.ask("POST", "/tts/v1/voice", data=data)).status == 400


async def test_the_stream_is_one_object_per_line_and_together_the_whole_file(sandbox: Running) -> None:
    body = with_audio(audioEncoding="LINEAR16") | {"timestampType": "WORD", "sandbox": {"chunkBytes": 20_001}}
    response = await sandbox.ask("POST", "/tts/v1/voice:stream", json=body)
    assert response.content_type == "application/json"
    text = await response.text()
    results = [json.loads(line)["result"] for line in text.splitlines()]
    assert text.endswith("\n")
    assert len(results) > 3
    whole = decoded(await sandbox.json("POST", "/tts/v1/voice", with_audio(audioEncoding="LINEAR16")))
    assert b"".join(map(decoded, results)) == whole
    words = [word for result in results for word in result["timestampInfo"]["wordAlignment"]["words"]]
    assert words == ["Hello", "there,", "world."]


async def test_a_chunk_arrives_before_the_next_one_is_made(sandbox: Running) -> None:
    """Proven with a gate, not a clock: the second line cannot exist until it is let through."""
    body = SYNTHESIS | {"sandbox": {"chunkBytes": 50_000, "gate": "g"}}
    response = await sandbox.open_stream("/tts/v1/voice:stream", body)
    assert b"result" in await response.content.readline()
    record = (await (await sandbox.session.get(f"{sandbox.url}/_sandbox/seen")).json())["requests"][-1]
    assert record["outcome"] == "running"
    await sandbox.session.post(f"{sandbox.url}/_sandbox/gates/g?chunks=100")
    assert len((await response.read()).splitlines()) >= 2


@pytest.mark.parametrize(
    ("kind", "content_type"), [("wav", "audio/wav"), ("mp3", "audio/mpeg"), ("opus", "audio/ogg"), ("pcm", "audio/pcm")]
)
async def test_openai_speech_is_binary_and_streamed(sandbox: Running, kind: str, content_type: str) -> None:
    body = {"model": "inworld-tts-1.5", "voice": "alloy", "input": "Hello", "response_format": kind}
    response = await sandbox.ask("POST", "/v1/audio/speech", json=body)
    assert response.content_type == content_type
    assert response.headers["Transfer-Encoding"] == "chunked"
    audio = await response.read()
    assert audio.startswith(b"RIFF") is (kind != "pcm")
    assert read_texts(audio) == ["Hello"]


async def test_openai_speech_has_its_own_limit_and_its_own_error_shape(sandbox: Running) -> None:
    body = {"model": "m", "voice": "alloy", "input": "x" * 4_001}
    response = await sandbox.ask("POST", "/v1/audio/speech", json=body)
    assert (response.status, (await response.json())["error"]["type"]) == (400, "invalid_request_error")


async def test_a_preview_needs_a_voice_and_a_model(sandbox: Running) -> None:
    answer = await sandbox.json("GET", "/tts/v1/voice:preview?voice_id=Dennis&model_id=inworld-tts-2")
    assert list(answer) == ["audioContent"]
    assert (await sandbox.ask("GET", "/tts/v1/voice:preview?voice_id=Dennis")).status == 400


async def finished(sandbox: Running, operation: dict[str, Any]) -> dict[str, Any]:
    assert operation["done"] is False
    first = await sandbox.json("GET", f"/lro/v1alpha/{operation['name']}")
    assert first == {"name": operation["name"], "done": False}
    second = await sandbox.json("GET", f"/lro/v1alpha/{operation['name']}")
    assert second["done"] is True
    return dict(second["response"])


async def test_a_job_goes_from_not_done_to_done_and_its_links_need_no_key(sandbox: Running) -> None:
    body = with_audio(audioEncoding="WAV", sampleRateHertz=8_000) | {"text": "word " * 1_000, "timestampType": "WORD"}
    operation = await sandbox.json("POST", "/tts/v1/voice:synthesizeAsync", body)
    assert operation["name"].startswith("workspaces/sandbox-demo/ttsAsyncJobs/")
    assert operation["name"].count("/") == 5
    response = await finished(sandbox, operation)
    audio = await (await sandbox.session.get(response["audioUri"])).read()
    with wave.open(io.BytesIO(audio)) as file:
        assert file.getnframes() * 2 + 44 == len(audio)
    words = await (await sandbox.session.get(response["timestampsUri"])).json()
    assert len(words["wordAlignment"]["words"]) == 1_000


async def test_an_operation_belongs_to_its_workspace(sandbox: Running) -> None:
    operation = await sandbox.json("POST", "/tts/v1/voice:synthesizeAsync", SYNTHESIS)
    path = f"/lro/v1alpha/{operation['name']}"
    assert (await sandbox.ask("GET", path, "other-workspace")).status == 404
    assert (await sandbox.ask("GET", path, None)).status == 401
    assert (await sandbox.ask("GET", "/lro/v1alpha/workspaces/w/x", "full")).status == 404


async def test_a_batch_names_the_audio_of_every_item(sandbox: Running) -> None:
    items = [{"customId": name, "request": SYNTHESIS | {"text": name}} for name in ("first", "second")]
    response = await finished(sandbox, await sandbox.json("POST", "/tts/v1/voice:synthesizeBatch", {"items": items}))
    results = (await (await sandbox.session.get(response["resultsUri"])).json())["results"]
    assert [result["customId"] for result in results] == ["first", "second"]
    for result in results:
        audio = await (await sandbox.session.get(result["audioUri"])).read()
        assert read_texts(audio) == [result["customId"]]


async def test_the_older_routes_still_answer(sandbox: Running) -> None:
    voices = (await sandbox.json("GET", "/tts/v1/voices?filter=language=en"))["voices"]
    assert {"languages", "voiceId", "displayName"} <= set(voices[0])
    assert all(voice["languages"] == ["en"] for voice in voices)
    assert len((await sandbox.json("GET", "/tts/v1alpha/voices"))["voices"]) > len(voices)
    older = {"input": {"text": "old"}, "voice": {"name": "Ashley"}}
    assert read_texts(decoded(await sandbox.json("POST", "/tts/v1alpha/text:synthesize-sync", older))) == ["old"]
    lines = await (await sandbox.ask("POST", "/tts/v1alpha/text:synthesize", json=older)).text()
    assert all("result" in json.loads(line) for line in lines.splitlines())


async def test_head_is_answered_where_get_is(sandbox: Running) -> None:
    response = await sandbox.ask("HEAD", "/tts/v1/voices")
    assert (response.status, await response.read()) == (200, b"")
