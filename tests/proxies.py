"""A data server on a free port of this loop, watched from start to end: what it leaks fails the test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.core.model import Snapshot
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.observe.record import Ending, Record
from proxy.wire.server import DataServer
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK, PATIENCE, Head, Message, ScriptedUpstream, Wire, bounded, connect


class ClockLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward, so that a test of a time limit takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0
        self._stands_at: float | None = None

    def time(self) -> float:
        return (super().time() if self._stands_at is None else self._stands_at) + self._ahead

    def stand_still(self) -> None:
        """From now on only the test moves it: where a hundredth of a second counts, no machine is fast enough.

        Nothing here bounds a wait then; what hangs ends with pytest's own limit.
        """
        self._stands_at = super().time()

    async def advance(self, seconds: float) -> None:
        """Puts the clock forward and lets everything happen that is due by then."""
        self._ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)


class WatchedMetrics(Metrics):
    """The metrics, and a way to wait until they say something."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        super().__init__(snapshot)
        self._changed = asyncio.Event()

    async def until(self, true: Callable[[Metrics], bool]) -> None:
        async def wait() -> None:
            while not true(self):
                self._changed.clear()
                await self._changed.wait()

        await bounded(wait())

    def on_end(self, record: Record) -> None:
        super().on_end(record)
        self._changed.set()

    def on_tunnel(self, operation: str, change: int) -> None:
        super().on_tunnel(operation, change)
        self._changed.set()

    def on_caller_connection(self, change: int) -> None:
        super().on_caller_connection(change)
        self._changed.set()


class RecordedLog(RequestLog):
    """The log, and the records that it was given."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)
        super().write(record)


class Passed(NamedTuple):
    """What the upstream saw of a request, and what the caller got."""

    seen: Message
    got: Message


class Proxy:
    """A running proxy, its scripted upstream, and the callers that a test makes."""

    def __init__(self, snapshot: Snapshot, upstream: ScriptedUpstream) -> None:
        loop = asyncio.get_running_loop()
        self.upstream = upstream
        self.metrics = WatchedMetrics(lambda: self.server.snapshot)
        self.log = RecordedLog(snapshot.log, loop, self._on_dropped)
        self.server = DataServer(snapshot, self.metrics, self.log, loop)
        self.host, self.port = "", 0
        self.trust: ssl.SSLContext | None = None
        """With which callers connect, where they have to speak TLS."""
        self.faults: list[object] = []
        self._wires: list[Wire] = []
        self._logged = _Faults(self.faults)

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def records(self) -> list[Record]:
        return self.log.records

    async def start(self) -> Proxy:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(context))
        logging.getLogger("proxy").addHandler(self._logged)
        self.host, self.port = await self.server.listen()
        return self

    async def caller(self) -> Wire:
        wire = await connect(self.host, self.port, self.trust)
        self._wires.append(wire)
        return wire

    async def ask(self, raw: bytes, *, answers: str | None = None) -> Message:
        """Sends a request that is answered without the test's help, on a connection of its own."""
        caller = await self.caller()
        await caller.send(raw)
        return await caller.message(answers=answers)

    async def pass_on(self, raw: bytes, answer: bytes = OK) -> Passed:
        """One request through the proxy, on new connections on both sides."""
        caller = await self.caller()
        await caller.send(raw)
        wire = await self.upstream.accept()
        seen = await wire.message()
        await wire.send(answer)
        return Passed(seen, await caller.message(answers=raw.partition(b" ")[0].decode()))

    async def pass_head(self, raw: bytes) -> Head:
        """The head that arrives upstream for this request."""
        return (await self.pass_on(raw)).seen.head

    async def finish(self) -> None:
        """Closes every caller, waits until the proxy has nothing left to do, and checks that this is so."""
        for wire in self._wires:
            await wire.cleanup()
        metrics, server = self.metrics, self.server
        try:
            # A caller who closes a tunnel may, for all that TCP says, still be listening: that ends with the upstream.
            await metrics.until(lambda m: m.in_flight == sum(m.tunnels.values()))
            await self.upstream.cleanup()
            await metrics.until(lambda m: m.in_flight == m.connections == sum(m.tunnels.values()) == 0)
        except TimeoutError:
            self.faults.append(
                f"left over: {metrics.in_flight} requests, {metrics.connections} connections, {metrics.tunnels}, "
                f"{metrics.upstream_connections()}"
            )
        if active := self.upstream_connections("active"):
            self.faults.append(f"{active} upstream connections are still in use")
        tasks = [*server._tasks]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=PATIENCE)
            self.faults.extend(pending)
        if server.connections or server.tunnels:
            self.faults.append((server.connections, server.tunnels))
        if metrics.accepted != sum(self.ended(ending) for ending in Ending):
            self.faults.append(f"{metrics.accepted} accepted, ended: {metrics.endings}")
        if len(self.records) != metrics.accepted:
            self.faults.append(f"{metrics.accepted} accepted, {len(self.records)} logged")
        await bounded(server.close())
        if any(metrics.upstream_connections().values()):
            self.faults.append(f"after the end: {metrics.upstream_connections()}")
        logging.getLogger("proxy").removeHandler(self._logged)
        assert not self.faults, self.faults

    def ended(self, ending: Ending) -> int:
        return self.metrics.endings[ending]

    def upstream_connections(self, state: str) -> int:
        """How many upstream connections are ``active`` or ``idle``."""
        return sum(count for (_, each), count in self.metrics.upstream_connections().items() if each == state)

    def _on_dropped(self, lines: int) -> None:
        self.metrics.log_dropped += lines


class _Faults(logging.Handler):
    """Whatever the proxy logs as an error is a bug that the test must see."""

    def __init__(self, faults: list[object]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self._faults.append(logging.Formatter().format(record))


class Proxies:
    """Makes proxies and upstreams for one test, and ends them all."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    async def upstream(self, *arguments: Any, **options: Any) -> ScriptedUpstream:
        upstream = await ScriptedUpstream().start(*arguments, **options)
        self._stack.push_async_callback(upstream.cleanup)
        return upstream

    async def start(self, snapshot: Snapshot | None = None, upstream: ScriptedUpstream | None = None) -> Proxy:
        if upstream is None:
            upstream = await self.upstream()
        proxy = Proxy(snapshot or make_snapshot(upstream_at(upstream.port)), upstream)
        await proxy.start()
        self._stack.push_async_callback(proxy.finish)
        return proxy

    async def cleanup(self) -> None:
        await self._stack.aclose()
