"""How the sandbox says no: one exception for a refusal, and its body in the shape of each of the vendor's stacks.

What belongs here: shapes. What does not: deciding to refuse.
"""

from __future__ import annotations

from enum import Enum

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.shapes import JsonObject

INWORLD_STATUS = "type.googleapis.com/ai.inworld.common.InworldStatus"


class Stack(Enum):
    """Which of the vendor's front ends answers an operation; each reports errors in its own format."""

    GATEWAY = "gateway"
    """grpc-gateway: a google.rpc.Status object."""
    GATEWAY_STREAM = "gateway-stream"
    """The same inside ``{"error": …}``, on the server-streaming methods."""
    OPENAI = "openai"
    """The OpenAI-compatible routes: plain text for authentication, an OpenAI error object otherwise."""
    ANTHROPIC = "anthropic"
    """As OPENAI, with Anthropic's error object."""


GRPC_BY_STATUS = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 413: 3, 429: 8, 499: 1, 500: 13, 501: 12, 503: 14, 504: 4}
"""google.rpc.Code for the HTTP statuses that grpc-gateway produces."""

# Only 401 on chat completions was ever observed publicly. Invented: the type words, taken from the two vendors' own
# APIs.
_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refusal(Exception):  # noqa: N818 - it is not an error of ours; it is an answer.
    """An answer that is not the one asked for. Whoever raises it says why; the stack gives it its shape."""

    def __init__(
        self, status: int, message: str, *, code: int | None = None, details: list[JsonObject] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = GRPC_BY_STATUS.get(status, 2) if code is None else code
        self.details: list[JsonObject] = details or []

    def status_object(self) -> JsonObject:
        """The google.rpc.Status object, which the sockets also send in a frame."""
        return {"code": self.code, "message": self.message, "details": self.details}


def unauthenticated(message: str = "authentication is required", *, kind: str = "SESSION_TOKEN_INVALID") -> Refusal:
    """401 as the gateway gives it, with the detail that tells clients whether reconnecting makes sense."""
    detail: JsonObject = {
        "@type": INWORLD_STATUS,
        "errorType": kind,
        "reconnectType": "NO_RETRY",
        "reconnectTime": None,
        "maxRetries": 0,
    }
    return Refusal(401, message, details=[detail])


def unknown_key(presented: str) -> Refusal:
    """403 for a key that does not exist; the real service echoes the first four characters of what it got."""
    return Refusal(403, f'API key does not exist or was deleted: "{presented[:4]}***"')


def invalid(message: str) -> Refusal:
    """400: the request is malformed or out of range."""
    return Refusal(400, message)


def not_found(message: str = "Not Found") -> Refusal:
    """404 with gRPC code 5."""
    return Refusal(404, message)


def refuse(refusal: Refusal, stack: Stack) -> web.Response:
    """The refusal as a response of the given stack."""
    match stack:
        case Stack.GATEWAY:
            return _json(refusal, refusal.status_object())
        case Stack.GATEWAY_STREAM:
            return _json(refusal, {"error": refusal.status_object()})
        case Stack.OPENAI | Stack.ANTHROPIC:
            return _compatible(refusal, stack)


def _json(refusal: Refusal, body: JsonObject) -> web.Response:
    response = json_answer(body, status=refusal.status)
    if refusal.status == 401:
        response.headers["www-authenticate"] = refusal.message
    return response


def _compatible(refusal: Refusal, stack: Stack) -> web.Response:
    # Observed: this stack answers a bad key and a missing one alike, in plain text and without a request id.
    if refusal.status == 401 or refusal.message.startswith("API key does not exist"):
        return web.Response(status=401, text="Unauthorized")
    kind = _OPENAI_TYPES.get(refusal.status, "server_error")
    error: JsonObject = {"message": refusal.message, "type": kind}
    if stack is Stack.ANTHROPIC:
        return json_answer({"type": "error", "error": error}, status=refusal.status)
    return json_answer({"error": error | {"param": None, "code": None}}, status=refusal.status)
