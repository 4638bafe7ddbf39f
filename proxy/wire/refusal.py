"""An error: kept back until it is whole, because then it can still be undone, and what it repeats taken out.

Answers of 400 and more are the only ones that wait. What a 401 or 403 says decides whether the request goes out once
more with a fresh token, and what any of them repeats of the credential is made unreadable before it reaches a caller.
"""

from __future__ import annotations

from proxy.wire.framing import BodyCursor, ChunkedCursor, CloseCursor, LengthCursor
from proxy.wire.head import CHUNKED, ResponseHead

MOST_HELD = 65536
"""Bytes of an error's body that are waited for; a refusal has 130. A longer one is passed on as it comes after that."""


class HeldAnswer:
    """Collects the content of one answer. Implements ``BodyCursor``, and passes nothing on while it collects."""

    __slots__ = ("_cursor", "_pieces", "response", "size")

    def __init__(self, response: ResponseHead, length: int) -> None:
        self.response = response
        self.size = 0
        self._pieces: list[bytes] = []
        self._cursor: BodyCursor | None = None
        if length == CHUNKED:
            self._cursor = ChunkedCursor(decode=True)
        elif length:
            self._cursor = LengthCursor(length) if length > 0 else CloseCursor(encode=False)

    @property
    def content(self) -> bytes:
        """What has been collected."""
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See ``BodyCursor``."""
        if self._cursor is None:
            return b"", data
        out, rest = self._cursor.feed(data)
        self.size += len(out)
        self._pieces.append(out)
        return b"", rest

    def end(self) -> bool:
        """See ``BodyCursor``."""
        return self._cursor is None or self._cursor.end()

    def pass_on(self, *, chunked: bool) -> Reframed:
        """The cursor that passes on the rest: in chunks, or bare when the connection ends the body."""
        assert self._cursor is not None  # noqa: S101 - for the type checker; a body that ran over has one
        return Reframed(self._cursor, chunked=chunked)


class Reframed:
    """Passes the content of a body on in another framing. Implements ``BodyCursor``."""

    __slots__ = ("_chunked", "_cursor")

    def __init__(self, cursor: BodyCursor, *, chunked: bool) -> None:
        self._cursor = cursor
        self._chunked = chunked

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See ``BodyCursor``."""
        out, rest = self._cursor.feed(data)
        out = self.wrap(out)
        if rest is not None and self._chunked:
            out += b"0\r\n\r\n"
        return out, rest

    def wrap(self, content: bytes) -> bytes:
        """This content as it goes to the caller."""
        return b"%x\r\n%b\r\n" % (len(content), content) if content and self._chunked else content

    def end(self) -> bool:
        """See ``BodyCursor``."""
        return self._cursor.end()
