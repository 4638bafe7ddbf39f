"""What a head may be: one reading or none. The contract of both readers, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Code
from proxy.core.model import Deny
from proxy.wire.head import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestParts,
    ResponseHead,
    read_request,
    read_response,
    response_length,
)

LINE = b"POST /x HTTP/1.1\r\nHost: h\r\n"


def read(raw: bytes) -> RequestParts:
    parts = read_request(raw)
    assert isinstance(parts, RequestParts), parts
    return parts


def refused(raw: bytes) -> Code:
    deny = read_request(raw)
    assert isinstance(deny, Deny), deny
    return deny.code


# -- requests ---------------------------------------------------------------------------------------------------------

BAD_REQUESTS = {
    "a bare LF after the request line": b"GET / HTTP/1.1\nHost: h\r\n\r\n",
    "a bare LF after a field": b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    "a bare LF as the empty line": b"GET / HTTP/1.1\r\nHost: h\r\n\nX: y\r\n\r\n",
    "a bare CR in a field": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: h\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
    "two blanks before the version": b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tab in the line": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a blank after the version": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "a blank before the method": b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "RTSP": b"GET / RTSP/1.0\r\nHost: h\r\n\r\n",
    "lower-case http": b"GET / http/1.1\r\nHost: h\r\n\r\n",
    "a version of two digits": b"GET / HTTP/1.10\r\nHost: h\r\n\r\n",
    "a version without a dot": b"GET / HTTP/11\r\nHost: h\r\n\r\n",
    "a control in the target": b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
    "DEL in the target": b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method that is no token": b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\n",
    "a blank before the colon": b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    "a tab before the colon": b"GET / HTTP/1.1\r\nHost: h\r\nX\t: y\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "a folded first field": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "a field without a colon": b"GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n",
    "a field without a name": b"GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n",
    "a name that is no token": b"GET / HTTP/1.1\r\nHost: h\r\nX(Y): y\r\n\r\n",
    "a name that is not ASCII": b"GET / HTTP/1.1\r\nHost: h\r\nX\xe9: y\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: h\r\nX\0: y\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "a control in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x0bb\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "two lengths": LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length twice": LINE + b"Content-Length: 1\r\ncontent-length: 1\r\n\r\n",
    "a list of lengths": LINE + b"Content-Length: 1, 1\r\n\r\n",
    "a length with a sign": LINE + b"Content-Length: +1\r\n\r\n",
    "a negative length": LINE + b"Content-Length: -1\r\n\r\n",
    "an empty length": LINE + b"Content-Length:\r\n\r\n",
    "a length in hexadecimal": LINE + b"Content-Length: 0x1\r\n\r\n",
    "a length with an underscore": LINE + b"Content-Length: 1_0\r\n\r\n",
    "a length with a blank": LINE + b"Content-Length: 1 0\r\n\r\n",
    "a length beyond all measure": LINE + b"Content-Length: 9999999999999999999\r\n\r\n",
    "a length in other digits": LINE + b"Content-Length: \xd9\xa1\r\n\r\n",
    "a coding and a length": LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    "a length and a coding": LINE + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an empty coding": LINE + b"Transfer-Encoding:\r\n\r\n",
    "an empty coding and a length": LINE + b"Transfer-Encoding: \r\nContent-Length: 1\r\n\r\n",
    "gzip": LINE + b"Transfer-Encoding: gzip\r\n\r\n",
    "a tab before the coding": LINE + b"Transfer-Encoding:\tchunked\r\n\r\n",
    "a tab after the coding": LINE + b"Transfer-Encoding: chunked\t\r\n\r\n",
    "gzip and chunked": LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked and gzip": LINE + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": LINE + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked in two lines": LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "identity": LINE + b"Transfer-Encoding: identity\r\n\r\n",
    "quoted chunked": LINE + b'Transfer-Encoding: "chunked"\r\n\r\n',
    "chunked with a parameter": LINE + b"Transfer-Encoding: chunked;q=1\r\n\r\n",
    "chunked with a control": LINE + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "a coding in HTTP/1.0": b"POST /x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another expectation": LINE + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n",
    "two expectations": LINE + b"Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\n",
    "two Authorizations": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nauthorization: b\r\n\r\n",
    "two Origins": b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nOrigin: b\r\n\r\n",
}
NOT_OURS = {
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: h\r\n\r\n",
    "HTTP/0.9 spelled out": b"GET / HTTP/0.9\r\nHost: h\r\n\r\n",
}


@pytest.mark.parametrize("what", [what for what in BAD_REQUESTS if what != "HTTP/2's preface"])
def test_a_request_head_that_has_more_than_one_reading_is_refused(what: str) -> None:
    assert refused(BAD_REQUESTS[what]) is Code.BAD_REQUEST


@pytest.mark.parametrize("what", NOT_OURS)
def test_another_version_is_named_as_the_reason(what: str) -> None:
    assert refused(NOT_OURS[what]) is Code.VERSION_NOT_SUPPORTED


def test_http2s_preface_is_refused() -> None:
    assert refused(BAD_REQUESTS["HTTP/2's preface"]) is Code.VERSION_NOT_SUPPORTED


def test_a_head_is_read_into_what_crosses_and_what_is_read_here() -> None:
    raw = (
        b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\nX-Own:  a b \t\r\nx-own:\r\nCookie: c\r\nAuthorization: Bearer t\r\n"
        b"Content-Length: 5\r\n\r\n"
    )
    parts = read(raw)
    head = parts.head
    assert (head.method, head.target, head.version) == ("POST", "/a?b=c", 11)
    assert head.kept == [b"X-Own:  a b \t\r\n", b"x-own:\r\n"]
    assert head.noted[b"host"] == b"h:1"
    assert head.noted[b"authorization"] == b"Bearer t"
    assert b"cookie" not in head.noted
    assert (parts.length, parts.keep_alive, parts.expects_continue) == (5, True, False)


@pytest.mark.parametrize("method", ["GET", "TRACE", "CONNECT", "get", "BREW", "M-SEARCH", "X" * 100])
def test_any_method_that_is_a_token_is_read_and_left_to_the_decision(method: str) -> None:
    assert read(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode()).head.method == method


@pytest.mark.parametrize(
    ("fields", "length"),
    [(b"", 0), (b"Content-Length: 0\r\n", 0), (b"Content-Length: 007\r\n", 7), (b"content-LENGTH:12\r\n", 12),
     (b"Transfer-Encoding: chunked\r\n", CHUNKED), (b"transfer-encoding:  CHUNKED \r\n", CHUNKED),
     (b"Content-Length: 999999999999999999\r\n", 999999999999999999)],
)  # fmt: skip
def test_the_framing_of_a_body_is_read(fields: bytes, length: int) -> None:
    assert read(LINE + fields + b"\r\n").length == length


@pytest.mark.parametrize(
    ("version", "fields", "keep"),
    [("1.1", "", True), ("1.0", "", False), ("1.1", "Connection: close\r\n", False),
     ("1.1", "Connection: CLOSE\r\n", False), ("1.1", "Connection: x, close ,y\r\n", False),
     ("1.1", "Connection: x\r\nConnection: close\r\n", False), ("1.1", "Connection: closed\r\n", True),
     ("1.0", "Connection: keep-alive\r\n", True), ("1.0", "Connection: Keep-Alive, x\r\n", True),
     ("1.1", "Upgrade: h2c\r\nConnection: upgrade\r\n", False)],
)  # fmt: skip
def test_whether_the_connection_goes_on_is_read(version: str, fields: str, keep: bool) -> None:
    assert read(f"GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n".encode()).keep_alive is keep


@pytest.mark.parametrize(
    ("version", "fields", "expects"),
    [("1.1", "Content-Length: 1\r\n", True), ("1.1", "Transfer-Encoding: chunked\r\n", True), ("1.1", "", False),
     ("1.1", "Content-Length: 0\r\n", False), ("1.0", "Content-Length: 1\r\n", False)],
)  # fmt: skip
def test_an_expectation_counts_when_there_is_a_body_to_wait_for(version: str, fields: str, expects: bool) -> None:
    raw = f"POST / HTTP/{version}\r\nHost: h\r\nExpect: 100-Continue\r\n{fields}\r\n".encode()
    assert read(raw).expects_continue is expects


def test_fields_named_in_connection_do_not_cross() -> None:
    raw = (
        b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nConnection: X-a,\tclose\r\nX-B: 2\r\nConnection: x-b\r\nX-C: 3\r\n\r\n"
    )
    assert read(raw).head.kept == [b"X-C: 3\r\n"]


def test_one_head_leaves_nothing_behind_for_the_next() -> None:
    first = b"POST / HTTP/1.1\r\nHost: h\r\nX-First: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    second = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    before = read(second)
    read(first)
    after = read(second)
    assert (after.head, after.length, after.keep_alive) == (before.head, before.length, before.keep_alive)


pieces_of_heads = st.sampled_from(
    [b"GET", b" ", b"/", b"x", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b":", b"Host", b"h", b"200", b"\t",
     b"Content-Length", b"1", b"Transfer-Encoding", b"chunked", b"\0", b"\xff", b","],
)  # fmt: skip


@given(st.lists(pieces_of_heads))
def test_no_bytes_make_the_readers_raise(tokens: list[bytes]) -> None:
    raw = b"".join(tokens) + b"\r\n\r\n"
    assert isinstance(read_request(raw), RequestParts | Deny)
    assert isinstance(read_response(raw), ResponseHead | None)


# -- responses --------------------------------------------------------------------------------------------------------

BAD_RESPONSES = {
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no version": b"200 OK\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status from 0": b"HTTP/1.1 099 OK\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    "a bare LF in a field": b"HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nX: y\rZ: z\r\n\r\n",
    "a CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "a tab beside the coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("what", BAD_RESPONSES)
def test_a_response_head_that_has_more_than_one_reading_is_not_read(what: str) -> None:
    assert read_response(BAD_RESPONSES[what]) is None


@pytest.mark.parametrize(
    ("raw", "version", "status", "reason"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", 11, 200, b"OK"), (b"HTTP/1.0 404 Not Found\r\n\r\n", 10, 404, b"Not Found"),
     (b"HTTP/1.1 204\r\n\r\n", 11, 204, b""), (b"HTTP/1.1 204 \r\n\r\n", 11, 204, b""),
     (b"HTTP/1.1 599 \xe9t\xe9\r\n\r\n", 11, 599, b"\xe9t\xe9")],
)  # fmt: skip
def test_a_status_line_is_read(raw: bytes, version: int, status: int, reason: bytes) -> None:
    head = read_response(raw)
    assert head is not None
    assert (head.version, head.status, head.reason) == (version, status, reason)


def test_what_crosses_is_kept_as_it_was_spelled_and_what_is_read_loses_its_outer_blanks() -> None:
    head = read_response(b"HTTP/1.1 200 OK\r\nX:\t a  b\t \r\nEmpty:\r\nContent-Length: \t 5 \r\n\r\n")
    assert head is not None
    assert head.kept == [b"X:\t a  b\t \r\n", b"Empty:\r\n"]
    assert head.noted[b"content-length"] == b"5"


@pytest.mark.parametrize(
    ("status", "fields", "method", "length"),
    [(b"200", b"", "GET", UNTIL_CLOSE), (b"200", b"Content-Length: 5\r\n", "GET", 5),
     (b"200", b"Content-Length: 0\r\n", "POST", 0), (b"200", b"Transfer-Encoding: Chunked\r\n", "GET", CHUNKED),
     (b"200", b"Content-Length: 5\r\n", "HEAD", 0), (b"200", b"Transfer-Encoding: chunked\r\n", "HEAD", 0),
     (b"204", b"", "GET", 0), (b"304", b"Content-Length: 5\r\n", "GET", 0), (b"500", b"", "DELETE", UNTIL_CLOSE),
     (b"200", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "GET", None),
     (b"200", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "HEAD", None),
     (b"200", b"Content-Length: x\r\n", "GET", None), (b"200", b"Content-Length:\r\n", "GET", None),
     (b"200", b"Content-Length: 5, 5\r\n", "GET", None), (b"200", b"Content-Length: -5\r\n", "HEAD", None),
     (b"200", b"Transfer-Encoding: gzip\r\n", "GET", None), (b"200", b"Transfer-Encoding:\r\n", "GET", None),
     (b"200", b"Transfer-Encoding: gzip, chunked\r\n", "GET", None)],
)  # fmt: skip
def test_the_framing_of_a_response_is_read(status: bytes, fields: bytes, method: str, length: int | None) -> None:
    head = read_response(b"HTTP/1.1 " + status + b" R\r\n" + fields + b"\r\n")
    assert head is not None
    assert response_length(head, method) == length


def test_chunks_in_http_1_0_have_no_reading() -> None:
    head = read_response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert head is not None
    assert response_length(head, "GET") is None
