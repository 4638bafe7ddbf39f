"""Requests that say their length in more than one way, or in none: lengths, codings, and chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from tests.security.raw import SECOND


class Attempt(NamedTuple):
    """One connection's bytes, in the pieces in which they are sent."""

    name: str
    pieces: tuple[bytes, ...]

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


HELLO = b"hello"
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SECOND), SECOND)
_LINE = b"POST /things HTTP/1.1\r\nHost: 127.0.0.1\r\n"

LENGTHS = (
    b"0", b"5", b"+5", b"-5", b"-0", b"05", b"0000000005", b"00000000000000000005", b"5 ", b" 5", b"\t5", b"5\t",
    b"5,5",
    b"5, 5", b"5, 0", b"0, 5", b"5;", b"5;a=b", b"5 5", b"0x5", b"5_0", b"5.0", b"5e0", b"", b" ", b",", b"5,", b",5",
    b'"5"', b"'5'", b"five", b"\x005", b"5\x00", b"5\x000", b"\x0b5", b"5\x0b", b"\x0c5", b"5\x0c", b"\x855", b"5\x85",
    b"\xa05", b"5\xa0", b"\xef\xbc\x95", b"\xd9\xa5", b"\xb2", b"2147483648", b"4294967301", b"9223372036854775807",
    b"9223372036854775808", b"18446744073709551616", b"18446744073709551621", b"9" * 18, b"1" + b"0" * 18, b"9" * 400,
    b"\r\n 5", b"\r\n\t5", b"5\r\n ", b"5\r\n 6", b"%35", b"NaN", b"inf", b"1e1", b"#5", b"5\r", b"\r5", b"5\n", b"\n5",
    b"b5", b"0b101", b"0o5", b"5L", b"\xe2\x81\xb5", b"5\x7f", b"\x085", b"1,", b"(5)", b"5%00", b"--5", b"+-5",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b"chunked ", b"\tchunked", b"chunked\t", b"xchunked", b"chunkedx",
    b"chunked, identity", b"identity, chunked", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip",
    b"chunked, chunked", b"chunked,chunked", b"chunked,", b",chunked", b", chunked", b"chunked,,", b'"chunked"',
    b"'chunked'", b"chunked;q=1", b"chunked;", b";chunked", b"", b" ", b",", b"\x0bchunked", b"chunked\x0b",
    b"\x00chunked", b"chunked\x00", b"\x85chunked", b"chunked\x85", b"\xa0chunked", b"chunked\xa0", b"chun\x00ked",
    b"chunKed", b"cow", b"chunked cow", b"cow chunked", b"trailers", b"\r\n chunked", b"\r\n\tchunked",
    b"chunked\r\n ", b"chunked\r\n , identity", b"chunk ed", b"chunked\r", b"\rchunked", b"\nchunked", b"chunked\n",
    b"chu\xd9nked", b"chunked#", b"compress", b"deflate", b"x-chunked", b"\x0cchunked", b"chunked\x7f", b"\xefchunked",
    b"chunked:", b":chunked", b"chunked/", b"chunked=1", b"{chunked}", b"ch\\unked", b"%63hunked", b"chunke\xc4\x91",
)  # fmt: skip
SPELLINGS = (
    b"%b", b"%b ", b"%b\t", b" %b", b"\t%b", b"%b\x00", b"%b\x0b", b"\x0b%b", b"\x00%b", b"%b\xa0", b"\xa0%b",
    b"%b\x85",
    b"%b:", b":%b", b"%b_", b"_%b", b"X: y\r\n %b", b"X: y\r%b", b"X: y\n%b", b"\r%b", b"\n%b", b'"%b"', b"X-%b",
    b"%b-",
    b"%b\r", b"%b\n", b"%b;", b"(%b)", b"%b\x7f", b"\xef\xbb\xbf%b", b"%b\r\n ", b"%b,", b"%b=", b"@%b", b"%b[]",
    b"%b\x1f", b"X: y\r\n\r%b", b"X\r\n%b", b"%b\\", b"/%b",
)  # fmt: skip
_BODIES = {"chunks": CHUNKED, "hidden": HIDDEN, "hello": HELLO, "end": b"0\r\n\r\n"}


def _post(name: str, fields: bytes, body: bytes, line: bytes = _LINE) -> Attempt:
    return Attempt(name, (line + fields + b"\r\n" + body + SECOND,))


def lengths_and_codings() -> Iterator[Attempt]:
    length, coding = b"Content-Length", b"Transfer-Encoding"
    for value in LENGTHS:
        yield _post(f"length {value!r}", b"%b: %b\r\n" % (length, value), HELLO)
        yield _post(f"length {value!r}, no blank", b"%b:%b\r\n" % (length, value), HELLO)
        for first, second in ((b"%b: %b", b"%b: chunked"), (b"%b: chunked", b"%b: %b")):
            lines = (first % (length, value), second % coding) if b"chunked" not in first else (
                first % coding, second % (length, value))  # fmt: skip
            yield _post(f"{lines}", b"\r\n".join(lines) + b"\r\n", CHUNKED)
    for value in CODINGS:
        yield _post(f"coding {value!r}", b"%b: %b\r\n" % (coding, value), CHUNKED)
        yield _post(f"coding {value!r}, hidden", b"%b:%b\r\n" % (coding, value), HIDDEN)
        yield _post(
            f"coding {value!r} in HTTP/1.0", b"%b: %b\r\n" % (coding, value), CHUNKED, _LINE.replace(b"/1.1", b"/1.0")
        )
        for number in (0, 5, len(HIDDEN)):
            lines = (b"%b: %d" % (length, number), b"%b: %b" % (coding, value))
            yield _post(f"{lines}", b"\r\n".join(lines) + b"\r\n", HIDDEN)
            yield _post(f"{lines[::-1]}", b"\r\n".join(lines[::-1]) + b"\r\n", HIDDEN)
    for spelling in SPELLINGS:
        for name in (length, length.lower(), length.replace(b"-", b"_"), length.upper()):
            yield _post(f"{spelling % name!r}", b"%b: %d\r\n" % (spelling % name, len(SECOND)), SECOND)
        for name in (coding, coding.lower(), coding.replace(b"-", b"_"), coding.upper()):
            yield _post(f"{spelling % name!r}", b"%b: chunked\r\n" % (spelling % name), HIDDEN)
            lines = b"Content-Length: 5\r\n%b: chunked\r\n" % (spelling % name)
            yield _post(f"{spelling % name!r} beside a length", lines, CHUNKED)
        lines = b"Transfer-Encoding: chunked\r\n%b: 5\r\n" % (spelling % length)
        yield _post(f"{spelling % length!r} beside a coding", lines, CHUNKED)
    yield from _twice()


def _twice() -> Iterator[Attempt]:
    lengths = [b"Content-Length: " + value for value in (b"0", b"5", b"05", b"15", b"", b"x")]
    codings = [
        b"Transfer-Encoding: " + value for value in (b"chunked", b"identity", b"", b"gzip", b"chunked, identity")
    ]
    lengths.append(b"content-length: 5")
    codings.append(b"TRANSFER-ENCODING: chunked")
    for lines in [*itertools.product(lengths, lengths), *itertools.product(codings, codings)]:
        for name, body in _BODIES.items():
            if name != "hidden":
                yield _post(f"{lines}, {name}", b"\r\n".join(lines) + b"\r\n", body)
    for lines in itertools.permutations((lengths[1], codings[0], codings[1])):
        yield _post(f"{lines}", b"\r\n".join(lines) + b"\r\n", CHUNKED)
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"PATCH", b"POST"):
        line = _LINE.replace(b"POST", method)
        yield _post(f"{method!r} with a length", b"Content-Length: %d\r\n" % len(SECOND), SECOND, line)
        yield _post(f"{method!r} with a coding", b"Transfer-Encoding: chunked\r\n", HIDDEN, line)
        yield _post(f"{method!r} with a length of 0", b"Content-Length: 0\r\n", b"", line)
        yield _post(f"{method!r} without either", b"", HELLO, line)
        yield _post(f"{method!r} with both", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKED, line)
        yield _post(
            f"{method!r} of HTTP/1.0 with a body", b"Content-Length: 5\r\n", HELLO, line.replace(b"1.1", b"1.0")
        )
        yield _post(f"{method!r} and less than it said", b"Content-Length: 9000\r\n", HELLO, line)


_SIZES = (
    b"5", b"05", b"0000005", b"000000000000005", b"0000000000000005", b"0" * 30 + b"5", b"+5", b"-5", b"0x5", b"0X5",
    b"5h", b"5_0", b"5 ", b" 5", b"\t5", b"5\t", b"5  ", b"5\x00", b"\x005", b"5\x0b", b"\x0b5", b"5\x0c", b"5\xa0",
    b"\x855", b"5\x85", b"", b" ", b";", b";a", b"5.", b"5.0", b"5,5", b"g", b"five", b"\xef\xbc\x95", b"\xd9\xa5",
    b"'5'", b'"5"', b"5:", b"5=", b"#5", b"100000005", b"10000000000000005", b"fffffffffffffffb", b"ffffffffffffffff",
    b"fffffffffffffff", b"7fffffff", b"80000000", b"ffffffff", b"100000000", b"-0", b"+0", b"00", b"0 ", b"0x0", b"5\r",
    b"\r5", b"5\n", b"\n5", b"4", b"6", b"3\r\nhel", b"5\r\n", b"\r\n5", b"%35", b"5e0", b"5\x7f", b"5\\", b"0b101",
)  # fmt: skip
_EXTENSIONS = (
    b";", b";a", b";a=b", b';a="b c"', b" ;a", b"\t;a=b", b"; a=b", b";a =b", b";a;b;c=d", b';a="b\r\n"',
    b';a="\r\n0\r\n',
    b";a\x00b", b";a\nb", b";a\rb", b";\n", b";\r", b";\x7f", b";\xff", b"; " + b"a" * 900, b";" + b"a" * 1100,
    b";a=b\r\n0\r\n\r\n" + SECOND, b';a="b;c"', b";;", b"a=b", b" a=b", b",a=b", b';"', b";a=\x0bb",
)  # fmt: skip
_CHUNK_ENDS = (b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b"\r\n\r\n", b" \r\n", b"\x00\r\n", b"XX", b"\r\x00", b"\n\n",
               b";\r\n",
               b"\r\nx", b"hello\r\n", b"\x0b\n", b"\r\n ", b"\xc2\x85", b"\r ", b"-\n")  # fmt: skip
_LASTS = (
    b"0\r\n\r\n", b"00\r\n\r\n", b"0000\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0\r\r", b"0\r\n\r", b"0\r\n",
    b"0",
    b"0 \r\n\r\n", b" 0\r\n\r\n", b"0;\r\n\r\n", b"0;a=b\r\n\r\n", b"-0\r\n\r\n", b"+0\r\n\r\n", b"0x0\r\n\r\n",
    b"\r\n\r\n",
    b"\r\n", b"", b"0\r\nX: y\r\n\r\n", b"0\r\nAuthorization: Bearer evil-7f3ac1d90b52\r\n\r\n",
    b"0\r\nContent-Length: 50\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: evil.test\r\n\r\n",
    b"0\r\nX-Api-Key: evil-7f3ac1d90b52\r\nCookie: evil-7f3ac1d90b52\r\n\r\n", b"0\r\nX: y\n\r\n\r\n", b"0\r\nX: y\n\n",
    b"0\r\nX: y\r\r\n\r\n", b"0\r\nX: a\rb\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\nX\r\n\r\n", b"0\r\n: y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 20 + b"\r\n",
    b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    b"0\r\nGET /things?trailer HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"0\r\n\r\n\r\n", b"0\r\n\r\n\r\n\r\n",
    b"0\r\nhello\r\n\r\n", b"0\r\n0\r\n\r\n", b"0\r\n5\r\nhello\r\n0\r\n\r\n", b"0\r\n\x00\r\n\r\n", b"0\r\n\r\r\n\r\n",
    b"0\r\n\x0b\r\n\r\n", b"0\r\n \r\n\r\n",
)  # fmt: skip


def chunks() -> Iterator[Attempt]:
    fields = b"Transfer-Encoding: chunked\r\n"
    for size in _SIZES:
        yield _post(f"size {size!r}", fields, size + b"\r\nhello\r\n0\r\n\r\n")
        yield _post(f"second size {size!r}", fields, b"1\r\nx\r\n" + size + b"\r\nhello\r\n0\r\n\r\n")
        pieces = _post("", fields, b"1\r\nx\r\n" + size).raw.removesuffix(SECOND), b"\r\nhello\r\n0\r\n\r\n" + SECOND
        yield Attempt(f"second size {size!r}, cut", pieces)
    for extension in _EXTENSIONS:
        yield _post(f"extension {extension[:30]!r}", fields, b"5" + extension + b"\r\nhello\r\n0\r\n\r\n")
        yield _post(f"last extension {extension[:30]!r}", fields, b"5\r\nhello\r\n0" + extension + b"\r\n\r\n")
    for end in _CHUNK_ENDS:
        yield _post(f"size ends in {end!r}", fields, b"5" + end + b"hello\r\n0\r\n\r\n")
        yield _post(f"chunk ends in {end!r}", fields, b"5\r\nhello" + end + b"0\r\n\r\n")
        yield _post(f"last size ends in {end!r}", fields, b"5\r\nhello\r\n0" + end + b"\r\n")
        cut = _post("", fields, b"5\r\nhello").raw.removesuffix(SECOND)
        yield Attempt(f"chunk ends in {end!r}, cut", (cut, end + b"0\r\n\r\n" + SECOND))
    for last in _LASTS:
        yield _post(f"last {last[:40]!r}", fields, b"5\r\nhello\r\n" + last)
        yield _post(f"only {last[:40]!r}", fields, last)
        cut = _post("", fields, b"5\r\nhello\r\n").raw.removesuffix(SECOND)
        yield Attempt(f"last {last[:40]!r}, cut", (cut, last + SECOND))
    for at in range(1, len(HIDDEN), 7):
        whole = _post("", fields, HIDDEN).raw
        cut_at = len(whole) - len(SECOND) - len(HIDDEN) + at
        yield Attempt(f"a sound body cut at {at}", (whole[:cut_at], whole[cut_at:]))
