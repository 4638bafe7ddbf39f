"""Where a row is played: a proxy, its upstream, a caller, and what each of them has received, whoever read it.

What belongs here: ways to make a fault. What does not: any judgement of what came of it (``runner.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.model import Snapshot
from tests.certificates import Certificates
from tests.faults.reading import Answer, read_answer
from tests.proxies import Proxies, Proxy
from tests.snapshots import SOCKET, SWITCH, make_snapshot, upstream_at
from tests.wires import Message, ScriptedUpstream, Wire, bounded, request, response

PRIMER = "/llm/v1alpha/models"
"""What is asked before and after a fault; never what a row is about."""

HANDSHAKE = request(
    f"GET {SOCKET}?row", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip


class WatchedWire(Wire):
    """A wire that keeps what it received beside whoever reads it, and when and how that ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.received = bytearray()
        self.ended_at: float | None = None
        self.error: Exception | None = None
        self._changed = asyncio.Event()
        self._feed, self._feed_eof, self._set_exception = reader.feed_data, reader.feed_eof, reader.set_exception
        # The reader's own methods are what the transport's protocol calls: nothing else sees bytes that nobody reads.
        reader.feed_data, reader.feed_eof, reader.set_exception = (  # type: ignore[method-assign]
            self._on_data, self._on_end, self._on_error,
        )  # fmt: skip

    async def until(self, true: Callable[[WatchedWire], bool]) -> None:
        """Waits for something that must soon be so of what was received."""

        async def wait() -> None:
            while not true(self):
                self._changed.clear()
                await self._changed.wait()

        await bounded(wait())

    async def until_ended(self) -> None:
        await self.until(lambda wire: wire.ended_at is not None)

    def _on_data(self, data: bytes) -> None:
        self.received += data
        self._feed(data)
        self._changed.set()

    def _on_end(self) -> None:
        self._note_end()
        self._feed_eof()

    def _on_error(self, error: Exception) -> None:
        self.error = error
        self._note_end()
        self._set_exception(error)

    def _note_end(self) -> None:
        if self.ended_at is None:
            self.ended_at = asyncio.get_running_loop().time()
        self._changed.set()


class WatchedUpstream(ScriptedUpstream):
    """A scripted upstream of watched wires, which can stop listening and begin again at the same port."""

    wires: list[WatchedWire]  # type: ignore[assignment]  # those that _on_connection makes

    async def listen_again(self, context: Any = None) -> None:
        """Listens anew, with this TLS context."""
        if self._server is not None:
            self._server.close()
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port, ssl=context)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = WatchedWire(reader, writer)
        self.wires.append(wire)
        if self._answer is None:
            self._accepted.put_nowait(wire)
        else:
            self._serving.add(asyncio.ensure_future(self._serve(wire, self._answer)))


def _answered(caller: WatchedWire, before: int) -> Answer | None:
    """The whole answer that a caller received after so many bytes."""
    answer = read_answer(bytes(caller.received[before:]), "GET", ended=False, error=False)
    return answer if answer is not None and answer.whole else None


class Scene:
    """One row's proxy, upstream and caller. ``prop`` is what a stage built besides: a resolver, an egress, a mint."""

    def __init__(self, proxies: Proxies, certificates: Certificates, patch: pytest.MonkeyPatch) -> None:
        self.proxies = proxies
        self.certificates = certificates
        self.patch = patch
        self.loop = asyncio.get_running_loop()
        self.stack = contextlib.AsyncExitStack()
        self.first = contextlib.ExitStack()
        """What has to end before the proxy does; ``stack`` is for what ends after it."""
        self.prop: Any = None
        self.fields: tuple[str, ...] = ()
        """What every other request must say too, to be let through."""
        self.changes: dict[str, Any] = {}
        """Of every snapshot that the stage makes."""
        self.others = 0
        """Requests that are not the row's own, and were answered."""
        self.joined: dict[int, int] = {}
        """The port that the upstream sees, by the proxy's own, where somebody is in between."""
        self.left_at: float | None = None
        self.upstream: WatchedUpstream
        self.proxy: Proxy
        self.caller: WatchedWire
        self.wire: WatchedWire | None = None

    # -- the stage ----------------------------------------------------------------------------------------------------

    async def listen(self, *arguments: Any, **options: Any) -> WatchedUpstream:
        """The upstream, before there is a proxy."""
        self.upstream = WatchedUpstream()
        await self.upstream.start(*arguments, **options)
        self.stack.push_async_callback(self.upstream.cleanup)
        return self.upstream

    async def start(self, snapshot: Snapshot | None = None, **changes: Any) -> None:
        """The proxy. ``changes`` are of its snapshot."""
        if not hasattr(self, "upstream"):
            await self.listen()
        snapshot = snapshot or make_snapshot(upstream_at(self.upstream.port))
        self.proxy = await self.proxies.start(replace(snapshot, **self.changes, **changes), self.upstream)

    async def calls(self) -> WatchedWire:
        """A new caller's connection."""
        proxy = self.proxy
        wire = WatchedWire(*await bounded(asyncio.open_connection(proxy.host, proxy.port, limit=2**17)))
        proxy._wires.append(wire)
        return wire

    async def prime(self) -> None:
        """A request of somebody else's, answered: its connection waits in the pool."""
        await self.exchange(await self.calls(), request(f"GET {PRIMER}", *self.fields), b"primed")

    async def exchange(self, caller: WatchedWire, raw: bytes, body: bytes) -> tuple[Message, Answer]:
        """A request that nothing is wrong with: what the upstream saw, and what the caller got."""
        self.others += 1
        before = len(caller.received)
        caller.feed(raw)
        wire = await self._next_wire()
        seen = await wire.message()
        await wire.send(response("200 OK", body=body))
        await caller.until(lambda each: each.ended_at is not None or _answered(each, before) is not None)
        got = _answered(caller, before)
        assert got is not None
        self.wire = wire  # type: ignore[assignment]
        return seen, got

    async def _next_wire(self) -> WatchedWire:
        """The wire on which the next request arrives: one out of the pool if there is one."""
        waiting = self.pooled()
        return waiting[-1] if waiting else await self.upstream.accept()  # type: ignore[return-value]

    def ready(self) -> bool:
        """Has every credential something to show?"""
        return all(each.authorization() for each in self.proxy.server.snapshot.credentials.values())

    def pooled(self) -> list[WatchedWire]:
        """The upstream's ends of the connections that wait in the pool."""
        (pool,) = self.proxy.server.pools.values()
        own = [connection.transport.get_extra_info("socket").getsockname()[1] for connection in pool._idle]
        ports = [self.joined.get(port, port) for port in own]
        by_port = {wire.socket.getpeername()[1]: wire for wire in self.upstream.wires if wire.ended_at is None}
        return [by_port[port] for port in ports if port in by_port]

    # -- the fault ----------------------------------------------------------------------------------------------------

    async def arrives(self) -> WatchedWire:
        """The upstream's end on which the row's request has arrived, with all of its body."""
        wire = await self.reaches()
        await wire.message()
        return wire

    async def reaches(self) -> WatchedWire:
        """The same, as soon as there is a connection; nothing of the request has been read."""
        self.wire = wire = await bounded(self.upstream._accepted.get())  # type: ignore[assignment]
        return wire  # type: ignore[return-value]

    async def pooled_arrives(self) -> WatchedWire:
        """The same, on the connection that waited in the pool."""
        assert self.wire is not None
        await self.wire.message()
        return self.wire

    def has_read(self) -> bool:
        """Has the proxy read what the upstream said: is it kept, passed on, or the request over?"""
        (pool,) = self.proxy.server.pools.values()
        return bool(
            self.caller.received
            or not self.proxy.metrics.in_flight
            or any(each.held or each.interim or each.exchange.response_cursor is not None for each in pool._active)
        )

    async def answers(self, raw: bytes) -> WatchedWire:
        """The request arrives and gets these bytes."""
        wire = await self.arrives()
        wire.feed(raw)
        return wire

    async def tunnels(self) -> WatchedWire:
        """The row's request is a handshake, and becomes a tunnel."""
        wire = await self.reaches()
        await wire.head()
        await wire.send(SWITCH)
        assert (await self.caller.head()).status == 101
        return wire

    def leave(self, leaving: Callable[[Wire], None]) -> None:
        """The caller goes, now."""
        self.left_at = self.loop.time()
        leaving(self.caller)
