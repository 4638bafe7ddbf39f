"""Faults that meet a connection which is held: not read for the sake of the other side, or not yet written out."""

from __future__ import annotations

from unittest import mock

from proxy.wire import reading
from tests.faults.bodies import CHUNKS, CLOSED, OLD
from tests.faults.row import MARK, Row, left, whole
from tests.faults.scene import Scene
from tests.faults.steps import CLOSE, breaks, until
from tests.wires import Wire, request, response

_CHUNKED = request(f"POST /things?{MARK}", "Transfer-Encoding: chunked")
_FILL = b"10000\r\n" + bytes(65536) + b"\r\n"
_PIECE = b"9c40\r\n" + bytes(40_000) + b"\r\n"
_LAST = b"1388\r\n" + bytes(5000) + b"\r\n0\r\n\r\n"


async def _ends_while_the_caller_is_full(scene: Scene) -> None:
    """The last piece of the answer, small enough to be read in one go, is what fills the caller's buffer."""
    with mock.patch.object(reading, "thread_time", return_value=0.0):  # or a slow machine reads it a little at a time
        await _fill_with_the_last(scene)
    scene.caller.read_again()
    await scene.caller.message()


async def _fill_with_the_last(scene: Scene) -> None:
    scene.caller.stop_reading()
    wire = await scene.arrives()
    wire.feed(CHUNKS)
    (caller,) = scene.proxy.server.connections
    (connection,) = scene.proxy.server.pools["inworld"]._active
    assert connection.exchange is not None
    record, sent = connection.exchange._record, 0
    while (held := caller.transport.get_write_buffer_size()) < 10_000:
        wire.feed(_PIECE)
        sent += len(_PIECE)
        await until(lambda sent=sent: record.response_bytes >= sent)
    # The kernel goes on taking a little of what waits; the last piece is more than it takes meanwhile.
    caller.transport.set_write_buffer_limits(high=held + 1)
    assert not caller._write_full
    wire.feed(_LAST)
    await scene.proxy.metrics.until(lambda metrics: metrics.in_flight == 0)


async def _answers_before_it_has_all(scene: Scene) -> None:
    """The body is whole here, a part of it still waits to be sent, and the upstream answers and reads no more."""
    wire = await scene.reaches()
    await wire.head()
    wire.stop_reading()
    (pool,) = scene.proxy.server.pools.values()
    (connection,) = pool._active
    while not connection.transport.get_write_buffer_size():
        scene.caller.feed(_FILL)
        await until(lambda: not scene.caller._writer.transport.get_write_buffer_size())
        for _ in range(10):
            await until(lambda: True)
    scene.caller.feed(b"0\r\n\r\n")
    await until(lambda: connection.exchange is None or connection.exchange.request_done)
    wire.feed(response("413 Content Too Large", body=b"no"))


async def _leaves_unread(scene: Scene) -> None:
    """The upstream takes no more of the upload, so nobody reads the caller, who leaves."""
    wire = await scene.reaches()
    await wire.head()
    wire.stop_reading()
    scene.caller.feed(b"1800000\r\n" + bytes(0x1800000))
    await until(lambda: any("upstream" in connection._held for connection in scene.proxy.server.connections))
    scene.leave(Wire.reset)
    try:
        await scene.proxy.metrics.until(lambda metrics: metrics.in_flight == 0)
    finally:
        wire.reset()  # or else the two would hold each other until the idle limit


ROWS = (
    # The end of a connection is all that ends this body. transport.abort() closes it like any other: with a FIN.
    Row(name="close before the rest of an old caller's answer", sends=OLD, expected=CLOSED, kept=False,
        fault=breaks(CHUNKS + b"4\r\nsome\r\n", b"some", CLOSE)),
    # A connection that is not read is not watched either: neither its end nor its reset is seen before the idle limit.
    Row(name="the caller leaves an upload that the upstream does not take", sends=_CHUNKED, fault=_leaves_unread,
        expected=left(), kept=False),
    # Paused for the sake of a caller whose buffer was full, it comes back to the pool paused: nobody hears it again.
    Row(name="the answer ends while the caller is full", fault=_ends_while_the_caller_is_full, expected=whole(None),
        idle=1),
    # The rest of the body lies before the next request, on a connection whose other end has stopped reading.
    Row(name="413 before the last of the body has left", fault=_answers_before_it_has_all, expected=whole(b"no", 413),
        sends=_CHUNKED),
)  # fmt: skip
