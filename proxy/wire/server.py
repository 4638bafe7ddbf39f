"""The data path's own life: what all connections share, and how it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine, Mapping

from proxy.core.model import Snapshot, Upstream
from proxy.limits.gate import Gates
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.observe.record import Record
from proxy.wire.caller import CallerConnection
from proxy.wire.deadlines import Deadlines
from proxy.wire.pool import Pool
from proxy.wire.tunnel import Tunnel

BACKLOG = 4096
"""Connections the kernel may hold before they are accepted; it takes the smaller of this and net.core.somaxconn."""

logger = logging.getLogger("proxy")


class DataServer:
    """Everything the connections of one process share. ``snapshot`` is read once per request and replaced whole."""

    def __init__(self, snapshot: Snapshot, metrics: Metrics, log: RequestLog, loop: asyncio.AbstractEventLoop) -> None:
        self.snapshot = snapshot
        self.metrics = metrics
        self.log = log
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.gates = Gates(loop.time, loop.call_at)
        self.connections: set[CallerConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self.draining = False
        self.pools: Mapping[str, Pool] = {
            name: self._make_pool(upstream, snapshot) for name, upstream in snapshot.upstreams.items()
        }
        metrics.upstream_connections = self._count_upstream_connections
        metrics.callers_waiting = self.gates.waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    async def listen(self, *, sock: socket.socket | None = None) -> tuple[str, int]:
        """Opens the listener and returns where it is. Raises ``OSError`` when the address cannot be had."""
        for credential in self.snapshot.credentials.values():
            credential.start(self.spawn)
        for source in self.snapshot.key_sets.values():
            source.start(self.spawn)
        address = self.snapshot.listen
        if sock is not None:
            self._server = await self.loop.create_server(lambda: CallerConnection(self), sock=sock, backlog=BACKLOG)
        else:
            self._server = await self.loop.create_server(
                lambda: CallerConnection(self), address.host, address.port, backlog=BACKLOG
            )
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def drain(self, seconds: float) -> None:
        """No new requests; waits for those in flight, then cuts what is left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in [*self.connections]:
            connection.begin_drain()
        if self.metrics.in_flight:
            try:
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            except TimeoutError:
                logger.warning(
                    "%d requests did not finish within the drain time of %g s", self.metrics.in_flight, seconds
                )
        await self.close()

    async def close(self) -> None:
        """Cuts everything, and returns when it is gone."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        self.gates.close()
        for tunnel in [*self.tunnels]:
            tunnel.abort()
        for connection in [*self.connections]:
            if connection.exchange is not None:
                connection.exchange.abort()
            connection.abort()
        for pool in self.pools.values():
            pool.close()
        for credential in self.snapshot.credentials.values():
            credential.close()
        for source in self.snapshot.key_sets.values():
            source.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports that were cut tell their protocols
        self.log.close()

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """The only way to start a task on the data path: it is kept, cancelled at the end, and its failure is seen."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def finish(self, record: Record) -> None:
        """A request is over: counted once, logged once."""
        record.ended = time.monotonic()
        self.metrics.on_end(record)
        self.log.write(record)
        if self.draining and not self.metrics.in_flight:
            self._idle.set()

    def _count_upstream_connections(self) -> dict[tuple[str, str], int]:
        counts = {}
        for name, pool in self.pools.items():
            counts[name, "active"], counts[name, "idle"] = pool.count()
        return counts

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug, not a caller's error: those are Deny values, and the world's failures are DialError.
            logger.error("a request failed inside the proxy", exc_info=error)

    def _make_pool(self, upstream: Upstream, snapshot: Snapshot) -> Pool:
        return Pool(
            upstream, snapshot.time, size=snapshot.size, loop=self.loop, deadlines=self.deadlines, metrics=self.metrics
        )
