"""Chunks that are like the one before pass without being looked at again, and nothing else may pass for one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from proxy.observe.record import Ending
from proxy.wire.framing import ChunkedCursor
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.wires import OK, Wire, chunked, request, response

CHUNK = b"6\r\nabcdef\r\n"
OTHER = b"6\r\nghijkl\r\n"
END = b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def begun(proxy: Proxy, caller: Wire, wire: Wire | None = None) -> Wire:
    """An answer in chunks, of which the caller has the head and three chunks."""
    await caller.send(request("GET /things"))
    wire = wire or await proxy.upstream.accept()
    await wire.message()
    await wire.send(HEAD)
    await caller.head()
    for piece in (CHUNK, OTHER, CHUNK):
        await wire.send(piece)
        assert await caller.exactly(len(piece)) == piece
    return wire


CASES = {
    "content that looks like a chunk": [b"b\r\n", CHUNK, b"\r\n", OTHER],
    "content that looks like a chunk, after some": [b"18\r\nabcd", CHUNK, b"abcdefghi\r\n", CHUNK],
    "content whose end is a chunk": [b"d\r\nab", CHUNK, b"\r\n", CHUNK],
    "the rest of a size line": [b"0", CHUNK, b"6", b"\r\nabcdef\r\n", CHUNK],
    "the end of a chunk alone": [b"6\r\nabcdef", b"\r\n", CHUNK],
    "as long, of another size": [b"05\r\nabcde\r\n", CHUNK, b"005\r\nabcd", b"e\r\n" + CHUNK],
    "two at once": [CHUNK + OTHER, CHUNK + OTHER, CHUNK],
    "the last with the end": [CHUNK + END[:2], END[2:]],
}


@pytest.mark.parametrize("case", CASES)
async def test_what_only_looks_like_the_next_chunk_is_read(proxy: Proxy, case: str) -> None:
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    pieces = CASES[case] if case.endswith("the end") else [*CASES[case], END]
    due = b"".join(pieces)
    cursor = ChunkedCursor()
    for piece in pieces:
        passed, _ = cursor.feed(piece)
        await wire.send(piece)
        assert await caller.exactly(len(passed)) == passed
        due = due.removeprefix(passed)
    assert due == b""
    # Both connections know where it ended.
    await caller.send(request("GET /things"))
    assert (await wire.message()).head.line == "GET /things HTTP/1.1"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
    first, second = proxy.records
    assert first.response_bytes == 3 * len(CHUNK) + len(b"".join(pieces))
    assert (second.response_bytes, proxy.upstream.count) == (2, 1)


MALFORMED = {"no end": b"6\r\nabcdefXX", "half an end": b"6\r\nabcdef\n\n", "another size": b"7\r\nabcdef\r\n" + CHUNK}


@pytest.mark.parametrize("case", MALFORMED)
async def test_what_only_begins_like_one_breaks_the_answer(proxy: Proxy, case: str) -> None:
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    await wire.send(MALFORMED[case])
    assert await caller.until_broken() in (b"", MALFORMED[case])
    await wire.gone()
    (record,) = proxy.records
    assert (record.ending, record.response_bytes) == (Ending.ABORTED, 3 * len(CHUNK))


async def test_a_chunk_that_nobody_asked_for_reaches_nobody(proxy: Proxy) -> None:
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    await wire.send(END)
    await caller.exactly(len(END))
    await wire.send(CHUNK)
    await wire.gone()
    proxy.upstream.always(response("200 OK", body=b"another"))
    await caller.send(request("GET /things"))
    assert (await caller.message()).content == b"another"


async def test_a_chunk_in_place_of_the_next_head_is_no_answer(proxy: Proxy) -> None:
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    await wire.send(END)
    await caller.exactly(len(END))
    await caller.send(request("POST /things", body=b"x"))
    await wire.message()
    await wire.send(CHUNK)
    assert (await caller.message()).head.status == 502


async def test_the_next_answer_goes_to_its_own_caller(proxy: Proxy) -> None:
    first, second = await proxy.caller(), await proxy.caller()
    wire = await begun(proxy, first)
    await wire.send(END)
    await first.exactly(len(END))
    await begun(proxy, second, wire)
    await wire.send(END)
    assert await second.exactly(len(END)) == END
    await first.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await first.message()).content == b"ok"
    assert [record.response_bytes for record in proxy.records] == [3 * len(CHUNK) + len(END)] * 2 + [2]


@pytest.mark.parametrize("end", [Wire.close, Wire.reset])
async def test_what_a_caller_had_is_counted_also_if_it_leaves(proxy: Proxy, end: Callable[[Wire], None]) -> None:
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    end(caller)
    await wire.gone()
    await proxy.metrics.until(lambda metrics: not metrics.in_flight)
    (record,) = proxy.records
    assert (record.ending, record.response_bytes) == (Ending.CALLER_GONE, 3 * len(CHUNK))


async def test_for_an_older_caller_each_chunk_is_taken_out_of_its_frame(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things").replace(b"HTTP/1.1", b"HTTP/1.0"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(HEAD)
    await caller.head()
    for piece in (CHUNK, OTHER, CHUNK):
        await wire.send(piece)
        assert await caller.exactly(6) == piece[3:9]
    await wire.send(END)
    assert await caller.rest() == b""


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_each_of_them_begins_the_time_of_silence_again(proxies: Proxies, still_clock: ClockLoop) -> None:
    proxy = await proxies.start()
    idle = proxy.server.snapshot.time.idle
    caller = await proxy.caller()
    wire = await begun(proxy, caller)
    for _ in range(3):
        await still_clock.advance(0.8 * idle)
        await wire.send(CHUNK)
        assert await caller.exactly(len(CHUNK)) == CHUNK
    await still_clock.advance(1.1 * idle)
    await wire.gone()
    assert await caller.until_broken() == b""


async def test_however_it_is_cut_a_body_arrives_as_it_was_sent(proxy: Proxy) -> None:
    randomness = random.Random(8)
    caller, wire = await proxy.caller(), None
    for _ in range(80):
        contents = [CHUNK[: randomness.choice([1, 6, 6, 6, 8, 11])] for _ in range(randomness.randrange(3, 12))]
        body = CHUNK * 3 + chunked(*contents)
        places = [*range(34, len(body)), *range(44, len(body), 11)]
        cuts = sorted({33, *randomness.sample(places, min(8, len(places))), len(body)})
        wire = await begun(proxy, caller, wire)
        cursor = ChunkedCursor()
        for begin, end in itertools.pairwise(cuts):
            passed, _ = cursor.feed(body[begin:end])
            await wire.send(body[begin:end])
            assert await caller.exactly(len(passed)) == passed
    assert proxy.upstream.count == 1
