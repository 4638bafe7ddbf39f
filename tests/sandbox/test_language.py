"""Chat, messages, responses, moderation, decisions and the older completions: the shapes, and that they repeat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sandbox.conftest import Running

REPLY = 'Hello from the sandbox. You said "good day", which is 2 words.'
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "good day"}]
CHAT: dict[str, Any] = {"model": "openai/gpt-4o-mini", "messages": MESSAGES}


async def events(sandbox: Running, path: str, body: dict[str, Any]) -> list[tuple[str | None, Any]]:
    response = await sandbox.ask("POST", path, json=body)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    found: list[tuple[str | None, Any]] = []
    for block in (await response.text()).strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        found.append((fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


async def test_a_chat_completion_answers_the_same_question_with_the_same_words(sandbox: Running) -> None:
    for _ in range(2):
        answer = await sandbox.json("POST", "/v1/chat/completions", CHAT)
        assert answer["choices"][0]["message"]["content"] == REPLY
        assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
        assert answer["metadata"]["attempts"] == [{"model": "openai/gpt-4o-mini", "success": True}]


async def test_a_chat_stream_ends_with_done(sandbox: Running) -> None:
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
    found = [data for _, data in await events(sandbox, "/v1/chat/completions", body)]
    assert found.pop() == "[DONE]"
    assert found.pop()["usage"]["total_tokens"] == 16
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found) == REPLY


async def test_content_in_parts_is_read_and_json_is_given_if_asked_for(sandbox: Running) -> None:
    parts = [{"type": "text", "text": "good"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "day"}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}], "response_format": {"type": "json_object"}}
    answer = await sandbox.json("POST", "/v1/chat/completions", body)
    assert json.loads(answer["choices"][0]["message"]["content"])["words"] == 2


@pytest.mark.parametrize("body", [{}, {"model": "m"}, {"model": "m", "messages": ["x"]}, {"model": 1, "messages": []}])
async def test_a_malformed_chat_is_refused_in_openais_shape(sandbox: Running, body: dict[str, Any]) -> None:
    response = await sandbox.ask("POST", "/v1/chat/completions", json=body)
    assert response.status == 400
    assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_messages_answer_in_anthropics_shape(sandbox: Running) -> None:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "good day"}]}
    answer = await sandbox.json("POST", "/v1/messages", body)
    assert (answer["type"], answer["content"]) == ("message", [{"type": "text", "text": REPLY}])
    found = await events(sandbox, "/v1/messages", body | {"stream": True})
    assert [name for name, _ in found][:3] == ["message_start", "content_block_start", "ping"]
    assert [name for name, _ in found][-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    assert "".join(deltas) == REPLY
    refused = await sandbox.ask("POST", "/v1/messages", json={"model": "m"})
    assert (await refused.json())["error"]["type"] == "invalid_request_error"


async def test_a_response_is_remembered_with_its_input_until_it_is_deleted(sandbox: Running) -> None:
    response = await sandbox.json("POST", "/v1/responses", {"model": "m", "input": "good day"})
    path = f"/v1/responses/{response['id']}"
    assert response["output"][0]["content"][0]["text"] == REPLY
    assert await sandbox.json("GET", path) == response
    items = await sandbox.json("GET", f"{path}/input_items")
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "good day"}]
    assert (await sandbox.ask("POST", f"{path}/cancel")).status == 400
    assert (await sandbox.ask("GET", path, "other-workspace")).status == 404
    assert (await sandbox.json("DELETE", path))["deleted"] is True
    assert (await sandbox.ask("GET", path)).status == 404
    forgotten = await sandbox.json("POST", "/v1/responses", {"model": "m", "input": "x", "store": False})
    assert (await sandbox.ask("GET", f"/v1/responses/{forgotten['id']}")).status == 404
    follow_up = {"model": "m", "input": "x", "previous_response_id": forgotten["id"]}
    assert (await sandbox.ask("POST", "/v1/responses", json=follow_up)).status == 404


async def test_a_background_response_finishes_later_or_is_cancelled(sandbox: Running) -> None:
    body = {"model": "m", "input": "good day", "background": True}
    first = await sandbox.json("POST", "/v1/responses", body)
    assert (first["status"], first["output"]) == ("in_progress", [])
    path = f"/v1/responses/{first['id']}"
    assert [(await sandbox.json("GET", path))["status"] for _ in range(2)] == ["in_progress", "completed"]
    second = await sandbox.json("POST", "/v1/responses", body)
    assert (await sandbox.json("POST", f"/v1/responses/{second['id']}/cancel"))["status"] == "cancelled"
    assert (await sandbox.json("GET", f"/v1/responses/{second['id']}"))["status"] == "cancelled"


async def test_a_response_streams_numbered_events(sandbox: Running) -> None:
    found = await events(sandbox, "/v1/responses", {"model": "m", "input": "good day", "stream": True})
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    assert (found[0][0], found[-1][0]) == ("response.created", "response.completed")
    assert "".join(data["delta"] for name, data in found if name == "response.output_text.delta") == REPLY


async def test_moderation_flags_one_word_and_scores_in_integers(sandbox: Running) -> None:
    answer = await sandbox.json("POST", "/v1/moderations", {"input": ["fine", "UNSAFE"]})
    assert answer["id"].startswith("modr-")
    assert [result["flagged"] for result in answer["results"]] == [False, True]
    assert answer["results"][1]["category_scores"]["violence"] == 1
    assert answer["results"][1]["ailuminate"]["safety"] == "unsafe"
    assert (await sandbox.ask("POST", "/v1/moderations", json={"input": 3})).status == 400


@pytest.mark.parametrize(
    ("scope", "flagged"), [(None, False), ("last", False), (1, False), (2, True), ("all", True), (9, True)]
)
async def test_chat_moderation_looks_as_far_back_as_its_scope(sandbox: Running, scope: Any, flagged: bool) -> None:
    messages = [{"role": "user", "content": text} for text in ("hi", "UNSAFE", "fine")]
    answer = await sandbox.json("POST", "/v1/chat/moderations", {"messages": messages, "scope": scope})
    assert answer["result"]["flagged"] is flagged


async def test_decisions_are_typed_and_repeat(sandbox: Running) -> None:
    body = {
        "model": "typesafe/jev-latest",
        "state": {"message": "help"},
        "questions": {
            "urgent": {"type": "noul", "instructions": "Is it?"},
            "team": {"type": "choice", "criteria": {"billing": "money", "technical": "bugs"}},
            "tone": {"type": "score", "criteria": ["calm", "annoyed", "angry"]},
        },
    }
    answer = await sandbox.json("POST", "/alpha/decisions", body)
    assert answer == await sandbox.json("POST", "/alpha/decisions", body)
    assert 0 <= answer["answers"]["urgent"]["noul"] <= 1
    assert answer["answers"]["team"]["choice"] in ("billing", "technical")
    assert sum(answer["answers"]["team"]["probabilities"].values()) == pytest.approx(1, abs=0.001)
    assert 0 <= answer["answers"]["tone"]["score"] <= 2
    for broken in ({}, {"state": "x", "questions": {"q": {"type": "essay"}}}):
        assert (await sandbox.ask("POST", "/alpha/decisions", json=broken)).status == 400


async def test_the_older_completions_answer_whole_and_in_lines(sandbox: Running) -> None:
    chat = {
        "servingId": {"modelId": {"model": "old"}},
        "messages": [{"role": "MESSAGE_ROLE_USER", "content": "good day"}],
    }
    path = "/llm/v1alpha/completions:completeChat"
    answer = await sandbox.json("POST", path, chat)
    assert answer["result"]["choices"][0]["message"]["content"] == REPLY
    streamed = await sandbox.ask("POST", path, json=chat | {"textGenerationConfig": {"stream": True}})
    lines = [json.loads(line) for line in (await streamed.text()).splitlines()]
    assert "".join(line["result"]["choices"][0]["message"]["content"] for line in lines) == REPLY
    text = await sandbox.json("POST", "/llm/v1alpha/completions:completeText", {"prompt": {"text": "good day"}})
    assert text["result"]["choices"][0]["text"] == REPLY


async def test_models_are_listed_where_they_are(sandbox: Running) -> None:
    models = (await sandbox.json("GET", "/llm/v1alpha/models"))["models"]
    assert {"model", "provider", "pricing", "spec", "isSupported"} <= set(models[0])
