"""An upstream that misbehaves costs its own request and nothing else: a clean 502, or a body that looks broken."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.errors import Code
from proxy.observe.record import Ending
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK, Wire, bounded, chunked, request, response


async def _asked(proxy: Proxy, raw: bytes | None = None) -> tuple[Wire, Wire]:
    """A caller who waits, and the upstream connection on which the request has arrived."""
    caller = await proxy.caller()
    await caller.send(raw or request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    return caller, wire


async def _still_serves(proxy: Proxy, caller: Wire | None = None) -> None:
    caller = caller or await proxy.caller()
    await caller.send(request("GET /things?after"))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).head.target == "/things?after"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_reset_before_the_answer_is_502(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    wire.reset()
    got = await caller.message()
    assert (got.head.status, b"upstream_closed" in got.body) == (502, True)
    assert proxy.ended(Ending.FAILED) == 1
    assert proxy.metrics.upstream_errors == {("inworld", "upstream_closed"): 1}
    await _still_serves(proxy, caller)


async def test_a_close_before_the_answer_is_502(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    wire.close()
    got = await caller.message()
    assert (got.head.status, b"upstream_closed" in got.body) == (502, True)
    await _still_serves(proxy, caller)


BAD_HEADS = {
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http/0.9": b"<html>hello</html>\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab"),
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"ab"),
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab"),
    "a NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "a field without a name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    "a CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30000,
    "a switch that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "bad chunks at once": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "a flood of interim heads": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK,
}


@pytest.mark.parametrize("what", BAD_HEADS)
async def test_an_answer_that_is_not_clean_http_is_502_and_its_connection_is_not_used_again(
    proxy: Proxy, what: str
) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(BAD_HEADS[what])
    if what == "half a head":
        wire.close()
    got = await caller.message()
    assert (got.head.status, b"upstream_invalid_response" in got.body) == (502, True)
    assert b"Set-Cookie" not in got.head.raw
    await wire.gone()
    assert proxy.metrics.upstream_errors == {("inworld", "upstream_invalid_response"): 1}
    await _still_serves(proxy, caller)


BROKEN_BODIES = {
    "a short length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    "chunks without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
    "an end without its empty line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n",
}


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("what", BROKEN_BODIES)
async def test_a_body_that_broke_off_looks_broken_to_the_caller(proxy: Proxy, what: str, ending: str) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(BROKEN_BODIES[what])
    head = await caller.head()
    assert await caller.exactly(1)
    if ending == "close":
        wire.close()
    else:
        wire.reset()
    rest = await caller.until_broken()
    assert head.status == 200
    assert not rest.endswith(b"0\r\n\r\n")
    assert len(rest) < 99
    assert b"HTTP/1.1" not in rest
    assert proxy.ended(Ending.ABORTED) == 1
    assert proxy.records[0].code is Code.UPSTREAM_CLOSED
    await _still_serves(proxy)


async def test_a_chunk_that_is_malformed_breaks_the_body_off(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    await caller.head()
    assert await caller.exactly(7) == b"2\r\nab\r\n"
    await wire.send(b"2\r\nabc\r\n0\r\n\r\n")
    rest = await caller.until_broken()
    assert b"0\r\n\r\n" not in rest
    await wire.gone()
    assert proxy.ended(Ending.ABORTED) == 1


async def test_a_body_until_the_close_that_ends_in_a_reset_looks_broken(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
    await caller.head()
    assert await caller.exactly(9) == b"4\r\nsome\r\n"
    wire.reset()
    assert await caller.until_broken() == b""
    assert proxy.ended(Ending.ABORTED) == 1


async def test_bytes_after_the_answer_do_not_become_the_next_callers_answer(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(OK + response("200 OK", body=b"poison"))
    assert (await caller.message()).content == b"ok"
    await wire.gone()
    await _still_serves(proxy, caller)


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
    await wire.send(response("200 OK", body=b"poison"))
    await wire.gone()
    await _still_serves(proxy, caller)


async def test_a_body_where_none_may_be_does_not_become_the_next_answer(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 204 No Content\r\n\r\n" + response("200 OK", body=b"poison"))
    assert (await caller.message()).head.status == 204
    await wire.gone()
    await _still_serves(proxy, caller)


async def test_up_to_twenty_interim_heads_are_swallowed(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + OK)
    assert (await caller.message()).content == b"ok"


@pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized", "429 Too Many Requests"])
async def test_an_answer_that_refuses_an_upload_arrives_and_ends_the_upload(proxy: Proxy, status: str) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Content-Length: 100000000", body=b"x" * 1000))
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.exactly(1000)
    await wire.send(response(status, body=b"no"))
    got = await caller.message()
    assert (got.head.line, got.content, got.head.get("Connection")) == (f"HTTP/1.1 {status}", b"no", "close")
    await wire.gone()
    caller._writer.write(b"x" * 100_000)
    await caller.gone()
    await _still_serves(proxy)


async def test_an_upload_is_never_cut_short_into_a_second_request(proxy: Proxy) -> None:
    """Body bytes after an early answer must not arrive anywhere where they could be read as a request."""
    caller = await proxy.caller()
    smuggled = request("DELETE /voices/v1/voices/x")
    await caller.send(request("POST /things", "Content-Length: 1000", body=b"x"))
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.exactly(1)
    await wire.send(response("413 Content Too Large"))
    assert (await caller.message()).head.status == 413
    caller._writer.write(smuggled)
    assert await wire.until_broken() == b""
    await caller.gone()
    assert proxy.upstream.count == 1
    assert proxy.metrics.accepted == 1


async def test_an_upstream_that_is_not_there_is_502(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    upstream.stop_listening()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)
    got = await proxy.ask(request("GET /things"))
    assert (got.head.status, b"upstream_connect_failed" in got.body) == (502, True)
    assert got.head.get("Proxy-Status") == (
        'inworld-proxy; error=connection_refused; details="upstream_connect_failed"'
    )


async def test_an_upstream_whose_name_does_not_resolve_is_502(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(make_snapshot(upstream_at(80, host="no-such-name.invalid")), upstream)
    got = await proxy.ask(request("GET /things"))
    assert (got.head.status, b"upstream_dns_failed" in got.body) == (502, True)


async def test_an_upload_to_an_upstream_that_is_not_there_is_502(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    upstream.stop_listening()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Content-Length: 100000000", body=b"x" * 1000))
    assert (await caller.message()).head.status == 502
    await caller.gone()


async def test_a_flood_of_broken_answers_leaves_nothing_behind(proxy: Proxy) -> None:
    """Fifty at once, each broken in another place; the fixture counts what is left."""

    async def one(number: int) -> None:
        caller = await proxy.caller()
        await caller.send(request(f"GET /things?{number}", "Connection: close"))
        assert await caller.until_broken()

    async def serve() -> None:
        whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two")
        for number in range(50):
            wire = await proxy.upstream.accept()
            await wire.head()
            await wire.send(whole[: number + 10])
            wire.reset() if number % 2 else wire.close()

    await bounded(asyncio.gather(serve(), *(one(number) for number in range(50))))
    assert proxy.metrics.accepted == 50


async def test_a_204_that_announces_a_body_ends_its_connection(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
    assert (await caller.message()).head.status == 204
    await wire.gone()
    await _still_serves(proxy, caller)
