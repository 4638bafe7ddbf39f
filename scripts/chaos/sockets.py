"""WebSockets at the upstreams of `make chaos`: they echo, until the plan says otherwise."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random

from plan import Fault
from wire import CLOSE, Head, frame, leave, read_frame

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ANSWERS = {
    "refused-403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you",
    "refused-500": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    "closed": b"",
    "not-a-101": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}
MOST_MESSAGES = 12
"""After which an upstream that ends a tunnel does so at the latest."""


async def serve_socket(
    fault: Fault, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
) -> None:
    """One WebSocket from its handshake to its end."""
    answer = _ANSWERS.get(fault.name)
    if answer is not None:
        writer.write(answer)
        await writer.drain()
        return
    key = base64.b64encode(hashlib.sha1(head.get("sec-websocket-key").encode() + _GUID).digest())  # noqa: S324 - RFC 6455
    lines = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    protocol = b"Sec-WebSocket-Protocol: chaos\r\n" if "chaos" in head.get("sec-websocket-protocol") else b""
    writer.write(lines + protocol + b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n")
    last = None if fault.name == "well" else chance.randint(1, MOST_MESSAGES)
    count = 0
    while (got := await read_frame(reader)) is not None:
        writer.write(frame(got.opcode, got.payload, final=got.final))
        if got.opcode == CLOSE:
            break
        await writer.drain()
        count += got.final
        if count == last:
            if fault.name == "cut":
                await asyncio.sleep(0.01)
                await leave(writer, reset=True)
                return
            writer.write(frame(CLOSE, (1011).to_bytes(2, "big") + b"enough"))
            # Closing with unread frames would reset the connection, and the Close with it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while (got := await read_frame(reader)) is not None and got.opcode != CLOSE:
                        pass
            break
    await writer.drain()
