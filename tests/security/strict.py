"""A second reader of HTTP/1.1 that forgives nothing: what a peer must be able to take a stream of bytes for.

Written apart from the proxy's and in another way, line by line and without an expression, so that both must be wrong
alike for a fault to pass. What is not said unmistakably is ``Malformed``; what has not ended is ``Unfinished``.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = frozenset((string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode())
_DIGITS = frozenset(string.digits.encode())
_HEX = frozenset(string.hexdigits.encode())
_LONGEST_NUMBER = 18


class Malformed(ValueError):  # noqa: N818 - it names a state of the bytes
    """Two readers could read this in two ways."""


class Unfinished(ValueError):  # noqa: N818
    """So far well formed, and not at its end. ``head`` is there when it was whole; ``content`` as far as it is."""

    def __init__(self, why: str, head: Head | None = None, content: bytes = b"") -> None:
        super().__init__(why)
        self.head = head
        self.content = content


class Head(NamedTuple):
    """A start line in its three parts and the fields, with lower-case names, in order."""

    start: tuple[bytes, bytes, bytes]
    fields: list[tuple[bytes, bytes]]

    def all(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each == name]

    def members(self, name: bytes) -> list[bytes]:
        """The lower-case members of a list field."""
        every = b",".join(self.all(name)).lower().split(b",")
        return [member for each in every if (member := each.strip(b" \t"))]


class Request(NamedTuple):
    """One whole request: its head, its content, how that was framed, and how many bytes it took."""

    head: Head
    content: bytes
    chunked: bool
    size: int

    @property
    def method(self) -> str:
        return self.head.start[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.head.start[1].decode("latin-1")

    @property
    def modern(self) -> bool:
        return self.head.start[2] == b"HTTP/1.1"


class Answer(NamedTuple):
    """One whole answer. ``ended_by_close``: nothing but the end of the connection says that it is whole."""

    head: Head
    status: int
    content: bytes
    size: int
    ended_by_close: bool = False


def read_requests(data: bytes) -> Iterator[Request]:
    """Every whole request, one after the other. Raises what is wrong with the next; ends where the bytes end."""
    position = 0
    while True:
        while data.startswith(b"\r\n", position):  # RFC 9112 section 2.2
            position += 2
        if position == len(data):
            return
        request = read_request(data[position:])
        yield request
        position += request.size


def read_request(data: bytes, *, trailers: bool = True) -> Request:
    """The request that the data begins with. ``trailers``: may a chunked body have any?"""
    head, start = _head(data)
    method, target, version = head.start
    if not set(method) <= _TOKEN or not method or not target:
        raise Malformed("request line")
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise Malformed("version")
    if version == b"HTTP/1.0" and head.all(b"transfer-encoding"):
        raise Malformed("a coding in HTTP/1.0")
    length = _length(head)
    if length is None:
        content, size = _chunks(data[start:], head, extensions=False, trailers=trailers)
        return Request(head, content, True, start + size)
    content = data[start : start + length]
    if len(content) < length:
        raise Unfinished("body", head, content)
    return Request(head, content, False, start + length)


def read_answer(data: bytes, method: str, *, closed: bool) -> Answer:
    """The final answer that the data begins with; interim ones (1xx) before it are skipped. ``closed``: cleanly."""
    position = 0
    while True:
        head, start = _head(data[position:])
        version, code, _ = head.start
        if version not in {b"HTTP/1.1", b"HTTP/1.0"} or len(code) != 3 or not set(code) <= _DIGITS or code[:1] == b"0":
            raise Malformed("status line")
        status = int(code)
        position += start
        if status >= 200 or status == 101:
            break
    codings, lengths = head.all(b"transfer-encoding"), head.all(b"content-length")
    if len(codings) > 1 or (codings and lengths):
        raise Malformed("framed twice")
    if codings and b"\t" in codings[0]:
        raise Malformed("coding")
    if method == "HEAD" or status in {101, 204, 304}:
        # There is no body, whatever coding it would have had; a length is passed on, and must be one.
        if lengths:
            _length(head)
        return Answer(head, status, b"", position)
    if codings and version == b"HTTP/1.0":
        raise Malformed("a coding in HTTP/1.0")
    length = _length(head)
    rest = data[position:]
    if length is None:
        content, size = _chunks(rest, head, extensions=True, trailers=True)
        return Answer(head, status, content, position + size)
    if not codings and not lengths:
        if not closed:
            raise Unfinished("body until the end", head, rest)
        return Answer(head, status, rest, len(data), ended_by_close=True)
    if len(rest) < length:
        raise Unfinished("body", head, rest)
    return Answer(head, status, rest[:length], position + length)


def _head(data: bytes) -> tuple[Head, int]:
    """The head that the data begins with, and how long it is with its empty line."""
    lines, position = [], 0
    while True:
        end = data.find(b"\r\n", position)
        line = data[position : end if end >= 0 else len(data)].removesuffix(b"\r" if end < 0 else b"")
        for byte in line:
            if byte == 0x7F or (byte < 0x20 and byte != 0x09):
                raise Malformed("a control in the head")
        if end < 0:
            raise Unfinished("head")
        position = end + 2
        if not line:
            break
        lines.append(line)
    if not lines:
        raise Malformed("no first line")
    start = lines[0].split(b" ", 2)
    if len(start) == 2 and start[0].startswith(b"HTTP/"):
        start.append(b"")  # RFC 9112 section 4: no reason, and some leave out the blank as well
    if len(start) != 3 or b"\t" in b"".join(start[:2]):
        raise Malformed("first line")
    return Head((start[0], start[1], start[2]), [_field(line) for line in lines[1:]]), position


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or not set(name) <= _TOKEN:
        raise Malformed("field name")
    name = name.lower()
    # Readers differ on a tab beside a coding: it stays part of the value, which then is none that is known.
    return name, value.strip(b" " if name == b"transfer-encoding" else b" \t")


def _length(head: Head) -> int | None:
    """The body's length in bytes; None when it is chunked."""
    codings, lengths = head.all(b"transfer-encoding"), head.all(b"content-length")
    if len(codings) + len(lengths) > 1:
        raise Malformed("framed twice")
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed("coding")
        return None
    if not lengths:
        return 0
    if not lengths[0] or len(lengths[0]) > _LONGEST_NUMBER or not set(lengths[0]) <= _DIGITS:
        raise Malformed("length")
    return int(lengths[0])


def _chunks(data: bytes, head: Head, *, extensions: bool, trailers: bool) -> tuple[bytes, int]:
    """The content of a chunked body, and how long the body is on the wire."""
    content, position = b"", 0
    while True:
        end = data.find(b"\r\n", position)
        line = data[position : end if end >= 0 else len(data)]
        if end < 0 and line.endswith(b"\r"):
            line = line[:-1]
        digits, semicolon, extension = line.partition(b";")
        if semicolon and not extensions:
            raise Malformed("chunk extension")
        if semicolon:
            digits = digits.rstrip(b" \t")
        if not set(digits) <= _HEX or len(digits) >= 16 or any((b < 32 and b != 9) or b == 127 for b in extension):
            raise Malformed("chunk size")
        if end < 0:
            raise Unfinished("chunk size", head, content)
        if not digits:
            raise Malformed("no chunk size")
        size, position = int(digits, 16), end + 2
        if size == 0:
            return content, _trailers(data, position, head, content, allowed=trailers)
        piece, mark = data[position : position + size], data[position + size : position + size + 2]
        content += piece
        if not b"\r\n".startswith(mark):
            raise Malformed("a chunk longer than its size")
        if len(mark) < 2:
            raise Unfinished("chunk", head, content)
        position += size + 2


def _trailers(data: bytes, position: int, head: Head, content: bytes, *, allowed: bool) -> int:
    """Where the body ends. Trailers are read over: nobody here is meant to believe one."""
    while True:
        end = data.find(b"\r\n", position)
        line = data[position : end if end >= 0 else len(data)]
        if b"\n" in line or b"\r" in line.removesuffix(b"\r" if end < 0 else b""):
            raise Malformed("a trailer's line end")
        if end < 0:
            raise Unfinished("trailers", head, content)
        position = end + 2
        if not line:
            return position
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= _TOKEN or any((b < 32 and b != 9) or b == 127 for b in value):
            raise Malformed("a trailer that is no field")
        if not allowed:
            raise Malformed("trailers")
