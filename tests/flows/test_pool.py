"""Upstream connections are used again, by one exchange at a time, and never once there is any doubt about them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from tests.proxies import Proxy
from tests.wires import OK, Wire, bounded, chunked, request, response


async def test_a_connection_serves_the_next_request_of_whoever_asks(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    for _ in range(5):
        await proxy.ask(request("GET /things"))
        await proxy.ask(request("POST /things", body=b"x"))
        await proxy.ask(request("POST /things", "Transfer-Encoding: chunked", body=chunked(b"x")))
    assert proxy.upstream.count == 1
    assert proxy.metrics.upstream_dials == {"inworld": 1}
    assert proxy.metrics.upstream_reused == {"inworld": 14}
    assert [record.reused for record in proxy.records] == [False] + [True] * 14


async def test_two_requests_at_once_use_two_connections(proxy: Proxy) -> None:
    callers = [await proxy.caller() for _ in range(2)]
    for number, caller in enumerate(callers):
        await caller.send(request(f"GET /things?{number}"))
    wires = [await proxy.upstream.accept() for _ in range(2)]
    assert proxy.upstream_connections("active") == 2
    for wire in wires:
        target = (await wire.message()).head.target
        await wire.send(response("200 OK", body=target.encode()))
    for number, caller in enumerate(callers):
        assert (await caller.message()).content == f"/things?{number}".encode()
    assert (proxy.upstream_connections("active"), proxy.upstream_connections("idle")) == (0, 2)


@pytest.mark.parametrize(
    "answer",
    [response("200 OK", "Connection: close", body=b"ok"), response("200 OK", "Connection: x, Close", body=b"ok"),
     OK.replace(b"HTTP/1.1", b"HTTP/1.0")],
)  # fmt: skip
async def test_a_connection_that_the_upstream_means_to_close_is_not_used_again(proxy: Proxy, answer: bytes) -> None:
    caller = await proxy.caller()
    for _ in range(2):
        await caller.send(request("GET /things"))
        wire = await proxy.upstream.accept()
        await wire.message()
        await wire.send(answer)
        got = await caller.message()
        assert (got.content, got.head.get("Connection")) == (b"ok", None)
    assert proxy.upstream_connections("idle") == 0


@pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_connection_that_closed_while_idle_costs_the_next_request_nothing(
    proxy: Proxy, end: Callable[[Wire], None], method: str
) -> None:
    caller = await proxy.caller()
    for _ in range(6):
        await caller.send(request(f"{method} /things", body=b"x" if method == "POST" else b""))
        wire = await proxy.upstream.accept()
        await wire.message()
        await wire.send(OK)
        assert (await caller.message()).content == b"ok"
        end(wire)
        await bounded(wire._writer.wait_closed())
    assert proxy.records[-1].retried is False


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_close_that_has_arrived_and_was_not_yet_seen_costs_the_next_request_nothing(
    proxy: Proxy, method: str
) -> None:
    raw = request(f"{method} /things", body=b"x" if method == "POST" else b"")
    caller = await proxy.caller()
    await caller.send(raw)
    for _ in range(12):
        wire = await proxy.upstream.accept()
        await wire.message()
        await wire.send(OK)
        assert (await caller.message()).content == b"ok"
        # By the system call itself, after the next request: the proxy, which shares this loop, finds both at once.
        with socket.socket(fileno=os.dup(wire.socket.fileno())) as same:
            caller._writer.write(raw)
            same.shutdown(socket.SHUT_WR)
    await (await proxy.upstream.accept()).message()
    assert not any(record.retried for record in proxy.records)


async def test_a_read_whose_pooled_connection_closes_at_once_is_sent_again_once(proxy: Proxy) -> None:
    await proxy.pass_on(request("GET /things"))
    caller = await proxy.caller()
    await caller.send(request("GET /things?again"))
    await proxy.upstream.wires[0].message()
    proxy.upstream.wires[0].close()
    wire = await proxy.upstream.accept()
    assert (await wire.message()).head.target == "/things?again"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
    assert proxy.records[-1].retried is True


async def test_a_request_is_not_sent_a_third_time(proxy: Proxy) -> None:
    await proxy.pass_on(request("GET /things"))
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    await proxy.upstream.wires[0].message()
    proxy.upstream.wires[0].close()
    wire = await proxy.upstream.accept()
    await wire.message()
    wire.close()
    assert (await caller.message()).head.status == 502
    assert proxy.upstream.count == 2


@pytest.mark.parametrize(
    "raw", [request("POST /things", body=b"x"), request("POST /things"), request("DELETE /things")]
)
async def test_a_write_is_never_sent_twice(proxy: Proxy, raw: bytes) -> None:
    await proxy.pass_on(request("GET /things"))
    caller = await proxy.caller()
    await caller.send(raw)
    await proxy.upstream.wires[0].message()
    proxy.upstream.wires[0].close()
    assert (await caller.message()).head.status == 502
    assert proxy.upstream.count == 1


async def test_a_read_on_a_new_connection_is_not_sent_again(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    wire.close()
    assert (await caller.message()).head.status == 502
    assert proxy.upstream.count == 1


async def test_many_callers_share_few_connections_and_no_answer_is_mixed_up(proxy: Proxy) -> None:
    async def serve() -> None:
        async def one(wire: Wire) -> None:
            wire.patience = None
            while True:
                seen = await wire.message()
                await wire.send(response("200 OK", body=seen.head.target.encode() + seen.content))

        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(one(await proxy.upstream._accepted.get()))

    async def ask(number: int) -> None:
        caller = await proxy.caller()
        for turn in range(20):
            body = b"%d-%d" % (number, turn)
            await caller.send(request(f"POST /things?{number}", body=body))
            assert (await caller.message()).content == f"/things?{number}".encode() + body

    serving = asyncio.ensure_future(serve())
    await bounded(asyncio.gather(*(ask(number) for number in range(25))))
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert proxy.upstream.count <= 25
    assert proxy.metrics.accepted == 500
