"""The vendor's own older LLM routes, ``completeChat`` and ``completeText``, and the list of models.

What belongs here: ``/llm/v1alpha``. What does not: the OpenAI-compatible routes.

Invented in parts: the reference of the two completions is gone from the public documentation; the shapes are those that
old client code reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from proxy.sandbox.answers import json_answer, line
from proxy.sandbox.body import read_message
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pace, Pacer, computed, pace_of, stream
from proxy.sandbox.replies import last_user_text, reply_to, text_pieces, words_in
from proxy.sandbox.shapes import JsonObject, list_of, new_id, object_of, rfc3339, text_of


async def complete_chat(exchange: Exchange) -> web.StreamResponse:
    """``POST /llm/v1alpha/completions:completeChat``."""
    message = await read_message(exchange)
    conversation = list_of(message, "messages")
    if not conversation:
        raise invalid("messages are required")
    return await _complete(exchange, message, last_user_text(conversation), chat=True)


async def complete_text(exchange: Exchange) -> web.StreamResponse:
    """``POST /llm/v1alpha/completions:completeText``."""
    message = await read_message(exchange)
    prompt = message.get("prompt")
    said = text_of(prompt, "text") if isinstance(prompt, dict) else text_of(message, "prompt")
    if not said:
        raise invalid("prompt is required")
    return await _complete(exchange, message, said, chat=False)


async def _complete(exchange: Exchange, message: JsonObject, said: str, *, chat: bool) -> web.StreamResponse:
    reply = reply_to(said)
    model = text_of(object_of(object_of(message, "servingId"), "modelId"), "model", "sandbox")
    head: JsonObject = {
        "id": new_id(""),
        "createTime": rfc3339(exchange.sandbox.options.clock()),
        "model": model,
        "usage": {"promptTokens": words_in(said), "completionTokens": words_in(reply)},
    }
    streams = object_of(message, "textGenerationConfig").get("stream") is True or message.get("stream") is True
    if streams:
        lines = _lines(exchange, head, reply, pace_of(exchange.sandbox.options, message), chat=chat)
        return await stream(exchange, lines, content_type="application/json")
    answer = {"result": head | {"choices": [_choice(reply, "FINISH_REASON_STOP", chat=chat)]}}
    return await computed(exchange, message, answer)


async def _lines(exchange: Exchange, head: JsonObject, reply: str, pace: Pace, *, chat: bool) -> AsyncIterator[bytes]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    for piece in text_pieces(reply, pace.chunk_words):
        await waiting.wait()
        choice = _choice(piece, "FINISH_REASON_UNSPECIFIED", chat=chat)
        yield line({"result": head | {"choices": [choice]}})
    yield line({"result": head | {"choices": [_choice("", "FINISH_REASON_STOP", chat=chat)]}})


def _choice(text: str, finish: str, *, chat: bool) -> JsonObject:
    if chat:
        return {"message": {"role": "MESSAGE_ROLE_ASSISTANT", "content": text}, "finishReason": finish}
    return {"text": text, "finishReason": finish}


def _model(name: str, creator: str, prompt: float, completion: float, *modalities: str) -> JsonObject:
    return {
        "model": name,
        "provider": name.partition("/")[0],
        "modelCreator": creator,
        "pricing": {"prompt": prompt, "completion": completion},
        "spec": {
            "inputModalities": ["text", *modalities],
            "outputModalities": ["text"],
            "contextLength": 128_000,
            "maxCompletionTokens": 16_384,
            "supportedParameters": ["max_tokens", "temperature", "top_p", "stream"],
            "capabilities": {
                "functionCalling": False,
                "webSearch": False,
                "reasoning": False,
                "promptCaching": False,
                "responseSchema": True,
                "vision": "image" in modalities,
            },
        },
        "isSupported": True,
    }


async def list_models(_exchange: Exchange) -> web.Response:
    """``GET /llm/v1alpha/models``. Invented: these models and their prices."""
    models = [
        _model("openai/gpt-4o-mini", "openai", 0.15, 0.6, "image"),
        _model("anthropic/claude-sandbox", "anthropic", 1.0, 5.0),
        _model("google-ai-studio/gemini-sandbox", "google", 0.1, 0.4, "image"),
        _model("inworld/sandbox", "inworld", 0.0, 0.0),
    ]
    return json_answer({"models": models})


ENDPOINTS = (
    Endpoint("llm.complete_chat_v1alpha", "POST", "/llm/v1alpha/completions:completeChat", complete_chat),
    Endpoint("llm.complete_text_v1alpha", "POST", "/llm/v1alpha/completions:completeText", complete_text),
    Endpoint("models.list", "GET", "/llm/v1alpha/models", list_models),
)
