"""The way to an upstream, step by step: its name, a connection, TLS. Dialled as for a request (``wire/dial.py``).

Nothing is sent but what opens the connection: to a CONNECT proxy, if one is configured, and the TLS handshake.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic

from proxy.core.errors import MESSAGES, Code
from proxy.core.model import Spawn, TimeLimits, Upstream
from proxy.doctor.certificate import explain, validity
from proxy.doctor.finding import Finding, State
from proxy.wire.dial import Dialer, DialError


class Silent(asyncio.Protocol):
    """Reads nothing that means anything and says nothing."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self.transport = transport  # type: ignore[assignment]  # TLS of ours is one by shape

    def close(self) -> None:
        """Ends the connection."""
        if self.transport is not None:
            self.transport.abort()


async def check_name(upstream: Upstream) -> Finding:
    """Is there an address for it, or for the CONNECT proxy that is asked in its place?"""
    name = f"dns {upstream.name}"
    host, port = upstream.connect_proxy or (upstream.host, upstream.port)
    by = " (the CONNECT proxy)" if upstream.connect_proxy is not None else ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is no name"
        where = "proxy" if upstream.connect_proxy is not None else "url"
        remedy = f"correct upstreams.{upstream.name}.{where}, or this machine's resolver (/etc/resolv.conf)"
        if upstream.connect_proxy is None:
            remedy = f"{remedy}; {_by_proxy(upstream)}"
        return Finding(name, State.FAIL, f"{host}{by} has no address: {reason}", remedy)
    addresses = ", ".join(dict.fromkeys(str(where[0]) for *_, where in found))
    return Finding(name, State.OK, f"{host}{by}: {addresses}" if addresses != host else f"{host}{by} is an address")


async def check_connection(upstream: Upstream, limit: float, spawn: Spawn) -> Finding:
    """Is there a connection, without TLS?"""
    name = f"tcp {upstream.name}"
    began = monotonic()
    try:
        protocol = await connect_plainly(upstream, limit, spawn)
    except DialError as exc:
        return Finding(name, State.FAIL, _why(exc, upstream), _what_to_do(exc, upstream))
    took = (monotonic() - began) * 1000
    protocol.close()
    way = "" if upstream.connect_proxy is None else f" through {upstream.connect_proxy[0]}:{upstream.connect_proxy[1]}"
    return Finding(name, State.OK, f"{upstream.host}:{upstream.port}{way} in {took:.0f} ms")


async def check_tls(upstream: Upstream, limit: float, spawn: Spawn, now: float) -> Finding:
    """Is its certificate one that is trusted, for its name, and for how long still?"""
    name = f"tls {upstream.name}"
    if upstream.scheme != "https":
        return Finding(name, State.OK, "not spoken: http:// to this machine")
    loop = asyncio.get_running_loop()
    protocol = Silent()
    try:
        await Dialer(upstream, loop, spawn).connect(protocol, TimeLimits(connect=limit, tls=limit))
    except DialError as exc:
        if isinstance(exc.__cause__, ssl.SSLCertVerificationError):
            found, remedy = await explain(exc.__cause__, upstream, _plainly(upstream, limit, spawn), limit)
            return Finding(name, State.FAIL, found, remedy)
        return Finding(name, State.FAIL, _why(exc, upstream), _what_to_do(exc, upstream))
    assert protocol.transport is not None  # noqa: S101 - for the type checker; it is connected
    shown = protocol.transport.get_extra_info("ssl_object")
    protocol.close()
    state, found, remedy = validity(shown, now)
    return Finding(name, state, found, remedy)


async def connect_plainly(upstream: Upstream, limit: float, spawn: Spawn) -> Silent:
    """A connection to where TLS would begin. Raises ``DialError``."""
    plain = replace(upstream, scheme="http", ca_file=None, ca_digest=None)
    protocol = Silent()
    await Dialer(plain, asyncio.get_running_loop(), spawn).connect(protocol, TimeLimits(connect=limit))
    return protocol


def _plainly(upstream: Upstream, limit: float, spawn: Spawn) -> Callable[[], Awaitable[Silent]]:
    return lambda: connect_plainly(upstream, limit, spawn)


def _why(error: DialError, upstream: Upstream) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        said = (cause.reason or "the handshake failed").replace("_", " ").lower()
        return f"{upstream.host}:{upstream.port}: no TLS that is acceptable: {said}"
    if isinstance(cause, ConnectionRefusedError):
        return f"{_where(upstream)} refuses the connection"
    text = MESSAGES.get(error.code, error.code.value).rstrip(".")
    reason = cause.strerror if isinstance(cause, OSError) and not isinstance(cause, TimeoutError) else None
    return f"{_where(upstream)}: {text}" + (f" ({reason})" if reason else "")


def _where(upstream: Upstream) -> str:
    host, port = upstream.connect_proxy or (upstream.host, upstream.port)
    return f"{host}:{port}" + (" (the CONNECT proxy)" if upstream.connect_proxy is not None else "")


def _what_to_do(error: DialError, upstream: Upstream) -> str:
    here = f"upstreams.{upstream.name}"
    there = f"{upstream.host}:{upstream.port}"
    if error.code in (Code.UPSTREAM_PROXY_FAILED, Code.UPSTREAM_PROXY_TIMEOUT):
        asked = f"ask whoever runs that proxy to let CONNECT {there} pass"
        return f"{asked}, with the user and password of {here}.proxy"
    if error.code is Code.UPSTREAM_TLS_TIMEOUT:
        return f"see what is slow or silent there: correct the port in {here}.url; --timeout waits longer"
    if error.code is Code.UPSTREAM_TLS_FAILED:
        return f"see who answers there: correct the port in {here}.url, or the TLS of that server (1.2 or newer)"
    if error.code is Code.DESCRIPTORS_EXHAUSTED:
        return "raise ulimit -n"
    asked = f"let this machine out to {there} (firewall, egress policy), or correct {here}.url"
    return asked if upstream.connect_proxy is not None else f"{asked}; {_by_proxy(upstream)}"


def _by_proxy(upstream: Upstream) -> str:
    """The remedy of those who see the Internet through an HTTP proxy only: nothing in the environment is followed."""
    return (
        "where only a corporate proxy reaches the Internet, name it: "
        f"`upstreams.{upstream.name}.proxy: env:HTTPS_PROXY` (the variable alone changes nothing)"
    )
