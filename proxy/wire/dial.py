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
from typing import TypeVar

import aiohappyeyeballs

from proxy.core.errors import Code
from proxy.core.model import TimeLimits, Upstream
from proxy.tls import tls_context

ATTEMPT_DELAY = 0.25
"""Seconds before the next address family is tried beside the first (RFC 8305 section 5)."""

FRESH = 5.0
"""Seconds for which resolved addresses serve a burst of dials without asking again."""

STALE = 600.0
"""Seconds for which the last known addresses are used when the name does not resolve."""

LONGEST_PROXY_ANSWER = 16384

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_Addresses = Sequence[aiohappyeyeballs.AddrInfoType]


class DialError(Exception):
    """No connection. ``code`` says at which step; the cause is chained and never shown to a caller."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Dialer:
    """Makes connections to one upstream. Keeps nothing but the addresses of its name."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._tls = tls_context(upstream)
        self._addresses: _Addresses = []
        self._resolved = -STALE

    async def connect(self, protocol: _Protocol, time: TimeLimits) -> tuple[_Protocol, socket.socket]:
        """Connects ``protocol`` within ``time.connect`` and ``time.tls`` seconds. Raises ``DialError``."""
        sock = await self._open(time.connect)
        try:
            async with asyncio.timeout(time.tls):
                await self._attach(protocol, sock)
        except TimeoutError as exc:
            sock.close()
            raise DialError(Code.UPSTREAM_TLS_TIMEOUT) from exc
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

    async def _attach(self, protocol: asyncio.BaseProtocol, sock: socket.socket) -> None:
        try:
            await self._loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._upstream.host if self._tls is not None else None,
            )
        except ssl.SSLError as exc:
            raise DialError(Code.UPSTREAM_TLS_FAILED) from exc
        except OSError as exc:
            # Closed during the handshake: a server that refuses our TLS versions often says no more than that.
            code = Code.UPSTREAM_TLS_FAILED if self._tls is not None else Code.UPSTREAM_CONNECT_FAILED
            raise DialError(code) from exc

    async def _resolve(self, host: str, port: int) -> _Addresses:
        now = self._loop.time()
        if now - self._resolved < FRESH:
            return self._addresses
        try:
            self._addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._resolved = now
        except (OSError, UnicodeError) as exc:
            if not self._addresses or now - self._resolved > STALE:
                raise DialError(Code.UPSTREAM_DNS_FAILED) from exc
        return self._addresses

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
