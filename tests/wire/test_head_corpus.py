"""A fixed corpus of heads, held against aiohttp's hardened parser: what ours accepts, the other reads alike.

The random heads are in ``test_head_differential.py``; these are every request line with every line end, each field that
decides something with every value that might confuse, and a few thousand good heads with bytes put in or taken out.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import _http_parser
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from proxy.core.browser import check_host
from proxy.core.headers import REQUEST_ROLES
from proxy.core.model import METHODS, Deny, RequestHead
from proxy.core.target import read_target
from proxy.wire.head import CHUNKED, RequestParts, read_request

KNOWN_NAMES = sorted(name.decode() for name in REQUEST_ROLES)
VALUES = [
    "", "x", "chunked", "gzip, chunked", "10", "+10", "1e1", "0x10", "10, 10", " 10 ", "close", "keep-alive, x", ",",
    "websocket", "h2c", "100-continue", "a b", "\t", "é", "a\x00b", "a\rb", "a\nb", "a\x7fb", "127.0.0.1",
]  # fmt: skip
NAMES = [*KNOWN_NAMES]
NAMES += ["Accept", "X-Trace", "content_length", "Content-Length ", " Content-Length", "Bad(Name)", "", "é"]
ENDS = ["\r\n", "\n", "\r", "\r\r\n", "\r\n "]
LINES = [
    "GET / HTTP/1.1", "POST /x HTTP/1.1", "POST /x HTTP/1.0", "GET  / HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ",
    "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / RTSP/1.0", "GET / http/1.1", "GET /a b HTTP/1.1", "get / HTTP/1.1",
    "GET /\x00 HTTP/1.1", "GET\t/\tHTTP/1.1", "PRI * HTTP/2.0", "OPTIONS * HTTP/1.1", "CONNECT a:1 HTTP/1.1",
    "GET http://a/ HTTP/1.1", "GET //a HTTP/1.1", "GET /é HTTP/1.1", "GET / HTTP/1.10", "GET / HTTP/01.1",
    "G@T / HTTP/1.1", "GET /",
]  # fmt: skip


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def second_opinion(data: bytes, loop: asyncio.AbstractEventLoop) -> Any:
    """aiohttp's message for exactly this head, or None when it refuses it or sees more or less than one message."""
    parser = _http_parser.HttpRequestParser(
        BaseProtocol(loop), loop, 2**16, max_line_size=2**16, max_field_size=2**16, max_headers=2**16
    )
    try:
        messages, _, tail = parser.feed_data(data)
    except (HttpProcessingError, ValueError):
        return None
    return messages[0][0] if len(messages) == 1 and not tail else None


def check(data: bytes, loop: asyncio.AbstractEventLoop) -> bool:
    """Compares the two; returns whether ours accepted the head."""
    ours = read_request(data)
    if isinstance(ours, Deny) or is_refused_by_grammar(ours.head):
        return False  # before anything is sent anywhere
    theirs = second_opinion(data, loop)
    assert theirs is not None, f"only ours accepts {data!r}"
    compare(ours, theirs)
    return True


def is_refused_by_grammar(head: RequestHead) -> bool:
    """What decide() refuses without asking who the caller is."""
    host = head.noted.get(b"host")
    bad_host = head.version == 11 if host is None else check_host(host, None) is not None
    return bad_host or head.method not in METHODS or read_target(head.target) is None


def compare(ours: RequestParts, theirs: Any) -> None:
    head = ours.head
    assert head.method == theirs.method
    assert head.target == theirs.path
    assert (head.version // 10, head.version % 10) == tuple(theirs.version)
    fields = [(name.lower(), value.strip(b" \t")) for name, value in theirs.raw_headers]
    for line in head.kept:
        name, _, value = line.removesuffix(b"\r\n").partition(b":")
        assert (name.lower(), value.strip(b" \t")) in fields
    for name, value in head.noted.items():
        assert value == b", ".join(found for lower, found in fields if lower == name)
    assert theirs.chunked == (ours.length == CHUNKED)
    declared = dict(fields).get(b"content-length")
    assert ours.length == (CHUNKED if theirs.chunked else int(declared or b"0"))
    if theirs.should_close and b"proxy-connection" not in dict(fields):  # no standard; llhttp obeys it, we drop it
        assert not ours.keep_alive, fields


def head_of(line: str, fields: list[tuple[str, str]], end: str = "\r\n") -> bytes:
    text = line + end + "".join(f"{name}:{value}{end}" for name, value in fields) + end
    return text.encode("latin-1")


def test_every_request_line_with_every_line_end(loop: asyncio.AbstractEventLoop) -> None:
    accepted = [
        check(head_of(line, [("Host", "x"), ("Accept", "*/*")], end), loop)
        for line, end in itertools.product(LINES, ENDS)
    ]
    assert sum(accepted) == 3


def test_every_name_with_every_value_alone_and_beside_content_length(loop: asyncio.AbstractEventLoop) -> None:
    tried = accepted = 0
    for name, value, length in itertools.product(NAMES, VALUES, [None, "3"]):
        beside = [] if length is None else [("Content-Length", length)]
        for fields in ([("Host", "x"), *beside, (name, value)], [("Host", "x"), (name, value), *beside]):
            tried += 1
            accepted += check(head_of("POST /tts/v1/voice HTTP/1.1", fields), loop)
    assert tried > 3000
    assert tried / 4 < accepted < tried


def test_random_edits_of_good_heads(loop: asyncio.AbstractEventLoop) -> None:
    """One to four bytes put in, taken out or changed at random places, from a fixed seed."""
    random_source = random.Random(20261121)
    good = head_of(
        "POST /v1/chat/completions?x=1 HTTP/1.1",
        [("Host", " 127.0.0.1:8080"), ("Authorization", " Bearer t"), ("Content-Length", " 12"), ("Accept", " */*")],
    )
    accepted = 0
    for _ in range(6000):
        data = bytearray(good)
        for _ in range(random_source.randint(1, 4)):
            place = random_source.randrange(len(data))
            byte = random_source.choice(b"\r\n\t :,;\x00\x0b\x7f\x80\xff0aZ")
            match random_source.randrange(3):
                case 0:
                    data.insert(place, byte)
                case 1:
                    data[place] = byte
                case _:
                    del data[place]
        accepted += check(bytes(data), loop)
    assert 200 < accepted < 5000
