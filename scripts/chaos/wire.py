"""Streams of `make chaos`, the same for callers and upstreams: HTTP messages and WebSocket frames, and ways to leave.

What belongs here: bytes. What does not: what they mean (``callers.py``, ``upstream.py``). Written apart
from the proxy's own readers on purpose: a mistake that both made would not be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LONGEST_WORD = 64
"""Bytes kept of what came before, so that a secret that arrives in two pieces is found."""

TEXT, BINARY, CLOSE = 1, 2, 8
"""Opcodes (RFC 6455 section 5.2)."""


class BrokenError(Exception):
    """The other side ended, or wrote nonsense, in the middle of something."""


class WatchedReader(asyncio.StreamReader):
    """Reports what must not be in it, wherever it is."""

    def __init__(self, never: Sequence[bytes], found: Callable[[bytes], None]) -> None:
        super().__init__(limit=1 << 20)
        self._never = never
        self._found = found
        self._tail = b""

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # it is always bytes
        """Asyncio's callback."""
        seen = self._tail + data
        for word in self._never:
            if word in seen:
                self._found(word)
        self._tail = seen[-_LONGEST_WORD:]
        super().feed_data(data)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def connect(
    address: tuple[str, int], never: Sequence[bytes], found: Callable[[bytes], None], *, buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; ``buffer`` is a small receive buffer for those who read slowly."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await loop.sock_connect(sock, address)
        reader = WatchedReader(never, found)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    except BaseException:
        sock.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def leave(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    """Closes: with what is unsent delivered (FIN), or with everything lost (RST)."""
    if reset:
        sock = writer.get_extra_info("socket")
        if sock is not None and not writer.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            await writer.wait_closed()


# -- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """A head: its first line's three parts, and its fields with names in lower case."""

    first: tuple[str, str, str]
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """The first field of that name, or nothing."""
        return next((value for field, value in self.fields if field == name), "")

    def all(self, name: str) -> list[str]:
        """Every field of that name."""
        return [value for field, value in self.fields if field == name]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.first[1])


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head; None where the other side has ended. Raises ``BrokenError`` in the middle of one."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise BrokenError("a head that ends in the middle") from None
        return None
    except asyncio.LimitOverrunError:
        raise BrokenError("a head without an end") from None
    lines = raw.decode("latin-1").split("\r\n")
    first = [*lines[0].split(" ", 2), "", ""]
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:-2])]
    return Head((first[0], first[1], first[2]), fields)


async def read_body(reader: asyncio.StreamReader, head: Head | None, *, until_close: bool = False) -> bytes:
    """The body that this head announces. Raises ``BrokenError`` when it does not end as it should, or has no head."""
    if head is None:
        raise BrokenError("no head")
    try:
        if head.get("transfer-encoding").lower() == "chunked":
            return await _read_chunks(reader)
        length = head.get("content-length")
        if length:
            return await reader.readexactly(int(length))
        return await reader.read() if until_close else b""
    except asyncio.IncompleteReadError:
        raise BrokenError("a body that ends in the middle") from None
    except ValueError:
        raise BrokenError("a body that is no body") from None


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).strip(), 16)
        piece = await reader.readexactly(size + 2)
        if not piece.endswith(b"\r\n"):
            raise ValueError(piece[-2:])
        if not size:
            return b"".join(pieces)
        pieces.append(piece[:-2])


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing, the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- WebSocket frames -------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One frame, unmasked."""

    final: bool
    opcode: int
    payload: bytes

    @property
    def status(self) -> int:
        """Of a Close frame; 1005 where it says none (RFC 6455 section 7.1.5)."""
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else 1005


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = False) -> bytes:
    """A frame as bytes; callers mask what they send, upstreams do not."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    first = bytes((opcode | (0x80 if final else 0),))
    if not masked:
        return first + length + payload
    mask = os.urandom(4)
    return first + bytes((length[0] | 0x80,)) + length[1:] + mask + _masked(payload, mask)


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None where the other side ended between two. Raises ``BrokenError`` in the middle of one."""
    try:
        first, second = await reader.readexactly(2)
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise BrokenError("a frame that ends in the middle") from None
        return None
    try:
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4) if second & 0x80 else b""
        payload = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise BrokenError("a frame that ends in the middle") from None
    return Frame(bool(first & 0x80), first & 0x0F, _masked(payload, mask) if mask else payload)


def _masked(payload: bytes, mask: bytes) -> bytes:
    # As two large numbers: byte by byte this would be most of the load.
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
