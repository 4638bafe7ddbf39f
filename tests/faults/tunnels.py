"""Faults of a WebSocket: a handshake that is not answered as one, and the ends of a tunnel."""

from __future__ import annotations

from proxy.observe.record import Ending
from proxy.wire.tunnel import STUCK
from tests.faults.row import Expected, Row, Step, cut, refused, whole
from tests.faults.scene import HANDSHAKE, SWITCH, Scene
from tests.faults.steps import CLOSE, RESET, End, says, until
from tests.faults.times import TIME, bare, timed
from tests.proxies import ClockLoop
from tests.wires import OK, response

FRAME = b"\x81\x01a"
INVALID = refused(502, "upstream_invalid_response")
OVER = Expected(Ending.ANSWERED, 101, 101, None, None)
IDLE = b"\x88\x15\x03\xe9tunnel_idle_timeout"


def _ends(then: End) -> Step:
    """The upstream ends the tunnel after a frame."""

    async def fault(scene: Scene) -> None:
        wire = await scene.tunnels()
        wire.feed(FRAME)
        assert await scene.caller.exactly(3) == FRAME
        then(wire)
        await scene.caller.until_ended()
        scene.caller.close()

    return fault


async def _falls_silent(scene: Scene) -> None:
    """Neither side says a word for too long."""
    wire = await scene.tunnels()
    assert isinstance(scene.loop, ClockLoop)
    for _ in range(3):
        await scene.loop.advance(TIME.tunnel_idle - 1)
        wire.feed(FRAME)
        assert await scene.caller.exactly(3) == FRAME
    await scene.loop.advance(TIME.tunnel_idle + 1)
    await scene.loop.advance(TIME.tunnel_idle + 1)
    await scene.caller.until(lambda caller: caller.received.endswith(IDLE))
    scene.caller.close()


async def _is_not_read(scene: Scene) -> None:
    """The caller reads nothing of a large frame."""
    wire = await scene.tunnels()
    scene.caller.stop_reading()
    (tunnel,) = scene.proxy.server.tunnels
    wire.feed(b"\x82\x7f" + (2**30).to_bytes(8, "big") + bytes(24_000_000))
    await until(lambda: tunnel.caller.full)
    assert isinstance(scene.loop, ClockLoop)
    await scene.loop.advance(STUCK + 1)
    await scene.loop.advance(STUCK + 1)
    await scene.proxy.metrics.until(lambda metrics: metrics.in_flight == 0)
    scene.caller.read_again()
    await scene.caller.until_broken()


async def _outlives_the_total(scene: Scene) -> None:
    """The limit for a whole request is not for tunnels."""
    wire = await scene.tunnels()
    assert isinstance(scene.loop, ClockLoop)
    await scene.loop.advance(60)
    wire.feed(FRAME)
    assert await scene.caller.exactly(3) == FRAME
    wire.close()
    await scene.caller.until_ended()
    scene.caller.close()


ROWS = (
    Row(name="handshake: refused with 400", sends=HANDSHAKE, kept=False, idle=1, expected=whole(b"no", 400),
        fault=says(response("400 Bad Request", body=b"no"))),
    Row(name="handshake: answered with 200", sends=HANDSHAKE, kept=False, idle=1, expected=whole(), fault=says(OK)),
    Row(name="handshake: a switch to another protocol", sends=HANDSHAKE, kept=False, expected=INVALID,
        fault=says(SWITCH.replace(b"websocket", b"h2c"))),
    Row(name="handshake: a switch to nothing", sends=HANDSHAKE, kept=False, expected=INVALID,
        fault=says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")),
    Row(name="handshake: a switch with a body", sends=HANDSHAKE, kept=False, expected=INVALID,
        fault=says(SWITCH.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))),
    Row(name="handshake: close", sends=HANDSHAKE, kept=False, expected=refused(502, "upstream_closed"),
        fault=says(then=CLOSE)),
    Row(name="handshake: reset after half the head", sends=HANDSHAKE, kept=False, expected=INVALID,
        fault=says(b"HTTP/1.1 101 Sw", then=RESET)),
    Row(name="tunnel: the upstream closes", sends=HANDSHAKE, kept=False, fault=_ends(CLOSE), expected=OVER),
    Row(name="tunnel: the upstream resets", sends=HANDSHAKE, kept=False, fault=_ends(RESET),
        expected=cut("upstream_closed")),
)  # fmt: skip

ON_A_CLOCK = (
    Row(name="tunnel: nobody says anything", stage=timed(bare), sends=HANDSHAKE, kept=False, fault=_falls_silent,
        counted={}, expected=cut("tunnel_idle_timeout")),
    Row(name="tunnel: the caller reads nothing", stage=timed(bare), sends=HANDSHAKE, kept=False, fault=_is_not_read,
        counted={}, expected=cut("tunnel_stalled")),
    Row(name="tunnel: longer than a request may take", stage=timed(bare, total=30.0), sends=HANDSHAKE, kept=False,
        fault=_outlives_the_total, expected=OVER),
)  # fmt: skip
