"""Chat completions in OpenAI's shape: JSON, and server-sent events.

What belongs here: ``POST /v1/chat/completions``. What does not: what is said (``replies.py``).
Not played: tool calls, several choices, log probabilities.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from proxy.sandbox.answers import EVENT_STREAM, EVENT_STREAM_HEADERS, event
from proxy.sandbox.body import read_json
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Stack, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pace, Pacer, computed, pace_of, stream
from proxy.sandbox.replies import content_text, last_user_text, reply_to, text_pieces, wants_json, words_in
from proxy.sandbox.shapes import JsonObject, list_of, new_id, object_of, text_of


@dataclass(frozen=True, slots=True)
class _Completion:
    identifier: str
    created: int
    model: str
    reply: str
    prompt_words: int

    def usage(self) -> JsonObject:
        replied = words_in(self.reply)
        return {
            "prompt_tokens": self.prompt_words,
            "completion_tokens": replied,
            "total_tokens": self.prompt_words + replied,
        }

    def head(self, kind: str) -> JsonObject:
        return {"id": self.identifier, "object": kind, "created": self.created, "model": self.model}


async def chat_completions(exchange: Exchange) -> web.StreamResponse:
    """``POST /v1/chat/completions``."""
    body = await read_json(exchange)
    messages = list_of(body, "messages")
    if not text_of(body, "model") or not messages:
        raise invalid("model and messages are required")
    completion = _Completion(
        identifier=new_id("chatcmpl-"),
        created=int(exchange.sandbox.options.clock()),
        model=exchange.sandbox.routers.model(exchange.workspace, text_of(body, "model")),
        reply=reply_to(last_user_text(messages), as_json=wants_json(body)),
        prompt_words=sum(words_in(content_text(message.get("content"))) for message in messages),
    )
    if body.get("stream") is True:
        with_usage = object_of(body, "stream_options").get("include_usage") is True
        events = _events(exchange, completion, pace_of(exchange.sandbox.options, body), with_usage=with_usage)
        return await stream(exchange, events, content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS)
    choice: JsonObject = {
        "index": 0,
        "message": {"role": "assistant", "content": completion.reply, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    answer = completion.head("chat.completion") | {"choices": [choice], "usage": completion.usage()}
    # The vendor's own plugin reads which model served the request from here.
    answer["metadata"] = {"attempts": [{"model": completion.model, "success": True}]}
    return await computed(exchange, body, answer)


async def _events(exchange: Exchange, completion: _Completion, pace: Pace, *, with_usage: bool) -> AsyncIterator[bytes]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    head = completion.head("chat.completion.chunk")

    def chunk(delta: JsonObject, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event(head | {"choices": [choice]})

    role: JsonObject = {"role": "assistant"}
    for piece in text_pieces(completion.reply, pace.chunk_words):
        await waiting.wait()
        yield chunk(role | {"content": piece})
        role = {}
    yield chunk({}, "stop")
    if with_usage:
        yield event(head | {"choices": [], "usage": completion.usage()})
    yield b"data: [DONE]\n\n"


ENDPOINTS = (Endpoint("llm.chat_completions", "POST", "/v1/chat/completions", chat_completions, Stack.OPENAI),)
