"""The connection to the upstream and the pool of idle ones.

A connection belongs to one exchange or to the pool, never to both. It comes back only when the request went out whole,
the response came in whole, and neither side asked for a close; anything else closes it.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

from proxy.core.model import SizeLimits, TimeLimits, Upstream
from proxy.observe.metrics import Metrics
from proxy.wire.deadlines import NEVER, Deadlines
from proxy.wire.dial import Dialer

if TYPE_CHECKING:
    from proxy.wire.exchange import Exchange

WRITE_HIGH = 65536
"""Bytes that may wait for a slow upstream before the caller is paused; Envoy's edge advice is half of it."""


class UpstreamConnection(asyncio.Protocol):
    """One connection. ``exchange`` is who uses it now, None while it waits in the pool."""

    __slots__ = ("born", "deadline", "exchange", "looked_at", "pool", "readable", "transport", "used")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self.readable = select.poll()
        self.born = 0.0
        self.used = 0
        self.deadline = NEVER
        self.looked_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        if self.exchange is not None:
            self.exchange.on_response_data(data)
        else:
            self.discard()  # nobody asked: whatever this is, it must not become the next caller's answer

    def eof_received(self) -> None:
        """Asyncio's callback. The upstream has nothing more to say; the transport closes itself."""
        if self.exchange is not None:
            self.exchange.on_upstream_end(None)
        else:
            self.discard()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.deadline = NEVER
        if self.exchange is not None:
            self.exchange.on_upstream_end(exc)
        self.pool.forget(self)

    def pause_writing(self) -> None:
        """Asyncio's callback: the upstream reads slower than the caller sends."""
        if self.exchange is not None:
            self.exchange.on_upstream_full(full=True)

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        if self.exchange is not None:
            self.exchange.on_upstream_full(full=False)

    def on_deadline(self) -> None:
        """Waited too long: in the pool for work, in an exchange for the upstream's next bytes."""
        if self.exchange is not None:
            self.exchange.on_upstream_late()
        else:
            self.discard()

    def discard(self) -> None:
        """Closes at once; it is never used again."""
        self.deadline = NEVER
        self.pool.forget(self)
        self.transport.abort()

    def is_usable(self, now: float, max_age: float) -> bool:
        """May another request go out on it? A close that has arrived but was not yet seen counts."""
        if self.transport.is_closing() or now - self.born > max_age:
            return False
        # Anything readable on an idle connection (an end, an alert, a stray byte) makes it unusable. poll() says so in
        # 0.6 us; a peek costs 3, because "nothing there" is an exception.
        return not self.readable.poll(0)


class Pool:
    """Idle connections to one upstream, the most recently used first."""

    def __init__(
        self,
        upstream: Upstream,
        time: TimeLimits,
        *,
        size: SizeLimits,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        metrics: Metrics,
    ) -> None:
        self.upstream = upstream
        self.time = time
        self.most_body = size.body
        self.host_line = f"Host: {upstream.authority}\r\n".encode("ascii")
        self._loop = loop
        self._deadlines = deadlines
        self._metrics = metrics
        self._dialer = Dialer(upstream, loop)
        self._idle: list[UpstreamConnection] = []
        self._active: set[UpstreamConnection] = set()
        self._closed = False

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is still good, or None: then ``dial()``."""
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(now, self.time.upstream_max_age):
                connection.deadline = NEVER
                self._enter(connection)
                self._metrics.on_reuse(self.upstream.name)
                return connection
            connection.discard()
        return None

    async def dial(self) -> UpstreamConnection:
        """A new connection. Raises ``DialError``."""
        self._metrics.on_dial(self.upstream.name)
        connection, sock = await self._dialer.connect(UpstreamConnection(self), self.time.connect)
        connection.readable.register(sock, select.POLLIN)
        connection.born = self._loop.time()
        self._enter(connection)
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """The exchange is over and the connection clean."""
        connection.exchange = None
        self._leave(connection)
        now = self._loop.time()
        if self._closed or connection.transport.is_closing() or now - connection.born > self.time.upstream_max_age:
            connection.transport.abort()
            return
        connection.deadline = deadline = now + self.time.upstream_keep_alive
        if deadline < connection.looked_at:
            self._deadlines.watch(connection)
        self._idle.append(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is a tunnel now: its own life, outside this pool's accounts."""
        self._leave(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone or about to be."""
        self._leave(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def count(self) -> tuple[int, int]:
        """How many connections are active, and how many idle."""
        return len(self._active), len(self._idle)

    def close(self) -> None:
        """No reuse from now on: idle connections close, active ones when their exchange is over."""
        self._closed = True
        for connection in [*self._idle]:
            connection.discard()

    def _enter(self, connection: UpstreamConnection) -> None:
        connection.used += 1
        self._active.add(connection)

    def _leave(self, connection: UpstreamConnection) -> None:
        self._active.discard(connection)
