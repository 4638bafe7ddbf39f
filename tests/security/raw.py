"""Raw bytes into a proxy and out of it again: a caller and an upstream that note every byte, on a clock of their own.

Everything is on one loop and one attempt runs at a time, so what arrived where belongs to that attempt. A connection on
which nobody will say more is ended by the proxy's own limits, and for that the clock is put forward: nothing waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from proxy.core.model import TimeLimits
from proxy.observe.record import Record
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.security.strict import Malformed, Request, Unfinished, read_request
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import bounded

SECOND = b"GET /things?smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
"""What follows every attempt on its connection, or hides in it."""

EVERY_LIMIT = 11.0
"""Seconds; longer than any limit that the proxy has here, which are long enough for a machine that is busy."""


FEW, PASSES = 5, 25
"""Passes of the loop after which what was sent has arrived, and after which nothing more can come by itself."""


class Caller(asyncio.Protocol):
    """Sends, and collects until the end of the connection."""

    def __init__(self) -> None:
        self.got = b""
        self.reset = False
        self.over = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset = exc is not None
        if not self.over.done():
            self.over.set_result(None)


class Upstream:
    """A listener that reads every byte strictly, and answers what it could read whole."""

    def __init__(self, respond: Callable[[Connection, Request], None]) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.raw: list[bytes] = []
        self.faults: list[str] = []
        self.connections: list[Connection] = []
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        for connection in self.connections:
            connection.transport.abort()
        await asyncio.sleep(0)

    def begun(self) -> list[bytes]:
        """What arrived and is no whole request, each connection's."""
        return [each.held for each in self.connections if each.held]


class Connection(asyncio.Protocol):
    """One of its connections."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.held = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.upstream.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self.held += data
        while self.held:
            try:
                request = read_request(self.held, trailers=False)
            except Unfinished:
                return
            except Malformed as exc:
                self.upstream.faults.append(f"{exc}: {self.held[:200]!r}")
                self.held = b""
                self.transport.abort()
                return
            self.upstream.raw.append(self.held[: request.size])
            self.held = self.held[request.size :]
            self.upstream.requests.append(request)
            self.upstream.respond(self, request)


@dataclass
class Outcome:
    """What one attempt came to. ``begun``: bytes at the upstream that are no whole request."""

    got: bytes
    reset: bool
    requests: list[Request]
    raw: list[bytes]
    begun: list[bytes]
    records: list[Record]
    faults: list[str] = field(default_factory=list)


class Bench:
    """A proxy with one upstream and no callers' tokens, through which attempts go one after the other."""

    def __init__(self, proxy: Proxy, upstream: Upstream) -> None:
        self.proxy = proxy
        self.upstream = upstream

    @classmethod
    async def start(cls, proxies: Proxies, respond: Callable[[Connection, Request], None]) -> Bench:
        upstream = Upstream(respond)
        await upstream.start()
        time = TimeLimits(head=10.0, keep_alive=10.0, body_idle=10.0, first_byte=10.0, idle=10.0)
        return cls(await proxies.start(replace(make_snapshot(upstream_at(upstream.port)), time=time)), upstream)

    async def run(self, *pieces: bytes, waits: bool = False) -> Outcome:
        """Sends these pieces, one read of the proxy's each, and returns when the connection is over.

        ``waits``: the bytes end in the middle of something, so the proxy will wait, and its limits have to end it.
        """
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClockLoop)
        upstream, records = self.upstream, self.proxy.records
        requests, logged, faults = len(upstream.requests), len(records), len(upstream.faults)
        upstream.connections = [each for each in upstream.connections if not each.transport.is_closing()]
        for connection in upstream.connections:
            connection.held = b""
        _, caller = await loop.create_connection(Caller, self.proxy.host, self.proxy.port)
        for piece in pieces:
            caller.transport.write(piece)
            if len(pieces) > 1:
                await self._settle(caller)
        for _ in range(12 if waits else 0):
            await self._settle(caller)
            if caller.over.done():
                break
            await loop.advance(EVERY_LIMIT)
        unended = []
        try:
            await bounded(asyncio.shield(caller.over))
        except TimeoutError:
            unended = ["the connection was not ended"]
            caller.transport.abort()
        for _ in range(FEW):
            await asyncio.sleep(0)
        return Outcome(
            caller.got,
            caller.reset,
            upstream.requests[requests:],
            upstream.raw[requests:],
            upstream.begun(),
            records[logged:],
            upstream.faults[faults:] + unended,
        )

    async def _settle(self, caller: Caller) -> None:
        """Lets everything happen that happens by itself: over the loopback interface each step is a pass or two."""
        passes = 0
        while passes < PASSES and not caller.over.done():
            await asyncio.sleep(0)
            # A dial asks a thread for the address, and that takes as long as it takes.
            passes = 0 if self.proxy.server._tasks else passes + 1
