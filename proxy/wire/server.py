"""The data path's own life: what all connections share, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from math import inf

from proxy.core.errors import Code
from proxy.core.model import Credential, KeySetSource, Policy, Snapshot
from proxy.limits.gate import Gates
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.observe.record import Record
from proxy.observe.tracing import Tracing
from proxy.observe.trail import Trail
from proxy.wire.caller import CallerConnection
from proxy.wire.closing import STEP
from proxy.wire.deadlines import Deadlines
from proxy.wire.leaving import LeaveWatch
from proxy.wire.listener import Listener
from proxy.wire.pool import Pool, count_connections
from proxy.wire.secure_caller import new_caller
from proxy.wire.tunnel import GOING_AWAY, NOT_PERMITTED, Tunnel

IDLE_GRACE = 1.0
"""Seconds after the listener closed in which a connection that was idle may still ask; then it is closed. Closing it
at once would lose the request that a busy caller is sending just then."""

STEPS_OF_ACCEPTING = 4
"""Passes of the loop until a connection that the kernel has given to this process is known here, whichever loop it is.
Whoever looks sooner finds nobody, and ends while a request is arriving."""

RETIRED_FOR = 60.0
"""Seconds for which a credential that a reload took away still serves the requests that were let through with it."""

JUDGED_AT_ONCE = 100
"""WebSockets asked about after a reload until other connections get their turn: some 2 ms, with callers' JWTs 15."""

_Kept = Credential | KeySetSource

logger = logging.getLogger("proxy")


class DataServer:
    """Everything the connections of one process share. ``snapshot`` is read once per request and replaced whole."""

    def __init__(self, snapshot: Snapshot, metrics: Metrics, log: RequestLog, loop: asyncio.AbstractEventLoop) -> None:
        self.snapshot = snapshot
        self.metrics = metrics
        self.log = log
        self.tracing = Tracing(snapshot, metrics.spans)
        self.trail = Trail(snapshot.inspector)
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.leaving = LeaveWatch(loop)
        self.gates = Gates(loop.time, loop.call_at)
        self.connections: set[CallerConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self.draining = False
        self.adopted_at = -inf
        """When the configuration in force took the place of another, by the monotonic clock."""
        self.websockets = 0
        self.place = ("", 0)  # where callers connect, once it listens
        self.listener = Listener(
            lambda: new_caller(self), loop=loop, metrics=metrics, spawn=self.spawn, make_room=self._drop_idle
        )
        self.pools: Mapping[str, Pool] = {}
        self.pools = self.make_pools(snapshot)
        self._configure_pools()
        self._addresses: dict[str, int] = {}
        self._retired: list[_Kept] = []
        metrics.upstream_connections = lambda: count_connections(self.pools)
        metrics.callers_waiting = self.gates.waiting
        metrics.shared_limits = self.gates.shared_state
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    async def listen(self, inherited: Sequence[socket.socket] = ()) -> tuple[str, int]:
        """Opens the listener, or takes the inherited one, and returns where it is.

        Raises ``OSError`` when the address cannot be had.
        """
        for each in self.snapshot.kept:
            each.start(self.spawn)
        self.gates.share(self.snapshot.shared_limits, self.spawn)
        self.place = await self.listener.start(self.snapshot.listen, inherited, mode=self.snapshot.listen_mode)
        return self.place

    def make_pools(self, snapshot: Snapshot) -> Mapping[str, Pool]:
        """A pool for each upstream; for one that has not changed, the pool that there is, with its connections.

        Changes nothing. A thread may do it: reading the certificates to trust takes 40 ms for each upstream that is
        new. Raises ``OSError`` or ``ssl.SSLError`` when a CA file cannot be used.
        """
        pools = {}
        for name, upstream in snapshot.upstreams.items():
            pool = self.pools.get(name)
            if pool is None or pool.upstream != upstream:
                pool = Pool(upstream, self.loop, self.deadlines, self.metrics, self.listener, self.spawn)
            pools[name] = pool
        return pools

    def adopt(self, snapshot: Snapshot, pools: Mapping[str, Pool] | None = None) -> None:
        """Puts another configuration in force, whole and at once; requests that were let through go on as they were.

        WebSockets that would not be let through any more are closed. ``pools`` are those of ``make_pools()``; without
        them it is called here, and when it raises nothing has changed.
        """
        old, old_pools = self.snapshot, self.pools
        pools = self.make_pools(snapshot) if pools is None else pools
        self.snapshot, self.pools = snapshot, pools
        self._configure_pools()
        self.adopted_at = time.monotonic()
        for name, pool in old_pools.items():
            if pools.get(name) is not pool:
                pool.close()
        self.gates.share(snapshot.shared_limits, self.spawn)
        self.log.configure(snapshot.log)
        self.tracing.configure(snapshot)
        self.trail.configure(snapshot.inspector)
        # Who stands in line was let through before, and waits as long as that configuration said.
        queues = [caller.limits.queue for caller in old.callers.values() if caller.limits is not None]
        needed = RETIRED_FOR + max(queues, default=0.0)
        self._replace(old.kept, snapshot.kept, needed)
        self._judge_all([*self.tunnels], snapshot.policy)

    def judge(self, tunnel: Tunnel) -> None:
        """Closes a WebSocket that would not be let through any more."""
        deny = tunnel.judge(self.snapshot.policy)
        if deny is not None:
            tunnel.close(NOT_PERMITTED, deny.code)

    async def drain(self, seconds: float) -> None:
        """No new connections; waits for what is in flight, closes WebSockets cleanly, then cuts what is left.

        A request on a connection that is already there is still served, as its last: a caller cannot know that this
        process is going away before an answer says so.
        """
        self.draining = True
        self.listener.close()
        self.loop.call_later(min(IDLE_GRACE, seconds), self._close_idle)
        if not await self._until_idle(seconds):
            logger.warning("%d requests did not finish within the drain time of %g s", self.metrics.in_flight, seconds)
            for tunnel in [*self.tunnels]:
                tunnel.close(GOING_AWAY, Code.DRAINING)
            await self._until_idle(2 * STEP if self.tunnels else 0.0)
        await self.close()

    async def close(self) -> None:
        """Cuts everything, and returns when it is gone."""
        self.draining = True
        self.listener.close()
        self.leaving.close()
        self.gates.close()
        for tunnel in [*self.tunnels]:
            tunnel.abort()
        for connection in [*self.connections]:
            if connection.exchange is not None:
                connection.exchange.abort()
            connection.abort()
        for pool in self.pools.values():
            pool.close()
        for each in [*self.snapshot.kept, *self._retired]:
            each.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports that were cut tell their protocols
        self.log.close()
        await self.tracing.close()

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
        self.tracing.end(record)
        if self.trail.on:
            self.trail.add(record)
        if record.websocket:
            self.websockets -= 1
        if self.draining:
            self._look_whether_idle()

    def no_room_for(self, record: Record) -> Code | None:
        """Counts a request that is about to be served, and says why there is no room for it, if so."""
        limits = self.snapshot.limits
        if record.websocket:
            self.websockets += 1
            if self.draining:
                return Code.DRAINING  # it would be cut soon: another instance is the better one
            if limits.tunnels is not None and self.websockets > limits.tunnels:
                return Code.TUNNELS_LIMITED
        if limits.in_flight is not None and self.metrics.in_flight > limits.in_flight:
            return Code.IN_FLIGHT_LIMITED
        return None

    def on_connection(self, peer: str) -> Code | None:
        """A caller connected. Says why that is one too many, if so."""
        self.metrics.on_caller_connection(1)
        from_there = self._addresses[peer] = self._addresses.get(peer, 0) + 1
        limits = self.snapshot.limits
        if limits.connections is not None and self.metrics.connections > limits.connections:
            return Code.CONNECTIONS_LIMITED
        if limits.connections_per_address is not None and from_there > limits.connections_per_address:
            return Code.ADDRESS_LIMITED
        return None

    def on_connection_gone(self, peer: str) -> None:
        """A caller's connection is closed, or the tunnel that it became."""
        self.metrics.on_caller_connection(-1)
        left = self._addresses[peer] - 1
        if left:
            self._addresses[peer] = left
        else:
            del self._addresses[peer]
        self._look_whether_idle()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug, not a caller's error: those are Deny values, and the world's failures are DialError.
            logger.error("a request failed inside the proxy", exc_info=error)

    def _configure_pools(self) -> None:
        for pool in self.pools.values():
            pool.configure(self.snapshot.time, self.snapshot.size)

    def _judge_all(self, tunnels: list[Tunnel], policy: Policy) -> None:
        if policy is not self.snapshot.policy:
            return  # the configuration that came after it judges them all
        for _ in range(min(len(tunnels), JUDGED_AT_ONCE)):
            self.judge(tunnels.pop())
        if tunnels:
            self.loop.call_soon(self._judge_all, tunnels, policy)

    def _replace(self, old: Sequence[_Kept], new: Sequence[_Kept], needed: float) -> None:
        """Starts what is new. What is no longer there goes on for as long as a request may still need it."""
        for each in new:
            if _has(self._retired, each):
                self._retired = [other for other in self._retired if other is not each]
            elif not _has(old, each):
                each.start(self.spawn)
        retired = [each for each in old if not _has(new, each)]
        if retired:
            self._retired += retired
            self.loop.call_later(needed, self._end_retired, retired)

    def _end_retired(self, retired: Sequence[_Kept]) -> None:
        ended = [each for each in retired if _has(self._retired, each)]
        for each in ended:
            each.close()
        self._retired = [each for each in self._retired if not _has(ended, each)]
        self.trail.forget(self.adopted_at)
        for tunnel in self.tunnels:
            tunnel.forget(ended)

    async def _until_idle(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for _ in range(STEPS_OF_ACCEPTING):
                    await asyncio.sleep(0)
                self._idle.clear()
                self._look_whether_idle()
                await self._idle.wait()
        self._look_whether_idle()
        return self._idle.is_set()

    def _look_whether_idle(self) -> None:
        if self.draining and not self.metrics.in_flight and not self.connections:
            self._idle.set()

    def _drop_idle(self) -> int:
        """Closes the idle upstream connections and says how many: what can be spared when descriptors are short."""
        dropped = 0
        for pool in self.pools.values():
            dropped += pool.count()[1]
            pool.drop_idle()
        return dropped

    def _close_idle(self) -> None:
        for connection in [*self.connections]:
            connection.close_if_idle()


def _has(those: Sequence[_Kept], this: _Kept) -> bool:
    """Is it one of them, itself? Equality means nothing here."""
    return any(each is this for each in those)
