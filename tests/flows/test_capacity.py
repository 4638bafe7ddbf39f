"""What one process carries at once is bounded where the configuration says so, and who is too much is told so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.model import Limits, TimeLimits
from proxy.observe.record import Ending
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import HANDSHAKE, SWITCH, make_snapshot, upstream_at
from tests.wires import OK, Wire, request, response


async def _start(proxies: Proxies, limits: Limits, time: TimeLimits | None = None) -> Proxy:
    upstream = await proxies.upstream()
    snapshot = replace(make_snapshot(upstream_at(upstream.port)), limits=limits, time=time or TimeLimits())
    return await proxies.start(snapshot, upstream)


async def _told(caller: Wire, status: int, code: str) -> None:
    got = await caller.message()
    assert (got.head.status, code in got.body.decode()) == (status, True)
    assert got.head.get("Retry-After") == "1"
    assert f'details="{code}"' in (got.head.get("Proxy-Status") or "")


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        (Limits(connections=2), 503, "connections_limited"),
        (Limits(connections_per_address=2), 429, "address_limited"),
    ],
    ids=["in all", "from one address"],
)
async def test_a_connection_too_many_is_told_so_and_closed_and_the_others_are_served(
    proxies: Proxies, limits: Limits, status: int, code: str
) -> None:
    proxy = await _start(proxies, limits)
    proxy.upstream.always(OK)
    first, second = await proxy.caller(), await proxy.caller()
    await proxy.metrics.until(lambda m: m.connections == 2)
    third = await proxy.caller()
    await third.send(request("GET /things"))
    await _told(third, status, code)
    assert await third.rest() == b""
    third.close()
    for caller in (first, second):
        await caller.send(request("GET /things"))
        assert (await caller.message()).content == b"ok"
    assert proxy.metrics.connections_refused == {code: 1}
    assert proxy.metrics.accepted == 2  # what a refused connection says is not read
    await proxy.metrics.until(lambda m: m.connections == 2)
    first.close()
    await proxy.metrics.until(lambda m: m.connections == 1)
    assert (await proxy.ask(request("GET /things"))).content == b"ok"


async def test_connections_that_became_tunnels_count_until_they_end(proxies: Proxies) -> None:
    proxy = await _start(proxies, Limits(connections_per_address=1))
    caller, wire = await _tunnel(proxy)
    await _told(await proxy.caller(), 429, "address_limited")
    wire.reset()
    await caller.gone()
    await proxy.metrics.until(lambda m: m.connections == 0)
    assert proxy.server._addresses == {}
    await proxy.pass_on(request("GET /things"))


async def test_a_request_too_many_is_refused_and_its_connection_kept(proxies: Proxies) -> None:
    proxy = await _start(proxies, Limits(in_flight=1))
    first, second = await proxy.caller(), await proxy.caller()
    await first.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await second.send(request("GET /things"))
    await _told(second, 503, "in_flight_limited")
    await wire.send(OK)
    assert (await first.message()).content == b"ok"
    await second.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await second.message()).content == b"ok"
    assert proxy.ended(Ending.REFUSED) == 1
    assert proxy.metrics.refusals == {("in_flight_limited", "things.any", "anonymous"): 1}


async def test_a_websocket_too_many_is_refused_and_handshakes_count(proxies: Proxies) -> None:
    proxy = await _start(proxies, Limits(tunnels=2))
    caller, wire = await _tunnel(proxy)
    asking = await proxy.caller()
    await asking.send(HANDSHAKE)
    asked = await proxy.upstream.accept()
    await asked.head()
    third = await proxy.caller()
    await third.send(HANDSHAKE)
    await _told(third, 503, "tunnels_limited")
    closing = response("200 OK", "Connection: close", body=b"ok")
    await proxy.pass_on(request("GET /things"), closing)  # not a WebSocket
    wire.reset()
    await caller.gone()
    await proxy.metrics.until(lambda m: m.tunnels == {"realtime.session": 0})
    fourth = await proxy.caller()  # a refused handshake ends its connection
    await fourth.send(HANDSHAKE)
    await (await proxy.upstream.accept()).head()
    asked.reset()
    assert (await asking.message()).head.status == 502
    assert proxy.server.websockets == 1


on_a_clock = pytest.mark.asyncio(loop_factories=["clock"])


@on_a_clock
@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "in mid-answer"])
async def test_a_request_that_takes_too_long_in_total_is_ended(proxies: Proxies, clock: ClockLoop, begun: bool) -> None:
    proxy = await _start(proxies, Limits(), TimeLimits(total=50))
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    if begun:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await caller.head()
        assert await caller.exactly(6)
    for _ in range(7):
        await clock.advance(7)
        if begun:
            await wire.send(b"1\r\nb\r\n")
            assert await caller.exactly(6)
    assert proxy.metrics.in_flight == 1
    await clock.advance(2)
    if begun:
        assert await caller.until_broken() == b""
    else:
        got = await caller.message()
        assert (got.head.status, b"total_timeout" in got.body) == (504, True)
    await wire.gone()
    assert proxy.metrics.upstream_errors == {("inworld", "total_timeout"): 1}


@on_a_clock
async def test_no_total_limit_holds_for_a_websocket_nor_after_the_answer(proxies: Proxies, clock: ClockLoop) -> None:
    proxy = await _start(proxies, Limits(), TimeLimits(total=50, keep_alive=200))
    caller, wire = await _tunnel(proxy)
    other = await proxy.caller()
    await other.send(request("GET /things"))
    served = await proxy.upstream.accept()
    await served.message()
    await served.send(OK)
    assert (await other.message()).content == b"ok"
    await clock.advance(51)
    await wire.send(b"\x81\x01a")
    assert await caller.exactly(3)
    await other.send(request("GET /things"))
    again = await proxy.upstream.accept()
    await again.message()
    await again.send(OK)
    assert (await other.message()).content == b"ok"


async def _tunnel(proxy: Proxy) -> tuple[Wire, Wire]:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert (await caller.head()).status == 101
    return caller, wire
