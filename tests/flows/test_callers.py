"""HTTP/1.0 and 1.1, keep-alive, pipelining and expectations, as callers use them."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxies import Proxies, Proxy
from tests.snapshots import TOKEN, make_snapshot, upstream_at
from tests.wires import OK, chunked, request, response


async def test_a_connection_serves_one_request_after_the_other(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    for number in range(20):
        await caller.send(request(f"GET /things?{number}"))
        assert (await caller.message()).content == b"ok"
    assert [seen.head.target for seen in proxy.upstream.requests] == [f"/things?{number}" for number in range(20)]
    assert proxy.metrics.connections_total == 1


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close, x-other"])
async def test_a_caller_that_asks_for_a_close_gets_one(proxy: Proxy, value: str) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(request("GET /things", f"Connection: {value}"))
    got = await caller.message()
    assert (got.content, got.head.get("Connection")) == (b"ok", "close")
    assert await caller.rest() == b""


async def test_a_close_of_one_caller_changes_nothing_for_the_next(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    for fields in (("Connection: close",), (), ("Connection: close",), ("X-Last: 1",)):
        assert (await proxy.ask(request("GET /things", *fields))).head.status == 200
    assert (await proxy.ask(request("GET /things HTTP/1.0"))).head.status == 200
    assert (await proxy.ask(request("GET /things"))).head.status == 200


async def test_pipelined_requests_are_answered_in_order(proxy: Proxy) -> None:
    caller = await proxy.caller()
    body = request("GET /things?not-a-request")
    await caller.send(
        request("GET /things?1")
        + request("POST /things?2", body=body)
        + request("POST /things?3", "Transfer-Encoding: chunked", body=chunked(body, b"x"))
        + request("GET /nothing")
        + request("GET /things?5")
    )
    wire = await proxy.upstream.accept()
    for number, content in ((1, b""), (2, body), (3, body + b"x"), (5, b"")):
        seen = await wire.message()
        assert (seen.head.target, seen.content) == (f"/things?{number}", content)
        await wire.send(response("200 OK", body=b"%d" % number))
    answers = [await caller.message() for _ in range(5)]
    assert [(got.head.status, got.content) for got in answers[:3]] == [(200, b"1"), (200, b"2"), (200, b"3")]
    assert answers[3].head.status == 404
    assert answers[4].content == b"5"


async def test_a_thousand_pipelined_requests_are_all_answered(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    count = 1000
    await caller.send(request("GET /things") * 3 + request("GET /nothing") * (count - 6) + request("GET /things") * 3)
    statuses = [(await caller.message()).head.status for _ in range(count)]
    assert statuses == [200] * 3 + [404] * (count - 6) + [200] * 3


async def test_of_a_good_and_a_bad_request_in_one_piece_the_good_one_is_answered(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(
        request("GET /things") + b"GET /things HTTP/1.1\r\nHost : x\r\n\r\n" + request("GET /things?third")
    )
    assert (await caller.message()).content == b"ok"
    assert (await caller.message()).head.status == 400
    assert await caller.rest() == b""
    assert len(proxy.upstream.requests) == 1


async def test_a_request_may_arrive_byte_by_byte(proxy: Proxy) -> None:
    caller = await proxy.caller()
    raw = request("POST /things", "Transfer-Encoding: chunked", body=chunked(b"one", b"two"))
    for byte in raw:
        await caller.send(bytes([byte]))
        await asyncio.sleep(0)
    wire = await proxy.upstream.accept()
    assert (await wire.message()).content == b"onetwo"
    for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"d"):
        await wire.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await caller.message()).content == b"abcd"


async def test_empty_lines_before_a_request_are_ignored(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    assert (await proxy.ask(b"\r\n\r\n" + request("GET /things"))).head.status == 200


async def test_an_http_1_0_caller_is_answered_and_its_connection_closed(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(request("GET /things HTTP/1.0", host=None))
    got = await caller.message()
    assert (got.content, got.head.get("Connection")) == (b"ok", "close")
    assert await caller.rest() == b""
    assert proxy.upstream.requests[0].head.line == "GET /things HTTP/1.1"
    assert proxy.upstream.requests[0].head.get("Host") == f"127.0.0.1:{proxy.upstream.port}"


async def test_an_http_1_0_caller_may_keep_its_connection(proxy: Proxy) -> None:
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    for _ in range(3):
        await caller.send(request("GET /things HTTP/1.0", "Connection: keep-alive"))
        got = await caller.message()
        assert (got.content, got.head.get("Connection")) == (b"ok", "keep-alive")


async def test_an_http_1_0_caller_gets_a_chunked_answer_without_chunks_and_then_the_end(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things HTTP/1.0", "Connection: keep-alive"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"))
    head = await caller.head()
    assert (head.get("Transfer-Encoding"), head.get("Connection")) == (None, "close")
    assert await caller.rest() == b"onetwo"


async def test_an_expectation_is_answered_here_once_the_request_is_allowed(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Expect: 100-continue", "Content-Length: 4"))
    assert (await caller.head()).line == "HTTP/1.1 100 Continue"
    await caller.send(b"body")
    wire = await proxy.upstream.accept()
    seen = await wire.message()
    assert (seen.head.get("Expect"), seen.content) == (None, b"body")
    await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert (await caller.message()).head.status == 200


async def test_an_expectation_with_a_chunked_body_is_answered_too(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "expect: 100-Continue", "Transfer-Encoding: chunked"))
    assert (await caller.head()).line == "HTTP/1.1 100 Continue"
    await caller.send(chunked(b"body"))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).content == b"body"
    await wire.send(OK)
    assert (await caller.message()).head.status == 200


async def test_a_refusal_comes_instead_of_100(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /voices/v1/voices:clone", "Expect: 100-continue", "Content-Length: 4"))
    got = await caller.message()
    assert (got.head.status, got.head.get("Connection")) == (403, "close")
    assert await caller.rest() == b""


async def test_an_unknown_caller_gets_401_instead_of_100(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN}), upstream)
    got = await proxy.ask(request("POST /things", "Expect: 100-continue", "Content-Length: 4"))
    assert got.head.status == 401


async def test_a_body_that_did_not_wait_gets_no_100(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Expect: 100-continue", body=b"body"))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).content == b"body"
    await wire.send(OK)
    assert (await caller.message()).head.status == 200


async def test_an_http_1_0_caller_gets_no_100(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things HTTP/1.0", "Expect: 100-continue", "Content-Length: 4"))
    await caller.send(b"body")
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(OK)
    assert (await caller.message()).head.status == 200


async def test_another_expectation_is_refused(proxy: Proxy) -> None:
    assert (await proxy.ask(request("POST /things", "Expect: the-impossible", body=b"x"))).head.status == 400


async def test_the_same_head_again_is_served_with_its_own_body(proxy: Proxy) -> None:
    caller = await proxy.caller()
    wire = None
    for body in (b"first", b"other", b"third"):
        await caller.send(request("POST /things", body=body))
        wire = wire or await proxy.upstream.accept()
        seen = await wire.message()
        assert (seen.content, seen.head.get("Content-Length")) == (body, "5")
        assert len(seen.head.all("Authorization")) == 1
        await wire.send(response("200 OK", body=body))
        assert (await caller.message()).content == body
