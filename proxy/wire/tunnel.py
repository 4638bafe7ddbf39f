"""A WebSocket after its 101: two transports joined. Bytes go through untouched; only frame headers are skipped over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple, cast

from proxy.core.errors import Code
from proxy.core.model import Credential, Deny, Policy, RequestHead
from proxy.core.policy import decide
from proxy.limits.gate import Gate
from proxy.observe.record import Ending, Record
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


class TunnelEnd(asyncio.Protocol):
    """One end. It takes the place of the HTTP protocol on a transport, so that nothing of HTTP is left in the way."""

    __slots__ = ("bytes", "cursor", "ended", "full", "in_pieces", "peer", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.cursor = FrameCursor()
        self.peer: TunnelEnd = cast("TunnelEnd", None)  # set by Tunnel, which makes both
        self.bytes = 0
        self.ended = False
        self.full = False
        self.in_pieces = False

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback: the only thing that happens in a tunnel, thousands of times."""
        size = len(data)
        self.bytes += size
        self.cursor.feed(data)
        self.peer.transport.write(data)
        if size > LARGE:
            read_in_pieces(self)

    def wants_more(self) -> bool:
        """See ``Reader``."""
        return not self.peer.full

    def eof_received(self) -> bool:
        """Asyncio's callback: this side has nothing more to say; the other may still (half-close)."""
        self._end()
        peer = self.peer
        if peer.ended or not peer.transport.can_write_eof():
            # TLS cannot be closed by half in asyncio: the end of one direction is the end of both.
            peer.transport.close()
            return False
        peer.transport.write_eof()
        self.tunnel.watch_closely()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self._end()
        if exc is None:
            self.peer.transport.close()
        else:
            self.tunnel.on_broken(self)
            self.peer.transport.abort()
        self.tunnel.on_end_lost()

    def _end(self) -> None:
        first = not self.ended
        self.ended = True
        if first and self is self.tunnel.upstream and not self.peer.ended:
            self.tunnel.on_upstream_first()

    def pause_writing(self) -> None:
        """Asyncio's callback: this side reads slower than the other sends."""
        self.full = True
        self.peer.transport.pause_reading()
        read_in_pieces(self.peer)
        self.tunnel.watch_closely()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self.full = False
        if not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()


class Asked(NamedTuple):
    """A handshake's head as far as it decides anything, kept small: there may be ten thousand of them."""

    target: str
    version: int
    noted: bytes
    uid: int | None = None

    @classmethod
    def of(cls, head: RequestHead) -> Asked:
        """What to keep of this head."""
        return cls(head.target, head.version, b"\n".join(b"%b:%b" % item for item in head.noted.items()), head.uid)

    def head(self) -> RequestHead:
        """The head again, without the fields that decide nothing."""
        noted = {name: value for name, _, value in (line.partition(b":") for line in self.noted.split(b"\n"))}
        return RequestHead("GET", self.target, self.version, [], noted, self.uid)

    def __repr__(self) -> str:
        return "Asked(…)"  # the fields may hold the caller's token


class Tunnel:
    """The pair, and what is counted about it."""

    __slots__ = (
        "_asked", "_closing", "_gate", "_lost", "_server", "_shown", "caller", "deadline", "looked_at", "record",
        "seen", "upstream",
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
        self._asked = asked
        self._closing: Closing | None = None
        self._lost = 0
        self._shown: tuple[Credential, bytes] | None = shown
        self._gate = gate
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
        decision = decide(policy, self._asked.head(), self.record.moment)
        return decision if isinstance(decision, Deny) else None

    def forget(self, ended: Collection[object]) -> None:
        """Of these credentials nothing is to be kept, and nothing that could be said about them matters any more."""
        if self._shown is not None and any(self._shown[0] is each for each in ended):
            self._shown = None

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
        if self._shown is not None and time.monotonic() - self.record.tunnel_opened < EARLY:
            credential, line = self._shown
            credential.doubted(line)

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
        # The ends name each other and the closing them; without this they would wait for the garbage collector.
        del self.caller.peer, self.upstream.peer, self.caller.tunnel, self.upstream.tunnel
        self._closing = None
        return True
