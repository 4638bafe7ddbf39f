"""What a caller asks for beyond its limits waits in its own line, or is refused with 429; others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.model import CallerLimits
from proxy.observe.families import registry_of
from proxy.observe.record import Ending
from proxy.wire.exchange import Exchange
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import SOCKET, make_snapshot, upstream_at
from tests.wires import OK, Message, Wire, bounded, request, response

on_a_clock = pytest.mark.asyncio(loop_factories=["clock"])

TOKENS = {"shop": "a-shared-token-of-the-shop", "other": "a-shared-token-of-the-other"}


def ask(line: str, *fields: str, who: str = "shop", body: bytes = b"") -> bytes:
    return request(line, f"Authorization: Bearer {TOKENS[who]}", *fields, body=body)


HANDSHAKE = ask(
    f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


async def _limited(
    proxies: Proxies, *, rate: float | None = None, concurrent: int | None = None, queue: float = 0.0
) -> Proxy:
    upstream = await proxies.upstream()
    limits = CallerLimits(rate, concurrent, queue)
    return await proxies.start(make_snapshot(upstream_at(upstream.port), tokens=TOKENS, limits=limits), upstream)


def _gate(proxy: Proxy) -> tuple[int, int]:
    """How many of the shop's requests are in flight, and in line."""
    gate = proxy.server.gates.of("shop", proxy.server.snapshot.callers["shop"].limits or CallerLimits())
    return gate.in_flight, gate.waiting


async def _until(true: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not true():  # noqa: ASYNC110 - looks at the gate from outside, which tells nobody
            await asyncio.sleep(0)

    await bounded(wait())


async def _sent(proxy: Proxy, raw: bytes, *, waiting: int) -> Wire:
    """Sends a request that has to wait, and returns when it does."""
    caller = await proxy.caller()
    await caller.send(raw)
    await _until(lambda: _gate(proxy)[1] == waiting)
    return caller


def _refused(got: Message, code: str, *, after: int = 1) -> None:
    assert got.head.line == "HTTP/1.1 429 Too Many Requests"
    assert got.head.get("Retry-After") == str(after)
    assert got.head.get("Proxy-Status") == f'inworld-proxy; error=http_request_denied; details="{code}"'
    assert code in got.content.decode()
    assert "callers.shop.limits." in got.content.decode()


# -- refused at once --------------------------------------------------------------------------------------------------


@on_a_clock
async def test_a_caller_over_its_rate_is_refused_and_told_when_to_come_back(
    proxies: Proxies, still_clock: ClockLoop
) -> None:
    proxy = await _limited(proxies, rate=0.2)
    proxy.upstream.always(OK)
    assert (await proxy.ask(ask("GET /things"))).head.status == 200
    got = await proxy.ask(ask("GET /things"))
    _refused(got, "rate_limited", after=5)
    await still_clock.advance(1.5)
    _refused(await proxy.ask(ask("GET /things")), "rate_limited", after=4)
    body = json.loads(got.content)
    assert (body["code"], body["details"][0]["reason"]) == (8, "rate_limited")
    assert len(proxy.upstream.requests) == 1
    record = proxy.records[-1]
    assert (record.caller, record.status, record.ending) == ("shop", 429, Ending.REFUSED)


async def test_a_rate_refusal_comes_in_the_shape_of_the_operation(proxies: Proxies) -> None:
    proxy = await _limited(proxies, rate=0.01)
    proxy.upstream.always(OK)
    await proxy.ask(ask("GET /things"))
    got = await proxy.ask(ask("POST /v1/chat/completions", body=b"{}"))
    error = json.loads(got.content)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")


async def test_a_refused_body_is_dropped_and_the_connection_kept(proxies: Proxies) -> None:
    proxy = await _limited(proxies, rate=0.01)
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    raw = ask("POST /things", body=b"x" * 5000)
    await caller.send(raw + raw + ask("GET /things"))
    assert [(await caller.message()).head.status for _ in range(3)] == [200, 429, 429]


async def test_a_refused_expectation_gets_its_429_and_no_100(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    got = await proxy.ask(ask("POST /things", "Expect: 100-continue", "Content-Length: 5"))
    _refused(got, "concurrency_limited")
    await wire.send(OK)
    assert (await first.message()).head.status == 200


async def test_a_caller_with_as_many_in_flight_as_it_may_is_refused(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=2)
    callers = [await proxy.caller() for _ in range(2)]
    for caller in callers:
        await caller.send(ask("GET /things"))
    wires = [await proxy.upstream.accept() for _ in callers]
    _refused(await proxy.ask(ask("GET /things")), "concurrency_limited")
    await wires[0].send(OK)
    await proxy.metrics.until(lambda m: m.in_flight == 1)
    third = await proxy.caller()
    await third.send(ask("GET /things"))
    await _until(lambda: _gate(proxy) == (2, 0))
    for wire in wires:  # the first is used again
        await wire.send(OK)
    for caller in (callers[1], third):
        assert (await caller.message()).head.status == 200


async def test_a_stream_is_in_flight_until_its_last_byte(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1)
    caller = await proxy.caller()
    await caller.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await caller.head()
    _refused(await proxy.ask(ask("GET /things")), "concurrency_limited")
    await wire.send(b"0\r\n\r\n")
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert _gate(proxy) == (0, 0)


@pytest.mark.parametrize("end", ["upstream closes", "caller leaves", "invalid", "body too late", "aborted"])
async def test_whatever_way_a_request_ends_its_place_is_free_once(proxies: Proxies, end: str) -> None:
    proxy = await _limited(proxies, concurrent=1)
    caller = await proxy.caller()
    await caller.send(ask("POST /things", "Content-Length: 5"))
    wire = await proxy.upstream.accept()
    await _until(lambda: _gate(proxy) == (1, 0))
    match end:
        case "upstream closes":
            wire.reset()
        case "caller leaves":
            caller.reset()
        case "invalid":
            await wire.send(b"nonsense\r\n\r\n")
        case "body too late":
            (connection,) = proxy.server.connections
            connection.on_deadline()
        case "aborted":
            (connection,) = proxy.server.connections
            assert connection.exchange is not None
            connection.exchange.abort()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert _gate(proxy) == (0, 0)


# -- the line ---------------------------------------------------------------------------------------------------------


async def test_a_waiting_request_is_served_when_one_ends_with_the_body_that_came_meanwhile(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).head.target == "/things"
    second = await _sent(proxy, ask("POST /things", "Content-Length: 10") + b"hello", waiting=1)
    await second.send(b"world")
    await asyncio.sleep(0.02)
    assert proxy.upstream.count == 1
    await wire.send(OK)
    seen = await wire.message()
    assert (seen.head.line, seen.content) == ("POST /things HTTP/1.1", b"helloworld")
    await wire.send(OK)
    assert (await first.message()).content == (await second.message()).content == b"ok"
    assert proxy.upstream.count == 1
    assert _gate(proxy) == (0, 0)


async def test_a_large_body_waits_with_its_sender(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    second = await _sent(proxy, ask("POST /things", "Content-Length: 20000000"), waiting=1)
    sending = asyncio.ensure_future(second.send(b"x" * 20_000_000))
    await asyncio.sleep(0.1)
    assert not sending.done()
    exchanges = [each.exchange for each in proxy.server.connections]
    (waiting,) = [each for each in exchanges if isinstance(each, Exchange) and each._waiting]
    assert sum(len(piece) for piece in waiting._early) < 1_000_000
    await wire.send(OK)
    assert len((await wire.message()).content) == 20_000_000
    await sending
    await wire.send(OK)
    assert (await second.message()).head.status == 200


async def test_an_expectation_in_line_is_met_when_its_turn_comes(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    second = await _sent(proxy, ask("POST /things", "Expect: 100-continue", "Content-Length: 5"), waiting=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.some(), 0.05)
    await wire.send(OK)
    assert (await second.head()).status == 100
    await second.send(b"hello")
    assert (await wire.message()).content == b"hello"
    await wire.send(OK)
    assert (await second.message()).content == b"ok"


async def test_a_request_over_the_rate_is_served_when_its_turn_comes(proxies: Proxies) -> None:
    proxy = await _limited(proxies, rate=20.0, queue=60)
    proxy.upstream.always(OK)
    began = time.monotonic()
    got = await asyncio.gather(*(proxy.ask(ask("GET /things")) for _ in range(30)))
    assert {each.head.status for each in got} == {200}
    assert 0.45 < time.monotonic() - began < 30.0  # half of what a request would wait at the most


@on_a_clock
async def test_who_waited_in_vain_is_refused_in_time_and_keeps_the_connection(
    proxies: Proxies, still_clock: ClockLoop
) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=20)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    second = await _sent(proxy, ask("POST /things", body=b"12345"), waiting=1)
    await still_clock.advance(19.9)
    assert _gate(proxy) == (1, 1)
    await still_clock.advance(0.2)
    got = await second.message()
    _refused(got, "concurrency_limited")
    assert got.head.get("Connection") is None
    assert proxy.upstream.count == 1
    await wire.send(OK)
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert proxy.records[0].ending is Ending.REFUSED
    await second.send(ask("GET /nothing"))
    assert (await second.message()).head.status == 404


async def test_first_come_first_served(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things?0"))
    wire = await proxy.upstream.accept()
    callers = [first, *[await _sent(proxy, ask(f"GET /things?{n}"), waiting=n) for n in range(1, 8)]]
    for number, caller in enumerate(callers):
        assert (await wire.message()).head.target == f"/things?{number}"
        await wire.send(OK)
        assert (await caller.message()).head.status == 200


@pytest.mark.parametrize("leave", [Wire.reset, Wire.close, Wire.end])
async def test_who_leaves_the_line_frees_the_place_at_once(proxies: Proxies, leave: Callable[[Wire], None]) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things?1"))
    wire = await proxy.upstream.accept()
    await wire.message()
    second = await _sent(proxy, ask("GET /things?2"), waiting=1)
    third = await _sent(proxy, ask("GET /things?3"), waiting=2)
    leave(second)
    await _until(lambda: _gate(proxy) == (1, 1))
    await wire.send(OK)
    assert (await wire.message()).head.target == "/things?3"
    await wire.send(OK)
    assert (await third.message()).head.status == 200
    assert [each.ending for each in proxy.records] == [Ending.CALLER_GONE, Ending.ANSWERED, Ending.ANSWERED]


async def test_one_callers_flood_never_delays_another(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    await proxy.upstream.accept()
    for number in range(1, 50):
        await _sent(proxy, ask("GET /things"), waiting=number)
    proxy.upstream.always(OK)
    for _ in range(20):
        assert (await proxy.ask(ask("GET /things", who="other"))).head.status == 200
    others = [record for record in proxy.records if record.caller == "other"]
    assert max(record.ended - record.received for record in others) < 10.0  # the line is for a minute
    assert _gate(proxy) == (1, 49)


async def test_a_thousand_at_once_are_never_more_than_twenty_upstream(proxies: Proxies) -> None:
    busy = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.002)
                busy -= 1
                writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    limits = CallerLimits(concurrent=20, queue=60)
    port = server.sockets[0].getsockname()[1]
    proxy = await proxies.start(
        make_snapshot(upstream_at(port), tokens=TOKENS, limits=limits), await proxies.upstream()
    )

    async def many() -> list[int]:
        caller = await proxy.caller()
        statuses = []
        for _ in range(10):
            await caller.send(ask("GET /things"))
            statuses.append((await caller.message()).head.status)
        return statuses

    statuses = [status for each in await asyncio.gather(*(many() for _ in range(100))) for status in each]
    assert len(statuses) == 1000
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 900
    assert most == 20
    assert _gate(proxy) == (0, 0)
    server.close()


async def test_a_request_that_gets_its_turn_and_no_upstream_leaves_its_place_to_the_next(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    waiting = [await _sent(proxy, ask("GET /things"), waiting=n) for n in range(1, 6)]
    proxy.upstream.stop_listening()
    wire.reset()
    assert (await first.message()).head.status == 502
    assert {(await each.message()).head.status for each in waiting} == {502}
    assert _gate(proxy) == (0, 0)


# -- WebSockets, the end, metrics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "upstream"])
async def test_a_websocket_counts_until_both_ends_are_gone(proxies: Proxies, who: str) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert (await caller.head()).status == 101
    second = await _sent(proxy, ask("GET /things"), waiting=1)
    (caller if who == "caller" else wire).reset()
    other = await proxy.upstream.accept()
    await other.send(OK)
    assert (await second.message()).head.status == 200
    assert _gate(proxy) == (0, 0)


async def test_a_websocket_over_the_limit_is_refused_as_http(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    _refused(await proxy.ask(HANDSHAKE), "concurrency_limited")
    await wire.send(OK)


async def test_when_the_process_ends_nobody_is_let_through_any_more(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    await proxy.upstream.accept()
    waiting = [await _sent(proxy, ask("GET /things"), waiting=n) for n in range(1, 4)]
    await bounded(proxy.server.close())
    assert _gate(proxy) == (0, 0)
    for each in (first, *waiting):
        await each.gone()
    assert proxy.upstream.count == 1
    assert {record.ending for record in proxy.records} == {Ending.ABORTED}


async def test_those_in_line_are_still_served_while_the_process_drains(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    second = await _sent(proxy, ask("GET /things"), waiting=1)
    draining = asyncio.ensure_future(proxy.server.drain(60))
    await asyncio.sleep(0.01)
    await wire.send(OK)
    await wire.message()
    await wire.send(OK)
    assert (await first.message()).head.status == (await second.message()).head.status == 200
    await bounded(draining)


async def test_callers_without_limits_have_no_gate(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port), tokens=TOKENS), upstream)
    proxy.upstream.always(OK)
    assert (await proxy.ask(ask("GET /things"))).head.status == 200
    assert proxy.server.gates.waiting() == {}


async def test_limits_changed_with_the_configuration_hold_for_the_next_request(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1)
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    wider = make_snapshot(upstream_at(proxy.upstream.port), tokens=TOKENS, limits=CallerLimits(concurrent=2))
    proxy.server.snapshot = replace(wider, listen=proxy.server.snapshot.listen)
    second = await proxy.caller()
    await second.send(ask("GET /things"))
    other = await proxy.upstream.accept()
    _refused(await proxy.ask(ask("GET /things")), "concurrency_limited")
    for each in (wire, other):
        await each.send(OK)
    for caller in (first, second):
        assert (await caller.message()).head.status == 200


@on_a_clock
async def test_the_line_is_in_the_metrics(proxies: Proxies, still_clock: ClockLoop) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=6)

    def value(name: str, **labels: str) -> float | None:
        return registry_of(proxy.metrics).get_sample_value(f"inworld_proxy_{name}", labels)

    assert value("queue_waiting", caller="shop") == value("queue_waiting", caller="other") == 0
    first = await proxy.caller()
    await first.send(ask("GET /things"))
    wire = await proxy.upstream.accept()
    served = await _sent(proxy, ask("GET /things"), waiting=1)
    leaves = await _sent(proxy, ask("GET /things"), waiting=2)
    refused = await _sent(proxy, ask("GET /things"), waiting=3)
    assert value("queue_waiting", caller="shop") == 3
    leaves.reset()
    await _until(lambda: _gate(proxy)[1] == 2)
    await wire.send(OK)
    await wire.message()
    await _until(lambda: _gate(proxy)[1] == 1)
    await still_clock.advance(7)
    _refused(await refused.message(), "concurrency_limited")
    await wire.message()
    await wire.send(OK)
    assert (await served.message()).head.status == 200
    assert value("queue_waiting", caller="shop") == 0
    assert value("queue_wait_seconds_count", caller="shop") == 3
    assert 6 < (value("queue_wait_seconds_sum", caller="shop") or 0) < 8
    labels = {"code": "concurrency_limited", "operation": "things.any", "caller": "shop"}
    assert value("refusals_total", **labels) == 1
    assert value("queue_wait_seconds_count", caller="other") is None


async def test_answers_keep_their_order_when_a_pipelined_request_waits(proxies: Proxies) -> None:
    proxy = await _limited(proxies, concurrent=1, queue=60)
    first = await proxy.caller()
    await first.send(ask("GET /things?1"))
    wire = await proxy.upstream.accept()
    second = await _sent(proxy, ask("GET /things?2") + ask("GET /nothing") + ask("GET /things?3"), waiting=1)
    for number in (1, 2, 3):
        assert (await wire.message()).head.target == f"/things?{number}"
        await wire.send(response("200 OK", body=b"%d" % number))
    assert (await first.message()).content == b"1"
    assert [(await second.message()).head.status for _ in range(3)] == [200, 404, 200]
