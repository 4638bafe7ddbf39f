"""The pool of connections to one upstream: which are idle, which are in use, and how a new one is made."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Mapping

from proxy.core.errors import Code
from proxy.core.model import Credential, CredentialUnavailable, SizeLimits, Spawn, TimeLimits, Upstream
from proxy.observe.metrics import Metrics
from proxy.wire.deadlines import NEVER, Deadlines
from proxy.wire.dial import Dialer, DialError
from proxy.wire.listener import Listener
from proxy.wire.reading import read_at_once
from proxy.wire.upstream import UpstreamConnection


class Pool:
    """Idle connections to one upstream, the most recently used first."""

    def __init__(
        self,
        upstream: Upstream,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        metrics: Metrics,
        listener: Listener,
        spawn: Spawn,
    ) -> None:
        self.upstream = upstream
        self.time = TimeLimits()
        self._idle_for = self.time.idle
        self._clock = loop.time
        self.most_body: int | None = None
        self.host_line = f"Host: {upstream.authority}\r\n".encode("ascii")
        self._loop = loop
        self._deadlines = deadlines
        self._metrics = metrics
        self._listener = listener
        self._dialer = Dialer(upstream, loop, spawn)
        self._idle: list[UpstreamConnection] = []
        self._active: set[UpstreamConnection] = set()
        self._closed = False

    def configure(self, time: TimeLimits, size: SizeLimits) -> None:
        """The limits from now on, for what is in flight too."""
        self.time = time
        self._idle_for = time.idle
        self.most_body = size.body

    def idle_deadline(self) -> float:
        """When an answer that says nothing from now on has been silent for too long, by the loop's clock."""
        return self._clock() + self._idle_for

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is still good, or None: then ``dial()``."""
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(now, self.time.upstream_max_age):
                connection.deadline = NEVER
                connection.used += 1
                self._active.add(connection)
                self._metrics.on_reuse(self.upstream.name)
                return connection
            connection.discard()
        return None

    async def dial(self) -> UpstreamConnection:
        """A new connection. Raises ``DialError``."""
        self._metrics.on_dial(self.upstream.name)
        try:
            connection, sock = await self._dialer.connect(UpstreamConnection(self), self.time)
        except DialError as exc:
            if exc.code is not Code.DESCRIPTORS_EXHAUSTED or not self._listener.on_exhausted():
                raise
            await asyncio.sleep(0)  # what was dropped to make room is closed by then
            connection, sock = await self._dialer.connect(UpstreamConnection(self), self.time)
        self._listener.look(sock.fileno())
        connection.readable.register(sock, select.POLLIN)
        connection.born = self._loop.time()
        connection.used = 1
        self._active.add(connection)
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """The exchange is over and the connection clean."""
        connection.exchange = None
        connection.interim = 0
        self._active.discard(connection)
        now = self._loop.time()
        if self._closed or connection.transport.is_closing() or now - connection.born > self.time.upstream_max_age:
            connection.transport.abort()
            return
        if connection.in_pieces:
            read_at_once(connection)
        connection.deadline = deadline = now + self.time.upstream_keep_alive
        if deadline < connection.looked_at:
            self._deadlines.watch(connection)
        self._idle.append(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is a tunnel now: its own life, outside this pool's accounts."""
        self._deadlines.forget(connection)
        self._active.discard(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone or about to be."""
        self._deadlines.forget(connection)
        self._active.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def drop_idle(self) -> None:
        """One idle connection turned out to be closed: the others are as old, so they go too."""
        for connection in [*self._idle]:
            connection.discard()

    def count(self) -> tuple[int, int]:
        """How many connections are active, and how many idle."""
        return len(self._active), len(self._idle)

    def close(self) -> None:
        """No reuse from now on: idle connections close, active ones when their exchange is over."""
        self._closed = True
        self.drop_idle()


def count_connections(pools: Mapping[str, Pool]) -> dict[tuple[str, str], int]:
    """The connections of these pools, by upstream and state (``active``, ``idle``)."""
    counts = {}
    for name, pool in pools.items():
        counts[name, "active"], counts[name, "idle"] = pool.count()
    return counts


async def prepare(credential: Credential, pool: Pool) -> tuple[bytes, UpstreamConnection]:
    """What a request may have to wait for: something fresh to show the upstream, then a connection to it.

    Raises ``CredentialUnavailable`` or ``DialError``.
    """
    authorization = credential.authorization()
    if authorization is None:
        authorization = await _refreshed(credential)
    connection = pool.take()
    if connection is None:
        connection = await pool.dial()
        # A dial may take longer than a token has left: what is sent is what is good now.
        try:
            authorization = credential.authorization() or await _refreshed(credential)
        except BaseException:
            pool.give_back(connection)
            raise
    return authorization, connection


async def _refreshed(credential: Credential) -> bytes:
    await credential.refresh()
    authorization = credential.authorization()
    if authorization is None:
        raise CredentialUnavailable(credential.name)
    return authorization
