"""What callers send, as bytes: requests, the first one of a WebSocket, frames. Nobody sends anything here."""

from __future__ import annotations

import base64

from bench import contract

_MASK = b"\x5a\xa5\x3c\xc3"


def request(method: str, target: str, authorization: str, body: bytes = b"", fields: str = "") -> bytes:
    """A request as a client library writes it."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAuthorization: {authorization}\r\n"
    if body:
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + fields + "\r\n").encode() + body


def handshake(authorization: str) -> bytes:
    """A WebSocket's first request."""
    key = base64.b64encode(b"sixteen bytes ok").decode()
    fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    return request("GET", contract.SOCKET, authorization, fields=fields)


def frames(size: int) -> tuple[bytes, bytes]:
    """A text frame of so many bytes as a client sends it, and its echo."""
    content = (b"0123456789" * (size // 10 + 1))[:size]
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    masked = bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(content))
    return b"\x81" + bytes([length[0] | 0x80]) + length[1:] + _MASK + masked, b"\x81" + length + content
