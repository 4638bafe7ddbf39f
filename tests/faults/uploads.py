"""Faults while the request's body is on its way: an early answer ends it, and no byte of it is read as a request."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.row import MARK, Row, left, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import CLOSE, RESET, End, until
from tests.wires import OK, request, response

CLOSED = refused(502, "upstream_closed")
LENGTH = request(f"POST /things?{MARK}", "Content-Length: 1000", body=b"begun")
CHUNKS = request(f"POST /things?{MARK}", "Transfer-Encoding: chunked", body=b"5\r\nbegun\r\n")
SMUGGLED = request("DELETE /voices/v1/voices/smuggled") + request("POST /things?smuggled")
EXPECTS = request(f"POST /things?{MARK}", "Expect: 100-continue", "Content-Length: 5")


def _early(raw: bytes, *, then: End | None = None):
    """The upstream answers before it has the body; the caller, who has the answer, sends what looks like requests."""

    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: b"begun" in wire.received)
        wire.feed(raw)
        if then is not None:
            then(wire)
        await scene.caller.until(lambda caller: caller.received.endswith(b"no"))
        scene.caller.feed(SMUGGLED)

    return fault


def _goes_on_after(raw: bytes, rest: bytes):
    """The upstream answers early and means to go on reading; the caller sends the rest of its body."""

    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: b"begun" in wire.received)
        wire.feed(raw)
        await scene.caller.until(lambda caller: b"\r\n\r\n" in caller.received)
        scene.caller.feed(rest)

    return fault


def _ends_during(then: End):
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: b"begun" in wire.received)
        then(wire)
        await scene.caller.until(lambda caller: b"upstream_closed" in caller.received)
        scene.caller.feed(SMUGGLED)

    return fault


async def _bad_chunk(scene: Scene) -> None:
    wire = await scene.reaches()
    await wire.until(lambda wire: b"begun" in wire.received)
    scene.caller.feed(b"zz\r\n" + SMUGGLED)


_LARGE = bytes(24_000_000)


async def _slow_upstream(scene: Scene) -> None:
    """The upstream reads nothing for a while: the caller is paused, then goes on."""
    wire = await scene.reaches()
    await wire.head()
    wire.stop_reading()
    scene.caller.feed(_LARGE)
    await until(lambda: any("upstream" in connection._held for connection in scene.proxy.server.connections))
    sizes = [await _unsent(scene) for _ in range(50)]
    assert any(before == after for before, after in pairwise(sizes)), "the caller was not paused"
    assert min(sizes) > 0, "the proxy took all of it for an upstream that reads nothing"
    wire.read_again()
    assert len(await wire.exactly(len(_LARGE))) == len(_LARGE)
    await wire.send(OK)


async def _unsent(scene: Scene) -> int:
    await until(lambda: True)
    return scene.caller._writer.transport.get_write_buffer_size()


async def _drips(scene: Scene) -> None:
    """The caller sends its body a byte a packet; the upstream has each before the next one is sent."""
    wire = await scene.reaches()
    await wire.head()
    for number in range(5):
        scene.caller.feed(b"%d" % number)
        assert await wire.exactly(1) == b"%d" % number
    wire.feed(OK)


async def _refused_instead_of_100(scene: Scene) -> None:
    wire = await scene.reaches()
    await wire.head()
    wire.feed(response("413 Content Too Large", body=b"no"))


async def _half_closes(scene: Scene) -> None:
    """The caller says that nothing more will come, in the middle of its body."""
    wire = await scene.reaches()
    await wire.until(lambda wire: b"begun" in wire.received)
    scene.leave(lambda caller: caller.end())


_REFUSALS = ("413 Content Too Large", "401 Unauthorized", "429 Too Many Requests", "503 Service Unavailable")

ROWS = (
    *(
        Row(name=f"{status[:3]} during an upload: {what}, {how}", sends=raw, kept=False,
            expected=whole(b"no", int(status[:3])),
            fault=_early(response(status, *fields, body=b"no"), then=then))
        for status in _REFUSALS
        for what, raw in (("length", LENGTH), ("chunks", CHUNKS))
        for how, fields, then in (("keep-alive", (), None), ("close", ("Connection: close",), CLOSE))
    ),
    Row(name="200 during an upload: length", sends=LENGTH, kept=False, expected=whole(b"no"),
        fault=_early(response("200 OK", body=b"no"))),
    Row(name="200 during an upload: chunks", sends=CHUNKS, kept=False, expected=whole(b"no"),
        fault=_early(response("200 OK", body=b"no"))),
    Row(name="200 during an upload that goes on, then its end", sends=LENGTH, kept=False, expected=whole(b"no"),
        fault=_goes_on_after(response("200 OK", body=b"no"), bytes(995))),
    *(
        Row(name=f"{end} during an upload: {what}", sends=raw, fault=_ends_during(then), expected=CLOSED, kept=False)
        for end, then in (("close", CLOSE), ("reset", RESET))
        for what, raw in (("length", LENGTH), ("chunks", CHUNKS))
    ),
    Row(name="a malformed chunk of the caller's", sends=CHUNKS, fault=_bad_chunk, kept=False,
        expected=refused(400, "bad_request")),
    Row(name="an upstream that reads slowly", fault=_slow_upstream, expected=whole(), idle=1,
        sends=request(f"POST /things?{MARK}", f"Content-Length: {len(_LARGE)}")),
    Row(name="a caller who sends slowly", fault=_drips, expected=whole(), idle=1,
        sends=request(f"POST /things?{MARK}", "Content-Length: 5")),
    Row(name="413 where 100 was expected", sends=EXPECTS, fault=_refused_instead_of_100, kept=False,
        expected=whole(b"no", 413)),
    Row(name="half-close by the caller during an upload: length", sends=LENGTH, fault=_half_closes, kept=False,
        expected=left()),
    Row(name="half-close by the caller during an upload: chunks", sends=CHUNKS, fault=_half_closes, kept=False,
        expected=left()),
)  # fmt: skip
