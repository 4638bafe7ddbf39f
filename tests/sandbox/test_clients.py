"""Published clients against the sandbox: that its shapes are the ones they parse."""

from __future__ import annotations

import io
import wave
from typing import Any

import openai
import pytest
import websockets

from tests.sandbox.conftest import KEYS, Running


def client(sandbox: Running, key: str = KEYS["standard-read"].basic) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{sandbox.url}/v1", max_retries=0)


async def test_the_openai_package_chats_streams_speaks_and_moderates(sandbox: Running) -> None:
    messages = [{"role": "user", "content": "hello"}]
    async with client(sandbox) as api:
        answer = await api.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
        chunks: Any = await api.chat.completions.create(model="m", messages=messages, stream=True)  # type: ignore[arg-type]
        pieces = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        assert "".join(pieces) == answer.choices[0].message.content
        speech = await api.audio.speech.create(model="m", voice="alloy", input="Hi.", response_format="wav")
        with wave.open(io.BytesIO(await speech.aread())) as file:
            assert file.getnframes() > 0
        assert (await api.moderations.create(input="UNSAFE")).results[0].flagged


async def test_the_openai_package_keeps_responses(sandbox: Running) -> None:
    async with client(sandbox) as api:
        async with api.responses.stream(model="m", input="hello") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds[-1] == "response.completed"
        assert (await api.responses.retrieve(final.id)).output_text == final.output_text
        assert [item.type async for item in await api.responses.input_items.list(final.id)] == ["message"]
        await api.responses.delete(final.id)
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(final.id)


async def test_the_openai_package_raises_its_own_errors(sandbox: Running) -> None:
    async with client(sandbox, "sk-wrong") as api:
        with pytest.raises(openai.AuthenticationError):
            await api.responses.create(model="m", input="x")
    async with client(sandbox) as api:
        with pytest.raises(openai.NotFoundError):
            await api.models.list()
        with pytest.raises(openai.BadRequestError, match="model and messages are required"):
            await api.chat.completions.create(model="m", messages=[])


async def test_the_websockets_package_talks_to_the_realtime_socket(sandbox: Running) -> None:
    url = sandbox.url.replace("http", "ws", 1) + "/api/v1/realtime/session?key=k&protocol=realtime"
    headers = {"Authorization": f"Basic {KEYS['realtime-only'].basic}"}
    async with websockets.connect(url, additional_headers=headers, max_size=None) as socket:
        assert "session.created" in str(await socket.recv())
        await socket.send(["frag", "men", "ted"])
        assert await socket.recv() == "fragmented"
        await socket.send([b"\x00", b"\x01"])
        assert await socket.recv() == b"\x00\x01"
