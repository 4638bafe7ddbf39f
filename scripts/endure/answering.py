"""The upstream of `make endure`: does what each request orders, and checks what must be true of all of them.

It runs beside the callers, in one process and on one loop: the load is small, and the two sides share their accounts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator

from script import DO, ID, KEY, Accounts, Order, answer
from wire import CLOSE, BrokenError, Head, chunk, frame, leave, read_body, read_frame, read_head

LIMIT = 2**20
ENOUGH = 1011
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUSES = {"error": b"503 Service Unavailable"}


class Upstream:
    """Serves connections on one port."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """While it does; on which port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LIMIT, backlog=1024)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accounts.open += 1
        try:
            while (head := await read_head(reader)) is not None and await self._serve_one(head, reader, writer):
                pass
        except (BrokenError, OSError):
            pass  # the proxy cuts what a caller has left; what a caller misses, it tells
        finally:
            self._accounts.open -= 1
            await leave(writer)

    async def _serve_one(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request. False: the connection is over."""
        method, target, _ = head.first
        self._accounts.served += 1
        if head.all("authorization") != [f"Basic {KEY}"] or head.get("x-api-key"):
            self._accounts.tell(f"{method} {target} came with {len(head.all('authorization'))} wrong credentials")
        order = Order.read(head.get(DO))
        if head.get("upgrade").lower() == "websocket":
            await _serve_socket(order, head, reader, writer)
            return False
        body = await read_body(reader, head)
        words = answer(head.get(ID), method, target, body, order.size)
        if order.how in ("pieces", "cut"):
            return await _stream(order, words, writer)
        status = _STATUSES.get(order.how, b"200 OK")
        closing = b"Connection: close\r\n" if order.how == "last" else b""
        writer.write(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, closing, len(words), words))
        await writer.drain()
        return not closing


async def _stream(order: Order, words: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    step = len(words) // order.pieces + 1
    for start in range(0, len(words), step):
        writer.write(chunk(words[start : start + step]))
        await writer.drain()
        await asyncio.sleep(order.pause / 1000)
    if order.how == "cut":
        return False
    writer.write(chunk(b""))
    await writer.drain()
    return True


async def _serve_socket(order: Order, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echoes as many messages as are ordered, then ends as is ordered, or waits for the other side to."""
    key = base64.b64encode(hashlib.sha1(head.get("sec-websocket-key").encode() + _GUID).digest())  # noqa: S324 - RFC
    lines = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write(lines + b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n")
    count = 0
    while (got := await read_frame(reader)) is not None:
        writer.write(frame(got.opcode, got.payload, final=got.final))
        await writer.drain()
        if got.opcode == CLOSE:
            return
        count += 1
        if count == order.pieces and order.how == "upstream-cut":
            return
        if count == order.pieces and order.how == "upstream":
            writer.write(frame(CLOSE, ENOUGH.to_bytes(2, "big") + b"enough"))
            while (got := await read_frame(reader)) is not None and got.opcode != CLOSE:
                pass
            return
