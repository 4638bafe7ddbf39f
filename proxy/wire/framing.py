"""Where a body ends: pure cursors over bytes as they arrive.

A body cursor is fed what arrived and says what may be passed on and, once the body is whole, what came after it. What
is well framed is passed on as the very bytes that arrived. Nothing here touches a socket, so all of it is fuzzed.
"""

from __future__ import annotations

import re
from typing import Protocol

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
"""RFC 9112 section 7.1, with at most 60 bits of size. No sign, no prefix, no blank before the line's end."""

_ONE_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")

_SMALL_CHUNKS = re.compile(
    # What is not small is seen at its third byte. The group is not possessive: before 3.11.5 CPython goes on from the
    # middle of such a group's failed turn (gh-100061, gh-106052), which here would be the middle of somebody's content.
    rb"(?:0{0,12}(?=[0-3]?[0-9a-f]\r)(?:%b)\r\n){1,2000}"
    % b"|".join(rb"%x\r\n[\s\S]{%d}" % (size, size) for size in range(1, 64)),
    re.IGNORECASE,
)
"""As many whole chunks of less than 64 bytes as there are. One at a time costs 2 us and more, which a sender of chunks
of one byte would make 36 ms of everybody's time out of each read of 64 KB (2 ms like this, 2026-11-22)."""

LONGEST_CHUNK_LINE = 1024
"""A size line with extensions; nobody is known to send more than a few dozen bytes, and it is held until complete."""

LONGEST_TRAILERS = 8192
"""All trailer lines together; they are dropped, so only a bound on how much is read for nothing."""


class FramingError(ValueError):
    """The body is not framed as its head said. Whatever was passed on so far must now look broken."""


class BodyCursor(Protocol):
    """Follows one body. ``feed`` returns what to pass on and, when the body is whole, what came after."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Takes what arrived. Raises ``FramingError``."""

    def end(self) -> bool:
        """The sender closed: is the body whole?"""


class LengthCursor:
    """A body of a known number of bytes (Content-Length, RFC 9112 section 6.2)."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        self.remaining = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See ``BodyCursor``."""
        left = self.remaining - len(data)
        if left > 0:
            self.remaining = left
            return data, None
        self.remaining = 0
        if left == 0:
            return data, b""
        return data[:left], data[left:]

    def end(self) -> bool:
        """See ``BodyCursor``."""
        return self.remaining == 0


class CloseCursor:
    """A body that ends when the sender closes (responses only, RFC 9112 section 6.3 rule 8).

    With ``encode`` it is passed on in chunks, so that the receiver can tell its end from a broken connection.
    """

    __slots__ = ("_encode",)

    def __init__(self, *, encode: bool) -> None:
        self._encode = encode

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See ``BodyCursor``."""
        return (b"%x\r\n%b\r\n" % (len(data), data) if self._encode else data), None

    def end(self) -> bool:
        """See ``BodyCursor``."""
        return True


class ChunkedCursor:
    """A chunked body (RFC 9112 section 7.1): every chunk checked, trailers dropped, extensions dropped or refused.

    Passed on verbatim; with ``decode`` only the content is passed on (for a receiver that speaks HTTP/1.0).
    """

    __slots__ = ("_decode", "_held", "_refuse_extensions", "_remaining", "_state", "_trailers", "_whole", "line")

    def __init__(self, *, decode: bool = False, refuse_extensions: bool = False) -> None:
        self._decode = decode
        self._refuse_extensions = refuse_extensions
        self._state = _SIZE
        self._remaining = 0
        self._held = b""
        self._trailers = 0
        # The size line of the last chunk that came alone, and how long it was with all.
        self.line = b""
        self._whole = -1

    # One loop over four states: it runs for every read of every chunked stream, and a call per state doubles its cost.
    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:  # noqa: C901, PLR0915
        """See ``BodyCursor``."""
        if self._held:
            data = self._held + data
            self._held = b""
        size = len(data)
        if self._state == _SIZE and not self._decode and data.endswith(b"\r\n"):
            # What a sender writes at a time mostly arrives as one whole chunk, and that is mostly as long as the last:
            # then the same bytes begin it, and nothing has to be read (2.2 of 6.1 thousand instructions, callgrind).
            if size == self._whole and data.startswith(self.line):
                return data, None
            match = _ONE_CHUNK.match(data)
            if match is not None and (length := int(match[1], 16)) and match.end() + length + 2 == size:
                self.line, self._whole = data[: match.end()], size
                return data, None
        position = 0
        passed = 0  # everything before this index has been put into pieces, or was dropped
        pieces: list[bytes] = []
        decode = self._decode
        while position < size:
            state = self._state
            if state == _CONTENT:
                end = position + self._remaining
                if end > size:
                    self._remaining = end - size
                    position = size
                    break
                position = end
                if decode:
                    pieces.append(data[passed:position])
                    passed = position
                self._state = _CONTENT_END
            elif state == _CONTENT_END:
                if size - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    raise FramingError("a chunk is longer than its size said")
                position += 2
                if decode:
                    passed = position
                self._state = _SIZE
            elif state == _SIZE:
                if not decode and (match := _SMALL_CHUNKS.match(data, position)) is not None:
                    position = match.end()
                    continue
                end = data.find(b"\r\n", position)
                if end < 0:
                    if size - position > LONGEST_CHUNK_LINE or b"\n" in data[position:]:
                        raise FramingError("a chunk-size line is too long, or does not end in CR LF")
                    break
                length, plain = self._read_size(data[position:end])
                if decode:
                    passed = end + 2
                elif not plain:
                    pieces.append(data[passed:position] + b"%x\r\n" % length)
                    passed = end + 2
                position = end + 2
                self._remaining = length
                self._state = _CONTENT if length else _TRAILER
            else:
                end = data.find(b"\r\n", position)
                if end < 0:
                    break
                if end == position:
                    position += 2
                    if decode:
                        passed = position
                    return self._passed(data, pieces, passed, position), data[position:]
                self._trailers += end + 2 - position
                if self._trailers > LONGEST_TRAILERS or not _TRAILER_LINE.fullmatch(data, position, end):
                    raise FramingError("the trailers are too long or malformed")
                if not decode:
                    pieces.append(data[passed:position])
                position = passed = end + 2
        if position < size:
            self._hold(data[position:])
        return self._passed(data, pieces, passed, position), None

    def end(self) -> bool:
        """See ``BodyCursor``."""
        return False

    def repeats(self) -> int:
        """How long the next read is if it is another whole chunk like the last, which begins with ``line``; or -1.

        Such a chunk may pass without being fed.
        """
        return self._whole if self._state == _SIZE and not self._held and not self._decode else -1

    def _read_size(self, line: bytes) -> tuple[int, bool]:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > LONGEST_CHUNK_LINE:
            raise FramingError("a chunk-size line is malformed")
        digits, extension = match.groups()
        if extension is not None and self._refuse_extensions:
            raise FramingError("chunk extensions are not accepted")
        return int(digits, 16), extension is None

    def _hold(self, held: bytes) -> None:
        if len(held) > LONGEST_TRAILERS:
            raise FramingError("the trailers are too long")
        self._held = held

    @staticmethod
    def _passed(data: bytes, pieces: list[bytes], passed: int, position: int) -> bytes:
        if not pieces:
            return data if passed == 0 and position == len(data) else data[passed:position]
        pieces.append(data[passed:position])
        return b"".join(pieces)


_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+")
"""RFC 9110 section 5. Trailers are dropped, and yet what is none shows that the sender means something else."""

_SIZE, _CONTENT, _CONTENT_END, _TRAILER = range(4)

CHUNKED_END = b"0\r\n\r\n"
