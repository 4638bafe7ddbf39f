"""Writing answers: JSON as the real service spells it, lines of it, server-sent events.

What belongs here: from values to bytes and responses. What does not: refusals (``errors.py``), pace (``pacing.py``).
"""

from __future__ import annotations

import json

from aiohttp import web

from proxy.sandbox.shapes import JsonObject

EVENT_STREAM = "text/event-stream"
EVENT_STREAM_HEADERS = {"Cache-Control": "no-cache"}


def to_json(value: JsonObject) -> str:
    """Compact JSON, which is how the bodies that were seen are spelt."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_answer(body: JsonObject, *, status: int = 200) -> web.Response:
    """A JSON object as a response."""
    return web.Response(status=status, body=to_json(body).encode(), content_type="application/json")


def line(message: JsonObject) -> bytes:
    """One line of an NDJSON stream."""
    return to_json(message).encode() + b"\n"


def event(content: JsonObject, name: str | None = None) -> bytes:
    """One server-sent event."""
    first = f"event: {name}\n" if name else ""
    return f"{first}data: {to_json(content)}\n\n".encode()
