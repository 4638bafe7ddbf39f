"""TLS on a connection: an asyncio transport over another, with OpenSSL in between (``ssl.SSLObject``).

What belongs here: what both sides have in common. What does not: whose handshake it is (``secure_upstream.py``,
``secure_caller.py``), and certificates, versions and ciphers (``proxy/tls.py``).

Own code and not the loops' own TLS, for what both lack. They keep 256 KB to read into for every connection and as much
again undecrypted, so a slow caller of a large answer held 924 KB; here it is 200. They end a connection that was cut
as one that was closed; here a cut one ends with an error, because an answer that only its connection ends may have
been cut short (RFC 9112 section 9.8). And they ask OpenSSL for more after every read, which costs an exception to be
told that there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, cast

from proxy.core.compiling import mypyc_attr
from proxy.wire.reading import VIEW, Callbacks, InPieces, IntoBuffer

LONGEST_READ = 16384
"""Bytes asked of OpenSSL at a time; it gives one record, 16 KB at most."""

LARGEST_WRITE = 32768
"""Bytes given to OpenSSL at a time."""

MOST_UNSENT = 2**19
"""Bytes that may wait for a peer when TLS itself adds to them: above what a slow reader is left with (2**16, and a read
of the other side). Each side may have the other change its keys as often as it likes (RFC 8446 section 4.6.3)."""

NOBODY = cast("Callbacks", None)
"""The reader of a connection that is gone: nothing is called any more."""

_PIECE = VIEW[:32768]
"""What is read into: two records. What has not been decrypted waits in memory too."""


@mypyc_attr(native_class=False)  # it inherits from one of C's
class CutOffError(ConnectionError):
    """The connection ended without TLS having been closed: what came before may not be all."""


class SecureTransport:
    """The transport that a protocol sees, and the protocol that the transport below sees.

    Both by shape only, like ``Callbacks``: ``as_protocol()`` is what a loop takes. What follows from a handshake that
    is over, that failed, and from the end of the connection, the two kinds of it say: ``_on_…()``.
    """

    __slots__ = (
        "_below", "_closing", "_ended", "_error", "_incoming", "_loop", "_object", "_open", "_outgoing", "_paused",
        "_protocol", "_reader", "_tls",
    )  # fmt: skip

    def __init__(
        self, reader: Callbacks, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop, server: str | None
    ) -> None:
        """``server`` is the name that the other side must prove to have; None: it is this side that is the server."""
        self._reader = reader
        self._protocol = cast("asyncio.BaseProtocol", reader)
        self._loop = loop
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server is None, server_hostname=server
        )
        # What is under ``SSLObject`` (CPython): its methods only call those of the same name here, and a frame of
        # Python's around each took 2 of a request's 60 us (16 rounds side by side, 2026-11-22).
        self._tls: Any = getattr(self._object, "_sslobj", self._object)
        self._below: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self._open = False
        self._ended = False
        self._closing = False
        self._error: Exception | None = None
        self._paused = False

    def _on_open(self) -> None:
        """The handshake is over."""
        raise NotImplementedError

    def _on_refused(self, exc: ssl.SSLError) -> None:
        """The handshake failed, and the alert that says why has been written."""
        raise NotImplementedError

    def _on_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def as_protocol(self) -> asyncio.BaseProtocol:
        """What to give to the loop."""
        asks_for_the_class = isinstance(self._loop, asyncio.SelectorEventLoop)
        return IntoBuffer(self) if asks_for_the_class else cast("asyncio.BaseProtocol", self)

    # -- the protocol of the transport below ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self._below = cast("asyncio.Transport", transport)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Asyncio's callback."""
        return _PIECE

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's callback."""
        if self._ended:
            return  # nobody would read it, and it must not wait in memory for that
        self._incoming.write(VIEW[:nbytes])
        if self._open:
            self._decrypt()
        else:
            self._shake_hands()

    def eof_received(self) -> bool:
        """Asyncio's callback. Whoever closes TLS says so before; who did not was cut off."""
        if not self._ended:
            self._lose(CutOffError("closed without a TLS alert"))
        return self._ended  # closed by half: what is there for the other side is still sent

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self._closing = True
        self._on_lost(exc or self._error)

    def _tell_lost(self, exc: Exception | None) -> None:
        reader = self._reader
        # Each names the other, and through a tunnel the caller's connection: not left to the garbage collector.
        self._reader, self._protocol = NOBODY, cast("asyncio.BaseProtocol", None)
        reader.connection_lost(exc)

    def pause_writing(self) -> None:
        """Asyncio's callback."""
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self._reader.resume_writing()

    def _shake_hands(self) -> None:
        if self._closing:
            return  # given up meanwhile
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as exc:
            self._flush()
            self._on_refused(exc)
            return
        self._flush()
        self._open = True
        self._on_open()
        if self._incoming.pending:
            self._decrypt()

    def _decrypt(self) -> None:
        """Gives the reader what can be read, in one piece."""
        if self._paused or self._closing:
            return
        tls, incoming = self._tls, self._incoming
        data = b""
        ended = False
        try:
            # A buffer of the size asked for is made first. A record holds no more than it took on the wire; what came
            # of it before, OpenSSL has, and the loop below fetches.
            data = tls.read(incoming.pending or LONGEST_READ)
            if incoming.pending or tls.pending():
                pieces = [data]
                while data and (incoming.pending or tls.pending()):
                    try:
                        data = tls.read(LONGEST_READ)
                    except ssl.SSLWantReadError:
                        break
                    pieces.append(data)
                ended = not data
                data = b"".join(pieces)
            else:
                ended = not data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as exc:
            self._lose(exc)
            return
        if self._outgoing.pending:
            self._flush()  # TLS has things of its own to say: new keys, for one
            if self._below.get_write_buffer_size() > MOST_UNSENT:
                self._lose(ConnectionError("keys are changed, and nothing is read"))
        if data:
            self._reader.data_received(data)
        if ended and not self._ended and not self._closing:
            self._ended = True
            if not self._reader.eof_received():
                self.close()

    def _flush(self) -> None:
        self._below.write(self._outgoing.read())

    def _lose(self, exc: Exception) -> None:
        """The connection cannot go on."""
        self._error = exc
        self._closing = True
        self._below.abort()

    # -- the transport of the protocol above ---------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Asyncio's method. Nothing is sent once closing has begun."""
        if self._closing or not data:
            return
        try:
            if len(data) <= LARGEST_WRITE:
                self._tls.write(data)
                self._below.write(self._outgoing.read())
                return
            # What OpenSSL writes into never becomes smaller again, so it must not become large.
            view = memoryview(data)
            for start in range(0, len(data), LARGEST_WRITE):
                self._tls.write(view[start : start + LARGEST_WRITE])
                self._below.write(self._outgoing.read())
        except ssl.SSLError as exc:
            self._lose(exc)

    def pause_reading(self) -> None:
        """Asyncio's method."""
        self._paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Asyncio's method."""
        if self._paused and not self._closing:
            self._paused = False
            self._below.resume_reading()
            self._loop.call_soon(self._decrypt)  # what had arrived by then, and not from within the reader's own call

    def is_reading(self) -> bool:
        """Asyncio's method."""
        return not self._paused and not self._closing

    def is_closing(self) -> bool:
        """Asyncio's method."""
        return self._closing or self._below.is_closing()

    def close(self) -> None:
        """Asyncio's method: closes TLS, then the connection, once what was written has gone."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # it wants to read the other side's answer, which is not waited for
            self._object.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """Asyncio's method."""
        self._closing = True
        self._below.abort()

    def can_write_eof(self) -> bool:
        """Asyncio's method."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Asyncio's method."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Asyncio's method."""
        return self._below.get_write_buffer_size()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Asyncio's method."""
        return self._object if name == "ssl_object" else self._below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Asyncio's method. This transport reads in pieces by itself."""
        self._protocol = protocol
        self._reader = cast("Callbacks", protocol.reader if isinstance(protocol, InPieces) else protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Asyncio's method."""
        return self._protocol
