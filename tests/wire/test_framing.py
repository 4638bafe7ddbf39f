"""Bodies and frames end where they end however they are cut; what is malformed is malformed in every cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from unittest import mock

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import framing
from proxy.wire.frames import FrameCursor, close_frame, frame_size
from proxy.wire.framing import (
    LONGEST_CHUNK_LINE,
    LONGEST_TRAILERS,
    BodyCursor,
    ChunkedCursor,
    CloseCursor,
    FramingError,
    LengthCursor,
)

AFTER = b"GET /next"


def feed(cursor: BodyCursor, data: bytes, cuts: list[int] | None = None) -> tuple[bytes, bytes | None]:
    """Feeds the data in the pieces that the cuts make of it. What comes after the body is put together again."""
    bounds = sorted({cut % (len(data) + 1) for cut in cuts or []} | {0, len(data)})
    out = b""
    for start, end in pairwise(bounds):
        passed, rest = cursor.feed(data[start:end])
        out += passed
        if rest is not None:
            return out, rest + data[end:]
    return out, None


cuts = st.lists(st.integers(0, 10_000), max_size=20)
every_byte = list(range(10_000))


@given(st.binary(max_size=300), st.binary(max_size=50), cuts)
def test_a_body_of_known_length_ends_after_that_many_bytes(body: bytes, after: bytes, cut: list[int]) -> None:
    if not body:
        return
    cursor = LengthCursor(len(body))
    assert feed(cursor, body + after, cut) == (body, after)
    assert cursor.end()


@given(st.binary(min_size=1, max_size=300), cuts)
def test_a_body_of_known_length_is_not_whole_before(body: bytes, cut: list[int]) -> None:
    cursor = LengthCursor(len(body) + 1)
    assert feed(cursor, body, cut) == (body, None)
    assert not cursor.end()


def test_a_body_until_the_close_passes_as_it_is_or_in_chunks() -> None:
    assert feed(CloseCursor(encode=False), b"some bytes", [4]) == (b"some bytes", None)
    assert feed(CloseCursor(encode=True), b"some bytes", [4]) == (b"4\r\nsome\r\n6\r\n bytes\r\n", None)
    assert CloseCursor(encode=True).end()


class Chunk:
    """One chunk as some sender spells it."""

    def __init__(self, content: bytes, *, upper: bool, zeros: int, extension: bytes) -> None:
        self.content = content
        size = (b"%X" if upper else b"%x") % len(content)
        self.size = b"0" * zeros + size
        self.plain = self.size + b"\r\n" + content + b"\r\n"
        self.wire = self.size + extension + b"\r\n" + content + b"\r\n"


extensions = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b c"', b" ;a", b";a;b=c"])
chunks = st.builds(
    lambda content, upper, zeros, extension: Chunk(content, upper=upper, zeros=zeros, extension=extension),
    st.binary(min_size=1, max_size=80),
    st.booleans(),
    st.integers(0, 3),
    extensions,
)
trailers = st.lists(st.sampled_from([b"X-Sum: 1\r\n", b"Authorization: evil\r\n", b"A:\r\n"]), max_size=3).map(b"".join)


@given(st.lists(chunks, max_size=6), cuts)
def test_chunks_without_extensions_and_trailers_pass_as_the_very_bytes_that_came(
    pieces: list[Chunk], cut: list[int]
) -> None:
    wire = b"".join(piece.plain for piece in pieces) + b"0\r\n\r\n"
    assert feed(ChunkedCursor(), wire + AFTER, cut) == (wire, AFTER)
    assert feed(ChunkedCursor(refuse_extensions=True), wire + AFTER, cut) == (wire, AFTER)


@given(st.lists(chunks, max_size=6), trailers, cuts)
def test_the_same_bytes_give_the_same_chunks_however_they_are_cut(
    pieces: list[Chunk], trailer: bytes, cut: list[int]
) -> None:
    wire = b"".join(piece.wire for piece in pieces) + b"0;last\r\n" + trailer + b"\r\n"
    whole = feed(ChunkedCursor(), wire + AFTER)
    assert feed(ChunkedCursor(), wire + AFTER, cut) == whole
    assert feed(ChunkedCursor(), wire + AFTER, every_byte) == whole
    passed, rest = whole
    assert rest == AFTER
    assert feed(ChunkedCursor(decode=True), passed) == (b"".join(piece.content for piece in pieces), b"")
    assert passed.endswith(b"0\r\n\r\n")


@given(st.lists(chunks, max_size=6), trailers, cuts)
def test_decoding_gives_the_content(pieces: list[Chunk], trailer: bytes, cut: list[int]) -> None:
    wire = b"".join(piece.wire for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
    content = b"".join(piece.content for piece in pieces)
    assert feed(ChunkedCursor(decode=True), wire + AFTER, cut) == (content, AFTER)
    assert feed(ChunkedCursor(decode=True), wire + AFTER, every_byte) == (content, AFTER)


@given(st.lists(chunks, min_size=1, max_size=4), cuts, st.data())
def test_a_body_that_was_cut_off_is_never_whole(pieces: list[Chunk], cut: list[int], data: st.DataObject) -> None:
    wire = b"".join(piece.wire for piece in pieces) + b"0\r\nX: y\r\n\r\n"
    wire = wire[: data.draw(st.integers(0, len(wire) - 1))]
    cursor = ChunkedCursor()
    passed, rest = feed(cursor, wire, cut)
    assert rest is None
    assert not cursor.end()
    # What was passed on is not whole either: nobody behind us can take it for a finished body.
    again = ChunkedCursor()
    assert feed(again, passed) == (passed, None)


def _aiohttp_reads(wire: bytes, cut: list[int]) -> bytes | None:
    """What aiohttp's own parser makes of a chunked body; None when it refuses it."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        ((_, stream),), _, _ = parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        bounds = sorted({each % (len(wire) + 1) for each in cut} | {0, len(wire)})
        try:
            for start, end in pairwise(bounds):
                parser.feed_data(wire[start:end])
        except (HttpProcessingError, ValueError):
            return None
        if stream.exception() is not None or not stream.is_eof():
            return None
        return b"".join(stream._buffer)
    finally:
        loop.close()


@given(st.lists(chunks, max_size=5), cuts)
def test_aiohttps_parser_reads_what_we_pass_on_as_the_same_content(pieces: list[Chunk], cut: list[int]) -> None:
    wire = b"".join(piece.wire for piece in pieces) + b"0\r\n\r\n"
    passed, _ = feed(ChunkedCursor(), wire)
    content = b"".join(piece.content for piece in pieces)
    assert _aiohttp_reads(passed, cut) == content
    assert _aiohttp_reads(wire, cut) in (content, None)  # it refuses a blank before an extension


pieces_of_chunks = st.sampled_from(
    [b"0", b"1", b"5", b"a", b"F", b";", b"=", b" ", b"\r\n", b"\n", b"\r", b"x", b"-", b"+", b"0x", b"_", b"\0",
     b"abcde", b"\r\n0\r\n\r\n", b"3\r\nabc\r\n"],
)  # fmt: skip


@given(st.lists(pieces_of_chunks, max_size=14), cuts)
def test_what_we_accept_aiohttps_parser_reads_alike(tokens: list[bytes], cut: list[int]) -> None:
    """Bytes at random: what our cursor passes on as a whole body, aiohttp's hardened parser must read as the same."""
    wire = b"".join(tokens)
    try:
        content, _ = feed(ChunkedCursor(decode=True), wire, cut)
        passed, rest = feed(ChunkedCursor(), wire, cut)
    except FramingError:
        return
    if rest is not None:
        assert _aiohttp_reads(passed, []) == content


@pytest.mark.parametrize(
    "wire",
    [b"g\r\n", b"-1\r\n", b"+5\r\nabcde\r\n", b"0x5\r\nabcde\r\n", b"5_0\r\n", b" 5\r\nabcde\r\n", b"5 \r\nabcde\r\n",
     b"5\nabcde\r\n", b"5\r\nabcdef\r\n", b"5\r\nabcde\n0\r\n\r\n", b"5\r\nabcd\r\n0\r\n\r\n", b"\r\n", b";x\r\n",
     b"5;a\0b\r\nabcde\r\n", b"5;a\nb\r\nabcde\r\n", b"5;a\rb\r\nabcde\r\n", b"5\r\r\nabcde", b"1" * 16 + b"\r\n",
     b"0\r\nX: a\rb\r\n\r\n", b"0\r\nX: a\nb\r\n\r\n", b"\xd9\xa5\r\nabcde\r\n", b"5,5\r\nabcde\r\n"],
)  # fmt: skip
def test_a_malformed_chunk_is_malformed_however_it_is_cut(wire: bytes) -> None:
    for cut in ([], every_byte, [1], [2, 3]):
        with pytest.raises(FramingError):
            feed(ChunkedCursor(), wire + AFTER + b"\r\n", cut)


def test_extensions_are_refused_where_they_are_not_wanted() -> None:
    with pytest.raises(FramingError):
        feed(ChunkedCursor(refuse_extensions=True), b"5;a=b\r\nabcde\r\n0\r\n\r\n")


def test_nothing_without_an_end_is_held() -> None:
    for endless in (b"5;" + b"a" * (LONGEST_CHUNK_LINE + 10), b"0\r\n" + b"X: y\r\n" * LONGEST_TRAILERS,
                    b"0\r\nX: " + b"y" * (LONGEST_TRAILERS + 10)):  # fmt: skip
        for size in (1, 100, len(endless)):
            cursor = ChunkedCursor()
            with pytest.raises(FramingError):
                _feed_in_pieces(cursor, endless, size)


def _feed_in_pieces(cursor: BodyCursor, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        cursor.feed(data[start : start + size])


# -- WebSocket frames -------------------------------------------------------------------------------------------------

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(opcode: int, payload: bytes, *, masked: bool, final: bool = True, wide: int = 0) -> bytes:
    """One frame; ``wide`` spells the length in more bytes than it needs, which a tunnel need not refuse."""
    first = opcode | (0x80 if final else 0)
    bit = 0x80 if masked else 0
    length = len(payload)
    if wide == 2 or length > 65535:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    elif wide == 1 or length > 125:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | length])
    return head + (b"\1\2\3\4" if masked else b"") + payload


opcodes = st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG])
payloads = st.one_of(
    st.binary(max_size=20), st.integers(120, 130).map(bytes), st.sampled_from([65535, 65536]).map(bytes)
)
frames = st.tuples(opcodes, payloads, st.booleans(), st.booleans(), st.integers(0, 2))


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 10**6), max_size=30))
def test_frames_are_counted_however_they_are_cut(
    parts: list[tuple[int, bytes, bool, bool, int]], cut: list[int]
) -> None:
    spelled = [frame(o, p, masked=m, final=f, wide=w) for o, p, m, f, w in parts]
    wire = b"".join(spelled)
    ends = {0}
    for each in spelled:
        ends.add(max(ends) + len(each))
    cursor = FrameCursor()
    bounds = sorted({each % (len(wire) + 1) for each in cut} | {0, len(wire)})
    for start, end in pairwise(bounds):
        cursor.feed(wire[start:end])
        assert cursor.at_boundary == (end in ends)
    assert cursor.messages == sum(1 for opcode, _, _, final, _ in parts if final and opcode < 8)
    assert cursor.at_boundary
    assert not cursor.closed


@given(st.lists(frames, max_size=3), st.lists(st.integers(0, 10**5), max_size=10))
def test_a_close_frame_is_noticed_once_its_head_has_passed(
    parts: list[tuple[int, bytes, bool, bool, int]], cut: list[int]
) -> None:
    before = b"".join(frame(o, p, masked=m, final=f, wide=w) for o, p, m, f, w in parts)
    wire = before + frame(CLOSE, b"\x03\xe8", masked=True)
    cursor = FrameCursor()
    bounds = sorted({each % (len(wire) + 1) for each in cut} | {0, len(wire)})
    for start, end in pairwise(bounds):
        cursor.feed(wire[start:end])
        assert not (cursor.closed and end <= len(before))
    assert cursor.closed


@given(st.lists(frames, min_size=1, max_size=4), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=9))
def test_a_frame_that_has_begun_is_ended_and_no_other_begun(
    parts: list[tuple[int, bytes, bool, bool, int]], begun: int, cut: list[int]
) -> None:
    ends = [0]
    for o, p, m, f, w in parts:
        ends.append(ends[-1] + len(frame(o, p, masked=m, final=f, wide=w)))
    wire = b"".join(frame(o, p, masked=m, final=f, wide=w) for o, p, m, f, w in parts)
    at = begun % len(wire)
    cursor = FrameCursor()
    cursor.feed(wire[:at])
    taken = b""
    bounds = sorted({at, len(wire)} | {at + each % (len(wire) - at) for each in cut})
    for start, end in pairwise(bounds):
        if not cursor.at_boundary:
            taken += cursor.feed_to_boundary(wire[start:end])
    assert at + len(taken) == min(end for end in ends if end >= at)
    assert cursor.at_boundary


@given(st.integers(1000, 4999), st.binary(max_size=100), st.binary(min_size=4, max_size=4) | st.just(b""))
def test_a_close_frame_that_is_made_is_one(status: int, reason: bytes, mask: bytes) -> None:
    made = close_frame(status, reason, mask)
    cursor = FrameCursor()
    cursor.feed(made)
    assert (cursor.closed, cursor.at_boundary, frame_size(made)) == (True, True, len(made))
    payload = made[2 + len(mask) :]
    plain = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload
    assert plain == status.to_bytes(2, "big") + reason


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_no_bytes_upset_the_frame_cursor(pieces: list[bytes]) -> None:
    cursor = FrameCursor()
    for piece in pieces:
        cursor.feed(piece)
    assert cursor.messages >= 0


class _Never:
    """An expression that matches nothing."""

    @staticmethod
    def match(*_: object) -> None:
        return None


_BITS = [b"\r\n", b"\r", b"\n", b"0", b"1", b"a", b"F", b"3f", b"40", b"5\r\nhello\r\n", b"1\r\nx\r\n", b"0" * 12,
         b"0\r\n\r\n", b";a", b" ", b"2\r\n\r\n\r\n", b"A: b\r\n", b"g", b"0" * 12 + b"1\r\nx\r\n",
         b"0" * 14 + b"1\r\ny\r\n", b"3f\r\n" + b"z" * 63 + b"\r\n", b"40\r\n" + b"z" * 64 + b"\r\n"]  # fmt: skip


def _followed(data: bytes, cut: list[int], options: dict[str, bool]) -> tuple[bytes, bytes | None] | None:
    try:
        return feed(ChunkedCursor(**options), data, cut)
    except FramingError:
        return None


@given(
    st.lists(st.sampled_from(_BITS), max_size=14).map(b"".join),
    cuts,
    st.sampled_from([{}, {"refuse_extensions": True}, {"decode": True}]),
)
def test_what_is_read_at_once_is_what_is_read_chunk_by_chunk(
    data: bytes, cut: list[int], options: dict[str, bool]
) -> None:
    fast = _followed(data, cut, options)
    with mock.patch.multiple(framing, _ONE_CHUNK=_Never, _SMALL_CHUNKS=_Never):
        assert _followed(data, cut, options) == fast


def test_many_chunks_of_one_byte_are_a_body() -> None:
    body = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    assert feed(ChunkedCursor(), body + AFTER) == (body, AFTER)


def test_chunks_like_the_last_are_known_by_their_line_and_length_and_others_are_read() -> None:
    chunk = b"10\r\n" + b"x" * 16 + b"\r\n"
    cursor = ChunkedCursor()
    for _ in range(3):
        assert cursor.feed(chunk) == (chunk, None)
    for other in (b"0f\r\n" + b"x" * 16 + b"\r\n", b"10\r\n" + b"x" * 17 + b"\n", b"10;a\r\n" + b"x" * 14 + b"\r\n"):
        assert len(other) == len(chunk)
        with pytest.raises(FramingError):
            _feed_all(ChunkedCursor(refuse_extensions=True), chunk, other, b"0\r\n\r\n")
    assert cursor.feed(b"8\r\n" + b"y" * 8 + b"\r\n") == (b"8\r\n" + b"y" * 8 + b"\r\n", None)
    assert cursor.feed(chunk + b"0\r\n\r\n") == (chunk + b"0\r\n\r\n", b"")


def _feed_all(cursor: ChunkedCursor, *parts: bytes) -> None:
    for part in parts:
        cursor.feed(part)
