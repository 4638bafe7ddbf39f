"""A WebSocket that the proxy ends: a Close where a frame ends, a moment for the answer, and never a torn frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from proxy.core.errors import Code
from proxy.core.model import Mode, Snapshot
from proxy.observe.record import Ending
from proxy.wire.closing import ClosingEnd
from proxy.wire.frames import close_frame, frame_size
from proxy.wire.tunnel import Tunnel
from tests.faults.steps import until
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import SOCKET, SWITCH, make_snapshot, upstream_at, with_policy
from tests.wires import OK, Wire, bounded, request

HANDSHAKE = request(
    f"GET {SOCKET}", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
TO_CALLER = close_frame(1001, b"draining")
ECHO = close_frame(1001, b"", b"mask")


@pytest.fixture(autouse=True)
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no test moves the clock, a busy machine has longer than a second for each step of a close."""
    if "clock" not in request.fixturenames:
        for module in ("closing", "server"):
            monkeypatch.setattr(f"proxy.wire.{module}.STEP", 60.0)


async def _opened(proxy: Proxy, *fields: str) -> tuple[Wire, Wire, Tunnel]:
    caller = await proxy.caller()
    before = {*proxy.server.tunnels}
    await caller.send(HANDSHAKE[:-2] + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n")
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert (await caller.head()).status == 101
    (tunnel,) = proxy.server.tunnels - before
    return caller, wire, tunnel


async def _read_close(wire: Wire) -> tuple[int, str]:
    """The Close frame to the upstream, which must be masked."""
    head = await wire.exactly(2)
    assert head[0] == 0x88
    assert head[1] & 0x80
    mask = await wire.exactly(4)
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await wire.exactly(head[1] & 0x7F)))
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def test_a_caller_who_reads_slowly_is_told_after_the_frame_that_is_on_its_way(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    size = 8_000_000
    frame = b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size)
    caller.stop_reading()
    await wire.send(frame[:1000])
    await until(lambda: tunnel.upstream.bytes == 1000)
    tunnel.close(1001, Code.DRAINING)
    wire.feed(frame[1000:])
    await until(lambda: tunnel.caller.full)
    assert isinstance(tunnel.upstream.transport.get_protocol(), ClosingEnd)
    caller.read_again()
    assert await caller.exactly(len(frame)) == frame
    assert await caller.exactly(len(TO_CALLER)) == TO_CALLER
    await caller.send(ECHO)
    assert await caller.rest() == b""


async def test_both_sides_are_told_and_the_answer_is_waited_for(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    tunnel.close(1001, Code.DRAINING)
    assert await caller.exactly(len(TO_CALLER)) == TO_CALLER
    assert await _read_close(wire) == (1001, "draining")
    await wire.gone()
    assert proxy.metrics.in_flight == 1
    await caller.send(ECHO)
    assert await caller.rest() == b""
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    record = proxy.records[0]
    assert (record.ending, record.code, record.status) == (Ending.ABORTED, Code.DRAINING, 101)
    assert proxy.metrics.aborts == {("draining", "realtime.session", "anonymous"): 1}


@pytest.mark.parametrize("cut", [1, 3, 4, 9, 150])
async def test_a_frame_that_has_begun_is_ended_first(proxy: Proxy, cut: int) -> None:
    caller, wire, tunnel = await _opened(proxy)
    frame = b"\x82\x7e\x01\x00" + b"x" * 256
    await wire.send(frame[:cut])
    assert await caller.exactly(cut) == frame[:cut]
    tunnel.close(1001, Code.DRAINING)
    await wire.send(frame[cut:] + b"\x81\x05later")
    assert await caller.exactly(len(frame) - cut) == frame[cut:]
    assert await caller.exactly(len(TO_CALLER)) == TO_CALLER  # and not the frame after it
    await caller.send(ECHO)
    assert await caller.rest() == b""


async def test_a_frame_of_the_caller_that_has_begun_is_not_torn_by_a_close(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    await caller.send(b"\x81\x85\0\0\0\0he")
    assert await wire.exactly(8) == b"\x81\x85\0\0\0\0he"
    tunnel.close(1001, Code.DRAINING)
    assert await caller.exactly(len(TO_CALLER)) == TO_CALLER
    assert await wire.until_broken() == b""  # no Close in the middle of a frame: the connection just ends
    await caller.send(b"llo" + ECHO)
    assert await caller.rest() == b""


async def test_what_the_caller_still_sends_before_the_close_arrives(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    await wire.send(b"\x82\x05he")
    assert await caller.exactly(4)
    tunnel.close(1001, Code.DRAINING)
    await caller.send(b"\x81\x81\0\0\0\0a")
    assert await wire.exactly(7) == b"\x81\x81\0\0\0\0a"
    await wire.send(b"llo")
    assert await caller.exactly(3 + len(TO_CALLER)) == b"llo" + TO_CALLER
    await caller.send(ECHO)
    assert await caller.rest() == b""


async def test_a_close_that_has_passed_is_not_said_twice(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    bye = close_frame(1000, b"done")
    await wire.send(bye)
    assert await caller.exactly(len(bye)) == bye
    tunnel.close(1001, Code.DRAINING)
    await caller.send(close_frame(1000, b"done", b"mask"))
    assert await caller.rest() == b""


async def test_a_caller_who_said_close_is_closed_at_once(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    await caller.send(ECHO)
    assert await wire.exactly(len(ECHO)) == ECHO
    tunnel.close(1001, Code.DRAINING)
    assert await caller.rest() == TO_CALLER


on_a_clock = pytest.mark.asyncio(loop_factories=["clock"])


@on_a_clock
async def test_a_caller_who_does_not_answer_is_cut_off_after_a_second(proxies: Proxies, clock: ClockLoop) -> None:
    proxy = await proxies.start()
    caller, wire, tunnel = await _opened(proxy)
    tunnel.close(1001, Code.DRAINING)
    assert await caller.exactly(len(TO_CALLER)) == TO_CALLER
    await _read_close(wire)
    await wire.gone()
    assert proxy.metrics.in_flight == 1
    await clock.advance(1.1)
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    await caller.gone()


@on_a_clock
async def test_a_frame_that_does_not_end_within_a_second_is_cut_off(proxies: Proxies, clock: ClockLoop) -> None:
    proxy = await proxies.start()
    caller, wire, tunnel = await _opened(proxy)
    await wire.send(b"\x82\x05he")
    assert await caller.exactly(4)
    tunnel.close(1001, Code.DRAINING)
    await clock.advance(1.1)
    assert await caller.until_broken() == b""
    await wire.gone()
    await proxy.metrics.until(lambda m: m.in_flight == 0)


@pytest.mark.parametrize("side", ["caller", "upstream"])
@pytest.mark.parametrize("when", ["in a frame", "between frames"])
async def test_a_side_that_goes_away_meanwhile_ends_it(
    proxy: Proxy, side: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (side, when) == ("upstream", "between frames"):
        monkeypatch.undo()  # nothing but its second ends a caller who was told and says nothing
    caller, wire, tunnel = await _opened(proxy)
    if when == "in a frame":
        await wire.send(b"\x82\x05he")
        assert await caller.exactly(4)
    tunnel.close(1001, Code.DRAINING)
    (caller if side == "caller" else wire).reset()
    await (wire if side == "caller" else caller).gone()
    await proxy.metrics.until(lambda m: m.in_flight == 0)


async def test_an_upstream_that_had_stopped_talking_in_a_frame_is_cut_off_at_once(proxy: Proxy) -> None:
    caller, wire, tunnel = await _opened(proxy)
    await wire.send(b"\x82\x05he")
    assert await caller.exactly(4)
    tunnel.close(1001, Code.DRAINING)
    wire.end()
    assert await caller.until_broken() == b""


# -- a policy that does not let it stay --------------------------------------------------------------------------------


def _with_tokens(proxy: Proxy, tokens: dict[str, str]) -> Snapshot:
    return make_snapshot(upstream_at(proxy.upstream.port), tokens=tokens)


async def test_a_reload_closes_the_tunnels_of_whom_it_shuts_out_and_no_others(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    tokens = {"ann": "token-of-ann", "bob": "token-of-bob", "cy": "token-of-cy"}
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port), tokens=tokens), upstream)
    opened = {name: await _opened(proxy, f"Authorization: Bearer {token}") for name, token in tokens.items()}
    after = _with_tokens(proxy, {"ann": "token-of-ann", "bob": "another", "cy": "token-of-cy"})
    cy = replace(after.callers["cy"], operations=frozenset({"things.any"}))
    recogniser = after.policy.recognisers[0]
    policy = replace(
        after.policy,
        recognisers=(lambda shown, now: cy if (who := recogniser(shown, now)) and who.name == "cy" else who,),
    )
    proxy.server.adopt(replace(after, policy=policy))
    for name, code in (("bob", "unknown_caller"), ("cy", "operation_not_granted")):
        caller, wire, _ = opened[name]
        said = close_frame(1008, code.encode())
        assert await caller.exactly(len(said)) == said
        assert await _read_close(wire) == (1008, code)
        await caller.send(ECHO)
        assert await caller.rest() == b""
    caller, wire, _ = opened["ann"]
    await wire.send(b"\x81\x02hi")
    assert await caller.exactly(4) == b"\x81\x02hi"
    await caller.send(b"\x81\x81\0\0\0\0a")
    assert await wire.exactly(7)
    assert proxy.metrics.tunnels == {"realtime.session": 1}


async def test_audit_mode_closes_no_tunnel_for_a_grant(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    tokens = {"ann": "token-of-ann"}
    snapshot = make_snapshot(upstream_at(upstream.port), tokens=tokens)
    proxy = await proxies.start(snapshot, upstream)
    caller, wire, _ = await _opened(proxy, "Authorization: Bearer token-of-ann")
    ann = replace(snapshot.callers["ann"], operations=frozenset({"things.any"}))
    proxy.server.adopt(with_policy(snapshot, recognisers=(lambda shown, now: ann,), mode=Mode.AUDIT))
    await wire.send(b"\x81\x02hi")
    assert await caller.exactly(4) == b"\x81\x02hi"


# -- real clients ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _serving(proxies: Proxies, seen: asyncio.Queue[tuple[int, str]]) -> AsyncIterator[Proxy]:
    async def handler(socket: ServerConnection) -> None:
        try:
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            pass
        seen.put_nowait((socket.close_code, socket.close_reason))

    async with serve(handler, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield await proxies.start(make_snapshot(upstream_at(port)), await proxies.upstream())


async def test_a_client_and_a_server_see_a_clean_close_at_the_end_of_a_drain(proxies: Proxies) -> None:
    seen: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    async with _serving(proxies, seen) as proxy:
        async with connect(f"ws://{proxy.authority}{SOCKET}", proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await bounded(proxy.server.drain(0.05))
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (1001, "draining")
        assert await bounded(seen.get()) == (1001, "draining")


# -- the process goes away ---------------------------------------------------------------------------------------------


async def test_while_draining_a_request_on_an_open_connection_is_served_as_its_last(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    assert (await caller.message()).head.get("Connection") is None
    drain = asyncio.ensure_future(proxy.server.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await proxy.caller()
    await caller.send(request("GET /things"))
    got = await caller.message()
    assert (got.head.status, got.head.get("Connection")) == (200, "close")
    assert await caller.rest() == b""
    await bounded(drain)


@on_a_clock
async def test_a_connection_on_which_nobody_asks_is_closed_after_a_second_of_draining(
    proxies: Proxies, still_clock: ClockLoop
) -> None:
    proxy = await proxies.start()
    idle = await proxy.caller()
    await proxy.metrics.until(lambda m: m.connections == 1)
    drain = asyncio.ensure_future(proxy.server.drain(30))
    await still_clock.advance(0)  # it begins before any time passes
    await still_clock.advance(0.9)
    assert proxy.metrics.connections == 1
    await still_clock.advance(0.2)
    assert await idle.rest() == b""
    idle.close()
    await bounded(drain)


@on_a_clock
async def test_a_drain_with_nobody_there_takes_no_time(proxies: Proxies, still_clock: ClockLoop) -> None:
    proxy = await proxies.start()
    drain = asyncio.ensure_future(proxy.server.drain(30))
    for _ in range(3):
        await still_clock.advance(0)
    assert drain.done()


async def test_while_draining_no_websocket_is_opened(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    await caller.message()
    drain = asyncio.ensure_future(proxy.server.drain(60))
    await asyncio.sleep(0)
    await caller.send(HANDSHAKE)
    got = await caller.message()
    assert (got.head.status, b"draining" in got.body) == (503, True)
    assert got.head.get("Retry-After") == "1"
    caller.close()
    await bounded(drain)


@on_a_clock
async def test_a_stream_has_the_drain_time_and_is_then_cut(proxies: Proxies, clock: ClockLoop) -> None:
    proxy = await proxies.start()
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await caller.head()
    drain = asyncio.ensure_future(proxy.server.drain(30))
    await asyncio.sleep(0)
    await clock.advance(29)
    await wire.send(b"1\r\nb\r\n")
    assert await caller.exactly(12) == b"1\r\na\r\n1\r\nb\r\n"
    await clock.advance(2)
    await bounded(drain)
    assert await caller.until_broken() == b""
    assert (proxy.records[0].ending, proxy.records[0].code) == (Ending.ABORTED, Code.DRAINING)


def test_the_size_of_a_frame_is_known_once_its_header_is_there() -> None:
    for payload in (0, 1, 125, 126, 65535, 65536, 2**40):
        for masked in (0, 0x80):
            header = bytes((0x82, masked | (payload if payload < 126 else 126 if payload < 65536 else 127)))
            header += b"" if payload < 126 else payload.to_bytes(2 if payload < 65536 else 8, "big")
            assert frame_size(header + b"rest") == len(header) + (4 if masked else 0) + payload
            for cut in range(len(header)):
                assert frame_size(header[:cut]) is None
