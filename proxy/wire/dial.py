"""One new connection to an upstream: resolve, connect (directly or through a CONNECT proxy), TLS.

Every name and address here comes from the configuration, never from a request, and nothing in the environment
(``HTTP_PROXY``, ``.netrc``) changes where a connection goes.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from typing import TypeVar, cast

import aiohappyeyeballs

from proxy.core.errors import Code
from proxy.core.model import Spawn, TimeLimits, Upstream
from proxy.tls import tls_context
from proxy.wire.reading import Callbacks
from proxy.wire.secure_upstream import SecureUpstream

ATTEMPT_DELAY = 0.25
"""Seconds before the next address family is tried beside the first (RFC 8305 section 5)."""

FRESH = 5.0
"""Seconds for which resolved addresses serve a burst of dials without asking again."""

STALE = 600.0
"""Seconds for which the last known addresses are used when the name does not resolve."""

PATIENCE = 1.0
"""Seconds for which a name server may keep silent when an earlier address can be used."""

LONGEST_PROXY_ANSWER = 16384

_Protocol = TypeVar("_Protocol", bound=Callbacks)
_Addresses = Sequence[aiohappyeyeballs.AddrInfoType]


class DialError(Exception):
    """No connection. ``code`` says at which step; the cause is chained and never shown to a caller."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Dialer:
    """Makes connections to one upstream. Keeps nothing but the addresses of its name."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        self._spawn = spawn
        self._upstream = upstream
        self._loop = loop
        self._tls = tls_context(upstream)
        self._addresses: _Addresses = []
        self._resolved = -STALE
        self._lookup: asyncio.Future[_Addresses] | None = None

    async def connect(self, protocol: _Protocol, time: TimeLimits) -> tuple[_Protocol, socket.socket]:
        """Connects ``protocol`` within ``time.connect`` and ``time.tls`` seconds. Raises ``DialError``."""
        sock = await self._open(time.connect)
        try:
            if self._tls is None:
                await self._loop.create_connection(lambda: cast("asyncio.Protocol", protocol), sock=sock)
            else:
                await self._secure(protocol, sock, self._tls, time.tls)
        except OSError as exc:
            sock.close()
            raise DialError(Code.UPSTREAM_CONNECT_FAILED) from exc
        except BaseException:
            sock.close()
            raise
        return protocol, sock

    async def _open(self, limit: float) -> socket.socket:
        host, port = self._upstream.connect_proxy or (self._upstream.host, self._upstream.port)
        waits_for = Code.UPSTREAM_DNS_TIMEOUT
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(limit):
                addresses = await self._resolve(host, port)
                waits_for = Code.UPSTREAM_CONNECT_TIMEOUT
                sock = await self._reach(addresses)
                if self._upstream.connect_proxy is not None:
                    waits_for = Code.UPSTREAM_PROXY_TIMEOUT
                    await self._ask_proxy(sock)
                return sock
        except TimeoutError as exc:
            if sock is not None:
                sock.close()
            raise DialError(waits_for) from exc
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    async def _reach(self, addresses: _Addresses) -> socket.socket:
        try:
            return await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=ATTEMPT_DELAY, interleave=1, loop=self._loop
            )
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                raise DialError(Code.DESCRIPTORS_EXHAUSTED) from exc
            raise DialError(Code.UPSTREAM_CONNECT_FAILED) from exc

    async def _secure(self, protocol: Callbacks, sock: socket.socket, context: ssl.SSLContext, limit: float) -> None:
        transport = SecureUpstream(protocol, context, self._loop, self._upstream.host)
        await self._loop.create_connection(transport.as_protocol, sock=sock)
        try:
            async with asyncio.timeout(limit):
                await transport.opened
        except TimeoutError as exc:
            transport.abort()
            raise DialError(Code.UPSTREAM_TLS_TIMEOUT) from exc
        except OSError as exc:
            # Closed during the handshake: a server that refuses our TLS versions often says no more than that.
            transport.abort()
            raise DialError(Code.UPSTREAM_TLS_FAILED) from exc
        except BaseException:
            transport.abort()
            raise

    async def _resolve(self, host: str, port: int) -> _Addresses:
        now = self._loop.time()
        if now - self._resolved < FRESH:
            return self._addresses
        usable = bool(self._addresses) and now - self._resolved <= STALE
        if self._lookup is None or self._lookup.done():
            # One for all who dial: a name server that hangs must not take a thread for each of them.
            self._lookup = self._loop.create_future()
            self._spawn(self._look_up(host, port, self._lookup))
        try:
            async with asyncio.timeout(PATIENCE if usable else None):
                self._addresses = await asyncio.shield(self._lookup)
            self._resolved = now
        except (OSError, UnicodeError) as exc:  # TimeoutError is one, and the connection's own limit is not caught here
            if not usable:
                raise DialError(Code.UPSTREAM_DNS_FAILED) from exc
        return self._addresses

    async def _look_up(self, host: str, port: int, answer: asyncio.Future[_Addresses]) -> None:
        try:
            answer.set_result(await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            answer.set_exception(exc)
            answer.exception()  # seen here, should nobody wait for it any more
        finally:
            if not answer.done():
                answer.cancel()

    async def _ask_proxy(self, sock: socket.socket) -> None:
        """Opens a tunnel through an HTTP proxy (RFC 9110 section 9.3.6)."""
        upstream = self._upstream
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        authority = f"{host}:{upstream.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if upstream.connect_proxy_authorization is not None:
            lines.append(f"Proxy-Authorization: {upstream.connect_proxy_authorization}")
        try:
            await self._loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("ascii"))
            answer = b""
            while b"\r\n\r\n" not in answer:
                # One byte at a time would be exact; a server never speaks first inside the tunnel, so this is too.
                received = await self._loop.sock_recv(sock, 4096)
                if not received or len(answer) > LONGEST_PROXY_ANSWER:
                    raise DialError(Code.UPSTREAM_PROXY_FAILED)
                answer += received
        except OSError as exc:
            raise DialError(Code.UPSTREAM_PROXY_FAILED) from exc
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")) or rest:
            raise DialError(Code.UPSTREAM_PROXY_FAILED)
