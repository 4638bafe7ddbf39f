"""Faults after the answer's head: what breaks off looks broken, and what comes too much reaches nobody."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.row import HEAD, MARK, POST, Row, broken, refused, whole
from tests.faults.scene import Scene, WatchedWire
from tests.faults.steps import CLOSE, HALF_CLOSE, RESET, breaks, goes_on, says, until
from tests.wires import OK, chunked, request, response

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
POISON = response("200 OK", "Set-Cookie: stolen", body=b"poison")
OLD = request(f"GET /things?{MARK} HTTP/1.0")
OLD_KEPT = request(f"GET /things?{MARK} HTTP/1.0", "Connection: keep-alive")
CLOSED = broken("upstream_closed", b"some")
INVALID = broken("upstream_invalid_response", b"some")

_ENDS = {"close": CLOSE, "reset": RESET, "half-close": HALF_CLOSE}
_CUT_OFF = {
    "a length": LENGTH + b"some",
    "chunks": CHUNKS + b"4\r\nsome\r\n",
    "half a chunk": CHUNKS + b"64\r\nsome",
    "the last chunk's empty line": CHUNKS + b"4\r\nsome\r\n0\r\n",
    "trailers": CHUNKS + b"4\r\nsome\r\n0\r\nX-Trailer: 1\r\n",
}
"""Bodies that the upstream begins and does not end, by what is missing the rest of."""

_BAD_CHUNKS = {
    "a size that is none": b"zz\r\nab\r\n0\r\n\r\n",
    "a negative size": b"-2\r\nab\r\n0\r\n\r\n",
    "a size with a sign": b"+2\r\nab\r\n0\r\n\r\n",
    "an oversized size": b"1" * 17 + b"\r\nab\r\n0\r\n\r\n",
    "a size after a blank": b" 2\r\nab\r\n0\r\n\r\n",
    "an empty size": b"\r\nab\r\n0\r\n\r\n",
    "a missing CR LF": b"2\r\nab0\r\n\r\n",
    "a chunk longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "a bare LF": b"2\nab\r\n0\r\n\r\n",
    "a control in an extension": b"2;\x7f\r\nab\r\n0\r\n\r\n",
    "a trailer with a bare LF": b"0\r\nX: a\nY: b\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 3000,
}
"""What follows a good chunk. It breaks the body off, whatever of it was passed on."""

_TOO_MUCH = {
    "a second answer": (OK, POISON),
    "a second answer to chunks": (CHUNKS + chunked(b"ok"), POISON),
    "a stray CR LF": (OK, b"\r\n"),
    "an interim head": (OK, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "more than the length": (OK, b"!"),
    "half a head": (OK, b"HTTP/1.1 2"),
}
"""An answer, and what comes after it that nobody asked for."""


async def _later(scene: Scene) -> None:
    """Bytes on a connection that waits in the pool."""
    wire = await scene.answers(OK)
    await scene.caller.until(lambda caller: caller.received.endswith(b"ok"))
    wire.feed(POISON)
    await wire.until_ended()


async def _drips(scene: Scene) -> None:
    """A stream of which the caller has every piece before the next one is made."""
    wire = await scene.answers(CHUNKS)
    for number in range(20):
        piece = b"2\r\n%02d\r\n" % number
        wire.feed(piece)
        await scene.caller.until(lambda caller, piece=piece: caller.received.endswith(piece))
    wire.feed(b"0\r\n\r\n")


_LARGE = bytes(24_000_000)


async def _slow_caller(scene: Scene) -> None:
    """The caller reads nothing for a while: the upstream is paused, then goes on."""
    scene.caller.stop_reading()
    wire = await scene.arrives()
    wire.feed(response("200 OK", body=_LARGE)[:-1])
    await until(lambda: any(connection._write_full for connection in scene.proxy.server.connections))
    sizes = [await _size(wire) for _ in range(50)]
    assert any(before == after for before, after in pairwise(sizes)), "the upstream was not paused"
    assert min(sizes) > 0, "the proxy took all of it for a caller who reads nothing"
    scene.caller.read_again()
    await scene.caller.head()
    await scene.caller.exactly(len(_LARGE) - 1)
    wire.feed(_LARGE[-1:])  # not before: how the end meets a caller who is full is another row


async def _size(wire: WatchedWire) -> int:
    """What the upstream could not get rid of yet."""
    await until(lambda: True)
    return wire._writer.transport.get_write_buffer_size()


ROWS = (
    *(
        Row(name=f"{end} before the rest of {what}", fault=breaks(raw, b"some", _ENDS[end]), expected=CLOSED,
            kept=False)
        for what, raw in _CUT_OFF.items()
        for end in _ENDS
    ),
    Row(name="reset in a body until the close", fault=breaks(OPEN + b"some", b"some", RESET), expected=CLOSED,
        kept=False),
    Row(name="close right after the head", fault=breaks(LENGTH, b"\r\n\r\n", CLOSE), kept=False,
        expected=broken("upstream_closed", b"")),
    Row(name="reset right after the head", fault=breaks(CHUNKS, b"\r\n\r\n", RESET), kept=False,
        expected=broken("upstream_closed", b"")),
    Row(name="close before the rest of a write's answer", sends=POST, fault=breaks(LENGTH + b"some", b"some", CLOSE),
        expected=CLOSED, kept=False),
    Row(name="close before the rest of a refusal", expected=refused(502, "upstream_closed"),
        fault=says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nsome", then=CLOSE)),
    *(
        Row(name=f"in chunks: {what}", fault=goes_on(CHUNKS + b"4\r\nsome\r\n", b"some\r\n", raw), expected=INVALID,
            kept=False)
        for what, raw in _BAD_CHUNKS.items()
    ),
    *(
        Row(name=f"after the answer, {when}: {what}", fault=fault, expected=whole())
        for what, (answer, more) in _TOO_MUCH.items()
        for when, fault in (("at once", says(answer + more)), ("in half", says(answer[:-3], answer[-3:] + more)))
    ),
    Row(name="after the answer, in the pool", fault=_later, expected=whole()),
    Row(name="204 with a body", fault=says(b"HTTP/1.1 204 No Content\r\n\r\n" + POISON), expected=whole(b"", 204)),
    Row(name="204 with a length and a body", expected=whole(b"", 204),
        fault=says(b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison")),
    Row(name="304 with a body", expected=whole(b"", 304),
        fault=says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison")),
    Row(name="304 with a length and no body", expected=whole(b"", 304), idle=1,
        fault=says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n")),
    Row(name="HEAD with a body", sends=HEAD, fault=says(OK), expected=whole(b"")),
    Row(name="HEAD with a second answer", sends=HEAD, expected=whole(b""),
        fault=says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + POISON)),
    Row(name="HEAD with a length", sends=HEAD, fault=says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        expected=whole(b""), idle=1),
    Row(name="HTTP/1.0 until the close", fault=says(b"HTTP/1.0 200 OK\r\n\r\nok", then=CLOSE), expected=whole()),
    Row(name="HTTP/1.0 with a length", fault=says(OK.replace(b"1.1", b"1.0")), expected=whole()),
    Row(name="HTTP/1.0 that would keep the connection", expected=whole(),
        fault=says(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")),
    Row(name="HTTP/1.0 that breaks off", expected=CLOSED, kept=False,
        fault=breaks(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nsome", b"some", CLOSE)),
    Row(name="HTTP/1.1 until the close", fault=says(OPEN + b"ok", then=CLOSE), expected=whole()),
    Row(name="HTTP/1.1 until a half-close", fault=says(OPEN + b"ok", then=HALF_CLOSE), expected=whole()),
    Row(name="an old caller and chunks", sends=OLD, fault=says(CHUNKS + chunked(b"o", b"k")), expected=whole(),
        idle=1, kept=False),
    Row(name="an old caller and a body until the close", sends=OLD, fault=says(OPEN + b"ok", then=CLOSE),
        expected=whole(), kept=False),
    Row(name="an old caller who keeps its connection", sends=OLD_KEPT, fault=says(OK), expected=whole(), idle=1),
    Row(name="a stream that drips", fault=_drips, idle=1,
        expected=whole(b"".join(b"%02d" % number for number in range(20)))),
    Row(name="a caller who reads slowly", fault=_slow_caller, expected=whole(_LARGE), idle=1),
    Row(name="the upstream closes with its answer", idle=0, expected=whole(),
        fault=says(response("200 OK", "Connection: close", body=b"ok"), then=CLOSE)),
    Row(name="the upstream says close and stays", expected=whole(),
        fault=says(response("200 OK", "Connection: close", body=b"ok"))),
)  # fmt: skip
