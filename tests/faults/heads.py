"""Faults before the answer's head is whole, and heads that are not clean HTTP: 502, and nothing of them passes."""

from __future__ import annotations

from tests.faults.row import HEAD, POST, Row, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import CLOSE, HALF_CLOSE, RESET, says
from tests.wires import OK, chunked

CLOSED = refused(502, "upstream_closed")
INVALID = refused(502, "upstream_invalid_response")
HALF = b"HTTP/1.1 200 OK\r\nContent-Le"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _drips(scene: Scene) -> None:
    """An answer of one byte a packet."""
    wire = await scene.arrives()
    for position in range(len(OK)):
        await wire.send(OK[position : position + 1])


ENDS = (
    Row(name="reset before the head", fault=says(then=RESET), expected=CLOSED),
    Row(name="close before the head", fault=says(then=CLOSE), expected=CLOSED),
    Row(name="half-close before the head", fault=says(then=HALF_CLOSE), expected=CLOSED),
    Row(name="reset before the head, of a write", fault=says(then=RESET), sends=POST, expected=CLOSED),
    Row(name="close before the head, of a write", fault=says(then=CLOSE), sends=POST, expected=CLOSED),
    Row(name="close before the head, of HEAD", fault=says(then=CLOSE), sends=HEAD, expected=CLOSED),
    Row(name="reset after half the head", fault=says(HALF, then=RESET), expected=INVALID),
    Row(name="close after half the head", fault=says(HALF, then=CLOSE), expected=INVALID),
    Row(name="half-close after half the head", fault=says(HALF, then=HALF_CLOSE), expected=INVALID),
    Row(name="close after an interim head", fault=says(INTERIM, then=CLOSE), expected=CLOSED),
    Row(name="half-close after the whole answer", fault=says(OK, then=HALF_CLOSE), expected=whole()),
    Row(name="close after the whole answer", fault=says(OK, then=CLOSE), expected=whole()),
    Row(name="reset after the whole answer", fault=says(OK, then=RESET), expected=whole()),
)  # fmt: skip

_NOT_CLEAN = {
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "a page without a head": b"<html><body>502 Bad Gateway</body></html>\r\n\r\n",
    "NULs before the head": b"\0\0\0\0" + OK,
    "empty lines before the head": b"\r\n\r\n" + OK,
    "a blank before the head": b" " + OK,
    "HTTP/2 in clear": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a bare CR that would split": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: stolen\r\nContent-Length: 0\r\n\r\n",
    "a bare LF that would split": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: stolen\r\nContent-Length: 0\r\n\r\n",
    "bare LFs throughout": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
    "a CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a field": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
    "a length beyond any integer": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
    "a length and chunks": CHUNKED_HEAD.replace(b"\r\n", b"\r\nContent-Length: 2\r\n", 1) + chunked(b"ab"),
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + chunked(b"ab"),
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab"),
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000,
    "21 interim heads": INTERIM * 21 + OK,
    "a flood of early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 500 + OK,
    "a switch that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "a bad chunk with the head": CHUNKED_HEAD + b"zz\r\nab\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED_HEAD + b"-2\r\nab\r\n0\r\n\r\n",
    "an oversized chunk": CHUNKED_HEAD + b"FFFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n",
    "a chunk of 0x2": CHUNKED_HEAD + b"0x2\r\nab\r\n0\r\n\r\n",
    "a chunk without its CR LF": CHUNKED_HEAD + b"2\r\nab0\r\n\r\n",
    "a bare LF after a chunk size": CHUNKED_HEAD + b"2\nab\r\n0\r\n\r\n",
    "a control in a chunk extension": CHUNKED_HEAD + b"2;a=\x01\r\nab\r\n0\r\n\r\n",
    "a chunk extension without an end": CHUNKED_HEAD + b"2;" + b"a" * 5000,
}  # fmt: skip
"""What the upstream says instead of an answer. No byte of it may come to a caller."""

_FINE = {
    "20 interim heads": INTERIM * 20 + OK,
    "a few interim heads of all kinds": INTERIM + b"HTTP/1.1 102 Processing\r\n\r\n" + INTERIM + OK,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + OK,
    "a chunk extension": CHUNKED_HEAD + b'2;name="value"\r\nok\r\n0\r\n\r\n',
    "trailers": CHUNKED_HEAD + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: stolen\r\n\r\n",
}
"""What is unusual and allowed: the caller gets a plain answer, and the connection is used again."""

ROWS = (
    *ENDS,
    *(Row(name=name, fault=says(raw), expected=INVALID) for name, raw in _NOT_CLEAN.items()),
    *(Row(name=name, fault=says(raw), expected=whole(), idle=1) for name, raw in _FINE.items()),
    Row(name="a switch that nobody asked for, of a write", sends=POST, expected=INVALID,
        fault=says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")),
    Row(name="a byte a packet", fault=_drips, expected=whole(), idle=1),
)  # fmt: skip
