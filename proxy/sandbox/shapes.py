"""The JSON that the API speaks: its type, its two spellings, its timestamps and ids, and reading one field of it.

What belongs here: plain functions of values. What does not: reading bodies (``body.py``) and what fields mean.
"""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

JsonObject = dict[str, Any]  # JSON has no closer type than Any.


class Malformed(ValueError):  # noqa: N818 - it becomes an answer; it is not a fault of ours.
    """A field of a request that is not what the API expects; answered as 400 with this text."""


_SNAKE = re.compile(r"_([a-z0-9])")


def camel(value: Any) -> Any:  # noqa: ANN401 - any JSON in, the same JSON out.
    """The value with every key in lowerCamelCase: protobuf's JSON accepts both spellings on the way in."""
    if isinstance(value, dict):
        return {_SNAKE.sub(lambda match: match.group(1).upper(), key): camel(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [camel(inner) for inner in value]
    return value


def text_of(body: JsonObject, name: str, default: str = "") -> str:
    """The string under ``name``, or the default where it is absent; raises ``Malformed`` if it is something else."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Malformed(f"{name} must be a string")
    return value


def number_of(body: JsonObject, name: str, default: float) -> float:
    """The number under ``name``; protobuf's JSON writes 64-bit integers as strings, so those count too."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Malformed(f"{name} must be a number")
    try:
        return float(value)
    except ValueError as exc:
        raise Malformed(f"{name} must be a number") from exc


def object_of(body: JsonObject, name: str) -> JsonObject:
    """The object under ``name``, or an empty one; raises ``Malformed`` if it is something else."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{name} must be an object")
    return value


def list_of(body: JsonObject, name: str) -> list[Any]:  # the elements are checked by whoever knows them
    """The list under ``name``, or an empty one; raises ``Malformed`` if it is something else."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{name} must be a list")
    return value


def texts_of(body: JsonObject, name: str) -> list[str]:
    """The list of strings under ``name``."""
    values = list_of(body, name)
    if not all(isinstance(value, str) for value in values):
        raise Malformed(f"{name} must be a list of strings")
    return values


def rfc3339(at: float) -> str:
    """A moment as protobuf's JSON writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str) -> float:
    """The moment that such a text names; raises ``Malformed``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Malformed(f"{text!r} is not an RFC 3339 timestamp") from exc
    if moment.tzinfo is None:
        raise Malformed("a timestamp needs a time zone")
    return moment.timestamp()


def new_uuid() -> str:
    """A random UUID."""
    return str(uuid.uuid4())


def new_id(prefix: str) -> str:
    """A random id in the style of the OpenAI-compatible routes (``resp_…``)."""
    return prefix + secrets.token_hex(12)
