"""TLS where callers connect: the handshake, how long it may take, and what whoever speaks no TLS is told.

The caller's connection is made and counted when it arrives, not when the handshake is over: so the limits of
connections, the drain and the end of the process mean those too that never finish one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from proxy.core.errors import Code, proxy_status
from proxy.wire.caller import LINGER, CallerConnection
from proxy.wire.deadlines import NEVER
from proxy.wire.reading import Callbacks
from proxy.wire.secure import CutOffError, SecureTransport

if TYPE_CHECKING:
    from proxy.wire.server import DataServer

_SPEAKS_TLS = b"This port speaks TLS: use https:// or wss:// instead of http:// or ws://.\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Proxy-Status: %b\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    % (len(_SPEAKS_TLS), proxy_status(Code.BAD_REQUEST))
) + _SPEAKS_TLS

DONE, CLOSED, TIMEOUT, PLAIN, OTHER = "ok", "closed", "timeout", "plain_http", "other"

_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "HTTP_REQUEST": PLAIN,
        "HTTPS_PROXY_REQUEST": PLAIN,
        "WRONG_VERSION_NUMBER": "no_tls",
        "UNSUPPORTED_PROTOCOL": "version",
        "UNKNOWN_PROTOCOL": "version",
        "NO_SHARED_CIPHER": "cipher",
        "NO_SUITABLE_KEY_SHARE": "cipher",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "cipher",
    }
)
"""What OpenSSL calls it, and what it counts as; whatever else it says is ``other``, and an alert ``refused``."""


def reason_of(exc: ssl.SSLError) -> str:
    """Why a handshake failed, as one of a few words. ``refused``: the caller said so, for want of trust most often."""
    name = str(exc.reason or "")
    return _REASONS.get(name) or ("refused" if "ALERT" in name else OTHER)


def new_caller(server: DataServer) -> Callbacks:
    """The protocol of a connection that is about to be accepted: with TLS where there is ``tls``."""
    tls = server.snapshot.tls
    caller = CallerConnection(server)
    if tls is None:
        return caller
    return cast("Callbacks", SecureCaller(caller, cast("ssl.SSLContext", tls.context), server).as_protocol())


class SecureCaller(SecureTransport):
    """The transport of a caller's connection. ``deadline`` and ``looked_at`` are those of the handshake."""

    __slots__ = ("_counted", "_deaf", "_said_all", "_server", "deadline", "looked_at")

    def __init__(self, caller: CallerConnection, context: ssl.SSLContext, server: DataServer) -> None:
        super().__init__(caller, context, server.loop, None)
        self._server = server
        self._counted = False
        self._deaf = False
        self._said_all = False
        self.deadline = NEVER
        self.looked_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self._below = cast("asyncio.Transport", transport)
        self.deadline = self._loop.time() + self._server.snapshot.time.head
        self._server.deadlines.watch(self)
        self._reader.connection_made(cast("asyncio.BaseTransport", self))

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's callback."""
        if not self._deaf:
            super().buffer_updated(nbytes)

    def on_deadline(self) -> None:
        """The handshake took too long, or whoever was told that it failed does not go away."""
        if not self._deaf:
            self._count(TIMEOUT)
        self.abort()

    def _on_open(self) -> None:
        self._count(DONE)
        self._server.deadlines.forget(self)

    def _on_refused(self, exc: ssl.SSLError) -> None:
        reason = reason_of(exc)
        self._count(reason)
        self._deaf = self._said_all = True
        if reason == PLAIN:
            self._below.write(PLAIN_ANSWER)
        # Not closed at once: what the caller has sent and nobody has read would destroy the alert on its way.
        self._below.write_eof()
        self.deadline = self._loop.time() + LINGER
        self._server.deadlines.watch(self)

    def _on_lost(self, exc: Exception | None) -> None:
        self._count(CLOSED)
        self._server.deadlines.forget(self)
        self._tell_lost(exc)

    def _count(self, result: str) -> None:
        """The handshake is over; only the first result counts."""
        if not self._counted:
            self._counted = True
            self._server.metrics.on_handshake(result)

    def _flush(self) -> None:
        if self._said_all:
            self._outgoing.read()  # whatever OpenSSL wants to add after the end, there is no way to send it
        else:
            super()._flush()

    def _lose(self, exc: Exception) -> None:
        if not self._said_all:
            super()._lose(exc)
        elif isinstance(exc, CutOffError):
            self._below.close()  # whoever was told that this is all may go without a word
        else:
            self._deaf = True

    # -- the transport of the caller's connection ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Asyncio's method. Before the handshake is over nothing can be said, and nothing after the end."""
        if self._open and not self._said_all:
            super().write(data)

    def can_write_eof(self) -> bool:
        """Asyncio's method. In TLS, too, each side says for itself that it has no more to send (RFC 8446, 6.1)."""
        return True

    def write_eof(self) -> None:
        """Asyncio's method: says so, in TLS and below it; what the caller sends is still read."""
        if not self._open:
            self.abort()
        elif not self._closing and not self._said_all:
            with contextlib.suppress(ssl.SSLError):  # it wants to read the other side's answer, which is not waited for
                self._object.unwrap()
            self._flush()
            self._said_all = True
            self._below.write_eof()

    def close(self) -> None:
        """Asyncio's method."""
        if self._open:
            super().close()
        else:
            self.abort()

    def abort(self) -> None:
        """Asyncio's method. A handshake that is given up here did not fail."""
        self._counted = True
        super().abort()
