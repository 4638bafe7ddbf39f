"""Messages in Anthropic's shape: JSON, and server-sent events.

What belongs here: ``POST /v1/messages``. What does not: what is said (``replies.py``). Not played: tool use, thinking.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from proxy.sandbox.answers import EVENT_STREAM, EVENT_STREAM_HEADERS, event
from proxy.sandbox.body import read_json
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Stack, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pace, Pacer, computed, pace_of, stream
from proxy.sandbox.replies import content_text, last_user_text, reply_to, text_pieces, words_in
from proxy.sandbox.shapes import JsonObject, list_of, new_id, number_of, text_of


async def messages(exchange: Exchange) -> web.StreamResponse:
    """``POST /v1/messages``."""
    body = await read_json(exchange)
    conversation = list_of(body, "messages")
    if not text_of(body, "model") or not conversation or number_of(body, "max_tokens", 0) < 1:
        raise invalid("model, messages and max_tokens are required")
    reply = reply_to(last_user_text(conversation))
    message: JsonObject = {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": exchange.sandbox.routers.model(exchange.workspace, text_of(body, "model")),
        "content": [{"type": "text", "text": reply}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": sum(words_in(content_text(entry.get("content"))) for entry in conversation),
            "output_tokens": words_in(reply),
        },
    }
    if body.get("stream") is True:
        events = _events(exchange, message, reply, pace_of(exchange.sandbox.options, body))
        return await stream(exchange, events, content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS)
    return await computed(exchange, body, message)


async def _events(exchange: Exchange, message: JsonObject, reply: str, pace: Pace) -> AsyncIterator[bytes]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    opening = {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 0}}
    await waiting.wait()
    yield _event({"type": "message_start", "message": message | opening})
    yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    yield _event({"type": "ping"})
    for piece in text_pieces(reply, pace.chunk_words):
        await waiting.wait()
        yield _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _event({"type": "content_block_stop", "index": 0})
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    output = {"output_tokens": message["usage"]["output_tokens"]}
    yield _event({"type": "message_delta", "delta": ending, "usage": output})
    yield _event({"type": "message_stop"})


def _event(content: JsonObject) -> bytes:
    return event(content, content["type"])


ENDPOINTS = (Endpoint("llm.messages", "POST", "/v1/messages", messages, Stack.ANTHROPIC),)
