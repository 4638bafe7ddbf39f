"""What the sandbox says in place of a language model: the same answer to the same question, always.

What belongs here: text from text. What does not: the APIs it is wrapped in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from proxy.sandbox.shapes import JsonObject, Malformed, object_of, text_of

LONGEST_QUOTE = 300
_PIECES = re.compile(r"\S+\s*|\s+")


def content_text(content: Any) -> str:  # noqa: ANN401 - a string, or a list of parts of several vendors' shapes.
    """The text of a message's content: itself, or its text parts one after another."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Malformed("content must be a string or a list of parts")
    parts = [object_of({"content": part}, "content") for part in content]
    return " ".join(text_of(part, "text") or text_of(part, "transcript") for part in parts).strip()


def last_user_text(messages: list[Any]) -> str:  # elements are checked here
    """The text of the last message that a user wrote; raises ``Malformed`` for something that is no message."""
    said = ""
    for entry in messages:
        message = object_of({"messages": entry}, "messages")
        if text_of(message, "role").removeprefix("MESSAGE_ROLE_").lower() == "user":
            said = content_text(message.get("content"))
    return said


def reply_to(said: str, *, as_json: bool = False) -> str:
    """The reply. With ``as_json`` it is a JSON object, for requests that ask for structured output."""
    quote = said if len(said) <= LONGEST_QUOTE else said[:LONGEST_QUOTE] + "…"
    if as_json:
        return json.dumps({"reply": quote, "words": words_in(said)}, ensure_ascii=False)
    if not said.strip():
        return "Hello from the sandbox."
    plural = "word" if words_in(said) == 1 else "words"
    return f'Hello from the sandbox. You said "{quote}", which is {words_in(said)} {plural}.'


def wants_json(body: JsonObject) -> bool:
    """True if the request asks for JSON output in OpenAI's way."""
    return text_of(object_of(body, "response_format"), "type") in ("json_object", "json_schema")


def text_pieces(text: str, words: int) -> Iterator[str]:
    """The text in pieces of this many words, which joined are the text again."""
    tokens = _PIECES.findall(text)
    for at in range(0, len(tokens), words):
        yield "".join(tokens[at : at + words])


def words_in(text: str) -> int:
    """The number of words, which the sandbox takes for the number of tokens."""
    return len(text.split())
