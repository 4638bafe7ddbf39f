"""One end of a TCP connection that a test reads and writes byte by byte, and a scripted upstream made of such ends.

Nothing here knows the proxy. Every wait is bounded, so a promise that is broken fails and does not hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

PATIENCE = 14.0
"""Seconds that any single thing may take before the test fails; everything here is on the loopback interface.

Only a guard against waiting for ever: long, because the machine may be ten times slower than a quiet one, and shorter
than the product's own limits that would end a connection in the end (15 s in the pool, 30 s of draining, 60 s for a
body), so that nothing passes which only such a limit has ended."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

_Result = TypeVar("_Result")


async def bounded(wait: Awaitable[_Result], seconds: float | None = PATIENCE) -> _Result:
    """Waits for something that must happen soon."""
    return await asyncio.wait_for(wait, seconds)


class Head(NamedTuple):
    """The head of a message as it came: the first line, and the fields in order and as they were spelled."""

    raw: bytes
    line: str
    fields: list[tuple[str, str]]

    @classmethod
    def read(cls, raw: bytes) -> Head:
        line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [each.partition(":") for each in lines]
        return cls(raw, line, [(name, value.strip(" ")) for name, _, value in pairs])

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def names(self) -> list[str]:
        return [name.lower() for name, _ in self.fields]

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


class Message(NamedTuple):
    """A message: its head, its body as it was on the wire, and the body's content without framing."""

    head: Head
    body: bytes
    content: bytes


class Wire:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.patience: float | None = PATIENCE

    @property
    def socket(self) -> socket.socket:
        return self._writer.get_extra_info("socket")

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await bounded(self._writer.drain(), self.patience)

    def feed(self, data: bytes) -> None:
        """Sends as much of it as the other end takes, without waiting."""
        self._writer.write(data)

    async def push(self, piece: bytes, *, most: int) -> int:
        """Sends this again and again until the other side takes no more; how many bytes that were, ``most`` or so."""
        transport, sent = self._writer.transport, 0
        while sent < most:
            self._writer.write(piece)
            sent += len(piece)
            while transport.get_write_buffer_size():
                before = transport.get_write_buffer_size()
                try:
                    async with asyncio.timeout(0.3):
                        await self._writer.drain()
                    break
                except TimeoutError:
                    if transport.get_write_buffer_size() == before:
                        return sent
        return sent

    def end(self) -> None:
        """Says that nothing more will be sent (FIN); still reads."""
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Cuts the connection (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()

    def read_again(self) -> None:
        self._writer.transport.resume_reading()

    async def exactly(self, count: int) -> bytes:
        return await bounded(self._reader.readexactly(count), self.patience)

    async def some(self) -> bytes:
        """Whatever arrives next; empty at the end."""
        return await bounded(self._reader.read(2**20), self.patience)

    async def with_stops(self, count: int) -> bytes:
        """So many bytes, read with a stop before each piece."""
        got = b""
        while len(got) < count:
            self.stop_reading()
            await asyncio.sleep(0)
            self.read_again()
            got += await self.some()
        return got

    async def head(self) -> Head:
        return Head.read(await bounded(self._reader.readuntil(b"\r\n\r\n"), self.patience))

    async def message(self, *, answers: str | None = None) -> Message:
        """One whole message. ``answers`` is the method that a response answers, when that matters (HEAD)."""
        head = await self.head()
        is_response = head.line.startswith("HTTP/")
        if is_response and (answers == "HEAD" or head.status in (204, 304) or head.status < 200):
            return Message(head, b"", b"")
        if head.get("Transfer-Encoding") is not None:
            return Message(head, *await self.chunks())
        length = head.get("Content-Length")
        if length is not None:
            body = await self.exactly(int(length))
        else:
            body = await self.rest() if is_response else b""
        return Message(head, body, body)

    async def chunks(self) -> tuple[bytes, bytes]:
        """A chunked body to its end: as it came, and its content. No extensions and no trailers are expected."""
        raw, content = b"", b""
        while True:
            line = await bounded(self._reader.readuntil(b"\r\n"), self.patience)
            size = int(line, 16)
            piece = await self.exactly(size + 2)
            assert piece[size:] == b"\r\n"
            raw += line + piece
            content += piece[:size]
            if size == 0:
                return raw, content

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, which must be a clean one."""
        return await bounded(self._reader.read(-1), self.patience)

    async def until_broken(self) -> bytes:
        """Everything up to the end of the connection, clean or not."""
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := await self.some():
                pieces.append(piece)
        return b"".join(pieces)

    async def gone(self) -> None:
        """The other side must go away by itself; what it still sends is dropped."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while await self._reader.read(2**20):
                    pass

    async def cleanup(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await bounded(self._writer.wait_closed())


class ScriptedUpstream:
    """A listener whose connections the test serves itself, in order of their arrival."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.requests: list[Message] = []
        self._accepted: asyncio.Queue[Wire] = asyncio.Queue()
        self._answer: bytes | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1") -> ScriptedUpstream:
        self._server = await asyncio.start_server(self._on_connection, host, 0, ssl=context, limit=2**17)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def count(self) -> int:
        """How many connections were ever made."""
        return len(self.wires)

    async def accept(self) -> Wire:
        """The next connection."""
        return await bounded(self._accepted.get())

    def always(self, answer: bytes) -> None:
        """From now on every request on every new connection gets this answer at once."""
        self._answer = answer

    def stop_listening(self) -> None:
        assert self._server is not None
        self._server.close()

    async def cleanup(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for wire in self.wires:
            await wire.cleanup()
        if self._server is not None:
            self._server.close()

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.wires.append(wire)
        if self._answer is None:
            self._accepted.put_nowait(wire)
        else:
            task = asyncio.ensure_future(self._serve(wire, self._answer))
            self._serving.add(task)

    async def _serve(self, wire: Wire, answer: bytes) -> None:
        wire.patience = None  # the next request comes when it comes
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.requests.append(await wire.message())
                await wire.send(answer)


async def connect(host: str, port: int, context: ssl.SSLContext | None = None) -> Wire:
    name = None if context is None else "localhost"
    opening = asyncio.open_connection(host, port, limit=2**17, ssl=context, server_hostname=name)
    return Wire(*await bounded(opening))


def request(line: str, *fields: str, body: bytes = b"", host: str | None = "127.0.0.1") -> bytes:
    """The bytes of a request: ``request("POST /x", "Accept: */*", body=b"…")``. HTTP/1.1 unless the line says more."""
    if " HTTP/" not in line:
        line += " HTTP/1.1"
    lines = [line]
    if host is not None:
        lines.append(f"Host: {host}")
    lines.extend(fields)
    framed = any(field.lower().startswith(("content-length:", "transfer-encoding:")) for field in fields)
    if body and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def response(status: str, *fields: str, body: bytes = b"") -> bytes:
    """The bytes of a response with a body of known length."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """A chunked body of these pieces."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
