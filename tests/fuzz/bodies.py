"""Bodies and frames: the same bytes are the same body however they are cut, and what aiohttp reads if it reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from proxy.wire.frames import FrameCursor
from proxy.wire.framing import LONGEST_CHUNK_LINE, BodyCursor, ChunkedCursor, CloseCursor, FramingError, LengthCursor
from tests.fuzz.engine import Target, cut
from tests.security.strict import Malformed, Unfinished, read_answer, read_request

_WORDS = (
    b"\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b";a=b",
    b'"',
    b"0\r\n",
    b"X: y\r\n",
    b"fffffff",
    b"0x",
    b" ",
    b"\n",
    b"00000005\r\n",
)
_SHORT = 300
"""Bytes up to which a body is fed byte by byte too."""

_CHUNKS = (
    b"5\r\nhello\r\n0\r\n\r\nGET /next",
    b"A;a=b\r\n0123456789\r\n1\r\nx\r\n000\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\r\nAuthorization: z\r\n\r\nrest",
    b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0;x\r\n\r\n\r\n\r\n",
)
_FRAMES = (
    b"\x81\x05hello\x88\x02\x03\xe8",
    b"\x81\x85\1\2\3\4hello\x02\x7e\x00\x80" + bytes(128) + b"\x80\x00\x89\x00",
    b"\x82\x7f" + (200).to_bytes(8, "big") + bytes(200) + b"\x88\x82\1\2\3\4ab",
)


def _follow(cursor: BodyCursor, pieces: list[bytes]) -> tuple[bytes, bytes | None] | None:
    """What is passed on and what comes after; None when it is malformed."""
    out = b""
    for number, piece in enumerate(pieces):
        try:
            passed, rest = cursor.feed(piece)
        except FramingError:
            return None
        out += passed
        if rest is not None:
            return out, rest + b"".join(pieces[number + 1 :])
    return out, None


def _has_long_line(data: bytes) -> bool:
    """Is there anything in it that may be a line longer than ours accepts? The strict reader accepts any."""
    return max(map(len, data.split(b"\r\n"))) > LONGEST_CHUNK_LINE


def _why(data: bytes) -> str:
    try:
        ChunkedCursor().feed(data)
    except FramingError as exc:
        return str(exc)
    return ""


class _Bodies:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def chunks(self, data: bytes) -> Hashable:
        pieces = [*cut(data)]
        results = []
        for options in ({}, {"decode": True}, {"refuse_extensions": True}, {"decode": True, "refuse_extensions": True}):
            whole = _follow(ChunkedCursor(**options), [data])
            assert _follow(ChunkedCursor(**options), pieces) == whole, options
            each = [data[at : at + 1] for at in range(len(data))] if len(data) < _SHORT else pieces
            assert _follow(ChunkedCursor(**options), each) == whole, options
            results.append(whole)
        plain, decoded, refusing, _ = results
        assert (plain is None) == (decoded is None)
        assert refusing is None or refusing == plain
        if plain is None or decoded is None:
            assert _has_long_line(data) or not self._strict(data, "answer"), "only the strict reader accepts it"
            return "malformed", _why(data), min(data.count(b"\r\n"), 12)
        assert (plain[1] is None) == (decoded[1] is None)
        if plain[1] is None:
            return "unfinished", len(decoded[0]) > 0, refusing is None, min(data.count(b"\r\n"), 12)
        assert plain[1] == decoded[1]
        assert self._strict(data, "answer") == (decoded[0], len(data) - len(decoded[1]))
        strict = self._strict(data, "request") is not None
        assert strict == (refusing is not None) or (strict and _has_long_line(data))
        assert self._aiohttp_reads(plain[0]) == decoded[0]
        # What is passed on is a body by itself, without extensions and trailers.
        assert _follow(ChunkedCursor(refuse_extensions=True), [plain[0]]) == (plain[0], b"")
        assert plain[0].endswith(b"0\r\n\r\n")
        return (
            "whole",
            refusing is None,
            len(decoded[0]) > 0,
            plain[0] == data,
            len(plain[1]) > 0,
            min(data.count(b"\r\n"), 12),
        )

    @staticmethod
    def _strict(data: bytes, kind: str) -> tuple[bytes, int] | None:
        """The content and size of the body; None when it is malformed or not whole."""
        start = b"POST / HTTP/1.1" if kind == "request" else b"HTTP/1.1 200 OK"
        head = start + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        try:
            read = read_request(head + data) if kind == "request" else read_answer(head + data, "GET", closed=False)
        except (Malformed, Unfinished):
            return None
        return read.content, read.size - len(head)

    def _aiohttp_reads(self, wire: bytes) -> bytes | None:
        parser = HttpRequestParser(BaseProtocol(self.loop), self.loop, 2**16)
        ((_, stream),), _, _ = parser.feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            parser.feed_data(wire)
        except (HttpProcessingError, ValueError):
            return None
        return b"".join(stream._buffer) if stream.exception() is None and stream.is_eof() else None


def lengths(data: bytes) -> Hashable:
    """The first two bytes are the length."""
    length, body = int.from_bytes(data[:2], "big") % 600 + 1, data[2:]
    cursor = LengthCursor(length)
    out, rest = _follow(cursor, [*cut(body)]) or (b"", None)
    assert out == body[:length]
    assert (rest is None) == (len(body) < length)
    assert rest is None or rest == body[length:]
    assert cursor.end() == (len(body) >= length)
    encoded, _ = _follow(CloseCursor(encode=True), [piece for piece in cut(body) if piece]) or (b"", None)
    assert _follow(ChunkedCursor(decode=True), [encoded + b"0\r\n\r\n"]) == (body, b"")
    return len(body) < length, rest == b""


def frames(data: bytes) -> Hashable:
    """A cursor fed in pieces, one fed at once, and a reading of the frames by themselves."""
    at_once, in_pieces, by_frame = FrameCursor(), FrameCursor(), FrameCursor()
    at_once.feed(data)
    for piece in cut(data):
        in_pieces.feed(piece)
    position, messages, closed = _read_frames(data)
    for cursor in (at_once, in_pieces):
        assert (cursor.messages, cursor.closed, cursor.at_boundary) == (messages, closed, position == len(data))
    # A frame that has begun is ended, and nothing of the next is taken.
    pieces = [*cut(data)]
    while pieces:
        by_frame.feed(pieces.pop(0))
        while pieces and not by_frame.at_boundary:
            taken = by_frame.feed_to_boundary(pieces[0])
            assert pieces[0].startswith(taken)
            assert by_frame.at_boundary or taken == pieces[0], "it took less than there was, and the frame goes on"
            pieces[0] = pieces[0][len(taken) :]
            if not pieces[0]:
                pieces.pop(0)
    assert (by_frame.messages, by_frame.closed) == (messages, closed)
    return min(messages, 5), closed, position == len(data)


def _read_frames(data: bytes) -> tuple[int, int, bool]:
    """Where the last frame ends that is whole (RFC 6455 section 5.2), and what the heads say that are whole."""
    position, messages, closed = 0, 0, False
    while len(data) - position >= 2:
        first, second = data[position], data[position + 1]
        extra = {126: 2, 127: 8}.get(second & 127, 0)
        if len(data) - position < 2 + extra:
            break
        length = int.from_bytes(data[position + 2 : position + 2 + extra], "big") if extra else second & 127
        end = position + 2 + extra + (4 if second & 128 else 0) + length
        messages += first & 15 < 8 and first >= 128
        closed = closed or first & 15 == 8
        if end > len(data):
            break
        position = end
    return position, messages, closed


def targets() -> tuple[Target, ...]:
    made = _Bodies()
    return (
        Target("chunks", made.chunks, _CHUNKS, _WORDS, made.loop.close),
        Target("lengths", lengths, (b"\0\5hello", b"\0\7hello", b"\0\1hello")),
        Target("frames", frames, _FRAMES, (b"\x88\x00", b"\x81\x7e", b"\x82\x7f", b"\xff" * 8, b"\0\0\0\0\0\0\0\5")),
    )
