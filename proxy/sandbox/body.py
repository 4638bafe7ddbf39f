"""Reading what a client sent, whole: counted for the record, refused when it is too much or malformed.

What belongs here: getting from bytes to a JSON object. What does not: uploads, which are never held (``multipart.py``).
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING

from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.shapes import JsonObject, Malformed, camel, text_of

if TYPE_CHECKING:
    from proxy.sandbox.exchange import Exchange

BODY_LIMIT = 64 * 1024 * 1024
"""For bodies held whole: the documented 16 MB of audio in base64 and three voice samples fit with room to spare."""


async def read_body(exchange: Exchange, *, limit: int = BODY_LIMIT) -> bytes:
    """The whole body, counted in the record; refused once it passes the limit, without reading on."""
    chunks: list[bytes] = []
    async for chunk in exchange.request.content.iter_any():
        exchange.record.took(chunk)
        chunks.append(chunk)
        if exchange.record.body_bytes > limit:
            raise Refusal(413, f"request body is larger than {limit} bytes")
    return b"".join(chunks)


async def read_json(exchange: Exchange) -> JsonObject:
    """The body as a JSON object, keys as they came. An empty body is an empty object, as grpc-gateway reads it."""
    body = await read_body(exchange)
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except ValueError as exc:
        raise invalid("request body is not valid JSON") from exc
    if not isinstance(value, dict):
        raise invalid("request body must be a JSON object")
    return value


async def read_message(exchange: Exchange) -> JsonObject:
    """The body as a protobuf message in JSON: keys in lowerCamelCase, whichever spelling they came in."""
    message: JsonObject = camel(await read_json(exchange))
    return message


def bytes_of(body: JsonObject, name: str) -> bytes:
    """The base64 under ``name``, decoded; raises ``Malformed`` if it is not base64."""
    text = text_of(body, name)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise Malformed(f"{name} is not valid base64") from exc
