"""A WebSocket is a tunnel: asked upstream first, bytes untouched, back-pressure and half-close, counted at its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.observe.record import Ending
from proxy.wire.tunnel import Tunnel, TunnelEnd
from tests.proxies import Proxies, Proxy
from tests.snapshots import AUTHORIZATION, SOCKET, make_snapshot, upstream_at
from tests.wires import OK, Head, Wire, bounded, request, response

HANDSHAKE = request(
    f"GET {SOCKET}", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)

Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def _serving(proxies: Proxies, handler: Handler, **options: object) -> AsyncIterator[Proxy]:
    """A proxy in front of a WebSocket server of the ``websockets`` package."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        yield await proxies.start(make_snapshot(upstream_at(port)), await proxies.upstream())


@contextlib.asynccontextmanager
async def _client(proxy: Proxy, **options: object) -> AsyncIterator[ClientConnection]:
    uri = f"ws://{proxy.authority}{SOCKET}?key=s"
    async with connect(uri, proxy=None, max_size=None, close_timeout=2, **options) as client:  # type: ignore[arg-type]
        yield client


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def test_text_and_binary_pass_both_ways(proxies: Proxies) -> None:
    async with _serving(proxies, _echo, compression=None) as proxy:
        async with _client(proxy, compression=None) as client:
            for message in (
                "text with an é",
                b"\0binary\xff",
                "",
                b"",
                "x" * 125,
                "x" * 126,
                b"y" * 65535,
                b"y" * 65536,
            ):
                await client.send(message)
                assert await bounded(client.recv()) == message
        await proxy.metrics.until(lambda m: m.in_flight == 0)
        (record,) = proxy.records
        assert (record.status, record.ending, record.operation) == (101, Ending.ANSWERED, "realtime.session")
        assert (record.messages_in, record.messages_out) == (8, 8)
        assert record.request_bytes > 131_000
        assert record.response_bytes > 131_000


async def test_messages_of_five_megabytes_pass_both_ways(proxies: Proxies) -> None:
    async with _serving(proxies, _echo, compression=None) as proxy, _client(proxy, compression=None) as client:
        message = bytes(range(256)) * 20480
        for _ in range(3):
            await bounded(client.send(message))
            assert await bounded(client.recv()) == message


async def test_fragments_arrive_as_fragments(proxies: Proxies) -> None:
    seen: list[list[str]] = []

    async def handler(socket: ServerConnection) -> None:
        seen.append([piece async for piece in socket.recv_streaming()])  # type: ignore[misc]
        await socket.send(iter(["one ", "two ", "three"]))

    async with _serving(proxies, handler, compression=None) as proxy:
        async with _client(proxy, compression=None) as client:
            await client.send(iter(["a", "b", "c"]))
            got = [piece async for piece in client.recv_streaming()]
        assert [piece for piece in seen[0] if piece] == ["a", "b", "c"]
        assert [piece for piece in got if piece] == ["one ", "two ", "three"]
        await proxy.metrics.until(lambda m: m.in_flight == 0)
        assert (proxy.records[0].messages_in, proxy.records[0].messages_out) == (1, 1)


async def test_compression_is_negotiated_end_to_end(proxies: Proxies) -> None:
    async with _serving(proxies, _echo) as proxy:
        async with _client(proxy) as client:
            assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
            await client.send("again and again " * 10_000)
            assert await bounded(client.recv()) == "again and again " * 10_000
        await proxy.metrics.until(lambda m: m.in_flight == 0)
        assert proxy.records[0].request_bytes < 10_000


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (1008, "policy"), (4321, "own é")])
async def test_close_codes_pass_from_the_upstream(proxies: Proxies, code: int, reason: str) -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.close(code, reason)

    async with _serving(proxies, handler) as proxy, _client(proxy) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await bounded(client.recv())
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4321, "own")])
async def test_close_codes_pass_from_the_caller(proxies: Proxies, code: int, reason: str) -> None:
    closed: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()

    async def handler(socket: ServerConnection) -> None:
        await socket.wait_closed()
        closed.set_result((socket.close_code, socket.close_reason))

    async with _serving(proxies, handler) as proxy, _client(proxy) as client:
        await client.close(code, reason)
        assert await bounded(closed) == (code, reason)


async def test_pings_pass_end_to_end(proxies: Proxies) -> None:
    async with _serving(proxies, _echo) as proxy, _client(proxy) as client:
        await bounded(await client.ping(b"are you there"))


async def test_a_refused_handshake_arrives_with_its_status_and_body(proxies: Proxies) -> None:
    def refuse(socket: ServerConnection, _: object) -> object:
        return socket.respond(402, "no credit left\n")

    async with _serving(proxies, _echo, process_request=refuse) as proxy:
        with pytest.raises(InvalidStatus) as caught:
            async with _client(proxy):
                pass
        assert (caught.value.response.status_code, caught.value.response.body) == (402, b"no credit left\n")
        assert proxy.metrics.tunnels.get("realtime.session", 0) == 0


# -- by hand ----------------------------------------------------------------------------------------------------------


async def _opened(proxy: Proxy, early: bytes = b"") -> tuple[Wire, Wire, Head]:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH + early)
    return caller, wire, await caller.head()


async def test_the_upstream_is_asked_before_the_caller_is_answered(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    head = await wire.head()
    assert head.line == f"GET {SOCKET} HTTP/1.1"
    assert head.get("Authorization") == AUTHORIZATION
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await caller._reader.read(1)
    await wire.send(SWITCH)
    got = await caller.head()
    assert (got.status, got.get("Sec-WebSocket-Accept"), got.get("Upgrade")) == (101, "x", "websocket")
    assert got.get("Connection") == "Upgrade"


async def test_frames_sent_with_the_handshakes_are_not_lost(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE + b"\x81\x85\0\0\0\0early")
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH + b"\x81\x05hello")
    assert await wire.exactly(11) == b"\x81\x85\0\0\0\0early"
    await caller.head()
    assert await caller.exactly(7) == b"\x81\x05hello"


async def test_bytes_pass_untouched_whatever_they_are(proxy: Proxy) -> None:
    caller, wire, _ = await _opened(proxy)
    noise = bytes(range(256)) * 100
    await caller.send(noise)
    assert await wire.exactly(len(noise)) == noise
    await wire.send(noise[::-1])
    assert await caller.exactly(len(noise)) == noise[::-1]


async def test_either_side_may_stop_talking_and_still_listen(proxy: Proxy) -> None:
    caller, wire, _ = await _opened(proxy)
    await caller.send(b"\x81\x01a")
    caller.end()
    assert await wire.rest() == b"\x81\x01a"
    await wire.send(b"\x81\x01b" * 1000)
    assert await caller.exactly(3000) == b"\x81\x01b" * 1000
    wire.end()
    assert await caller.rest() == b""
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert proxy.ended(Ending.ANSWERED) == 1


async def test_the_upstream_may_stop_talking_and_still_listen(proxy: Proxy) -> None:
    caller, wire, _ = await _opened(proxy)
    wire.end()
    assert await caller.rest() == b""
    await caller.send(b"\x81\x01a")
    assert await wire.exactly(3) == b"\x81\x01a"
    caller.end()
    assert await wire.rest() == b""
    await proxy.metrics.until(lambda m: m.in_flight == 0)


@pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["close", "reset"])
async def test_an_upstream_that_goes_away_ends_the_callers_tunnel(proxy: Proxy, end: Callable[[Wire], None]) -> None:
    caller, wire, _ = await _opened(proxy)
    end(wire)
    await caller.gone()
    caller.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)


async def test_what_the_upstream_sent_before_it_went_away_arrives(proxy: Proxy) -> None:
    caller, wire, _ = await _opened(proxy)
    last = b"\x82\x7f" + (10**6).to_bytes(8, "big") + b"x" * 10**6
    sending = asyncio.ensure_future(wire.send(last))
    assert len(await caller.exactly(len(last))) == len(last)
    await bounded(sending)
    wire.close()
    assert await caller.rest() == b""


async def test_a_tunnel_is_counted_while_it_is_open(proxy: Proxy) -> None:
    caller, wire, _ = await _opened(proxy)
    assert proxy.metrics.tunnels == {"realtime.session": 1}
    assert proxy.metrics.in_flight == 1
    assert proxy.records == []
    await caller.send(b"\x01\x80\0\0\0\0" + b"\x80\x80\0\0\0\0" + b"\x89\x80\0\0\0\0" + b"\x88\x80\0\0\0\0")
    await wire.exactly(24)
    await wire.send(b"\x82\x01a" * 3 + b"\x88\x00")
    await caller.exactly(11)
    caller.close()
    wire.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert proxy.metrics.tunnels == {"realtime.session": 0}
    (record,) = proxy.records
    assert (record.messages_in, record.messages_out) == (1, 3)
    assert (record.request_bytes, record.response_bytes) == (24, 11)


async def test_a_tunnels_upstream_connection_is_outside_the_pool(proxy: Proxy) -> None:
    _, wire, _ = await _opened(proxy)
    assert (proxy.upstream_connections("active"), proxy.upstream_connections("idle")) == (0, 0)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    other = await proxy.upstream.accept()
    assert other is not wire
    await other.message()
    await other.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_handshake_may_use_a_pooled_connection(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(OK)
    await caller.message()
    await caller.send(HANDSHAKE)
    await wire.head()
    await wire.send(SWITCH)
    assert (await caller.head()).status == 101
    await caller.send(b"\x81\x80\0\0\0\0")
    assert len(await wire.exactly(6)) == 6


async def test_bytes_after_a_refused_handshake_never_reach_the_upstream(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE + request("DELETE /things"))
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(response("400 Bad Request", "X-Why: no", body=b"no socket for you"))
    got = await caller.message()
    assert (got.head.status, got.head.get("X-Why"), got.content) == (400, "no", b"no socket for you")
    assert got.head.get("Connection") == "close"
    assert await caller.rest() == b""
    caller.close()
    assert proxy.upstream.count == 1
    assert proxy.metrics.accepted == 1
    await proxy.metrics.until(lambda m: m.connections == 0)
    await proxy.server.close()
    assert await wire.until_broken() == b""


async def test_an_answer_of_200_to_a_handshake_is_an_answer_and_no_tunnel(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(OK)
    got = await caller.message()
    assert (got.head.status, got.content) == (200, b"ok")
    assert await caller.rest() == b""


@pytest.mark.parametrize(
    "switch",
    [b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
     b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
     b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"],
)  # fmt: skip
async def test_a_switch_to_something_else_is_502(proxy: Proxy, switch: bytes) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(switch)
    assert (await caller.message()).head.status == 502
    await wire.gone()


@pytest.mark.parametrize(
    ("change", "status"),
    [((b"Version: 13", b"Version: 8"), 426), ((b"HTTP/1.1", b"HTTP/1.0"), 426), ((b"Upgrade: WebSocket\r\n", b""), 426),
     ((b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"), 426), ((b"AAAA==", b"AAA=="), 426),
     ((b"Upgrade: WebSocket", b"Upgrade: h2c, websocket"), 426),
     ((b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"), 400),
     ((b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400)],
)  # fmt: skip
async def test_what_is_no_proper_handshake_is_refused_here(
    proxy: Proxy, change: tuple[bytes, bytes], status: int
) -> None:
    assert (await proxy.ask(HANDSHAKE.replace(*change))).head.status == status
    assert proxy.upstream.count == 0


@pytest.mark.parametrize("from_caller", [True, False])
async def test_a_side_that_does_not_read_stops_the_other_and_then_gets_everything(
    proxy: Proxy, from_caller: bool
) -> None:
    caller, wire, _ = await _opened(proxy)
    writer, reader = (caller, wire) if from_caller else (wire, caller)
    reader.stop_reading()
    sent = await writer.push(b"x" * 65536, most=64 * 2**20)
    assert sent < 32 * 2**20
    reader.read_again()
    left = sent
    while left:
        left -= len(await reader.exactly(min(left, 2**18)))


async def test_a_tunnel_that_is_cut_off_in_every_way_leaves_nothing_behind(proxy: Proxy) -> None:
    ways = [Wire.close, Wire.reset, Wire.end, lambda _: None]
    for first in ways:
        for second in ways:
            caller, wire, _ = await _opened(proxy)
            await caller.send(b"\x82\xfe\xff\xff")
            await wire.exactly(4)
            first(caller)
            second(wire)
            await caller.cleanup()
            await wire.cleanup()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert proxy.metrics.accepted == 16


async def test_an_ended_tunnel_leaves_nothing_to_the_garbage_collector(proxies: Proxies) -> None:
    """Each has two connections and their buffers; a full collection may be minutes away."""
    async with _serving(proxies, _echo) as proxy:
        gc.collect()
        gc.disable()
        try:
            async with _client(proxy) as client:
                await client.send("hello")
                await bounded(client.recv())
                (tunnel,) = [each for each in gc.get_objects() if isinstance(each, Tunnel)]
                assert isinstance(tunnel.caller, TunnelEnd)
                del tunnel
            await proxy.metrics.until(lambda m: m.in_flight == 0)
            for _ in range(5):  # the transports let go of their protocols
                await asyncio.sleep(0)
            assert not [each for each in gc.get_objects() if isinstance(each, Tunnel | TunnelEnd)]
        finally:
            gc.enable()


async def test_tunnels_of_one_client_keep_once_what_is_the_same_in_all_of_them(proxies: Proxies) -> None:
    async with (
        _serving(proxies, _echo) as proxy,
        _client(proxy) as client,
        _client(proxy) as like_it,
        _client(proxy, user_agent_header=None, additional_headers={"X-Api-Key": "another"}) as other,
    ):
        for each in (client, like_it, other):
            await each.send("hello")
            assert await bounded(each.recv()) == "hello"
        kept = [tunnel.asked for tunnel in proxy.server.tunnels]
        assert len({id(asked) for asked in kept}) == 2
        assert sorted(b"x-api-key:another" in asked.noted for asked in kept) == [False, False, True]
        assert len({id(tunnel.record.peer) for tunnel in proxy.server.tunnels}) == 1
