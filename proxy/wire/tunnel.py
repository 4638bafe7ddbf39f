"""A WebSocket after its 101: two transports joined. Bytes go through untouched; only frame headers are skipped over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from proxy.core.errors import Code
from proxy.core.model import Credential, Deny, Policy
from proxy.core.policy import decide
from proxy.limits.gate import Gate
from proxy.observe.record import Ending, Record
from proxy.wire.asked import Asked
from proxy.wire.closing import Closing
from proxy.wire.deadlines import NEVER
from proxy.wire.frames import FrameCursor
from proxy.wire.reading import LARGE, give_to, read_in_pieces

if TYPE_CHECKING:
    from proxy.wire.server import DataServer

WRITE_HIGH = 65536
"""Bytes that may wait for a slow peer before the other one is paused."""

EARLY = 3.0
"""Seconds within which an upstream that ends a tunnel may have done so because of what it was shown."""

GOING_AWAY = 1001
NOT_PERMITTED = 1008
"""Status codes of a Close frame (RFC 6455 section 7.4.1): the proxy stops or had enough; the caller's grant is gone."""

STUCK = 60.0
"""Seconds without a byte after which a tunnel is given up that is closed by half, or whose one side reads nothing.

A caller who left looks like one who only stopped sending: without this limit the upstream's side might stay for ever.
"""

LOOKED_AT = 4
"""Tunnels that a new one is compared with, to keep once what they have in common."""


class TunnelEnd:
    """One end. It takes the place of the HTTP protocol on a transport, so that nothing of HTTP is left in the way."""

    __slots__ = ("bytes", "cursor", "ended", "full", "in_pieces", "out", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, out: asyncio.Transport) -> None:
        self.tunnel: Tunnel | None = tunnel  # until both connections are gone
        self.transport = transport
        self.out = out  # the peer's transport
        self.cursor = FrameCursor()
        self.bytes = 0
        self.ended = False
        self.full = False
        self.in_pieces = False

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback: the only thing that happens in a tunnel, thousands of times."""
        size = len(data)
        self.bytes += size
        self.cursor.feed(data)
        self.out.write(data)
        if size > LARGE:
            read_in_pieces(self)

    def wants_more(self) -> bool:
        """See ``Reader``."""
        tunnel = self.tunnel
        return tunnel is not None and not tunnel.peer_of(self).full

    def eof_received(self) -> bool:
        """Asyncio's callback: this side has nothing more to say; the other may still (half-close)."""
        tunnel = self.tunnel
        if tunnel is None:
            return False
        self._end(tunnel)
        if tunnel.peer_of(self).ended or not self.out.can_write_eof():
            # An upstream's TLS cannot be closed by half in asyncio: the end of one direction is the end of both.
            self.out.close()
            return False
        self.out.write_eof()
        tunnel.watch_closely()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        tunnel = self.tunnel
        if tunnel is None:
            return
        self._end(tunnel)
        if exc is None:
            self.out.close()
        else:
            tunnel.on_broken(self)
            self.out.abort()
        tunnel.on_end_lost()

    def _end(self, tunnel: Tunnel) -> None:
        first = not self.ended
        self.ended = True
        if first and self is tunnel.upstream and not tunnel.caller.ended:
            tunnel.on_upstream_first()

    def pause_writing(self) -> None:
        """Asyncio's callback: this side reads slower than the other sends."""
        self.full = True
        self.out.pause_reading()
        tunnel = self.tunnel
        if tunnel is not None:
            read_in_pieces(tunnel.peer_of(self))
            tunnel.watch_closely()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self.full = False
        if not self.out.is_closing():
            self.out.resume_reading()


class Tunnel:
    """The pair, and what is counted about it."""

    __slots__ = (
        "_closing", "_credential", "_gate", "_line", "_lost", "_server", "asked", "caller", "deadline", "looked_at",
        "record", "seen", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        server: DataServer,
        record: Record,
        caller: asyncio.Transport,
        upstream: asyncio.Transport,
        shown: tuple[Credential, bytes],
        gate: Gate | None,
        asked: Asked,
    ) -> None:
        self._server = server
        self.asked = asked
        self._closing: Closing | None = None
        self._lost = 0
        self._credential: Credential | None = shown[0]  # what was shown, for as long as it may be doubted
        self._line = shown[1]
        self._gate = gate
        self.record = record
        self.caller = TunnelEnd(self, caller, upstream)
        self.upstream = TunnelEnd(self, upstream, caller)
        self.deadline = NEVER
        self.looked_at = NEVER
        self.seen = 0
        record.tunnel_opened = record.first_byte or time.monotonic()  # the answer that opened it has just arrived
        self._share(server.tunnels)

    def _share(self, others: Iterable[Tunnel]) -> None:
        """Keeps once what is the same in many: 0.4 of 4.2 KB of an idle one whose client is like one of these."""
        record = self.record
        for other in islice(others, LOOKED_AT):
            if record.peer == other.record.peer:
                record.peer = other.record.peer
            if self.asked.is_like(other.asked):
                self.asked = other.asked
                break
        if record.path == self.asked.target:
            record.path = self.asked.target

    def peer_of(self, end: TunnelEnd) -> TunnelEnd:
        """The other end."""
        return self.upstream if end is self.caller else self.caller

    def open(self, from_caller: bytes, from_upstream: bytes) -> None:
        """Joins the transports, passing on what had already arrived from either side."""
        caller, upstream = self.caller.transport, self.upstream.transport
        for transport, end in ((caller, self.caller), (upstream, self.upstream)):
            transport.set_write_buffer_limits(WRITE_HIGH)
            give_to(transport, end)
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
        if self.record.received <= self._server.adopted_at:
            # It was let through by a configuration that is no longer in force, and nobody has asked this one.
            self._server.judge(self)

    def watch_closely(self) -> None:
        """One side has ended, or does not take what the other sends: from now on something must move."""
        self.seen = self.caller.bytes + self.upstream.bytes
        limit = self._server.loop.time() + STUCK
        if limit < self.deadline:
            self.deadline = limit
            self._server.deadlines.watch(self)

    def on_deadline(self) -> None:
        """Idle, stuck or flushing for too long?"""
        ends = (self.caller, self.upstream)
        closely = any(end.ended or end.full for end in ends)
        limit = STUCK if closely else self._server.snapshot.time.tunnel_idle
        moved = self.caller.bytes + self.upstream.bytes
        if self._lost or (closely and moved == self.seen):
            self.record.code = self.record.code or Code.TUNNEL_STALLED
            self.abort()
        elif limit is not None and moved == self.seen:
            self.close(GOING_AWAY, Code.TUNNEL_IDLE_TIMEOUT)
        elif limit is not None:
            self.seen = moved
            self.deadline = self._server.loop.time() + limit

    def judge(self, policy: Policy) -> Deny | None:
        """The question that was asked before it opened, asked of another policy: why it may not stay, if so."""
        decision = decide(policy, self.asked.head(), self.record.moment)
        return decision if isinstance(decision, Deny) else None

    def forget(self, ended: Collection[object]) -> None:
        """Of these credentials nothing is to be kept, and nothing that could be said about them matters any more."""
        credential = self._credential
        if credential is not None and any(credential is each for each in ended):
            self._credential = None
            self._line = b""
        evidence = self.record.evidence
        if evidence is not None and self.record.received <= self._server.adopted_at:
            evidence.forget()

    def close(self, status: int, code: Code) -> None:
        """Ends it with a Close frame to the caller and to the upstream as soon as a frame ends, else by force."""
        if self._closing is None and not self._lost:
            self.deadline = NEVER
            self.record.ending = Ending.ABORTED
            self.record.code = code
            self._closing = Closing(self, self._server.loop, status, code)

    def abort(self) -> None:
        """Ends both sides at once."""
        self.record.ending = Ending.ABORTED
        self.caller.transport.abort()
        self.upstream.transport.abort()

    def on_broken(self, end: TunnelEnd) -> None:
        """One side was cut off, not closed."""
        record = self.record
        if record.code is None and record.ending is Ending.ANSWERED and not self._lost:
            if end is self.upstream:
                record.ending, record.code = Ending.ABORTED, Code.UPSTREAM_CLOSED
                self._server.metrics.on_upstream_error(record.upstream or "", record.code.value)
            else:
                record.ending = Ending.CALLER_GONE

    def on_upstream_first(self) -> None:
        """The upstream ended before the caller did."""
        # Sockets of TTS and STT answer 101 before they look at the token; a tunnel does not read what they say then,
        # so an early end is all that can be counted against it.
        credential = self._credential
        if credential is not None and time.monotonic() - self.record.tunnel_opened < EARLY:
            credential.doubted(self._line)

    def on_end_lost(self) -> bool:
        """One of the two connections is gone; when both are (True), the request is over."""
        self._lost += 1
        if self._lost < 2:
            # What is left for the other side is flushed; a peer that does not read it has this long.
            self.deadline = self._server.loop.time() + STUCK
            self._server.deadlines.watch(self)
            return False
        self._server.deadlines.forget(self)
        record = self.record
        record.request_bytes = self.caller.bytes
        record.response_bytes = self.upstream.bytes
        record.messages_in = self.caller.cursor.messages
        record.messages_out = self.upstream.cursor.messages
        self._server.metrics.on_tunnel(record.operation or "", -1)
        self._server.tunnels.discard(self)
        self._server.on_connection_gone(record.peer)
        self._server.finish(record)
        if self._gate is not None:
            self._gate.leave()
        # The ends name the tunnel and the closing both; without this they would wait for the garbage collector.
        self.caller.tunnel = self.upstream.tunnel = None
        self._closing = None
        return True
