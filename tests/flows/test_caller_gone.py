"""A caller who leaves stops the upstream's work at once, in whatever phase: synthesis that nobody hears costs money."""

from __future__ import annotations

import pytest

from proxy.observe.record import Ending
from tests.proxies import Proxies, Proxy
from tests.snapshots import SOCKET, make_snapshot, upstream_at
from tests.wires import OK, Wire, chunked, request

leaving = pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["close", "reset"])


async def _gone_once(proxy: Proxy) -> None:
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert proxy.ended(Ending.CALLER_GONE) == 1
    assert proxy.records[-1].ending is Ending.CALLER_GONE


@leaving
async def test_while_waiting_for_the_first_byte(proxy: Proxy, leave) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    leave(caller)
    await wire.gone()
    await _gone_once(proxy)
    assert proxy.records[0].status == 499


@leaving
async def test_while_an_answer_streams(proxy: Proxy, leave) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /tts/v1/voice:stream", body=b"{}"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await caller.head()
    leave(caller)
    await wire.gone()
    await _gone_once(proxy)
    assert proxy.records[0].status == 200


@leaving
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_while_uploading(proxy: Proxy, leave, framing: str) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", framing, body=b"4\r\nbody\r\n"))
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.exactly(9)
    leave(caller)
    assert await wire.until_broken() == b""
    await _gone_once(proxy)


@leaving
async def test_while_the_upstream_pushes_more_than_the_caller_reads(proxy: Proxy, leave) -> None:
    caller = await proxy.caller()
    caller.stop_reading()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
    wire._writer.write(b"x" * 50_000_000)
    while not any(connection._write_full for connection in proxy.server.connections):
        await caller.send(b"")
        await proxy.server.loop.run_in_executor(None, int)
    leave(caller)
    await wire.gone()
    await _gone_once(proxy)


@leaving
async def test_while_the_connection_is_being_made(proxies: Proxies, leave) -> None:
    """The upstream accepts and does not answer the TLS handshake."""
    upstream = await proxies.upstream()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port, scheme="https")), upstream)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await upstream.accept()
    assert (await wire.some())[:1] == b"\x16"
    leave(caller)
    await wire.gone()
    await _gone_once(proxy)


@leaving
async def test_in_a_tunnel(proxy: Proxy, leave) -> None:
    caller = await proxy.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x01a")
    assert (await caller.head()).status == 101
    assert await caller.exactly(3) == b"\x81\x01a"
    leave(caller)
    await wire.gone()
    wire.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)


@leaving
async def test_while_a_handshake_waits(proxy: Proxy, leave) -> None:
    caller = await proxy.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await proxy.upstream.accept()
    await wire.head()
    leave(caller)
    await wire.gone()
    await _gone_once(proxy)


async def test_a_caller_who_left_does_not_spoil_the_pool(proxy: Proxy) -> None:
    await proxy.pass_on(request("GET /things"))
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = proxy.upstream.wires[0]
    await wire.message()
    caller.close()
    await wire.gone()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    seen, got = await proxy.pass_on(request("GET /things?after"))
    assert (seen.head.target, got.content) == ("/things?after", b"ok")


async def test_a_caller_who_leaves_right_after_the_answer_leaves_a_good_connection(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
    caller.reset()
    await proxy.metrics.until(lambda m: m.connections == 0)
    other = await proxy.caller()
    await other.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await other.message()).content == b"ok"
    assert proxy.upstream.count == 1


async def test_a_thousand_callers_who_leave_at_once_leave_nothing_behind(proxy: Proxy) -> None:
    for _ in range(20):
        callers = [await proxy.caller() for _ in range(50)]
        for number, caller in enumerate(callers):
            body = chunked(b"x" * 100)[: 20 if number % 2 else None]
            await caller.send(request("POST /things", "Transfer-Encoding: chunked", body=body))
            (caller.reset if number % 3 else caller.close)()
        await proxy.metrics.until(lambda m: m.in_flight == 0 and m.connections == 0)
    assert proxy.upstream_connections("active") == 0
