"""The ``inworld-tts`` package through the proxy: speech whole and streamed, voices, and its one kind of error."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.processes import (
    ANYTHING,
    BETWEEN,
    DIRECT,
    PATIENCE,
    READER,
    STRANGER,
    STUDIO,
    Proxy,
    Sandbox,
    needed,
)

inworld_tts = needed("inworld_tts")

SPOKEN: dict[str, Any] = {
    "voice": "Ashley",
    "model": "inworld-tts-1.5-max",
    "encoding": "LINEAR16",
    "sample_rate": 8000,
}
SENTENCE = "One two three four five six."


def client_for(proxy: Proxy, key: str) -> Any:
    return inworld_tts.InworldTTS(api_key=key, base_url=proxy.url, timeout=int(PATIENCE), max_retries=0)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    with client_for(proxy, STUDIO) as made:
        yield made


def direct_audio(sandbox: Sandbox) -> bytes:
    audio = {"audioEncoding": SPOKEN["encoding"], "sampleRateHertz": SPOKEN["sample_rate"]}
    asked = {"text": SENTENCE, "voiceId": SPOKEN["voice"], "modelId": SPOKEN["model"], "audioConfig": audio}
    return base64.b64decode(sandbox.ask("POST", "/tts/v1/voice", asked).json()["audioContent"])


def test_speech_is_byte_for_byte_what_the_sandbox_sends(client: Any, sandbox: Sandbox) -> None:
    assert client.generate(SENTENCE, **SPOKEN) == direct_audio(sandbox)
    assert sandbox.only()["operation"] == "tts.synthesize"


def test_a_key_of_the_clients_own_is_ignored_where_there_are_no_callers(open_proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(open_proxy, ANYTHING) as client:
        assert client.generate(SENTENCE, **SPOKEN) == direct_audio(sandbox)


async def test_streamed_speech_arrives_piece_by_piece_and_is_the_same(client: Any, sandbox: Sandbox) -> None:
    pieces, arrivals = [], []
    async for piece in client.stream(SENTENCE, **SPOKEN):
        pieces.append(piece)
        arrivals.append(time.monotonic())
    planned = BETWEEN * (len(pieces) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2
    assert b"".join(pieces) == direct_audio(sandbox)
    assert sandbox.only()["operation"] == "tts.synthesize_stream"


def test_long_text_is_spoken_in_several_requests_and_put_together_the_same(client: Any, sandbox: Sandbox) -> None:
    text = "A sentence of some words. " * 100
    spoken = {**SPOKEN, "encoding": "PCM"}
    audio = client.generate(text, **spoken)
    with inworld_tts.InworldTTS(api_key=sandbox.keys["full"], base_url=sandbox.url, max_retries=0) as direct:
        direct._session.headers[DIRECT] = "yes"
        assert audio == direct.generate(text, **spoken)
    seen = sandbox.seen()
    assert len(seen) > 1
    assert {each["operation"] for each in seen} == {"tts.synthesize"}


def test_voices_are_listed_cloned_changed_and_deleted(client: Any, sandbox: Sandbox) -> None:
    sample = direct_audio(sandbox)
    voice = client.clone_voice([sample], display_name="Mine", lang="EN_US")["voice"]
    identifier = voice["voiceId"]
    assert "__" in identifier
    assert client.update_voice(identifier, description="changed")["description"] == "changed"
    listed = {each["voiceId"]: each for each in client.list_voices()}
    assert listed[identifier]["description"] == "changed"
    assert client.get_voice(identifier) == listed[identifier]
    client.delete_voice(identifier)
    with pytest.raises(inworld_tts.ApiError) as gone:
        client.get_voice(identifier)
    assert gone.value.code == 404
    operations = [seen["operation"] for seen in sandbox.seen()]
    assert operations == [
        "voices.clone", "voices.update", "voices.list", "voices.get", "voices.delete", "voices.get",
    ]  # fmt: skip


def test_a_voice_is_designed_and_published(client: Any, sandbox: Sandbox) -> None:
    designed = client.design_voice(design_prompt="A calm and friendly voice for tests.", preview_text="Hello.")
    draft = designed["previewVoices"][0]["voiceId"]
    assert client.publish_voice(draft, display_name="Calm")["displayName"] == "Calm"
    client.delete_voice(draft)
    assert [seen["credential"] for seen in sandbox.seen()] == ["full"] * 3


def check_refusal(error: Any, status: int, code: str, message: str) -> None:
    assert error.code == status
    assert message in error.message
    assert error.details["details"][0]["reason"] == code


def test_a_caller_without_the_grant_gets_an_api_error_that_says_what_is_missing(proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(proxy, READER) as client:
        assert client.list_voices()
        with pytest.raises(inworld_tts.ApiError) as refused:
            client.generate(SENTENCE, **SPOKEN)
        check_refusal(refused.value, 403, "operation_not_granted", "The caller 'reader' is not granted tts.synthesize")
        with pytest.raises(inworld_tts.ApiError) as refused:
            client.delete_voice("sandbox-demo__none")
        check_refusal(refused.value, 403, "operation_not_granted", "voices.delete")
    assert [seen["operation"] for seen in sandbox.seen()] == ["voices.list"]


async def test_a_refused_stream_raises_an_api_error(proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(proxy, READER) as client, pytest.raises(inworld_tts.ApiError) as refused:
        await anext(client.stream(SENTENCE, **SPOKEN))
    # The message of a streaming method is inside {"error": …}, as the API itself wraps it; the package shows it whole.
    assert refused.value.code == 403
    assert "is not granted tts.synthesize_stream" in str(refused.value)
    assert sandbox.seen() == []


def test_a_key_that_is_no_callers_token_gets_an_api_error(proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(proxy, STRANGER) as client, pytest.raises(inworld_tts.ApiError) as refused:
        client.list_voices()
    check_refusal(refused.value, 401, "unknown_caller", "belongs to no caller of this proxy")
    assert sandbox.seen() == []
