"""Raw upstream answers that two readers could end, split or believe in two ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from tests.security import framings, heads

POISON = b"HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 6\r\n\r\npoison"
"""An answer to nobody. It must never be the answer to the request that comes next."""


class Attempt(NamedTuple):
    """What the upstream writes, in pieces, and whether it closes then; and who asks."""

    name: str
    pieces: tuple[bytes, ...]
    closes: bool = False
    line: bytes = b"GET /things HTTP/1.1"

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


_OK = b"HTTP/1.1 200 OK\r\n"
_LENGTH = b"Content-Length: 5\r\n"
_CODING = b"Transfer-Encoding: chunked\r\n"
_ASKED = (b"GET /things HTTP/1.1", b"HEAD /things HTTP/1.1", b"POST /things HTTP/1.1")
_ASKED_BY_AN_OLD_CALLER = b"GET /things HTTP/1.0"


def _both(name: str, raw: bytes, line: bytes = _ASKED[0]) -> Iterator[Attempt]:
    yield Attempt(name, (raw,), line=line)
    yield Attempt(f"{name}, closed", (raw,), closes=True, line=line)


def framed() -> Iterator[Attempt]:
    for value in framings.LENGTHS:
        yield from _both(f"length {value!r}", _OK + b"Content-Length: " + value + b"\r\n\r\nhello" + POISON)
        yield Attempt(f"length {value!r} and a coding", (_OK + b"Content-Length: " + value + b"\r\n" + _CODING + b"\r\n"
                                                         + framings.CHUNKED + POISON,))  # fmt: skip
        yield Attempt(f"length {value!r} of a HEAD", (_OK + b"Content-Length: " + value + b"\r\n\r\n",), line=_ASKED[1])
    for value in framings.CODINGS:
        raw = _OK + b"Transfer-Encoding: " + value + b"\r\n"
        yield from _both(f"coding {value!r}", raw + b"\r\n" + framings.CHUNKED + POISON)
        yield Attempt(f"coding {value!r} and a length", (raw + _LENGTH + b"\r\n" + framings.CHUNKED + POISON,))
        old = raw.replace(b"HTTP/1.1", b"HTTP/1.0")
        yield Attempt(f"coding {value!r} of HTTP/1.0", (old + b"\r\n" + framings.CHUNKED,), closes=True)
    for spelling in framings.SPELLINGS:
        for line in (spelling % b"Content-Length" + b": 5\r\n", spelling % b"Transfer-Encoding" + b": chunked\r\n"):
            yield Attempt(f"{line!r}", (_OK + line + b"\r\n" + framings.CHUNKED + POISON,), closes=True)
            yield Attempt(f"{line!r} after a length", (_OK + _LENGTH + line + b"\r\nhello" + POISON,))
    for first, second in itertools.product((b"0", b"5", b"05", b"6", b""), repeat=2):
        lines = b"Content-Length: " + first + b"\r\nContent-Length: " + second + b"\r\n"
        yield Attempt(f"{lines!r}", (_OK + lines + b"\r\nhello" + POISON,))
    for asked, status in itertools.product(
        _ASKED, (b"200 OK", b"204 No Content", b"304 Not Modified", b"401 No", b"500 No")
    ):
        start = b"HTTP/1.1 " + status + b"\r\n"
        for framing, body in ((_LENGTH, b"hello"), (_CODING, framings.CHUNKED), (b"Content-Length: 0\r\n", b""), (b"",
            b"hello"),
                              (_LENGTH, b""), (_CODING, b""), (_LENGTH + _CODING, b"hello")):  # fmt: skip
            yield from _both(f"{status!r} to {asked!r}, {framing!r}", start + framing + b"\r\n" + body + POISON, asked)
            name = f"{status!r} to {asked!r}, {framing!r}, no more"
            yield Attempt(name, (start + framing + b"\r\n" + body,), closes=not framing, line=asked)


def in_chunks() -> Iterator[Attempt]:
    start = _OK + _CODING + b"\r\n"
    for number, attempt in enumerate(framings.chunks()):
        body = attempt.raw.partition(b"\r\n\r\n")[2].replace(framings.SECOND, POISON)
        yield Attempt(attempt.name, (start + body,))
        at = len(body) // 2
        yield Attempt(f"{attempt.name}, cut", (start + body[:at], body[at:]))
        if number % 2:
            continue
        yield Attempt(f"{attempt.name} refused", (start.replace(b"200 OK", b"403 No") + body,), closes=True)


def to_old_callers() -> Iterator[Attempt]:
    """What has no framing of its own for a caller of HTTP/1.0: that it broke must show in how the connection ends."""
    for attempt in (*itertools.islice(framed(), 0, None, 4), *itertools.islice(in_chunks(), 1, None, 3)):
        if attempt.line == _ASKED[0]:
            yield attempt._replace(line=_ASKED_BY_AN_OLD_CALLER)


def heads_of_answers() -> Iterator[Attempt]:
    lines = (b"HTTP/1.1 200 OK", b"X-A: b", b"Content-Length: 5", b"")
    for place, end in itertools.product(range(len(lines)), heads.ENDS):
        parts = [line + (end if at == place else b"\r\n") for at, line in enumerate(lines)]
        yield from _both(f"line {place} ends in {end!r}", b"".join(parts) + b"hello" + POISON)
    for byte in heads.ODD_BYTES:
        odd = bytes([byte])
        for where, start, field in (
            ("in the version", b"HTTP/1%b.1 200 OK\r\n", b""),
            ("in the status", b"HTTP/1.1 2%b0 OK\r\n", b""),
            ("for a blank", b"HTTP/1.1%b200 OK\r\n", b""),
            ("in the reason", b"HTTP/1.1 200 O%bK\r\n", b""),
            ("before it", b"%bHTTP/1.1 200 OK\r\n", b""),
            ("in a name", _OK, b"X-%bA: b\r\n"),
            ("before a name", _OK, b"%bX-A: b\r\n"),
            ("after a name", _OK, b"X-A%b: b\r\n"),
            ("in a value", _OK, b"X-A: b%bSet-Cookie: c\r\n"),
        ):
            raw = (start % odd if b"%b" in start else start) + (field % odd if field else b"") + _LENGTH + b"\r\nhello"
            yield Attempt(f"{byte:#x} {where}", (raw + POISON,))
    for start in (b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1  200 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 20 OK",
                  b"HTTP/1.1 2000 OK",
                  b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 999 OK", b"HTTP/1.1 -200 OK",
                  b"HTTP/1.1 +20 OK", b"HTTP/1.1 2e2 OK", b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"HTTP/1.1 OK 200",
                  b"HTTP/1.1 ",
                  b"HTTP/1.1", b"HTTP/1.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2 200",
                  b"HTTP/2.0 200 OK",
                  b"http/1.1 200 OK", b"ICY 200 OK", b"HTTP 200 OK", b"HTTP/1.1 200 OK HTTP/1.1 200 OK",
                  b"HTTP/1.1 200 " + b"x" * 9000,
                  b"HTTP/1.1 200 \xff\xfe", b"HTTP/1.1\t200\tOK", b"hello", b"\r\nHTTP/1.1 200 OK", b"<html>", b"",
                  b"HTTP/1.10 200 OK",
                  b"HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK", b"SSH-2.0-x", b"GET /things HTTP/1.1"):  # fmt: skip
        yield from _both(f"{start[:60]!r}", start + b"\r\n" + _LENGTH + b"\r\nhello" + POISON)
    for field in (b"X-A: b\rSet-Cookie: x", b"X-A: b\nSet-Cookie: x", b"X-A: b\r\n\r\nHTTP/1.1 200 OK", b"X-A:\r\n b",
                  b"X-A: b\r\n c",
                  b": b", b"X-A", b"X A: b", b"X-A : b", b"X-A: \x00", b"Connection: content-length",
                  b"Connection: close",
                  b"Connection: transfer-encoding", b"Connection: keep-alive", b"Connection: x-a\r\nX-A: b",
                  b"Upgrade: h2c",
                  b"Trailer: X-A", b"Keep-Alive: max=1", b"Proxy-Status: x", b"Set-Cookie: x",
                  b"Location: //evil.test", b"X" * 40000 + b": y",
                  b"X-A: " + b"y" * 40000, b"X-A: " + b"y" * 70000, b"X-A: b\r\n" * 3000 + b"X-B: c",
                  b"Content-Encoding: gzip",
                  b"Connection: close\r\nConnection: keep-alive", b"Access-Control-Allow-Origin: *"):  # fmt: skip
        yield from _both(f"{field[:60]!r}", _OK + _LENGTH + field + b"\r\n\r\nhello")
        yield Attempt(f"{field[:60]!r} and more", (_OK + field + b"\r\n" + _LENGTH + b"\r\nhello" + POISON,))


def interim_and_more() -> Iterator[Attempt]:
    final = _OK + _LENGTH + b"\r\nhello"
    interim = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n",
               b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
               b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
               b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
               b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 199 Odd\r\n\r\n",
               b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
               b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
               b"HTTP/1.0 100 Continue\r\n\r\n",
               b"HTTP/1.1 100 Continue\n\n", b"HTTP/1.1 100 Continue\r\nX: a\rb\r\n\r\n")  # fmt: skip
    for head in interim:
        for count in (1, 2, 19, 20, 21, 60):
            yield from _both(f"{count} times {head[:40]!r}", head * count + final)
        yield from _both(f"{head!r} and nothing", head)
        yield Attempt(f"{head!r} between", (final + head + POISON,))
        yield Attempt(f"{head!r}, cut", (head[: len(head) // 2], head[len(head) // 2 :] + final))
    for after in (POISON, b"\r\n", b"\n", b"x", b"\x00", b"\r\n" + POISON, b"HTTP/1.1 200", POISON * 50):
        for whole in (final, _OK + _CODING + b"\r\n" + framings.CHUNKED, _OK + b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 204 No\r\n\r\n",
                      b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
                      b"HTTP/1.1 401 No\r\n" + _LENGTH + b"\r\nhello"):  # fmt: skip
            yield from _both(f"{after[:20]!r} after {whole!r}", whole + after)
            yield Attempt(f"{after[:20]!r} later than {whole!r}", (whole, after))
    for at in range(1, len(final), 2):
        yield Attempt(f"cut at {at}", (final[:at], final[at:] + POISON))
        yield Attempt(f"ended at {at}", (final[:at],), closes=True)
        yield Attempt(f"stopped at {at}", (final[:at],))
