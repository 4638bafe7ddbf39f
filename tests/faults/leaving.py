"""A caller who leaves, in every phase: the upstream hears of it at once, because work that nobody hears costs money."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.core.model import CallerLimits
from proxy.observe.record import Ending
from tests.faults.minting import mint_answers, silent_mint
from tests.faults.places import found_again, opens_again, swallowed, through
from tests.faults.row import MARK, POST, Expected, Row, Step, left, primed
from tests.faults.scene import HANDSHAKE, PRIMER, Scene
from tests.faults.steps import until
from tests.faults.times import name_server_speaks, no_tls, silent_name
from tests.snapshots import TOKEN, make_snapshot, upstream_at
from tests.wires import OK, Wire, request, response

SOON = 0.1
"""Seconds within which the upstream hears of it: sooner than any timer of the product's would see to it."""

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\nsome"

AS_SHOP = f"Authorization: Bearer {TOKEN}"
_GONE = left()
_SHOWN = left(200, 200)

Leaving = Callable[[Wire], None]
Makes = Callable[[Leaving], Step]


async def _handshakes(scene: Scene) -> None:
    await scene.upstream.listen_again(scene.certificates.good("localhost"))


async def _one_at_a_time(scene: Scene) -> None:
    """The caller may have one request in flight, and somebody else's is."""
    limits = CallerLimits(None, 1, 60.0)
    upstream = await scene.listen()
    await scene.start(make_snapshot(upstream_at(upstream.port), tokens={"shop": TOKEN}, limits=limits))
    scene.fields = (AS_SHOP,)
    scene.prop = await scene.calls()
    scene.prop.feed(request(f"GET {PRIMER}", AS_SHOP))
    await scene.arrives()


def _in_line(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        gate = scene.proxy.server.gates.of("shop", scene.proxy.server.snapshot.callers["shop"].limits)
        await until(lambda: gate.waiting == 1)
        scene.leave(leaving)
        await until(lambda: len(scene.proxy.records) == 1)
        assert scene.wire is not None
        await scene.wire.send(OK)
        await scene.prop.until(lambda caller: caller.received.endswith(b"ok"))
        scene.others += 1
        scene.wire = None  # the row's own request has none

    return fault


def _while(true: Callable[[Scene], bool]) -> Makes:
    """Leaves once this is so."""

    def leaves(leaving: Leaving) -> Step:
        async def fault(scene: Scene) -> None:
            await until(lambda: true(scene))
            scene.leave(leaving)

        return fault

    return leaves


def _in_a_handshake(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: wire.received[:1] == b"\x16")
        scene.leave(leaving)
        await wire.until_ended()

    return fault


def _waiting(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await (scene.arrives() if scene.wire is None else scene.pooled_arrives())
        scene.leave(leaving)
        await wire.until_ended()

    return fault


def _handshake_waits(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.head()
        scene.leave(leaving)
        await wire.until_ended()

    return fault


def _after(raw: bytes, shown: bytes = b"") -> Makes:
    """Leaves once the upstream has said this, and the caller has that much of it."""

    def leaves(leaving: Leaving) -> Step:
        async def fault(scene: Scene) -> None:
            wire = await scene.answers(raw)
            await until(scene.has_read)
            await scene.caller.until(lambda caller: shown in caller.received)
            scene.leave(leaving)
            await wire.until_ended()

        return fault

    return leaves


def _uploading(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: b"begun" in wire.received)
        scene.leave(leaving)
        await wire.until_ended()

    return fault


def _not_reading(leaving: Leaving) -> Step:
    """The caller reads nothing of what there is, and then leaves."""

    async def fault(scene: Scene) -> None:
        scene.caller.stop_reading()
        wire = await scene.arrives()
        wire.feed(response("200 OK", body=bytes(24_000_000)))
        await until(lambda: any(connection._write_full for connection in scene.proxy.server.connections))
        scene.leave(leaving)
        await wire.until_ended()

    return fault


def _in_a_tunnel(leaving: Leaving) -> Step:
    async def fault(scene: Scene) -> None:
        wire = await scene.tunnels()
        wire.feed(b"\x81\x01a")
        assert await scene.caller.exactly(3)
        scene.leave(leaving)
        await wire.until_ended()
        wire.close()

    return fault


def _each(
    name: str, fault: Makes, expected: Expected = _GONE, *, cut: Expected | None = None, **more: Any
) -> tuple[Row, ...]:
    """The row for a caller who closes, for one whose connection is cut, and for one who says that no more will come."""
    after = {"closes": expected, "resets": cut or expected, "half-closes": expected}
    return tuple(
        Row(name=f"the caller {how} {name}", fault=fault(leaving), expected=after[how], kept=False, **more)
        for how, leaving in (("closes", Wire.close), ("resets", Wire.reset), ("half-closes", Wire.end))
    )


_SHORT = request(f"POST /things?{MARK}", "Content-Length: 1000", body=b"begun")
_SHORT_CHUNKS = request(f"POST /things?{MARK}", "Transfer-Encoding: chunked", body=b"5\r\nbegun\r\n")
_dials = _while(lambda scene: bool(scene.proxy.metrics.upstream_dials))

ROWS = (
    *_each("in line", _in_line, sends=request(f"POST /things?{MARK}", AS_SHOP, body=b"x"), stage=_one_at_a_time,
           arrived=0, idle=1),
    *_each("while the name is asked for", _while(lambda scene: scene.prop.asked.is_set()), stage=silent_name,
           arrived=0, healed=name_server_speaks),
    *_each("while a connection is made", _dials, stage=swallowed, sends=POST, arrived=0, healed=found_again),
    *_each("while the CONNECT proxy is asked", _while(lambda scene: scene.prop.waits.is_set()), stage=through(None),
           arrived=0, healed=opens_again),
    *_each("in the TLS handshake", _in_a_handshake, stage=no_tls, sends=POST, arrived=0, healed=_handshakes),
    *_each("while a token is minted", _while(lambda scene: scene.prop.count == 1), stage=silent_mint, arrived=0,
           dials=0, healed=mint_answers),
    *_each("before the first byte", _waiting),
    *_each("before the first byte, of a write", _waiting, sends=POST),
    *_each("before the first byte, on reuse", _waiting, stage=primed),
    *_each("after half the head", _after(b"HTTP/1.1 200")),
    *_each("after an interim head", _after(b"HTTP/1.1 100 Continue\r\n\r\n")),
    *_each("in half a refusal", _after(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nsome"), left(403)),
    *_each("in a length", _after(LENGTH, b"some"), _SHOWN),
    *_each("in chunks", _after(CHUNKS, b"some"), _SHOWN),
    *_each("in a body until the close", _after(OPEN, b"some"), _SHOWN),
    *_each("in an answer that it does not read", _not_reading, left(200))[:2],  # who reads nothing sees no end either
    *_each("in an upload: length", _uploading, sends=_SHORT),
    *_each("in an upload: chunks", _uploading, sends=_SHORT_CHUNKS),
    *_each("while a handshake waits", _handshake_waits, sends=HANDSHAKE),
    *_each("in a tunnel", _in_a_tunnel, left(101, 101, Ending.ANSWERED), cut=left(101, 101), sends=HANDSHAKE),
)  # fmt: skip
