"""Heads of requests and of answers: what ours accepts, aiohttp's parser and the strict one accept and read alike."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from aiohttp import _http_parser
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from proxy.core.headers import RESPONSE_ROLES, list_members
from proxy.core.model import Deny
from proxy.wire.head import CHUNKED, UNTIL_CLOSE, read_request, read_response, response_length
from tests.fuzz.engine import Target
from tests.security.strict import Unfinished, read_answer
from tests.security.strict import read_request as read_strictly
from tests.wire.test_head_corpus import check

_SINGLE = frozenset(
    {b"content-location", b"content-range", b"content-type", b"etag", b"max-forwards", b"server", b"user-agent"}
)
"""aiohttp refuses a second one; they decide nothing here, and cross as they came."""

_REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: x\r\nAuthorization: t\r\nContent-Length: 12\r\n\r\n",
    b"POST /tts/v1/voice HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nAccept: */*\r\nX-A: b\r\n\r\n",
    b"HEAD /x/y:z HTTP/1.0\r\nConnection: keep-alive, x-a\r\nX-A: b\r\nExpect: 100-continue\r\n\r\n",
    b"GET /s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
)
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\nX-Inworld-Request-Id: 7\r\n\r\n",
    b"HTTP/1.0 301 Moved Permanently\r\nLocation: /x\r\nSet-Cookie: a=b\r\n\r\n",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nConnection: keep-alive, x-a\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: a\r\n\r\n",
)
_WORDS = (
    b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"Host: ", b"Connection: ", b"close", b"keep-alive",
    b"HTTP/1.1",
    b"HTTP/1.0", b"\r\n", b"\r\n ", b"\r\n\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n",
    b"Authorization: x\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b", ", b"18446744073709551616",
    b"Content_Length: 1\r\n",
)  # fmt: skip


def _one_head(data: bytes) -> bytes:
    """What the connection would cut out of its stream."""
    head = data.partition(b"\r\n\r\n")[0].lstrip(b"\r\n") + b"\r\n\r\n"
    return head if len(head) > 4 else b"x\r\n\r\n"


class _Heads:
    """Both targets; the other parser needs a loop, which is made once."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def request(self, data: bytes) -> Hashable:
        data = _one_head(data)
        ours = read_request(data)
        if isinstance(ours, Deny):
            return (ours.message,)
        self._same_as_strict(data, ours.length)
        names = [line.partition(b":")[0].lower() for line in ours.head.kept]
        assert all(
            line.endswith(b"\r\n") and line.strip() in data and line.count(b"\n") == 1 for line in ours.head.kept
        )
        accepted = len({*names} & _SINGLE) == sum(name in _SINGLE for name in names) and check(data, self.loop)
        said = ours.head.method, ours.length > 0, ours.keep_alive, ours.head.version
        return accepted, *said, frozenset(ours.head.noted)

    def _same_as_strict(self, data: bytes, length: int) -> None:
        try:
            missing = len(data) - read_strictly(data).size
        except Unfinished:
            missing = -1
        assert (missing == 0) == (length == 0), "they see another body"

    def answer(self, data: bytes) -> Hashable:
        data = _one_head(data)
        ours = read_response(data)
        if ours is None:
            return ()
        length = response_length(ours, "GET")
        assert all(line.endswith(b"\r\n") and line.strip() in data and line.count(b"\n") == 1 for line in ours.kept)
        dropped = {name for name, role in RESPONSE_ROLES.items() if role in (1, 3)}
        named = {each.lower() for each in list_members(ours.noted.get(b"connection", b""))}
        names = [line.partition(b":")[0].lower() for line in ours.kept]
        assert not {*names} & (dropped | named - {b"close", b"keep-alive", b"upgrade"})
        if length is not None and ours.status >= 200:
            self._compare(data, ours.status, ours.version, length)
        return ours.status // 100, length if length is None else min(length, 1), ours.version, frozenset(ours.noted)

    def _compare(self, data: bytes, status: int, version: int, length: int) -> None:
        body = {CHUNKED: b"0\r\n\r\n", UNTIL_CLOSE: b"xyz"}.get(length, b"")
        try:
            strict = read_answer(data + body, "GET", closed=True)
        except Unfinished:
            missing = True
        else:
            missing = False
            assert (strict.status, strict.ended_by_close) == (status, length == UNTIL_CLOSE)
        assert missing == (length > 0)
        parser = _http_parser.HttpResponseParser(
            BaseProtocol(self.loop), self.loop, 2**16, max_line_size=2**16, max_field_size=2**16, max_headers=2**16,
            response_with_body=True, read_until_eof=True,
        )  # fmt: skip
        try:
            messages, _, _ = parser.feed_data(data)
        except (HttpProcessingError, ValueError) as exc:
            raise AssertionError(f"only ours accepts it: {exc}") from exc
        theirs = messages[0][0]
        assert (theirs.code, tuple(theirs.version)) == (status, (1, version - 10))
        assert theirs.chunked == (length == CHUNKED) or status in (204, 304)


def targets() -> tuple[Target, ...]:
    made = _Heads()
    return (
        Target("request heads", made.request, _REQUESTS, _WORDS, made.loop.close),
        Target("answer heads", made.answer, _ANSWERS, _WORDS),
    )
