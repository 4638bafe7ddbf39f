"""What a head may be, as one regular expression, and the reader held to it: it accepts that, and no more."""

from __future__ import annotations

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.errors import Code
from proxy.core.model import Deny
from proxy.wire.head import MOST_FIELDS, read_request, read_response

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
FIELDS = rb"((?:" + TOKEN + rb"{1,256}:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
REQUEST = re.compile(rb"(" + TOKEN + rb"+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])\r\n" + FIELDS)
RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n" + FIELDS)
NOT_OF_THE_GRAMMAR = ("request line is not", "does not end in CR LF", "is malformed", "another version")

PIECES = [b"GET", b"POST", b" ", b"/", b"/a?b", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"\r\n", b"\r\n\r\n", b"\n",
          b"\r", b":", b": ", b"Host", b"X-A", b"A B", b"h", b"200", b"099", b"OK", b"\t", b"\0", b"\x7f", b"\xff",
          b"(",
          b"N" * 256, b"N" * 257, b"X: 1\r\n", b"Host: h\r\n", b" folded\r\n",
          b": no name\r\n", b"no colon\r\n"]  # fmt: skip
pieces = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
REQUESTS = [
    b"POST /x?y=z HTTP/1.1\r\nHost: example.com\r\nX-Own: some value\r\nEmpty:\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nDate: now\r\nX-Own:\tsome value \r\n\r\n",
    b"HTTP/1.0 404\r\n\r\n",
    b"HTTP/1.1 200 \r\nA:\r\n\r\n",
]


@st.composite
def edited(draw: st.DrawFn, heads: list[bytes]) -> bytes:
    raw = bytearray(draw(st.sampled_from(heads)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(raw) - 1))
        match draw(st.sampled_from(["change", "remove", "insert"])):
            case "change":
                raw[place] = draw(st.integers(0, 255))
            case "remove":
                del raw[place]
            case _:
                raw[place:place] = draw(st.sampled_from(PIECES))
    return bytes(raw)


def fields_of(lines: bytes) -> list[bytes]:
    return lines.split(b"\r\n")[:-1]


def check_request(data: bytes) -> None:
    read, match = read_request(data), REQUEST.fullmatch(data)
    if match is None:
        assert isinstance(read, Deny), data
        return
    if isinstance(read, Deny):
        assert read.code is Code.HEAD_TOO_LARGE or not any(word in read.message for word in NOT_OF_THE_GRAMMAR), data
        assert read.code is not Code.VERSION_NOT_SUPPORTED, data
        return
    assert (read.head.method.encode(), read.head.target.encode("latin-1")) == match.group(1, 2)
    assert read.head.version == (11 if match[3] == b"1" else 10)
    assert set(read.head.kept) <= {line + b"\r\n" for line in fields_of(match[4])}
    assert len(read.head.kept) + len(read.head.noted) <= 2 * MOST_FIELDS


def check_response(data: bytes) -> None:
    read, match = read_response(data), RESPONSE.fullmatch(data)
    if match is None:
        assert read is None, data
        return
    if read is None:  # for what its fields say, which is another rule
        names = [line.partition(b":")[0].lower() for line in fields_of(match[4])]
        assert len(set(names)) < len(names) or b"transfer-encoding" in names, data
        return
    assert (read.version, read.status) == (11 if match[1] == b"1" else 10, int(match[2]))
    assert read.reason == (match[3] or b"")
    assert set(read.kept) <= {line + b"\r\n" for line in fields_of(match[4])}


@settings(max_examples=600)
@given(st.one_of(pieces, pieces.map(lambda head: b"GET / HTTP/1.1\r\n" + head + b"\r\n\r\n"), edited(REQUESTS)))
def test_a_request_head_is_what_the_grammar_says(data: bytes) -> None:
    check_request(data)


@settings(max_examples=600)
@given(st.one_of(pieces, pieces.map(lambda head: b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"), edited(RESPONSES)))
def test_a_response_head_is_what_the_grammar_says(data: bytes) -> None:
    check_response(data)


def test_every_byte_in_every_place_is_judged_as_the_grammar_says() -> None:
    for heads, check in ((REQUESTS, check_request), (RESPONSES, check_response)):
        for head in heads:
            for place in range(len(head)):
                for byte in range(256):
                    check(head[:place] + bytes([byte]) + head[place + 1 :])


def test_each_line_end_and_the_lack_of_it_is_judged_as_the_grammar_says() -> None:
    for end in (b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r", b"", b"\r\n\r\n", b"\n\n"):
        for head, check in ((REQUESTS[0], check_request), (RESPONSES[0], check_response)):
            lines = head.split(b"\r\n")
            for place in range(1, len(lines)):
                check(b"\r\n".join(lines[:place]) + end + b"\r\n".join(lines[place:]))


def test_every_character_of_a_name_is_judged_as_the_grammar_says() -> None:
    token = set((string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode())
    for byte in range(256):
        data = b"GET / HTTP/1.1\r\nHost: h\r\nx" + bytes([byte]) + b"y: 1\r\n\r\n"
        assert isinstance(read_request(data), Deny) == (byte not in token and byte != ord(":")), byte
