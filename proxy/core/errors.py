"""Every refusal and failure the proxy can answer with: one table, and the bodies made from it.

What belongs here: the codes, their status, their RFC 9209 error type, and the JSON shapes. What does not: why a
request was refused (``policy.py`` writes that sentence) and any text of an exception, which never reaches a caller.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NamedTuple

from proxy.core.enums import at_hand
from proxy.core.model import ErrorShape

PROXY_NAME = "inworld-proxy"
"""How the proxy calls itself in ``Proxy-Status`` (RFC 9209 section 2)."""


@at_hand
class Code(Enum):
    """The finite set of reasons. The same word is in the body, in Proxy-Status, in the log line and in the metric."""

    BAD_REQUEST = "bad_request"
    AMBIGUOUS_TARGET = "ambiguous_target"
    UPGRADE_NOT_ALLOWED = "upgrade_not_allowed"
    CALLER_REQUIRED = "caller_required"
    UNKNOWN_CALLER = "unknown_caller"
    OPERATION_NOT_GRANTED = "operation_not_granted"
    READ_NOT_PERMITTED = "read_not_permitted"
    WRITE_NOT_PERMITTED = "write_not_permitted"
    KEY_IS_REALTIME_ONLY = "key_is_realtime_only"
    TOKEN_MINT_REFUSED = "token_mint_refused"  # noqa: S105 - a code, not a password
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    CROSS_SITE_REQUEST = "cross_site_request"
    NO_OPERATION = "no_operation"
    NO_ROUTE = "no_route"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TIMEOUT = "body_timeout"
    CALLER_STALLED = "caller_stalled"
    BODY_TOO_LARGE = "body_too_large"
    TARGET_TOO_LONG = "target_too_long"
    HOST_NOT_ALLOWED = "host_not_allowed"
    UPGRADE_REQUIRED = "upgrade_required"
    RATE_LIMITED = "rate_limited"
    CONCURRENCY_LIMITED = "concurrency_limited"
    ADDRESS_LIMITED = "address_limited"
    CONNECTIONS_LIMITED = "connections_limited"
    IN_FLIGHT_LIMITED = "in_flight_limited"
    TUNNELS_LIMITED = "tunnels_limited"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    DESCRIPTORS_EXHAUSTED = "descriptors_exhausted"
    HEAD_TOO_LARGE = "head_too_large"
    INTERNAL = "internal"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    DRAINING = "draining"
    CREDENTIAL_UNAVAILABLE = "credential_unavailable"
    UPSTREAM_DNS_FAILED = "upstream_dns_failed"
    UPSTREAM_CONNECT_FAILED = "upstream_connect_failed"
    UPSTREAM_CONNECT_TIMEOUT = "upstream_connect_timeout"
    UPSTREAM_DNS_TIMEOUT = "upstream_dns_timeout"
    UPSTREAM_PROXY_TIMEOUT = "upstream_proxy_timeout"
    UPSTREAM_TLS_TIMEOUT = "upstream_tls_timeout"
    UPSTREAM_TLS_FAILED = "upstream_tls_failed"
    UPSTREAM_PROXY_FAILED = "upstream_proxy_failed"
    UPSTREAM_CLOSED = "upstream_closed"
    UPSTREAM_INVALID_RESPONSE = "upstream_invalid_response"
    UPSTREAM_FIRST_BYTE_TIMEOUT = "upstream_first_byte_timeout"
    UPSTREAM_IDLE_TIMEOUT = "upstream_idle_timeout"
    UPSTREAM_WRITE_TIMEOUT = "upstream_write_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    TUNNEL_IDLE_TIMEOUT = "tunnel_idle_timeout"
    TUNNEL_STALLED = "tunnel_stalled"


class Outcome(NamedTuple):
    """What a code means on the wire: the status and the RFC 9209 section 2.3 error type."""

    status: int
    proxy_error: str


OUTCOMES: dict[Code, Outcome] = {
    Code.BAD_REQUEST: Outcome(400, "http_request_error"),
    Code.AMBIGUOUS_TARGET: Outcome(400, "http_request_error"),
    Code.UPGRADE_NOT_ALLOWED: Outcome(400, "http_request_denied"),
    Code.CALLER_REQUIRED: Outcome(401, "http_request_denied"),
    Code.UNKNOWN_CALLER: Outcome(401, "http_request_denied"),
    Code.OPERATION_NOT_GRANTED: Outcome(403, "http_request_denied"),
    Code.READ_NOT_PERMITTED: Outcome(403, "http_request_denied"),
    Code.WRITE_NOT_PERMITTED: Outcome(403, "http_request_denied"),
    Code.KEY_IS_REALTIME_ONLY: Outcome(403, "http_request_denied"),
    Code.TOKEN_MINT_REFUSED: Outcome(403, "http_request_denied"),
    Code.ORIGIN_NOT_ALLOWED: Outcome(403, "http_request_denied"),
    Code.CROSS_SITE_REQUEST: Outcome(403, "http_request_denied"),
    Code.NO_OPERATION: Outcome(404, "http_request_denied"),
    Code.NO_ROUTE: Outcome(404, "http_request_denied"),
    Code.METHOD_NOT_ALLOWED: Outcome(405, "http_request_denied"),
    Code.HEAD_TIMEOUT: Outcome(408, "http_request_error"),
    Code.BODY_TIMEOUT: Outcome(408, "http_request_error"),
    Code.CALLER_STALLED: Outcome(408, "http_request_error"),
    Code.BODY_TOO_LARGE: Outcome(413, "http_request_error"),
    Code.TARGET_TOO_LONG: Outcome(414, "http_request_error"),
    Code.HOST_NOT_ALLOWED: Outcome(421, "http_request_denied"),
    Code.UPGRADE_REQUIRED: Outcome(426, "http_request_error"),
    Code.RATE_LIMITED: Outcome(429, "http_request_denied"),
    Code.CONCURRENCY_LIMITED: Outcome(429, "http_request_denied"),
    Code.ADDRESS_LIMITED: Outcome(429, "connection_limit_reached"),
    Code.CONNECTIONS_LIMITED: Outcome(503, "connection_limit_reached"),
    Code.IN_FLIGHT_LIMITED: Outcome(503, "connection_limit_reached"),
    Code.TUNNELS_LIMITED: Outcome(503, "connection_limit_reached"),
    Code.LIMITS_UNAVAILABLE: Outcome(503, "proxy_internal_error"),
    Code.DESCRIPTORS_EXHAUSTED: Outcome(503, "proxy_internal_error"),
    Code.HEAD_TOO_LARGE: Outcome(431, "http_request_error"),
    Code.INTERNAL: Outcome(500, "proxy_internal_error"),
    Code.VERSION_NOT_SUPPORTED: Outcome(505, "http_request_error"),
    Code.DRAINING: Outcome(503, "http_request_denied"),
    Code.CREDENTIAL_UNAVAILABLE: Outcome(503, "proxy_internal_response"),
    Code.UPSTREAM_DNS_FAILED: Outcome(502, "dns_error"),
    Code.UPSTREAM_CONNECT_FAILED: Outcome(502, "connection_refused"),
    Code.UPSTREAM_CONNECT_TIMEOUT: Outcome(504, "connection_timeout"),
    Code.UPSTREAM_DNS_TIMEOUT: Outcome(504, "dns_timeout"),
    Code.UPSTREAM_PROXY_TIMEOUT: Outcome(504, "connection_timeout"),
    Code.UPSTREAM_TLS_TIMEOUT: Outcome(504, "connection_timeout"),
    Code.UPSTREAM_TLS_FAILED: Outcome(502, "tls_protocol_error"),
    Code.UPSTREAM_PROXY_FAILED: Outcome(502, "destination_unavailable"),
    Code.UPSTREAM_CLOSED: Outcome(502, "connection_terminated"),
    Code.UPSTREAM_INVALID_RESPONSE: Outcome(502, "http_protocol_error"),
    Code.UPSTREAM_FIRST_BYTE_TIMEOUT: Outcome(504, "http_response_timeout"),
    Code.UPSTREAM_IDLE_TIMEOUT: Outcome(504, "connection_read_timeout"),
    Code.UPSTREAM_WRITE_TIMEOUT: Outcome(504, "connection_write_timeout"),
    Code.TOTAL_TIMEOUT: Outcome(504, "http_response_timeout"),
    Code.TUNNEL_IDLE_TIMEOUT: Outcome(504, "connection_read_timeout"),
    Code.TUNNEL_STALLED: Outcome(504, "connection_write_timeout"),
}

REASONS: dict[int, str] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

MESSAGES: dict[Code, str] = {
    Code.HEAD_TIMEOUT: "The request head did not arrive in time (`time.head`). Send it at once.",
    Code.BODY_TIMEOUT: "The request body stopped arriving (`time.body_idle`). Send it without long pauses.",
    Code.CALLER_STALLED: "The caller stopped reading the response, so its connection was cut.",
    Code.BODY_TOO_LARGE: "The request body is larger than this proxy accepts (`size.body` in its configuration).",
    Code.TARGET_TOO_LONG: "The request line is longer than this proxy accepts (`size.line` in its configuration).",
    Code.ADDRESS_LIMITED: "Too many connections from this address (`limits.connections_per_address`).",
    Code.CONNECTIONS_LIMITED: "This proxy has as many connections as it may have (`limits.connections`).",
    Code.IN_FLIGHT_LIMITED: "This proxy serves as many requests as it may at once (`limits.in_flight`).",
    Code.TUNNELS_LIMITED: "This proxy has as many WebSockets open as it may have (`limits.tunnels`).",
    Code.LIMITS_UNAVAILABLE: "The rate of this caller cannot be counted now (`limits.shared`). Try again shortly.",
    Code.DESCRIPTORS_EXHAUSTED: "This proxy has no file descriptor left to reach the upstream with. Try again shortly.",
    Code.HEAD_TOO_LARGE: "The request head is larger than this proxy accepts (`size.head` in its configuration).",
    Code.INTERNAL: "The proxy failed on this request; its log has the details.",
    Code.VERSION_NOT_SUPPORTED: "This proxy speaks HTTP/1.1 and HTTP/1.0.",
    Code.DRAINING: "The proxy is shutting down. Send the request again; another instance will answer.",
    Code.CREDENTIAL_UNAVAILABLE: "The proxy has no valid credential for the upstream right now. Try again shortly.",
    Code.UPSTREAM_DNS_FAILED: "The upstream's name could not be resolved.",
    Code.UPSTREAM_CONNECT_FAILED: "No connection to the upstream could be made.",
    Code.UPSTREAM_CONNECT_TIMEOUT: "No connection to the upstream could be made in time (`time.connect`).",
    Code.UPSTREAM_DNS_TIMEOUT: "The upstream's name was not resolved in time (`time.connect`).",
    Code.UPSTREAM_PROXY_TIMEOUT: "The configured CONNECT proxy did not answer in time (`time.connect`).",
    Code.UPSTREAM_TLS_TIMEOUT: "The TLS handshake with the upstream took too long (`time.tls`).",
    Code.UPSTREAM_TLS_FAILED: "The upstream's TLS certificate or handshake was not acceptable; nothing was sent to it.",
    Code.UPSTREAM_PROXY_FAILED: "The configured CONNECT proxy did not open a tunnel to the upstream.",
    Code.UPSTREAM_CLOSED: "The upstream closed the connection before it answered.",
    Code.UPSTREAM_INVALID_RESPONSE: "The upstream's answer was not valid HTTP/1.1.",
    Code.UPSTREAM_FIRST_BYTE_TIMEOUT: "The upstream did not begin to answer in time (`time.first_byte`).",
    Code.UPSTREAM_IDLE_TIMEOUT: "The upstream fell silent in the middle of its answer (`time.idle`).",
    Code.UPSTREAM_WRITE_TIMEOUT: "The upstream stopped taking the request body (`time.idle`).",
    Code.TOTAL_TIMEOUT: "The request took longer in total than this proxy allows (`time.total` in its configuration).",
    Code.TUNNEL_IDLE_TIMEOUT: "Nothing was said in the WebSocket for too long (`time.tunnel_idle`).",
    Code.TUNNEL_STALLED: "One side of the WebSocket stopped reading, or left without closing it.",
}
"""The sentence for every code that has only one. The others are written where the decision is made."""

GRPC_CODES = {
    400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 3, 414: 3, 421: 9, 426: 9, 429: 8, 431: 3, 503: 14, 504: 4,
}  # fmt: skip
"""google.rpc.Code by HTTP status; anything else is 14 (UNAVAILABLE) at 502, 13 (INTERNAL) otherwise."""

OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def error_body(code: Code, message: str, shape: ErrorShape) -> bytes:
    """The JSON body of an answer made here, in the shape that the operation's own clients parse."""
    status = OUTCOMES[code].status
    return json.dumps(_shaped(code, status, message, shape), ensure_ascii=False).encode() + b"\n"


def proxy_status(code: Code) -> bytes:
    """The value of ``Proxy-Status`` (RFC 9209): who answered, the registered error type, and our own code."""
    return f'{PROXY_NAME}; error={OUTCOMES[code].proxy_error}; details="{code.value}"'.encode()


def _shaped(code: Code, status: int, message: str, shape: ErrorShape) -> dict[str, Any]:  # JSON has no closer type
    match shape:
        case ErrorShape.GRPC:
            return _grpc(code, status, message)
        case ErrorShape.GRPC_STREAM:
            return {"error": _grpc(code, status, message)}
        case ErrorShape.OPENAI:
            kind = OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
            return {"error": {"message": message, "type": kind, "param": None, "code": code.value}}
        case ErrorShape.ANTHROPIC:
            kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": message, "code": code.value}}


def _grpc(code: Code, status: int, message: str) -> dict[str, Any]:
    number = GRPC_CODES.get(status, 14 if status == 502 else 13)
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code.value, "domain": PROXY_NAME}
    return {"code": number, "message": message, "details": [detail]}
