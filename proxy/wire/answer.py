"""Complete answers and heads as bytes: what the proxy says itself, and heads on their way through.

Every head is one buffer, written at once. The credential is the last line of a request head.
"""

from __future__ import annotations

from proxy.core.cors import Preflight
from proxy.core.errors import OUTCOMES, REASONS, error_body, proxy_status
from proxy.core.model import Allow, Deny, RequestHead
from proxy.wire.framing import BodyCursor, ChunkedCursor, CloseCursor, LengthCursor
from proxy.wire.head import CHUNKED, RequestParts, ResponseHead

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CLOSE = b"Connection: close\r\n"
_UPGRADE_REQUEST = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"


def answer(deny: Deny, *, close: bool, head_only: bool, retry_after: int | None = None, more: bytes = b"") -> bytes:
    """A whole answer made here: status, JSON in the operation's shape, Proxy-Status. No text of an exception.

    ``more`` are further field lines, complete.
    """
    status = OUTCOMES[deny.code].status
    body = error_body(deny.code, deny.message, deny.shape)
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, REASONS[status].encode()),
        b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body),
        b"Proxy-Status: " + proxy_status(deny.code) + b"\r\n",
        b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
    ]
    if deny.allow is not None:
        lines.append(b"Allow: " + deny.allow.encode() + b"\r\n")
    if status == 401:
        lines.append(b'WWW-Authenticate: Bearer realm="inworld-proxy"\r\n')
    if status == 426:
        # RFC 9110 section 15.5.22 wants Upgrade, which is a hop-by-hop field and so named in Connection.
        lines.append(b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        lines.append(b"Connection: Upgrade, close\r\n" if close else b"Connection: Upgrade\r\n")
    elif close:
        lines.append(_CLOSE)
    if retry_after is not None:
        lines.append(b"Retry-After: %d\r\n" % retry_after)
    lines.append(more)
    lines.append(b"\r\n")
    if not head_only:
        lines.append(body)
    return b"".join(lines)


def json_answer(body: bytes, *, close: bool, more: bytes) -> bytes:
    """A whole 200 made here, for one reader and no cache."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return head + b"Cache-Control: no-store\r\n" + more + (_CLOSE if close else b"") + b"\r\n" + body


def preflight_answer(preflight: Preflight, *, close: bool, more: bytes) -> bytes:
    """The answer to a browser's question."""
    head = b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n"
    return head + preflight.lines + more + (_CLOSE if close else b"") + b"\r\n"


def request_bytes(parts: RequestParts, allow: Allow, host: bytes, trace: bytes, authorization: bytes) -> bytes:
    """The head for the upstream, built from nothing. ``host``, ``trace`` and ``authorization`` are complete lines.

    The same parts are only ever sent with the same ``allow`` and ``host``: what was built of these is kept with them.
    """
    head, length = parts.head, parts.length
    if not parts.onward:
        line = f"{head.method} {allow.target} HTTP/1.1\r\n".encode("ascii")
        parts.onward = b"".join([line, host, *head.kept])
    lines = [parts.onward, trace]
    if length > 0:
        lines.append(b"Content-Length: %d\r\n" % length)
    elif length == CHUNKED:
        lines.append(_CHUNKED_LINE)
    elif b"content-length" in head.noted:
        lines.append(b"Content-Length: 0\r\n")
    if allow.protocols is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + allow.protocols + b"\r\n")
    lines.append(authorization)
    lines.append(b"\r\n")
    return b"".join(lines)


def upgrade_bytes(head: RequestHead, allow: Allow, host: bytes, trace: bytes, authorization: bytes) -> bytes:
    """The head of a WebSocket handshake for the upstream (RFC 6455 section 4.1)."""
    lines = [f"GET {allow.target} HTTP/1.1\r\n".encode("ascii"), host, _UPGRADE_REQUEST, *head.kept, trace]
    if allow.protocols is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + allow.protocols + b"\r\n")
    lines.append(authorization)
    lines.append(b"\r\n")
    return b"".join(lines)


def response_bytes(response: ResponseHead, *, framing: bytes, more: bytes, connection: bytes) -> bytes:
    """The upstream's head for the caller. The others are complete lines, or empty."""
    return b"".join(
        [b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason), *response.kept, framing, more, connection, b"\r\n"]
    )


def frame_for_caller(response: ResponseHead, length: int, *, modern: bool) -> tuple[bytes, BodyCursor | None]:
    """The framing line towards the caller, and the cursor that follows the body (None: there is none).

    ``modern``: the caller speaks HTTP/1.1, so a body of unknown length is chunked; for HTTP/1.0 the connection ends it.
    """
    declared = response.noted.get(b"content-length")
    if length >= 0:
        line = b"" if declared is None or response.status == 204 else b"Content-Length: " + declared + b"\r\n"
        return line, LengthCursor(length) if length else None
    line = _CHUNKED_LINE if modern else b""
    return line, ChunkedCursor(decode=not modern) if length == CHUNKED else CloseCursor(encode=modern)


def switch_bytes(response: ResponseHead, allow: Allow, more: bytes) -> bytes:
    """The 101 for the caller, with the subprotocol that its handshake needs. ``more`` are complete lines."""
    selected = response.noted.get(b"sec-websocket-protocol", allow.select_protocol)
    lines = [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", *response.kept, more]
    if selected is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + selected + b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
