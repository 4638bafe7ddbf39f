"""Reading multipart/form-data as it arrives: parts in pieces, nothing held but the end of the last piece.

What belongs here: the framing, as a plain object that bytes are fed to. What does not: the request it came with.
aiohttp has a reader of its own, but it takes the bytes before they can be counted, and this one must show exactly what
was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import aiohttp

from proxy.sandbox.shapes import Malformed

MAX_PART_HEAD = 16 * 1024
"""Four names and a content type fit in a hundredth of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The head of one part."""

    number: int
    name: str
    filename: str | None


class _Within(Enum):
    PREAMBLE = "preamble"
    BOUNDARY = "boundary"
    HEAD = "head"
    CONTENT = "content"
    EPILOGUE = "epilogue"


class MultipartScanner:
    """Feed it bytes; it gives back the pieces of the parts, each with the part it belongs to."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode()
        # The first boundary has no line before it; pretend that it has.
        self._buffer = bytearray(b"\r\n")
        self._within = _Within.PREAMBLE
        self._part = Part(0, "", None)

    @property
    def finished(self) -> bool:
        """True once the closing boundary was seen."""
        return self._within is _Within.EPILOGUE

    def feed(self, chunk: bytes) -> Iterator[tuple[Part, bytes]]:
        """The pieces that this chunk completes; raises ``Malformed``. To be consumed before the next call."""
        self._buffer += chunk
        while True:
            match self._within:
                case _Within.PREAMBLE | _Within.CONTENT:
                    piece, more = self._content()
                    if piece and self._within is not _Within.PREAMBLE:
                        yield self._part, piece
                    if more:
                        self._within = _Within.BOUNDARY
                case _Within.BOUNDARY:
                    more = self._after_boundary()
                case _Within.HEAD:
                    more = self._head()
                case _Within.EPILOGUE:
                    self._buffer.clear()
                    more = False
            if not more:
                return

    def _content(self) -> tuple[bytes, bool]:
        """The bytes before the next delimiter, and whether it was found."""
        at = self._buffer.find(self._delimiter)
        found = at >= 0
        # A delimiter may have arrived in part: as many bytes as it could have are left for the next chunk.
        end = at if found else max(0, len(self._buffer) - len(self._delimiter) + 1)
        piece = bytes(self._buffer[:end])
        del self._buffer[: end + (len(self._delimiter) if found else 0)]
        return piece, found

    def _after_boundary(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._within = _Within.EPILOGUE
            return True
        line_end = self._buffer.find(b"\r\n")
        if line_end < 0:
            return False
        # Left in place: a part without any header line begins with the empty line that ends its head.
        del self._buffer[:line_end]
        self._within = _Within.HEAD
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_PART_HEAD:
                raise Malformed("the head of a part is too long")
            return False
        self._part = _part(self._part.number + 1, bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._within = _Within.CONTENT
        return True


def _part(number: int, head: bytes) -> Part:
    for line in head.decode(errors="replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            _kind, parameters = aiohttp.parse_content_disposition(value.strip())
            return Part(number, parameters.get("name", ""), parameters.get("filename"))
    raise Malformed("a part has no Content-Disposition")
