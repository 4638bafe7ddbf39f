"""The name of an upstream is asked for once for all who dial, and an earlier address serves while nobody answers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.core.errors import Code
from proxy.core.model import TimeLimits
from proxy.wire.dial import FRESH, STALE, Dialer, DialError
from tests.proxies import ClockLoop, Proxies
from tests.snapshots import upstream_at

pytestmark = pytest.mark.asyncio(loop_factories=["clock"])


class Resolver:
    """A name server that answers, is silent, or refuses, as it is told."""

    def __init__(self, loop: ClockLoop, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.answer: asyncio.Future[None] | Exception | None = None
        self._port = port
        monkeypatch.setattr(loop, "getaddrinfo", self._ask)

    async def _ask(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            await self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self._port))]


async def _dial(dialer: Dialer) -> None:
    protocol, _ = await dialer.connect(_Made(), TimeLimits())
    protocol.transport.abort()


class _Made(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


@pytest.fixture
async def port(proxies: Proxies) -> int:
    return (await proxies.upstream()).port


@pytest.fixture
async def resolver(clock: ClockLoop, port: int, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(clock, port, monkeypatch)


@pytest.fixture
async def dialer(clock: ClockLoop, port: int) -> Dialer:
    return Dialer(upstream_at(port, host="name.example"), clock, clock.create_task)


async def test_all_who_dial_at_once_share_one_lookup(dialer: Dialer, resolver: Resolver, clock: ClockLoop) -> None:
    resolver.answer = clock.create_future()
    dials = [asyncio.ensure_future(_dial(dialer)) for _ in range(20)]
    await clock.advance(0)
    resolver.answer.set_result(None)
    await asyncio.gather(*dials)
    assert resolver.asked == 1


async def test_an_earlier_address_serves_while_the_name_server_is_silent(
    dialer: Dialer, resolver: Resolver, still_clock: ClockLoop
) -> None:
    await _dial(dialer)
    resolver.answer = still_clock.create_future()
    await still_clock.advance(FRESH + 1)
    waiting = asyncio.ensure_future(_dial(dialer))
    await still_clock.advance(0)  # it begins before any time passes
    await still_clock.advance(0.9)
    assert not waiting.done()
    await still_clock.advance(0.2)
    await waiting
    again = asyncio.ensure_future(_dial(dialer))
    await still_clock.advance(0)
    await still_clock.advance(1.1)
    await again
    assert resolver.asked == 2  # the lookup that hangs is not repeated for each dial
    resolver.answer.set_result(None)


async def test_an_address_that_is_too_old_does_not_serve(dialer: Dialer, resolver: Resolver, clock: ClockLoop) -> None:
    await _dial(dialer)
    resolver.answer = socket.gaierror("nobody knows")
    await clock.advance(STALE - 1)
    await _dial(dialer)
    await clock.advance(2)
    with pytest.raises(DialError) as raised:
        await _dial(dialer)
    assert raised.value.code is Code.UPSTREAM_DNS_FAILED


async def test_a_name_server_that_is_silent_from_the_beginning_is_waited_for_within_the_limit(
    dialer: Dialer, resolver: Resolver, clock: ClockLoop
) -> None:
    resolver.answer = clock.create_future()
    waiting = asyncio.ensure_future(_dial(dialer))
    await clock.advance(0)
    await clock.advance(TimeLimits().connect + 0.1)
    with pytest.raises(DialError) as raised:
        await waiting
    assert raised.value.code is Code.UPSTREAM_DNS_TIMEOUT
    resolver.answer.set_result(None)
