"""Ending a WebSocket cleanly from the middle: a Close frame where a frame ends, then a moment for the answer.

The proxy reads no payloads, so all it knows is where frames begin and end. What it passes on until then is passed on
whole; a Close in the middle of a frame would be read as a part of it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from proxy.core.errors import Code
from proxy.wire.frames import close_frame
from proxy.wire.reading import give_to

if TYPE_CHECKING:
    from proxy.wire.tunnel import Tunnel, TunnelEnd

STEP = 1.0
"""Seconds for a frame to end, and again for the caller to answer the Close."""


class Closing:
    """One tunnel on its way to its end. Begins when it is made."""

    __slots__ = ("_ends", "_loop", "_said", "_status", "_timer", "_tunnel", "_word")

    def __init__(self, tunnel: Tunnel, loop: asyncio.AbstractEventLoop, status: int, code: Code) -> None:
        self._tunnel = tunnel
        self._loop = loop
        self._status = status
        self._word = code.value.encode()
        self._said = False
        self._ends = (ClosingEnd(self, tunnel.caller), ClosingEnd(self, tunnel.upstream))
        for end in self._ends:
            give_to(end.end.transport, end)
        self._timer = loop.call_later(STEP, tunnel.abort)
        self._say_if_possible()

    def on_data(self, end: TunnelEnd, data: bytes) -> None:
        """More arrived from one side."""
        tunnel = self._tunnel
        end.bytes += len(data)
        if self._said:
            if end is tunnel.caller:
                end.cursor.feed(data)
                self._finish_if_answered()
            return
        if end.cursor.at_boundary:
            # Only the caller's side can be here: the upstream's being there is what ends this step.
            end.cursor.feed(data)
            end.out.write(data)
            return
        end.out.write(end.cursor.feed_to_boundary(data))
        self._say_if_possible()

    def on_ended(self, end: TunnelEnd) -> None:
        """One side has nothing more to say."""
        end.ended = True
        if self._said:
            self._tunnel.caller.transport.close()
        elif not self._tunnel.upstream.cursor.at_boundary:
            self._tunnel.abort()

    def on_lost(self, end: TunnelEnd) -> None:
        """One connection is gone."""
        tunnel = self._tunnel
        if end is tunnel.caller:
            tunnel.upstream.transport.abort()
        elif not self._said:
            tunnel.caller.transport.abort()
        self._finish_if_answered()
        if tunnel.on_end_lost():
            self._timer.cancel()

    def _say_if_possible(self) -> None:
        caller, upstream = self._tunnel.caller, self._tunnel.upstream
        if self._said or not upstream.cursor.at_boundary:
            return
        self._said = True
        if not upstream.cursor.closed:
            caller.transport.write(close_frame(self._status, self._word))
        if caller.cursor.at_boundary and not caller.cursor.closed and not caller.ended:
            upstream.transport.write(close_frame(self._status, self._word, os.urandom(4)))
        upstream.transport.close()
        self._timer.cancel()
        self._timer = self._loop.call_later(STEP, self._tunnel.abort)
        caller.transport.resume_reading()  # it was paused if the upstream took nothing
        self._finish_if_answered()

    def _finish_if_answered(self) -> None:
        caller = self._tunnel.caller
        if self._said and (caller.cursor.closed or caller.ended):
            caller.transport.close()


class ClosingEnd:
    """Takes the place of a ``TunnelEnd`` on its transport."""

    __slots__ = ("_closing", "end")

    def __init__(self, closing: Closing, end: TunnelEnd) -> None:
        self._closing = closing
        self.end = end

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        self._closing.on_data(self.end, data)

    def eof_received(self) -> bool:
        """Asyncio's callback. The transport stays until the other side has been told."""
        self._closing.on_ended(self.end)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio's callback."""
        self._closing.on_lost(self.end)

    def pause_writing(self) -> None:
        """Asyncio's callback. Not left to the end: it would take the other transport back from the closing."""
        self.end.full = True
        self.end.out.pause_reading()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self.end.resume_writing()
