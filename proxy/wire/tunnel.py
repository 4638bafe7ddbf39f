"""A WebSocket after its 101: two transports joined. Bytes go through untouched; only frame headers are skipped over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from proxy.observe.record import Ending, Record
from proxy.wire.deadlines import NEVER
from proxy.wire.framing import FrameCursor

if TYPE_CHECKING:
    from proxy.wire.server import DataServer

WRITE_HIGH = 65536
"""Bytes that may wait for a slow peer before the other one is paused."""

FLUSH = 60.0
"""Seconds for which one side may still read what the other, already gone, had sent."""


class TunnelEnd(asyncio.Protocol):
    """One end. It takes the place of the HTTP protocol on a transport, so that nothing of HTTP is left in the way."""

    __slots__ = ("bytes", "cursor", "ended", "peer", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.cursor = FrameCursor()
        self.peer: TunnelEnd = cast("TunnelEnd", None)  # set by Tunnel, which makes both
        self.bytes = 0
        self.ended = False

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback: the only thing that happens in a tunnel, thousands of times."""
        self.bytes += len(data)
        self.cursor.feed(data)
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """Asyncio's callback: this side has nothing more to say; the other may still (half-close)."""
        self.ended = True
        peer = self.peer
        if peer.ended or not peer.transport.can_write_eof():
            # TLS cannot be closed by half in asyncio: the end of one direction is the end of both.
            peer.transport.close()
            return False
        peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.ended = True
        if exc is None:
            self.peer.transport.close()
        else:
            self.peer.transport.abort()
        self.tunnel.on_end_lost()

    def pause_writing(self) -> None:
        """Asyncio's callback: this side reads slower than the other sends."""
        self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        if not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()


class Tunnel:
    """The pair, and what is counted about it."""

    __slots__ = ("_lost", "_server", "caller", "deadline", "looked_at", "record", "seen", "upstream")

    def __init__(
        self, server: DataServer, record: Record, caller: asyncio.Transport, upstream: asyncio.Transport
    ) -> None:
        self._server = server
        self._lost = 0
        self.record = record
        self.caller = TunnelEnd(self, caller)
        self.upstream = TunnelEnd(self, upstream)
        self.caller.peer = self.upstream
        self.upstream.peer = self.caller
        self.deadline = NEVER
        self.looked_at = NEVER
        self.seen = 0
        record.tunnel_opened = time.monotonic()

    def open(self, from_caller: bytes, from_upstream: bytes) -> None:
        """Joins the transports, passing on what had already arrived from either side."""
        caller, upstream = self.caller.transport, self.upstream.transport
        for transport, end in ((caller, self.caller), (upstream, self.upstream)):
            transport.set_write_buffer_limits(WRITE_HIGH)
            transport.set_protocol(end)
        if from_upstream:
            self.upstream.data_received(from_upstream)
        if from_caller:
            self.caller.data_received(from_caller)
        self._server.tunnels.add(self)
        self._server.metrics.on_tunnel(self.record.operation or "", 1)
        idle = self._server.snapshot.time.tunnel_idle
        if idle is not None:
            self.deadline = self._server.loop.time() + idle
            self._server.deadlines.watch(self)

    def on_deadline(self) -> None:
        """Idle, or flushing, for too long?"""
        if self._lost:
            self.abort()
            return
        idle = self._server.snapshot.time.tunnel_idle
        moved = self.caller.bytes + self.upstream.bytes
        if idle is None:
            return
        if moved == self.seen:
            self.abort()
            return
        self.seen = moved
        self.deadline = self._server.loop.time() + idle

    def abort(self) -> None:
        """Ends both sides at once."""
        self.record.ending = Ending.ABORTED
        self.caller.transport.abort()
        self.upstream.transport.abort()

    def on_end_lost(self) -> None:
        """One of the two connections is gone; when both are, the request is over."""
        self._lost += 1
        if self._lost < 2:
            # What is left for the other side is flushed; a peer that does not read it has this long.
            self.deadline = self._server.loop.time() + FLUSH
            self._server.deadlines.watch(self)
            return
        self.deadline = NEVER
        record = self.record
        record.request_bytes = self.caller.bytes
        record.response_bytes = self.upstream.bytes
        record.messages_in = self.caller.cursor.messages
        record.messages_out = self.upstream.cursor.messages
        self._server.metrics.on_tunnel(record.operation or "", -1)
        self._server.tunnels.discard(self)
        self._server.finish(record)
        self._server.metrics.on_caller_connection(-1)
        # The two ends name each other; without this the pair would wait for the garbage collector.
        del self.caller.peer, self.upstream.peer
