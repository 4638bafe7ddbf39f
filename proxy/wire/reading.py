"""Reading less at a time from whoever sends faster than the other side takes.

A loop reads what has arrived in one piece, up to 256 KB, and all of it waits when the other side does not read. A
shared buffer bounds that to ``MOST``. It costs two microseconds more per read, most of it for two looks at the thread's
clock, so it comes in only where a transport has shown that it delivers large pieces, or where its peer was too slow for
it.
"""

from __future__ import annotations

import asyncio
from time import thread_time
from typing import Protocol, cast

MOST = 65536
"""Bytes read at a time from a transport whose reads are bounded."""

LARGE = 32768
"""A read of more than this shows that the sender is fast: audio of a whole sentence, not of a moment."""

MOST_SPENT = 0.002
"""Seconds of this thread's time on one piece, after which less is read at a time. Time in which the machine did
something else does not count: it says nothing about the sender."""

# One for all, since what is read into it is copied out before anything else can be read.
BUFFER = bytearray(MOST)
VIEW = memoryview(BUFFER)
_SMALL = VIEW[:2048]
_QUICK = MOST_SPENT * len(_SMALL) / MOST


class Callbacks(Protocol):
    """A protocol of asyncio's by its shape. The hot ones have no base class: compiled, they are C structures for that.

    The loops ask for no more than the methods, but for ``asyncio.BufferedProtocol``.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...  # noqa: D102 - asyncio's, like the others
    def data_received(self, data: bytes) -> None: ...  # noqa: D102
    def eof_received(self) -> bool | None: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


class Reader(Protocol):
    """Who reads, and the transport that it reads from."""

    transport: asyncio.Transport
    in_pieces: bool
    """Does it read in pieces? Kept by this module; looked at for every request, so it is no question to the loop."""

    def wants_more(self) -> bool:
        """Has nobody asked for a pause?"""

    def data_received(self, data: bytes) -> None: ...  # noqa: D102 - asyncio's, like the others
    def eof_received(self) -> bool | None: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


class Buffered(Protocol):
    """A protocol of asyncio's that is read into, by its shape."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...  # noqa: D102 - asyncio's, like the others
    def get_buffer(self, sizehint: int) -> memoryview: ...  # noqa: D102
    def buffer_updated(self, nbytes: int) -> None: ...  # noqa: D102
    def eof_received(self) -> bool: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


def read_in_pieces(reader: Reader) -> None:
    """From now on the reader gets at most ``MOST`` bytes at a time. Doing it twice changes nothing."""
    if not reader.in_pieces:
        reader.in_pieces = True
        give_to(reader.transport, InPieces(reader))


def read_at_once(reader: Reader) -> None:
    """From now on the reader gets what has arrived."""
    if reader.in_pieces:
        reader.in_pieces = False
        give_to(reader.transport, reader)


def give_to(transport: asyncio.Transport, protocol: object) -> None:
    """Makes the protocol the transport's, whichever of the two ways it reads in."""
    # uvloop decides how to read when it begins to.
    reading = transport.is_reading()
    if reading:
        transport.pause_reading()
    transport.set_protocol(cast("asyncio.BaseProtocol", protocol))
    if reading:
        transport.resume_reading()


class InPieces(asyncio.BufferedProtocol):
    """Stands between a transport and its reader.

    A loop reads up to 32 times before it looks at the next connection, so after a full piece, or one that took long,
    the others have their turn first; and of a sender whose bytes take long (chunks of one byte) less is read at a time,
    until they do not.
    """

    __slots__ = ("_piece", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._piece = VIEW

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Asyncio's callback."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's callback."""
        began = thread_time()
        self.reader.data_received(VIEW[:nbytes].tobytes())
        spent = thread_time() - began
        slow = spent > MOST_SPENT
        full = nbytes == len(self._piece)
        if slow:
            self._piece = _SMALL
        elif full and self._piece is _SMALL and spent < _QUICK:
            self._piece = VIEW
        if slow or full:
            transport = self.reader.transport
            if transport.is_reading() and transport.get_protocol() is self:
                transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        transport = self.reader.transport
        if self.reader.wants_more() and not transport.is_closing():
            transport.resume_reading()

    def eof_received(self) -> bool | None:
        """Asyncio's callback."""
        return self.reader.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.reader.connection_lost(exc)

    def pause_writing(self) -> None:
        """Asyncio's callback."""
        self.reader.pause_writing()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self.reader.resume_writing()


class IntoBuffer(asyncio.BufferedProtocol):
    """For asyncio's own loop, which reads into a protocol's buffer only where that inherits from its class."""

    __slots__ = ("_buffered",)

    def __init__(self, buffered: Buffered) -> None:
        self._buffered = buffered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback, like the others."""
        self._buffered.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See there."""
        return self._buffered.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """See there."""
        self._buffered.buffer_updated(nbytes)

    def eof_received(self) -> bool:
        """See there."""
        return self._buffered.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See there."""
        self._buffered.connection_lost(exc)

    def pause_writing(self) -> None:
        """See there."""
        self._buffered.pause_writing()

    def resume_writing(self) -> None:
        """See there."""
        self._buffered.resume_writing()
