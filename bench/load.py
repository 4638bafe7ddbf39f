"""The load that wrk cannot make: requests at a fixed rate, streams, WebSockets, idle connections. It judges no figures.

Whoever asks for load gives a meter, which is read when the window begins and when it ends, with all connections open.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from bench import contract
from bench.asked import frames, handshake, request

PATIENCE = 20.0
"""Seconds for all connections of a measurement to open."""

_ENDS = (contract.ANSWER[-16:], contract.ANSWER[-16:] + b"\r\n0\r\n\r\n")


@dataclass
class Seen:
    """What a window saw. ``used`` is what the meter rose by; ``delays`` are in nanoseconds."""

    operations: int = 0
    errors: int = 0
    seconds: float = 0.0
    used: int = 0
    delays: list[int] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """A connection that counts. ``ready`` is done when its first operation has succeeded, or cannot."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if not self.closing:
            self._seen.errors += 1
        self._get_ready()

    def _fail(self) -> None:
        """Counted when the connection is lost."""
        self.transport.abort()

    def _get_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)


_AnyClient = TypeVar("_AnyClient", bound=_Client)


class _Connections(Generic[_AnyClient]):
    """Connections to a port; aborted at the end, after which nothing counts any more."""

    def __init__(self, port: int, make: Callable[[], _AnyClient], count: int) -> None:
        self._port, self._make, self._count = port, make, count
        self.clients: list[_AnyClient] = []

    async def __aenter__(self) -> list[_AnyClient]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                for _ in range(self._count):
                    _, client = await loop.create_connection(self._make, "127.0.0.1", self._port)
                    self.clients.append(client)
                for client in self.clients:
                    await client.ready
        except BaseException:
            await self.__aexit__()
            raise
        return self.clients

    async def __aexit__(self, *exc: object) -> None:
        for client in self.clients:
            client.closing = True
            client.transport.abort()
        await asyncio.sleep(0.1)  # the proxy closes its side outside of anybody's window


async def _window(seen: Seen, seconds: float, meter: Callable[[], int]) -> Seen:
    """What happens within it, and every error so far; what comes while connections are closed is not counted."""
    seen.operations = 0
    seen.delays.clear()
    used, began = meter(), time.monotonic()
    await asyncio.sleep(seconds)
    used, passed = meter() - used, time.monotonic() - began
    return Seen(seen.operations, seen.errors, passed, used, list(seen.delays))


# -- requests at a fixed rate -----------------------------------------------------------------------------------------


class _Asker(_Client):
    """Asks when told, the first time at once. ``free`` has those that wait to be told, ``due`` what waits for them."""

    def __init__(self, seen: Seen, asked: bytes, free: deque[_Asker], due: deque[int]) -> None:
        super().__init__(seen)
        self._asked, self._free, self._due, self._got, self._began = asked, free, due, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ask(time.monotonic_ns())

    def ask(self, due: int) -> None:
        self._began = due
        self.transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.startswith(b"HTTP/1.1 200"):
            self._fail()
        elif self._got.endswith(_ENDS):
            self._seen.delays.append(time.monotonic_ns() - self._began)
            self._seen.operations += 1
            self._got = b""
            self._get_ready()
            if self._due:
                self.ask(self._due.popleft())
            else:
                self._free.append(self)


async def paced(port: int, asked: bytes, connections: int, rate: int, seconds: float, meter: Callable[[], int]) -> Seen:
    """An open loop: ``rate`` requests each second, however fast answers come.

    A request that finds no free connection waits for one, and what it waits is part of its delay.
    """
    seen, free, waiting = Seen(), deque[_Asker](), deque[int]()
    async with _Connections(port, lambda: _Asker(seen, asked, free, waiting), connections):
        window = asyncio.create_task(_window(seen, seconds, meter))
        began, sent = time.monotonic(), 0
        while not window.done():
            due = int((time.monotonic() - began) * rate) + 1
            for _ in range(due - sent):
                if free:
                    free.popleft().ask(time.monotonic_ns())
                else:
                    waiting.append(time.monotonic_ns())
            sent = due
            await asyncio.sleep(max(0.0, began + due / rate - time.monotonic()))
        return await window


# -- streams ----------------------------------------------------------------------------------------------------------


class _Listener(_Client):
    """Reads a stream: how long each chunk was on its way, and whether none is missing."""

    _LENGTH = len(contract.CHUNK_HEAD % (0, 0))

    def __init__(self, seen: Seen, asked: bytes) -> None:
        super().__init__(seen)
        self._asked, self._rest, self._number = asked, b"", 0
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._rest:
            data = self._rest + data
        if not self._begun:
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            head, _, data = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                self._fail()
                return
            self._begun = True
        # Proxies cut and join chunks as they like: a brace is where a chunk's content begins, and nowhere else.
        at = data.find(b"{")
        while 0 <= at <= len(data) - self._LENGTH:
            if int(data[at + 29 : at + 35]) != self._number:
                self._fail()
                return
            self._number += 1
            self._seen.delays.append(now - int(data[at + 5 : at + 24]))
            self._seen.operations += 1
            at = data.find(b"{", at + self._LENGTH)
            self._get_ready()
        self._rest = data[at:] if at >= 0 else b""


async def streams(port: int, authorization: str, count: int, seconds: float, meter: Callable[[], int]) -> Seen:
    """So many streams at once; an operation is a chunk."""
    seen = Seen()
    chunks = int((seconds + PATIENCE) / contract.EVERY)  # they end even if a proxy forgets to leave
    asked = request("POST", f"{contract.STREAM}?count={chunks}", authorization, b'{"text":"Hello."}')
    async with _Connections(port, lambda: _Listener(seen, asked), count):
        return await _window(seen, seconds, meter)


# -- WebSockets -------------------------------------------------------------------------------------------------------


class _Echoer(_Client):
    """One frame in flight, again and again, or once only (``endless`` False)."""

    def __init__(self, seen: Seen, asked: bytes, frame: tuple[bytes, bytes], *, endless: bool) -> None:
        super().__init__(seen)
        self._asked, (self._frame, self._echo), self._endless = asked, frame, endless
        self._got, self._open = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        if self._got:
            data = self._got + data
        self._got = b""
        if not self._open:
            self._read_answer(data)
        elif data == self._echo:
            self._seen.operations += 1
            self._get_ready()
            if self._endless:
                self.transport.write(self._frame)
        elif len(data) < len(self._echo):
            self._got = data
        else:
            self._fail()

    def _read_answer(self, data: bytes) -> None:
        if b"\r\n\r\n" not in data:
            self._got = data
        elif data.startswith(b"HTTP/1.1 101"):
            self._open = True
            self.transport.write(self._frame)
        else:
            self._fail()


async def echoes(
    port: int, authorization: str, size: int, connections: int, seconds: float, meter: Callable[[], int]
) -> Seen:
    """So many WebSockets with one frame in flight each; an operation is an echo."""
    seen, asked, frame = Seen(), handshake(authorization), frames(size)
    async with _Connections(port, lambda: _Echoer(seen, asked, frame, endless=True), connections):
        return await _window(seen, seconds, meter)


# -- connections on which nothing happens -----------------------------------------------------------------------------


async def idle(port: int, authorization: str, count: int, memory: Callable[[], int], *, sockets: bool) -> Seen:
    """So many connections that did one thing and then nothing; ``used`` is the memory that they take together."""
    seen, free, due = Seen(), deque[_Asker](), deque[int]()

    def make() -> _Client:
        if sockets:
            return _Echoer(seen, handshake(authorization), frames(20), endless=False)
        return _Asker(seen, request("GET", contract.VOICES, authorization), free, due)

    async with _Connections(port, make, 10):
        pass  # what a process allocates at its first requests is no connection's
    await asyncio.sleep(0.5)
    before = memory()
    async with _Connections(port, make, count):
        await asyncio.sleep(0.5)
        return Seen(count, seen.errors, 0.0, memory() - before)
