"""The connection to the upstream: heads out of a stream of bytes, one response at a time.

A connection belongs to one exchange or to the pool, never to both. It comes back only when the request went out whole,
the response came in whole, and neither side asked for a close; anything else closes it.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

from proxy.wire.deadlines import NEVER
from proxy.wire.head import read_response
from proxy.wire.reading import LARGE, read_in_pieces

if TYPE_CHECKING:
    from proxy.wire.exchange import Exchange
    from proxy.wire.framing import ChunkedCursor
    from proxy.wire.pool import Pool

MOST_INTERIM = 20
"""1xx heads before the final one; a flood of them is an attack or a loop (nginx hangs on it, Caddy stops at 5)."""

LONGEST_HEAD = 65536
"""Twice what a caller may send: the upstream's gateways add their own fields."""

WRITE_HIGH = 65536
"""Bytes that may wait for a slow upstream before the caller is paused; Envoy's edge advice is half of it."""


class UpstreamConnection:
    """One connection. ``exchange`` is who uses it now, None while it waits in the pool."""

    __slots__ = (
        "_line",
        "_relayed",
        "_to",
        "_whole",
        "born",
        "deadline",
        "exchange",
        "held",
        "in_pieces",
        "interim",
        "looked_at",
        "pool",
        "readable",
        "transport",
        "used",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self.readable = select.poll()
        self.held = b""
        self.in_pieces = False
        self.interim = 0
        self.born = 0.0
        self.used = 0
        self.deadline = NEVER
        self.looked_at = NEVER
        # What the next chunk of an answer is like if it is like the last, and whom those went to: see ``relay``.
        self._line = b""
        self._whole = -1
        self._relayed = 0
        self._to = self.transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        if len(data) == self._whole and data.startswith(self._line) and data.endswith(b"\r\n"):
            self._relayed += len(data)
            self._to.write(data)
            self.deadline = self.pool.idle_deadline()
            return
        exchange = self.exchange
        if exchange is None:
            self.discard()  # nobody asked: whatever this is, it must not become the next caller's answer
        elif exchange.response_cursor is not None:
            exchange.on_response_data(data)
            if len(data) > LARGE and self.exchange is exchange:
                read_in_pieces(self)
        else:
            self._read_head(exchange, data)

    def relay(self, cursor: ChunkedCursor, to: asyncio.Transport) -> None:
        """Passes on what repeats the chunk before it: from here, for of 500 streams nothing else is in a cache."""
        whole = cursor.repeats()
        self._whole = whole if whole <= LARGE else -1
        self._line = cursor.line
        self._to = to

    def relayed(self) -> int:
        """Stops that, and says how many bytes were passed on."""
        self._whole = -1
        relayed, self._relayed = self._relayed, 0
        self._to = self.transport
        return relayed

    def wants_more(self) -> bool:
        """See ``Reader``."""
        return self.exchange is None or not self.exchange.caller_full

    def eof_received(self) -> None:
        """Asyncio's callback. The upstream has nothing more to say; the transport closes itself."""
        if self.exchange is not None:
            self.exchange.on_upstream_end(None)
        else:
            self.discard()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
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

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        if self.held:
            data = self.held + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > LONGEST_HEAD or not data.startswith(b"HTTP/1."[: len(data)]):
                    exchange.on_invalid_response()
                else:
                    self.held = data
                return
            response = read_response(data[: end + 4])
            data = data[end + 4 :]
            if response is None:
                exchange.on_invalid_response()
                return
            if response.status >= 200 or response.status == 101:
                self.held = b""
                exchange.on_response(response, data)
                return
            # 100, 102 and 103 are between the upstream and us: the caller got its 100 from here, if it asked for one.
            self.interim += 1
            if self.interim > MOST_INTERIM:
                exchange.on_invalid_response()
                return

    def discard(self) -> None:
        """Closes at once; it is never used again."""
        self.pool.forget(self)
        self.transport.abort()

    def is_usable(self, now: float, max_age: float) -> bool:
        """May another request go out on it? A close that has arrived but was not yet seen counts."""
        if self.transport.is_closing() or now - self.born > max_age:
            return False
        # Anything readable on an idle connection (an end, an alert, a stray byte) makes it unusable. poll() says so in
        # 0.4 us; a peek costs 1.4, because "nothing there" is an exception.
        return not self.readable.poll(0)
