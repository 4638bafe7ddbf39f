"""Every wait that does not end: each has its own limit, its own code, and nothing happens before its time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from proxy.core.model import TimeLimits
from proxy.wire.dial import FRESH, STALE
from tests.faults.dialling import NO_SERVER, nothing
from tests.faults.places import Resolver, found_again, opens_again, resolving, swallowed, through
from tests.faults.row import GET, MARK, POST, Row, Step, broken, primed, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import until
from tests.proxies import ClockLoop
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK, request, response

TIME = TimeLimits(
    head=100, keep_alive=200, body_idle=300, connect=50, tls=70, first_byte=400, idle=500, tunnel_idle=600,
    upstream_keep_alive=150, upstream_max_age=10_000,
)  # fmt: skip
"""Far longer than a busy machine takes for what happens meanwhile: the clock is the test's own, but never stands."""

TOTAL = 30.0
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"


def timed(stage: Step, **changes: float) -> Step:
    """The stage, with these limits."""

    async def begin(scene: Scene) -> None:
        scene.changes["time"] = replace(TIME, **changes)
        await stage(scene)

    return begin


async def bare(scene: Scene) -> None:
    await scene.start()


async def no_tls(scene: Scene) -> None:
    """Somebody accepts, and never says a word of TLS."""
    upstream = await scene.listen()
    where = upstream_at(upstream.port, scheme="https", host="localhost")
    await scene.start(make_snapshot(replace(where, ca_file=scene.certificates.ca_file)))


async def silent_name(scene: Scene) -> None:
    await resolving("127.0.0.1")(scene)
    scene.prop.gate = asyncio.Event()


async def name_server_speaks(scene: Scene) -> None:
    scene.prop.gate.set()


async def _handshakes(scene: Scene) -> None:
    await scene.upstream.listen_again(scene.certificates.good("localhost"))


async def passes(scene: Scene, seconds: float) -> None:
    """The time goes by. Just before it is over, nothing has happened."""
    assert isinstance(scene.loop, ClockLoop)
    got = len(scene.caller.received)
    await scene.loop.advance(0.8 * seconds)
    for _ in range(5):
        await scene.loop.advance(0)
    assert (scene.proxy.metrics.in_flight, len(scene.caller.received)) == (1, got), "before its time"
    await scene.loop.advance(0.2 * seconds + 1.0)


def _is_asked(prop: object) -> bool:
    """Has a resolver that says nothing been asked?"""
    return isinstance(prop, Resolver) and prop.asked.is_set()


def dials_for(seconds: float) -> Step:
    """The connection is never made."""

    async def fault(scene: Scene) -> None:
        (pool,) = scene.proxy.server.pools.values()
        # The loop asks a thread even for an address, and this clock does not wait for threads.
        await until(lambda: bool(pool._dialer._addresses or (scene.prop is not None and _is_asked(scene.prop))))
        await passes(scene, seconds)

    return fault


async def _egress_waits(scene: Scene) -> None:
    await scene.prop.waits.wait()
    await passes(scene, TIME.connect)


def _handshake_waits(said: bytes) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: wire.received[:1] == b"\x16")
        wire.feed(said)
        await passes(scene, TIME.tls)

    return fault


def silent_after(raw: bytes, seconds: float, shown: bytes = b"") -> Step:
    """The upstream gets the request, says this much, and then nothing more."""

    async def fault(scene: Scene) -> None:
        wire = await (scene.pooled_arrives() if scene.wire is not None else scene.arrives())
        if raw:
            wire.feed(raw)
            await until(scene.has_read)
        if shown:
            await scene.caller.until(lambda caller: shown in caller.received)
        await passes(scene, seconds)

    return fault


async def _only_hints(scene: Scene) -> None:
    """Interim heads are no answer, however often they come."""
    wire = await scene.arrives()
    assert isinstance(scene.loop, ClockLoop)
    for _ in range(3):
        await scene.loop.advance(0.25 * TIME.first_byte)
        wire.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await until(scene.has_read)
    await passes(scene, 0.25 * TIME.first_byte)


def silent_after_head(seconds: float) -> Step:
    """The upstream has the request's head and a part of its body."""

    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.head()
        await passes(scene, seconds)

    return fault


async def _body_stops(scene: Scene) -> None:
    wire = await scene.reaches()
    await wire.head()
    await passes(scene, TIME.body_idle)


async def _head_stops(scene: Scene) -> None:
    """The caller sends its head a field at a time: that does not move the limit."""
    assert isinstance(scene.loop, ClockLoop)
    await until(lambda: any(connection._head_begun for connection in scene.proxy.server.connections))
    for _ in range(3):
        await scene.loop.advance(0.25 * TIME.head)
        scene.caller.feed(b"X: y\r\n")
    await scene.loop.advance(0.05 * TIME.head)
    assert not scene.caller.received, "before its time"
    await scene.loop.advance(0.2 * TIME.head + 1.0)


async def _takes_nothing(scene: Scene) -> None:
    wire = await scene.reaches()
    await wire.head()
    wire.stop_reading()
    scene.caller.feed(bytes(24_000_000))
    await until(lambda: any("upstream" in connection._held for connection in scene.proxy.server.connections))
    await passes(scene, TIME.idle)


async def _reads_nothing(scene: Scene) -> None:
    scene.caller.stop_reading()
    wire = await scene.arrives()
    wire.feed(response("200 OK", body=bytes(24_000_000)))
    await until(lambda: any(connection._write_full for connection in scene.proxy.server.connections))
    await passes(scene, TIME.idle)
    await scene.proxy.metrics.until(lambda metrics: metrics.in_flight == 0)
    scene.caller.read_again()
    await scene.caller.until_broken()


async def _streams_for_long(scene: Scene) -> None:
    """A pause of nearly the limit, again and again, until the connection is too old to be used again."""
    wire = await scene.answers(CHUNKS)
    assert isinstance(scene.loop, ClockLoop)
    for number in range(1, 50):
        await scene.caller.until(lambda caller, number=number: caller.received.count(b"4\r\nsome\r\n") == number)
        await scene.loop.advance(0.8 * TIME.idle)
        wire.feed(b"4\r\nsome\r\n" if number < 49 else b"0\r\n\r\n")


async def _just_in_time(scene: Scene) -> None:
    """The answer comes before the total is over, and nothing comes after it."""
    wire = await scene.arrives()
    assert isinstance(scene.loop, ClockLoop)
    await scene.loop.advance(0.8 * TOTAL)
    wire.feed(OK)
    await scene.caller.until(lambda caller: caller.received.endswith(b"ok"))
    await scene.loop.advance(TOTAL)


def _forgotten_for(seconds: float) -> Step:
    """The name was known so long ago, and the connection that it led to is gone; now the name server is down."""

    async def stage(scene: Scene) -> None:
        await resolving("127.0.0.1")(scene)
        await scene.prime()
        assert scene.wire is not None
        scene.wire.close()
        await until(lambda: not scene.proxy.upstream_connections("idle"))
        assert isinstance(scene.loop, ClockLoop)
        await scene.loop.advance(seconds)
        scene.prop.failure = NO_SERVER

    return stage


async def _answers(scene: Scene) -> None:
    await scene.answers(OK)


async def _resolves_again(scene: Scene) -> None:
    scene.prop.failure = None


_UPLOAD = request(f"POST /things?{MARK}", "Content-Length: 30000000")
_SHORT = request(f"POST /things?{MARK}", "Content-Length: 1000", body=b"begun")
_SHORT_CHUNKS = request(f"POST /things?{MARK}", "Transfer-Encoding: chunked", body=b"5\r\nbegun\r\n")
_FIRST = refused(504, "upstream_first_byte_timeout")
_IDLE = broken("upstream_idle_timeout", b"some")

ROWS = (
    Row(name="connect: a SYN that nobody answers", stage=timed(swallowed), fault=dials_for(TIME.connect), arrived=0,
        expected=refused(504, "upstream_connect_timeout"), healed=found_again),
    Row(name="connect: a name server that says nothing", stage=timed(silent_name), fault=dials_for(TIME.connect),
        arrived=0, expected=refused(504, "upstream_dns_timeout"), healed=name_server_speaks),
    Row(name="connect: a CONNECT proxy that says nothing", stage=timed(through(None)), fault=_egress_waits,
        arrived=0, expected=refused(504, "upstream_proxy_timeout"), healed=opens_again),
    Row(name="tls: nothing instead of a handshake", stage=timed(no_tls), fault=_handshake_waits(b""), sends=POST,
        arrived=0, expected=refused(504, "upstream_tls_timeout"), healed=_handshakes),
    Row(name="tls: half a record", stage=timed(no_tls), fault=_handshake_waits(b"\x16\x03\x03\x40\x00half"),
        arrived=0, expected=refused(504, "upstream_tls_timeout"), healed=_handshakes),
    Row(name="first byte: nothing", stage=timed(bare), fault=silent_after(b"", TIME.first_byte), expected=_FIRST),
    Row(name="first byte: nothing, for a write", stage=timed(bare), sends=POST, expected=_FIRST,
        fault=silent_after(b"", TIME.first_byte)),
    Row(name="first byte: nothing on reuse, for a write", stage=timed(primed), sends=POST, expected=_FIRST,
        fault=silent_after(b"", TIME.first_byte)),
    Row(name="first byte: nothing on reuse", stage=timed(primed), expected=_FIRST,
        fault=silent_after(b"", TIME.first_byte)),
    Row(name="first byte: half a head", stage=timed(bare), fault=silent_after(b"HTTP/1.1 200", TIME.first_byte),
        expected=_FIRST),
    Row(name="first byte: only interim heads", stage=timed(bare), fault=_only_hints, expected=_FIRST),
    Row(name="idle: in a length", stage=timed(bare), fault=silent_after(LENGTH, TIME.idle, b"some"), expected=_IDLE,
        kept=False),
    Row(name="idle: in chunks", stage=timed(bare), fault=silent_after(CHUNKS, TIME.idle, b"some"), expected=_IDLE,
        kept=False),
    Row(name="idle: in half a chunk", stage=timed(bare), expected=_IDLE, kept=False,
        fault=silent_after(CHUNKS.replace(b"\r\n4\r", b"\r\n64\r").removesuffix(b"\r\n"), TIME.idle, b"some")),
    Row(name="idle: in a body until the close", stage=timed(bare), expected=_IDLE, kept=False,
        fault=silent_after(b"HTTP/1.1 200 OK\r\n\r\nsome", TIME.idle, b"some")),
    Row(name="idle: in a refusal", stage=timed(bare), expected=refused(504, "upstream_idle_timeout"),
        fault=silent_after(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nsome", TIME.idle)),
    Row(name="idle: a stream of long pauses", stage=timed(bare), fault=_streams_for_long,
        expected=whole(b"some" * 49)),
    Row(name="idle: an upstream that takes nothing", stage=timed(bare), sends=_UPLOAD, fault=_takes_nothing,
        expected=refused(504, "upstream_write_timeout"), kept=False),
    Row(name="idle: a caller who reads nothing", stage=timed(bare), fault=_reads_nothing, kept=False, counted={},
        expected=broken("caller_stalled")),
    Row(name="head: the caller's never ends", stage=timed(bare), sends=b"GET /things?row HTTP/1.1\r\n", arrived=0,
        dials=0, fault=_head_stops, expected=refused(408, "head_timeout"), kept=False),
    *(
        Row(name=f"body: the caller's {what}", stage=timed(bare), sends=raw, fault=_body_stops, kept=False,
            expected=refused(408, "body_timeout"))
        for what, raw in (
            ("never begins", request(f"POST /things?{MARK}", "Content-Length: 5")),
            ("never begins after 100", request(f"POST /things?{MARK}", "Content-Length: 5", "Expect: 100-continue")),
            ("stops in a length", _SHORT),
            ("stops in chunks", _SHORT_CHUNKS),
        )
    ),
    Row(name="total: while the name is asked for", stage=timed(silent_name, total=TOTAL), fault=dials_for(TOTAL),
        arrived=0, expected=refused(504, "total_timeout"), healed=name_server_speaks),
    Row(name="total: while a connection is made", stage=timed(swallowed, total=TOTAL), fault=dials_for(TOTAL),
        arrived=0, expected=refused(504, "total_timeout"), healed=found_again),
    Row(name="total: before the first byte", stage=timed(bare, total=TOTAL), fault=silent_after(b"", TOTAL),
        expected=refused(504, "total_timeout")),
    Row(name="total: before the first byte, of a write on reuse", stage=timed(primed, total=TOTAL), sends=POST,
        fault=silent_after(b"", TOTAL), expected=refused(504, "total_timeout")),
    Row(name="total: in a body", stage=timed(bare, total=TOTAL), fault=silent_after(LENGTH, TOTAL, b"some"),
        expected=broken("total_timeout", b"some"), kept=False),
    Row(name="total: in an upload", stage=timed(bare, total=TOTAL), sends=_SHORT, kept=False,
        fault=silent_after_head(TOTAL), expected=refused(504, "total_timeout")),
    Row(name="total: just in time", stage=timed(bare, total=TOTAL), sends=GET, fault=_just_in_time, idle=1,
        expected=whole()),
    Row(name="a name server that fails later", stage=timed(_forgotten_for(FRESH + 1)), fault=_answers, dials=2, idle=1,
        expected=whole()),
    Row(name="a name server that fails for too long", stage=timed(_forgotten_for(STALE + 1)), fault=nothing, dials=2,
        arrived=0, expected=refused(502, "upstream_dns_failed"), healed=_resolves_again),
)  # fmt: skip
