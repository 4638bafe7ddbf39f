"""The ``openai`` package through the proxy: chat, speech, realtime, and the exceptions that its users catch."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.processes import (
    ANYTHING,
    BETWEEN,
    CHUNK_BYTES,
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

openai = needed("openai")
websockets = needed("websockets")

MODEL = "openai/gpt-4o-mini"
QUESTION = [{"role": "user", "content": "Wie groß ist der Mond?"}]
SPEECH = {"model": "inworld-tts-1.5-max", "voice": "Ashley", "input": "One two three four.", "response_format": "wav"}


def client_for(proxy: Proxy, key: str) -> Any:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    """A client whose key is a caller token."""
    with client_for(proxy, STOREFRONT) as made:
        yield made


@pytest.fixture
def keyless(open_proxy: Proxy) -> Iterator[Any]:
    """A client that insists on a key, in front of a proxy that wants none."""
    with client_for(open_proxy, ANYTHING) as made:
        yield made


def direct_reply(sandbox: Sandbox) -> str:
    answer = sandbox.ask("POST", "/v1/chat/completions", {"model": MODEL, "messages": QUESTION})
    return str(answer.json()["choices"][0]["message"]["content"])


def test_a_chat_completion_is_what_the_sandbox_answers(client: Any, sandbox: Sandbox) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert completion.choices[0].message.content == direct_reply(sandbox)
    assert completion.usage.total_tokens > 0
    seen = sandbox.only()
    assert (seen["operation"], seen["credential"], seen["credentialKind"]) == (
        "llm.chat_completions",
        "full",
        "basic-api-key",
    )


def test_a_key_of_the_clients_own_is_ignored_where_there_are_no_callers(keyless: Any, sandbox: Sandbox) -> None:
    completion = keyless.chat.completions.create(model=MODEL, messages=QUESTION)
    assert completion.choices[0].message.content == direct_reply(sandbox)


async def test_the_asynchronous_client_works_too(proxy: Proxy, sandbox: Sandbox) -> None:
    url = f"{proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=STUDIO, max_retries=0, timeout=PATIENCE) as client:
        completion = await client.chat.completions.create(model=MODEL, messages=QUESTION)
        stream = await client.chat.completions.create(
            model=MODEL, messages=QUESTION, stream=True, extra_body={"sandbox": {"between": 0}}
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert completion.choices[0].message.content == "".join(pieces) == direct_reply(sandbox)


def test_every_piece_of_a_streamed_chat_arrives_before_the_next_is_sent(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    pieces = []
    with client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, extra_body={"sandbox": {"between": 0, "gate": gate}}
    ) as stream:
        for chunk in stream:
            # The sandbox holds the next piece back until this one is here.
            pieces.append(chunk.choices[0].delta.content)
            sandbox.open_gate(gate)
    assert "".join(piece or "" for piece in pieces) == direct_reply(sandbox)
    assert len(pieces) > 5


def test_the_pieces_of_a_streamed_chat_arrive_as_far_apart_as_they_were_sent(client: Any, sandbox: Sandbox) -> None:
    with client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True) as stream:
        arrivals = [time.monotonic() for chunk in stream if chunk.choices[0].delta.content]
    planned = BETWEEN * (len(arrivals) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2


def test_speech_is_byte_for_byte_what_the_sandbox_sends(keyless: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    with keyless.audio.speech.with_streaming_response.create(**SPEECH) as response:
        response.stream_to_file(tmp_path / "speech.wav")
    direct = sandbox.ask("POST", "/v1/audio/speech", {**SPEECH, "sandbox": {"between": 0}})
    written = (tmp_path / "speech.wav").read_bytes()
    assert written.startswith(b"RIFF")
    assert written == direct.body
    assert response.headers["content-type"] == direct.headers["content-type"] == "audio/wav"


@pytest.mark.parametrize("kind", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_every_format_of_speech_gets_through_unchanged(client: Any, sandbox: Sandbox, kind: str) -> None:
    asked = {**SPEECH, "input": "Hi.", "response_format": kind}
    at_once = {"sandbox": {"between": 0}}
    spoken = client.audio.speech.create(**asked, extra_body=at_once)
    assert spoken.content == sandbox.ask("POST", "/v1/audio/speech", {**asked, **at_once}).body


def test_every_chunk_of_speech_arrives_before_the_next_is_sent(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    received = b""
    opened = 0
    with client.audio.speech.with_streaming_response.create(
        **SPEECH, extra_body={"sandbox": {"between": 0, "gate": gate}}
    ) as response:
        for piece in response.iter_bytes():
            received += piece
            while len(received) >= CHUNK_BYTES * (opened + 1):
                opened += 1
                sandbox.open_gate(gate)
    assert opened > 5
    assert received == sandbox.ask("POST", "/v1/audio/speech", {**SPEECH, "sandbox": {"between": 0}}).body


def test_responses_can_be_created_read_and_deleted(client: Any, sandbox: Sandbox) -> None:
    made = client.responses.create(model=MODEL, input="Hello")
    assert client.responses.retrieve(made.id).output_text == made.output_text != ""
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(made.id)
    assert "proxy-status" not in gone.value.response.headers
    operations = [seen["operation"] for seen in sandbox.seen()]
    assert operations == ["llm.responses_create", "llm.responses_get", "llm.responses_delete", "llm.responses_get"]


# Realtime. The package always appends /realtime to its base address, and Inworld's socket is one segment deeper, which
# no option says. What it composes can be changed before it connects; the query it takes as an option.

SESSION = {"key": "my-session", "protocol": "realtime"}


def at_inworlds_address(manager: Any) -> Any:
    """The same connection to be, one segment deeper."""
    address = manager._prepare_url()
    manager._prepare_url = lambda: address.copy_with(raw_path=address.raw_path + b"/session")
    return manager


def addresses(proxy: Proxy) -> dict[str, str]:
    return {"base_url": f"{proxy.url}/v1", "websocket_base_url": f"{proxy.ws}/api/v1"}


def user_says(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def test_a_realtime_conversation_streams_text(proxy: Proxy, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    deltas = []
    async with (
        asyncio.timeout(PATIENCE),
        openai.AsyncOpenAI(**addresses(proxy), api_key=STOREFRONT, timeout=PATIENCE) as client,
        at_inworlds_address(client.realtime.connect(extra_query=SESSION)) as connection,
    ):
        created = await connection.recv()
        assert (created.type, created.session.id) == ("session.created", "my-session")
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.conversation.item.create(item=user_says("hello"))
        await connection.send({"type": "response.create", "sandbox": {"between": 0, "gate": gate}})
        async for event in connection:
            if event.type == "response.output_text.delta":
                # The sandbox holds the next delta back until this one is here.
                deltas.append(event.delta)
                sandbox.open_gate(gate)
            if event.type == "response.done":
                break
        said = event.response.output[0].content[0].text
    assert said == "".join(deltas) == 'Hello from the sandbox. You said "hello", which is 1 word.'
    assert len(deltas) > 3
    seen = sandbox.only()
    assert seen["target"] == "/api/v1/realtime/session?key=my-session&protocol=realtime"
    assert (seen["operation"], seen["credential"], seen["status"]) == ("realtime.session", "realtime-only", 101)
    assert (seen["outcome"], seen["closeCode"]) == ("finished", 1000)


async def test_a_realtime_conversation_brings_audio(open_proxy: Proxy, sandbox: Sandbox) -> None:
    audio = transcript = b""
    async with (
        asyncio.timeout(PATIENCE),
        openai.AsyncOpenAI(**addresses(open_proxy), api_key=ANYTHING, timeout=PATIENCE) as client,
        at_inworlds_address(client.realtime.connect(extra_query=SESSION)) as connection,
    ):
        await connection.conversation.item.create(item=user_says("speak"))
        await connection.send({"type": "response.create", "sandbox": {"between": 0}})
        async for event in connection:
            if event.type == "response.output_audio.delta":
                audio += base64.b64decode(event.delta)
            if event.type == "response.output_audio_transcript.done":
                transcript = event.transcript
            if event.type == "response.done":
                break
    spoken = {"model": "m", "voice": "Ashley", "input": transcript, "response_format": "pcm", "sandbox": {"between": 0}}
    assert audio == sandbox.ask("POST", "/v1/audio/speech", spoken).body
    assert fields_of(sandbox.only())["authorization"] == [sandbox.basic("realtime-only")]


def test_the_address_that_the_package_composes_by_itself_ends_in_a_readable_404(proxy: Proxy) -> None:
    with (
        openai.OpenAI(**addresses(proxy), api_key=STOREFRONT, timeout=PATIENCE) as client,
        pytest.raises(websockets.InvalidStatus) as refused,
        client.realtime.connect(model="m"),
    ):
        pass
    response = refused.value.response
    assert response.status_code == 404
    assert b"/api/v1/realtime is not in this proxy's catalogue" in response.body


# Errors, as an application that uses the package sees them.


def check_refusal(error: Any, code: str, message: str) -> None:
    assert error.code == code
    assert message in error.message
    assert message in str(error)
    assert error.response.headers["proxy-status"].endswith(f'; details="{code}"')


def test_a_caller_without_the_grant_gets_a_permission_denied_error_that_says_what_is_missing(
    proxy: Proxy, sandbox: Sandbox
) -> None:
    with client_for(proxy, READER) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    error = refused.value
    check_refusal(error, "operation_not_granted", "The caller 'reader' is not granted llm.chat_completions")
    assert (error.status_code, error.type, error.param) == (403, "permission_error", None)
    assert sandbox.seen() == []


def test_a_refused_stream_raises_before_its_first_piece(proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(proxy, READER) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    check_refusal(refused.value, "operation_not_granted", "add it to callers.reader.allow")
    assert sandbox.seen() == []


def test_refused_speech_raises_and_writes_no_file(proxy: Proxy, tmp_path: Path) -> None:
    with (
        client_for(proxy, READER) as client,
        pytest.raises(openai.PermissionDeniedError) as refused,
        client.audio.speech.with_streaming_response.create(**SPEECH) as response,
    ):
        response.stream_to_file(tmp_path / "speech.wav")
    check_refusal(refused.value, "operation_not_granted", "tts.openai_speech")
    assert not (tmp_path / "speech.wav").exists()


def test_a_key_that_is_no_callers_token_gets_an_authentication_error(proxy: Proxy, sandbox: Sandbox) -> None:
    with client_for(proxy, STRANGER) as client, pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    check_refusal(refused.value, "unknown_caller", "belongs to no caller of this proxy")
    assert (refused.value.status_code, refused.value.type) == (401, "authentication_error")
    assert STRANGER not in str(refused.value)
    assert sandbox.seen() == []


def test_listing_models_gets_a_not_found_error_as_from_the_api_itself(client: Any, sandbox: Sandbox) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.list()
    check_refusal(refused.value, "no_operation", "/v1/models is not in this proxy's catalogue")
    assert sandbox.seen() == []


def test_a_realtime_connection_without_the_grant_is_refused_at_the_handshake(proxy: Proxy, sandbox: Sandbox) -> None:
    with (
        openai.OpenAI(**addresses(proxy), api_key=READER, timeout=PATIENCE) as client,
        pytest.raises(websockets.InvalidStatus) as refused,
        at_inworlds_address(client.realtime.connect(extra_query=SESSION)),
    ):
        pass
    assert refused.value.response.status_code == 403
    assert b"'reader' is not granted realtime.session" in refused.value.response.body
    assert sandbox.seen() == []


def test_what_the_upstream_refuses_gets_through_as_the_upstream_said_it(client: Any, sandbox: Sandbox) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=[])
    assert "model and messages are required" in str(refused.value)
    assert "proxy-status" not in refused.value.response.headers
    assert sandbox.only()["status"] == 400


def test_a_key_that_the_upstream_no_longer_knows_is_the_upstreams_own_401(client: Any, sandbox: Sandbox) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client.moderations.create(input="is this fine?")
    assert refused.value.response.text == "Unauthorized"
    assert "proxy-status" not in refused.value.response.headers
    assert sandbox.only()["status"] == 401
