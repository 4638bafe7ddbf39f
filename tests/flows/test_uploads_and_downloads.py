"""Bodies stream both ways as they come; whoever reads slowly slows the other side down and fills no memory."""

from __future__ import annotations

import asyncio

import pytest

from proxy.wire.caller import MOST_AT_ONCE
from tests.faults.steps import until
from tests.proxies import Proxy
from tests.wires import OK, PATIENCE, Wire, bounded, chunked, request

PIECE = b"x" * 65536
FAR_TOO_MUCH = 64 * 2**20
"""Far more than all buffers of both kernels' sockets and of the proxy hold together."""


async def test_a_download_reaches_the_caller_while_it_is_still_being_made(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /tts/v1/voice:stream", body=b"{}"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await caller.head()).status == 200
    for piece in (b"1\r\na\r\n", b"2\r\nbc\r\n"):
        await wire.send(piece)
        assert await caller.exactly(len(piece)) == piece
    await wire.send(b"0\r\n\r\n")
    assert await caller.exactly(5) == b"0\r\n\r\n"


async def test_a_part_of_a_chunk_is_not_held_back(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nthe beginning")
    await caller.head()
    assert await caller.exactly(17) == b"ff\r\nthe beginning"


async def test_an_upload_reaches_the_upstream_while_it_is_still_being_made(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Content-Length: 6", body=b"one"))
    wire = await proxy.upstream.accept()
    assert (await wire.head()).get("Content-Length") == "6"
    assert await wire.exactly(3) == b"one"
    await caller.send(b"two")
    assert await wire.exactly(3) == b"two"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_an_answer_may_begin_before_the_upload_is_over(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Transfer-Encoding: chunked", body=b"3\r\none\r\n"))
    wire = await proxy.upstream.accept()
    await wire.head()
    assert await wire.exactly(8) == b"3\r\none\r\n"
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n")
    assert (await caller.head()).status == 200
    assert await caller.exactly(8) == b"3\r\nONE\r\n"
    await caller.send(chunked(b"two"))
    assert (await wire.chunks())[1] == b"two"
    await wire.send(chunked(b"TWO"))
    assert (await caller.chunks())[1] == b"TWO"


async def _pull(wire: Wire, count: int) -> None:
    left = count
    while left:
        left -= len(await wire.exactly(min(left, 2**18)))


async def test_a_caller_who_does_not_read_stops_the_upstream_and_then_gets_everything(proxy: Proxy) -> None:
    caller = await proxy.caller()
    caller.stop_reading()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % FAR_TOO_MUCH)
    sent = await wire.push(PIECE, most=FAR_TOO_MUCH)
    assert sent < FAR_TOO_MUCH / 2
    caller.read_again()
    await caller.head()
    wire.patience = None  # for all of it at once; each piece is waited for at the other end
    rest = asyncio.ensure_future(wire.send(b"x" * (FAR_TOO_MUCH - sent)))
    await _pull(caller, FAR_TOO_MUCH)
    await bounded(rest)


async def test_an_upstream_that_does_not_read_stops_the_caller_and_then_gets_everything(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", f"Content-Length: {FAR_TOO_MUCH}"))
    wire = await proxy.upstream.accept()
    wire.stop_reading()
    sent = await caller.push(PIECE, most=FAR_TOO_MUCH)
    assert sent < FAR_TOO_MUCH / 2
    wire.read_again()
    await wire.head()
    caller.patience = None  # for all of it at once; each piece is waited for at the other end
    rest = asyncio.ensure_future(caller.send(b"x" * (FAR_TOO_MUCH - sent)))
    await _pull(wire, FAR_TOO_MUCH)
    await bounded(rest)
    caller.patience = PATIENCE
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_caller_who_sends_requests_and_reads_no_answers_is_not_read_without_end(proxy: Proxy) -> None:
    """Refusals cost the caller nothing; their answers must not pile up, and neither must the requests."""
    caller = await proxy.caller()
    caller.stop_reading()
    flood = request("GET /nothing") * 1000
    caller.feed(flood * 50)  # their answers are more than the kernel holds
    await until(lambda: any(connection._write_full for connection in proxy.server.connections))
    for _ in range(100):
        caller.feed(flood)
        await asyncio.sleep(0)
    (connection,) = proxy.server.connections
    assert len(connection._pending) < 2**20
    caller.reset()


async def test_however_many_requests_arrive_one_turn_serves_a_few(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /nothing"))
    assert (await caller.message()).head.status == 404
    (connection,) = proxy.server.connections
    most = 0
    for _ in range(100):
        before = proxy.metrics.accepted
        connection.data_received(request("GET /nothing") * 20)
        await asyncio.sleep(0)
        most = max(most, proxy.metrics.accepted - before)
    assert 0 < most <= 2 * MOST_AT_ONCE  # what was just read, and what a turn before left for this one
    caller.reset()


async def test_requests_pipelined_behind_a_slow_one_are_not_read_without_end(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    assert await caller.push(PIECE, most=FAR_TOO_MUCH) < FAR_TOO_MUCH / 2
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_what_was_uploaded_before_the_connection_was_made_is_not_lost(proxy: Proxy, framing: str) -> None:
    body = bytes(range(256)) * 2000
    caller = await proxy.caller()
    if framing == "length":
        raw = request("POST /things", body=body)
    else:
        raw = request("POST /things", "Transfer-Encoding: chunked", body=chunked(body[:300_000], body[300_000:]))
    sending = asyncio.ensure_future(caller.send(raw))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).content == body
    await bounded(sending)
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
    assert proxy.records[0].request_bytes >= len(body)
