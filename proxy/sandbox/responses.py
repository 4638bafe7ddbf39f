"""The Responses API in OpenAI's shape: create (JSON, events, background), get, delete, cancel, list its input.

What belongs here: the routes. What does not: what is remembered (``responses_store.py``), what is said
(``replies.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from proxy.sandbox.answers import EVENT_STREAM, EVENT_STREAM_HEADERS, event, json_answer
from proxy.sandbox.body import read_json
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Stack, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pace, Pacer, computed, pace_of, stream
from proxy.sandbox.replies import content_text, last_user_text, reply_to, text_pieces, words_in
from proxy.sandbox.responses_store import COMPLETED, IN_PROGRESS, StoredResponse
from proxy.sandbox.shapes import JsonObject, Malformed, list_of, new_id, object_of, text_of


async def create_response(exchange: Exchange) -> web.StreamResponse:
    """``POST /v1/responses``."""
    body = await read_json(exchange)
    if not text_of(body, "model"):
        raise invalid("model is required")
    items = _input_items(body.get("input"))
    previous = text_of(body, "previous_response_id")
    if previous:
        exchange.sandbox.responses.get(exchange.workspace, previous)
    as_json = text_of(object_of(object_of(body, "text"), "format"), "type") in ("json_object", "json_schema")
    reply = reply_to(last_user_text(items), as_json=as_json)
    response = _response(exchange, body, items, reply)
    background = body.get("background") is True
    stored = StoredResponse(
        exchange.workspace, response, items, exchange.sandbox.options.operation_polls if background else 0
    )
    if body.get("store") is not False:
        exchange.sandbox.responses.add(stored)
    if body.get("stream") is True:
        events = _numbered(_events(exchange, response, reply, pace_of(exchange.sandbox.options, body)))
        return await stream(exchange, events, content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS)
    return await computed(exchange, body, stored.now())


def _input_items(given: Any) -> list[JsonObject]:  # noqa: ANN401 - a string or a list of items.
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise Malformed("input must be a string or a list of items")
    items = []
    for entry in given:
        item = object_of({"input": entry}, "input")
        content = item.get("content")
        if isinstance(content, str):
            item = item | {"content": [{"type": "input_text", "text": content}]}
        items.append({"id": new_id("msg_"), "type": "message", "status": COMPLETED} | item)
    return items


def _response(exchange: Exchange, body: JsonObject, items: list[JsonObject], reply: str) -> JsonObject:
    asked = sum(words_in(content_text(item.get("content"))) for item in items)
    answered = words_in(reply)
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(exchange.sandbox.options.clock()),
        "status": COMPLETED,
        "background": body.get("background") is True,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": object_of(body, "metadata"),
        "model": exchange.sandbox.routers.model(exchange.workspace, text_of(body, "model")),
        "output": [_output_item(new_id("msg_"), [_part(reply)], COMPLETED)],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": list_of(body, "tools"),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answered,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + answered,
        },
    }


def _output_item(identifier: str, content: list[JsonObject], status: str) -> JsonObject:
    return {"id": identifier, "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def _events(exchange: Exchange, response: JsonObject, reply: str, pace: Pace) -> AsyncIterator[JsonObject]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    item = response["output"][0]
    at: JsonObject = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = response | {"status": IN_PROGRESS, "output": [], "usage": None}
    await waiting.wait()
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    opened = _output_item(item["id"], [], IN_PROGRESS)
    yield {"type": "response.output_item.added", "output_index": 0, "item": opened}
    yield {"type": "response.content_part.added", "part": _part("")} | at
    for piece in text_pieces(reply, pace.chunk_words):
        await waiting.wait()
        yield {"type": "response.output_text.delta", "delta": piece, "logprobs": []} | at
    yield {"type": "response.output_text.done", "text": reply, "logprobs": []} | at
    yield {"type": "response.content_part.done", "part": item["content"][0]} | at
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": response}


async def _numbered(events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
    number = 0
    async for content in events:
        yield event(content | {"sequence_number": number}, content["type"])
        number += 1


async def get_response(exchange: Exchange) -> web.Response:
    """``GET /v1/responses/{response}``."""
    return json_answer(exchange.sandbox.responses.poll(exchange.workspace, exchange.match("response")))


async def delete_response(exchange: Exchange) -> web.Response:
    """``DELETE /v1/responses/{response}``."""
    identifier = exchange.match("response")
    exchange.sandbox.responses.delete(exchange.workspace, identifier)
    return json_answer({"id": identifier, "object": "response", "deleted": True})


async def cancel_response(exchange: Exchange) -> web.Response:
    """``POST /v1/responses/{response}/cancel``: only what runs in the background can be cancelled."""
    await read_json(exchange)
    return json_answer(exchange.sandbox.responses.cancel(exchange.workspace, exchange.match("response")))


async def list_input_items(exchange: Exchange) -> web.Response:
    """``GET /v1/responses/{response}/input_items``."""
    items = exchange.sandbox.responses.get(exchange.workspace, exchange.match("response")).items
    if exchange.request.query.get("order", "desc") != "asc":
        items = items[::-1]
    answer: JsonObject = {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"],
        "last_id": items[-1]["id"],
        "has_more": False,
    }
    return json_answer(answer)


_ALL = "/v1/responses"
_ONE = _ALL + "/{response}"

ENDPOINTS = (
    Endpoint("llm.responses_create", "POST", _ALL, create_response, Stack.OPENAI),
    Endpoint("llm.responses_get", "GET", _ONE, get_response, Stack.OPENAI),
    Endpoint("llm.responses_delete", "DELETE", _ONE, delete_response, Stack.OPENAI),
    Endpoint("llm.responses_cancel", "POST", _ONE + "/cancel", cancel_response, Stack.OPENAI),
    Endpoint("llm.responses_input_items", "GET", _ONE + "/input_items", list_input_items, Stack.OPENAI),
)
