"""What a caller received, read the way a careful client reads it: is it whole, and does it show when it is not?"""

from __future__ import annotations

from typing import NamedTuple

from tests.wires import Head


class Answer(NamedTuple):
    """What of an answer has arrived; ``rest`` is what came after it."""

    head: Head
    content: bytes
    whole: bool
    rest: bytes


def read_answer(raw: bytes, method: str, *, ended: bool, error: bool) -> Answer | None:
    """Reads what a caller received, the way a careful client does. None while there is no complete head."""
    head, end, body = raw.partition(b"\r\n\r\n")
    if not end:
        return None
    read = Head.read(head + end)
    if read.status == 100:
        return read_answer(body, method, ended=ended, error=error)
    if method == "HEAD" or read.status in (101, 204, 304):
        return Answer(read, b"", True, body)
    length = read.get("Content-Length")
    if length is not None:
        content = body[: int(length)]
        return Answer(read, content, len(content) == int(length), body[int(length) :])
    if read.get("Transfer-Encoding") is None:
        return Answer(read, body, ended and not error, b"")
    return Answer(read, *_chunks(body))


def _chunks(body: bytes) -> tuple[bytes, bool, bytes]:
    pieces, position = [], 0
    while (end := body.find(b"\r\n", position)) >= 0:
        size, begin = int(body[position:end], 16), end + 2
        position = begin + size + 2
        if len(body) < position:
            return b"".join([*pieces, body[begin : begin + size]]), False, b""
        assert body[begin + size : position] == b"\r\n"
        if size == 0:
            return b"".join(pieces), True, body[position:]
        pieces.append(body[begin : begin + size])
    return b"".join(pieces), False, b""
