"""Judging text: moderations in both forms, and decisions.

What belongs here: these three routes. What does not: generating text.

Invented: the judgement. A text is flagged if it contains the word UNSAFE (so that a test can have either answer), and a
decision's numbers come from a hash of the question and the state.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp import web

from proxy.sandbox.body import read_json
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Stack, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import computed
from proxy.sandbox.replies import content_text, words_in
from proxy.sandbox.shapes import JsonObject, Malformed, list_of, new_uuid, object_of, text_of

MODERATION_MODEL = "inworld/moderation-latest"
DECISION_MODEL = "typesafe/jev-latest"
FLAGGED_WORD = "UNSAFE"

CATEGORIES = (
    "sexual", "sexual/minors", "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit",
    "illicit/violent", "self-harm", "self-harm/intent", "self-harm/instructions", "violence", "violence/graphic",
)  # fmt: skip
AILUMINATE = (
    "violent_crimes", "sex_related_crimes", "child_sexual_exploitation", "suicide_self_harm", "indiscriminate_weapons",
    "intellectual_property", "defamation", "non_violent_crimes", "hate", "specialized_advice", "privacy",
    "sexual_content",
)  # fmt: skip
EXTENSIONS = ("politically_sensitive", "unethical_acts", "jailbreak")
_HIT, _AILUMINATE_HIT = "violence", "violent_crimes"


def _moderated(text: str) -> JsonObject:
    flagged = FLAGGED_WORD in text
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == _HIT for name in CATEGORIES},
        # Documented: the scores are integers.
        "category_scores": {name: int(flagged and name == _HIT) for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
        "ailuminate": {
            "safety": "unsafe" if flagged else "safe",
            "categories": {name: flagged and name == _AILUMINATE_HIT for name in AILUMINATE},
            "extensions": dict.fromkeys(EXTENSIONS, False),
            "refusal": False,
        },
    }


def _head() -> JsonObject:
    return {"id": "modr-" + new_uuid().replace("-", ""), "model": MODERATION_MODEL}


async def moderations(exchange: Exchange) -> web.Response:
    """``POST /v1/moderations``: a string or several, one result each."""
    body = await read_json(exchange)
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Malformed("input must be a string or a list of strings")
    return await computed(exchange, body, _head() | {"results": [_moderated(text) for text in texts]})


async def chat_moderations(exchange: Exchange) -> web.Response:
    """``POST /v1/chat/moderations``: the last message, the last N, or all of them, as ``scope`` says."""
    body = await read_json(exchange)
    messages = [object_of({"messages": entry}, "messages") for entry in list_of(body, "messages")]
    if not messages:
        raise invalid("messages are required")
    chosen = messages[-_scope(body.get("scope"), len(messages)) :]
    text = " ".join(content_text(message.get("content")) for message in chosen)
    return await computed(exchange, body, _head() | {"result": _moderated(text)})


def _scope(given: Any, count: int) -> int:  # noqa: ANN401 - "last", "all" or a number.
    match given:
        case None | "last":
            return 1
        case "all":
            return count
        case int() if not isinstance(given, bool) and given > 0:
            return given
        case _:
            raise Malformed('scope must be "last", "all" or a positive integer')


async def decisions(exchange: Exchange) -> web.Response:
    """``POST /alpha/decisions``: one typed answer per named question."""
    body = await read_json(exchange)
    questions = object_of(body, "questions")
    if not questions or "state" not in body:
        raise invalid("state and questions are required")
    state = json.dumps(body["state"], sort_keys=True)
    answers = {
        name: _answer(f"{state}|{name}", object_of({name: question}, name)) for name, question in questions.items()
    }
    usage = {"input_tokens": words_in(state) + words_in(json.dumps(questions)), "output_tokens": 0}
    answer: JsonObject = {"model": text_of(body, "model", DECISION_MODEL), "answers": answers, "usage": usage}
    return await computed(exchange, body, answer)


def _answer(seed: str, question: JsonObject) -> JsonObject:
    kind = text_of(question, "type")
    if kind == "noul":
        return {"type": kind, "noul": _share(seed)}
    criteria = question.get("criteria")
    options = [str(option) for option in criteria] if isinstance(criteria, dict) else _levels(criteria)
    if kind not in ("choice", "score") or not options:
        raise invalid("a question is of type noul, choice or score, the latter two with criteria")
    weights = {option: _share(f"{seed}|{option}") + 0.01 for option in options}
    total = sum(weights.values())
    probabilities = {option: round(weight / total, 4) for option, weight in weights.items()}
    best = max(options, key=weights.__getitem__)
    result: JsonObject = {"type": kind, "confidence": probabilities[best], "probabilities": probabilities}
    if kind == "choice":
        return result | {"choice": best}
    return result | {"score": round(sum(index * probabilities[option] for index, option in enumerate(options)), 4)}


def _levels(criteria: Any) -> list[str]:  # noqa: ANN401 - a list of levels, or nothing.
    return [str(index) for index, _ in enumerate(criteria)] if isinstance(criteria, list) else []


def _share(seed: str) -> float:
    return round(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:2], "big") / 0xFFFF, 4)


ENDPOINTS = (
    Endpoint("llm.moderations", "POST", "/v1/moderations", moderations, Stack.OPENAI),
    Endpoint("llm.chat_moderations", "POST", "/v1/chat/moderations", chat_moderations, Stack.OPENAI),
    Endpoint("llm.decisions", "POST", "/alpha/decisions", decisions, Stack.OPENAI),
)
