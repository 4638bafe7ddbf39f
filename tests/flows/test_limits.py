"""Every size and every wait has a limit, and each limit has its own answer. The clock is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.errors import Code
from proxy.core.model import SizeLimits, TimeLimits
from proxy.observe.record import Ending
from proxy.wire.head import MOST_FIELDS
from proxy.wire.tunnel import STUCK
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import SOCKET, make_snapshot, upstream_at
from tests.wires import OK, Wire, bounded, chunked, request

TIME = TimeLimits(
    head=10, keep_alive=20, body_idle=30, connect=5, first_byte=40, idle=50, tunnel_idle=60, upstream_keep_alive=15,
    upstream_max_age=100,
)  # fmt: skip
SIZE = SizeLimits(line=1000, head=4000, body=10_000)


async def _limited(proxies: Proxies) -> Proxy:
    upstream = await proxies.upstream()
    snapshot = replace(make_snapshot(upstream_at(upstream.port)), time=TIME, size=SIZE)
    return await proxies.start(snapshot, upstream)


@pytest.fixture
async def limited(proxies: Proxies) -> Proxy:
    """A proxy with small limits."""
    return await _limited(proxies)


async def _refused(proxy: Proxy, caller: Wire, status: int, code: str) -> None:
    got = await caller.message()
    assert (got.head.status, code.encode() in got.body) == (status, True)
    assert got.head.get("Connection") == "close"
    await caller.gone()


# -- sizes ------------------------------------------------------------------------------------------------------------


async def test_a_request_line_up_to_the_limit_is_served(limited: Proxy) -> None:
    line = "GET /things?" + "x" * (1000 - len("GET /things? HTTP/1.1"))
    seen, _ = await limited.pass_on(request(line))
    assert len(seen.head.line) == 1000


@pytest.mark.parametrize("ended", [True, False])
async def test_a_request_line_over_the_limit_is_414(limited: Proxy, ended: bool) -> None:
    raw = request("GET /things?" + "x" * (1001 - len("GET /things? HTTP/1.1")))
    caller = await limited.caller()
    await caller.send(raw if ended else raw[:1002])
    await _refused(limited, caller, 414, "target_too_long")


async def test_a_head_up_to_the_limit_is_served(limited: Proxy) -> None:
    assert (await limited.pass_on(request("GET /things", "X: " + "x" * 3900))).got.head.status == 200


@pytest.mark.parametrize("ended", [True, False])
async def test_a_head_over_the_limit_is_431(limited: Proxy, ended: bool) -> None:
    raw = request("GET /things", *[f"X-{number}: {'x' * 90}" for number in range(50)])
    caller = await limited.caller()
    await caller.send(raw if ended else raw[:4100])
    await _refused(limited, caller, 431, "head_too_large")


async def test_as_many_fields_as_the_limit_are_served_and_one_more_is_431(limited: Proxy) -> None:
    raw = request("GET /things")
    room = MOST_FIELDS - raw.count(b"\r\n") + 2  # the request line and the empty one are no fields
    fields = [f"X-{number}: x" for number in range(room + 1)]
    assert (await limited.pass_on(request("GET /things", *fields[:-1]))).got.head.status == 200
    caller = await limited.caller()
    await caller.send(request("GET /things", *fields))
    await _refused(limited, caller, 431, "head_too_large")


async def test_a_field_name_of_256_characters_is_served_and_a_longer_one_is_400(limited: Proxy) -> None:
    assert (await limited.pass_on(request("GET /things", "x" * 256 + ": y"))).got.head.status == 200
    caller = await limited.caller()
    await caller.send(request("GET /things", "x" * 257 + ": y"))
    await _refused(limited, caller, 400, "256 characters")


async def test_a_body_up_to_the_limit_is_served(limited: Proxy) -> None:
    assert (await limited.pass_on(request("POST /things", body=b"x" * 10_000))).got.head.status == 200


@pytest.mark.parametrize("fields", [(), ("Expect: 100-continue",)])
async def test_a_body_declared_over_the_limit_is_413_before_the_upstream_hears_of_it(
    limited: Proxy, fields: tuple[str, ...]
) -> None:
    caller = await limited.caller()
    await caller.send(request("POST /things", *fields, "Content-Length: 10001"))
    await _refused(limited, caller, 413, "body_too_large")
    assert limited.upstream.count == 0


async def test_a_chunked_body_is_413_once_it_is_over_the_limit(limited: Proxy) -> None:
    caller = await limited.caller()
    await caller.send(request("POST /things", "Transfer-Encoding: chunked", body=chunked(b"x" * 5000)[:-5]))
    wire = await limited.upstream.accept()
    await wire.head()
    await caller.send(chunked(b"x" * 5001))
    await _refused(limited, caller, 413, "body_too_large")
    await wire.gone()


# -- times ------------------------------------------------------------------------------------------------------------

on_a_clock = pytest.mark.asyncio(loop_factories=["clock"])


@on_a_clock
async def test_a_head_that_does_not_arrive_in_time_is_408_however_busily_it_drips(
    limited: Proxy, clock: ClockLoop
) -> None:
    caller = await limited.caller()
    await caller.send(b"GET /things HTTP/1.1\r\n")
    await limited.metrics.until(lambda m: m.connections == 1)
    for _ in range(3):
        await clock.advance(3)
        await caller.send(b"X: y\r\n")
    await clock.advance(3)
    await _refused(limited, caller, 408, "head_timeout")


@on_a_clock
async def test_an_idle_connection_is_closed_without_a_word(limited: Proxy, clock: ClockLoop) -> None:
    limited.upstream.always(OK)
    caller = await limited.caller()
    await caller.send(request("GET /things"))
    await caller.message()
    await clock.advance(TIME.keep_alive + 1)
    assert await caller.rest() == b""
    assert limited.metrics.accepted == 1


@on_a_clock
async def test_a_connection_that_never_asks_is_closed(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await limited.metrics.until(lambda m: m.connections == 1)
    await clock.advance(TIME.keep_alive + 1)
    assert await caller.rest() == b""


@on_a_clock
async def test_a_connection_in_use_is_not_idle(limited: Proxy, clock: ClockLoop) -> None:
    limited.upstream.always(OK)
    caller = await limited.caller()
    for _ in range(4):
        await caller.send(request("GET /things"))
        assert (await caller.message()).content == b"ok"
        await clock.advance(TIME.keep_alive - 1)


@on_a_clock
@pytest.mark.parametrize("begun", [b"", b"x"])
async def test_a_body_that_does_not_come_is_408(limited: Proxy, clock: ClockLoop, begun: bytes) -> None:
    caller = await limited.caller()
    await caller.send(request("POST /things", "Content-Length: 5", body=begun))
    wire = await limited.upstream.accept()
    await wire.head()
    await clock.advance(TIME.body_idle + 1)
    await _refused(limited, caller, 408, "body_timeout")
    await wire.gone()


@on_a_clock
async def test_a_body_that_is_refused_and_does_not_come_ends_the_connection(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await caller.send(request("POST /nothing", "Content-Length: 5"))
    assert (await caller.message()).head.status == 404
    await clock.advance(TIME.keep_alive + 1)
    await caller.gone()


@on_a_clock
async def test_an_upstream_that_does_not_answer_is_504(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await caller.send(request("GET /things"))
    wire = await limited.upstream.accept()
    await wire.message()
    await clock.advance(TIME.first_byte - 1)
    assert limited.metrics.in_flight == 1
    await clock.advance(2)
    got = await caller.message()
    assert (got.head.status, b"upstream_first_byte_timeout" in got.body) == (504, True)
    await wire.gone()
    assert limited.ended(Ending.FAILED) == 1


@on_a_clock
async def test_an_upstream_that_falls_silent_breaks_the_body_off(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await caller.send(request("GET /things"))
    wire = await limited.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await caller.head()
    assert await caller.exactly(6)
    for piece in (b"1\r\nb\r\n", b"1\r\nc\r\n"):
        await clock.advance(TIME.idle - 1)
        await wire.send(piece)
        assert await caller.exactly(6) == piece
    await clock.advance(TIME.idle + 1)
    assert await caller.until_broken() == b""
    assert limited.ended(Ending.ABORTED) == 1


@on_a_clock
async def test_a_stream_may_last_for_hours(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await caller.send(request("GET /things"))
    wire = await limited.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await caller.head()
    for _ in range(400):
        await clock.advance(45)
        await wire.send(b"1\r\na\r\n")
        assert await caller.exactly(6)
    await wire.send(b"0\r\n\r\n")
    assert await caller.exactly(5) == b"0\r\n\r\n"


@on_a_clock
async def test_an_upstream_that_takes_no_upload_is_given_up(limited: Proxy, clock: ClockLoop) -> None:
    """Otherwise a caller who has long gone, and whom nobody reads, would hold both connections for ever."""
    upstream = await _no_body_limit(limited)
    caller = await limited.caller()
    await caller.send(request("POST /things", "Content-Length: 100000000"))
    wire = await upstream.accept()
    wire.stop_reading()
    caller._writer.write(b"x" * 50_000_000)
    await limited.metrics.until(lambda m: m.in_flight == 1)
    for _ in range(2000):
        if any(connection._held for connection in limited.server.connections):
            break
        await clock.advance(0)
    await clock.advance(TIME.body_idle + 1)
    await clock.advance(TIME.idle + 1)
    await clock.advance(TIME.idle + 1)
    await limited.metrics.until(lambda m: m.in_flight == 0)
    wire.read_again()


async def _no_body_limit(proxy: Proxy):
    for pool in proxy.server.pools.values():
        pool.most_body = None
    return proxy.upstream


@on_a_clock
async def test_a_caller_who_does_not_read_is_given_up(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    caller.stop_reading()
    await caller.send(request("GET /things"))
    wire = await limited.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    wire._writer.write(b"x" * 50_000_000)
    for _ in range(2000):
        if any(connection._write_full for connection in limited.server.connections):
            break
        await clock.advance(0)
    await clock.advance(TIME.idle + 1)
    await limited.metrics.until(lambda m: m.in_flight == 0)
    assert limited.ended(Ending.ABORTED) == 1
    await wire.gone()


@on_a_clock
async def test_a_caller_who_reads_the_last_bytes_slowly_still_gets_all_of_them(
    limited: Proxy, clock: ClockLoop
) -> None:
    """The answer is whole here, its end not yet read there: closing must not cut off what is still on its way."""
    caller = await limited.caller()
    caller.stop_reading()
    await caller.send(request("GET /things HTTP/1.0"))
    wire = await limited.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece, sent = b"x" * 10_000, 0
    (connection,) = limited.server.connections
    while not connection.transport.get_write_buffer_size():
        await wire.send(b"2710\r\n" + piece + b"\r\n")
        sent += len(piece)
        await clock.advance(0)
    await wire.send(b"0\r\n\r\n")
    await limited.metrics.until(lambda m: m.in_flight == 0)
    await clock.advance(3)
    caller.read_again()
    await caller.head()
    assert len(await caller.rest()) == sent


@on_a_clock
async def test_a_caller_who_never_closes_after_the_last_answer_is_cut_off(limited: Proxy, clock: ClockLoop) -> None:
    limited.upstream.always(OK)
    caller = await limited.caller()
    await caller.send(request("GET /things", "Connection: close"))
    assert (await caller.message()).content == b"ok"
    await clock.advance(3)
    await limited.metrics.until(lambda m: m.connections == 0)


@on_a_clock
async def test_an_idle_tunnel_is_cut_off_and_a_busy_one_is_not(limited: Proxy, clock: ClockLoop) -> None:
    caller = await limited.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await limited.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await caller.head()).status == 101
    for _ in range(5):
        await clock.advance(TIME.tunnel_idle - 1)
        await wire.send(b"\x81\x01a")
        assert await caller.exactly(3)
    await clock.advance(TIME.tunnel_idle + 1)
    await clock.advance(TIME.tunnel_idle + 1)
    assert await caller.exactly(4) == b"\x88\x15\x03\xe9"
    await wire.some()
    await wire.gone()
    await clock.advance(1.1)
    await caller.until_broken()
    assert limited.ended(Ending.ABORTED) == 1
    assert limited.records[0].code is Code.TUNNEL_IDLE_TIMEOUT


@on_a_clock
async def test_an_upstream_connection_that_waited_too_long_is_not_used_again(limited: Proxy, clock: ClockLoop) -> None:
    await limited.pass_on(request("GET /things"))
    await clock.advance(TIME.upstream_keep_alive + 1)
    await limited.upstream.wires[0].gone()
    await limited.pass_on(request("GET /things"))
    assert limited.upstream.count == 2


@on_a_clock
async def test_an_upstream_connection_that_is_too_old_is_not_used_again(limited: Proxy, clock: ClockLoop) -> None:
    limited.upstream.always(OK)
    caller = await limited.caller()
    for _ in range(12):
        await caller.send(request("GET /things"))
        await caller.message()
        await clock.advance(10)
    assert limited.upstream.count == 2
    await limited.upstream.wires[0].gone()


@on_a_clock
async def test_a_tls_handshake_that_does_not_end_in_time_is_504(proxies: Proxies, clock: ClockLoop) -> None:
    """A TLS upstream that accepts and then says nothing."""
    upstream = await proxies.upstream()
    snapshot = replace(make_snapshot(upstream_at(upstream.port, scheme="https")), time=TIME)
    proxy = await proxies.start(snapshot, upstream)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await upstream.accept()
    assert (await wire.some())[:1] == b"\x16"
    await clock.advance(TIME.tls - 1)
    assert proxy.metrics.in_flight == 1
    await clock.advance(2)
    got = await caller.message()
    assert (got.head.status, b"upstream_tls_timeout" in got.body) == (504, True)
    assert proxy.records[0].code is Code.UPSTREAM_TLS_TIMEOUT
    await wire.gone()


@on_a_clock
async def test_a_tunnel_that_its_caller_left_ends_when_the_upstream_says_nothing_more(
    limited: Proxy, clock: ClockLoop
) -> None:
    limited.server.snapshot = replace(limited.server.snapshot, time=replace(TIME, tunnel_idle=None))
    caller, wire = await _tunnel(limited)
    caller.end()
    for _ in range(3):
        await clock.advance(STUCK - 1)
        await wire.send(b"\x81\x01a")
        assert await caller.exactly(3)
    await clock.advance(STUCK + 1)
    await clock.advance(STUCK + 1)
    await wire.gone()
    assert limited.ended(Ending.ABORTED) == 1


@on_a_clock
async def test_a_tunnel_whose_caller_reads_nothing_ends(limited: Proxy, clock: ClockLoop) -> None:
    limited.server.snapshot = replace(limited.server.snapshot, time=replace(TIME, tunnel_idle=None))
    caller, wire = await _tunnel(limited)
    caller.stop_reading()
    (tunnel,) = limited.server.tunnels
    wire.feed(b"\x82\x7f" + (2**30).to_bytes(8, "big") + bytes(64 * 2**20))
    await bounded(_until(lambda: tunnel.caller.full))
    await clock.advance(STUCK + 1)
    await clock.advance(STUCK + 1)
    await limited.metrics.until(lambda m: m.in_flight == 0)
    assert limited.ended(Ending.ABORTED) == 1


async def _until(true: Callable[[], bool]) -> None:
    """Lets the loop turn until this is so."""
    while not true():  # noqa: ASYNC110 - nothing tells a test that a buffer is full
        await asyncio.sleep(0)


async def _tunnel(proxy: Proxy) -> tuple[Wire, Wire]:
    """The caller's and the upstream's end of an open WebSocket."""
    caller = await proxy.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await caller.head()).status == 101
    return caller, wire
