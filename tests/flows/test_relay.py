"""A request goes out as it came, an answer comes back as it was given, and only what must change changes."""

from __future__ import annotations

import pytest

from tests.proxies import Proxy
from tests.snapshots import AUTHORIZATION
from tests.wires import OK, Message, ScriptedUpstream, chunked, request, response


def given(got: Message) -> list[tuple[str, str]]:
    """The fields of an answer less the one that the proxy adds to each."""
    return [field for field in got.head.fields if field[0] != "X-Request-Id"]


async def test_a_request_arrives_upstream_with_our_host_and_our_credential_last(proxy: Proxy) -> None:
    seen, got = await proxy.pass_on(request("GET /llm/v1alpha/models?pageSize=3", "X-Trace: 7", "Accept: */*"))
    assert seen.head.line == "GET /llm/v1alpha/models?pageSize=3 HTTP/1.1"
    (record,) = proxy.records
    assert seen.head.fields == [
        ("Host", f"127.0.0.1:{proxy.upstream.port}"),
        ("X-Trace", "7"),
        ("Accept", "*/*"),
        ("traceparent", f"00-{record.trace_id}-{record.span_id}-00"),
        ("X-Request-Id", record.request_id),
        ("Authorization", AUTHORIZATION),
    ]
    assert (got.head.status, got.content) == (200, b"ok")
    named = f"X-Request-Id: {record.request_id}\r\n".encode()
    assert got.head.raw == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + named + b"\r\n"


async def test_field_names_keep_their_case_and_order_both_ways(proxy: Proxy) -> None:
    answer = response("200 OK", "x-LOWER-upper: 1", "B: 2", "a: 3", "B: 4", body=b"ok")
    seen, got = await proxy.pass_on(request("GET /things", "x-MiXeD: 1", "zz: 2", "AA: 3", "zz: 4"), answer)
    assert [each for each in seen.head.fields if each[0] in {"x-MiXeD", "zz", "AA"}] == [
        ("x-MiXeD", "1"),
        ("zz", "2"),
        ("AA", "3"),
        ("zz", "4"),
    ]
    assert given(got) == [("x-LOWER-upper", "1"), ("B", "2"), ("a", "3"), ("B", "4"), ("Content-Length", "2")]


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "299 Strange", "400 Bad Request", "429 Too Many Requests",
                                    "500 Internal Server Error", "503 Service Unavailable", "599 Own"])  # fmt: skip
async def test_a_status_and_its_reason_come_back_as_given(proxy: Proxy, status: str) -> None:
    _, got = await proxy.pass_on(request("GET /things"), response(status, "Retry-After: 3", body=b"why"))
    assert got.head.line == f"HTTP/1.1 {status}"
    assert (got.head.get("Retry-After"), got.content) == ("3", b"why")
    assert got.head.get("Proxy-Status") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_of_an_operation_is_passed_on(proxy: Proxy, method: str) -> None:
    seen, got = await proxy.pass_on(request(f"{method} /things"))
    assert seen.head.line == f"{method} /things HTTP/1.1"
    assert got.head.status == 200


async def test_the_answer_to_head_has_the_fields_of_a_body_and_no_body(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("HEAD /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: x\r\n\r\n")
    head = (await caller.message(answers="HEAD")).head
    assert (head.get("Content-Length"), head.get("ETag")) == ("1000", "x")
    await caller.send(request("GET /things"))
    assert (await wire.message()).head.line == "GET /things HTTP/1.1"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_the_answer_to_head_may_name_a_transfer_coding(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("HEAD /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await caller.message(answers="HEAD")).head.status == 200
    await caller.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_that_never_have_a_body_leave_both_connections_usable(proxy: Proxy, status: str) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
    assert given(await caller.message()) == [("ETag", "x")]
    await caller.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_304_may_say_how_long_the_body_would_have_been(proxy: Proxy) -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"
    _, got = await proxy.pass_on(request("GET /things"), answer)
    assert got.head.get("Content-Length") == "500"


async def test_a_content_encoding_is_passed_on_with_its_bytes_untouched(proxy: Proxy) -> None:
    packed = bytes(range(256)) * 4
    answer = response("200 OK", "Content-Encoding: gzip", "Vary: Accept-Encoding", body=packed)
    seen, got = await proxy.pass_on(request("GET /things", "Accept-Encoding: gzip, br"), answer)
    assert seen.head.get("Accept-Encoding") == "gzip, br"
    assert (got.head.get("Content-Encoding"), got.body) == ("gzip", packed)


async def test_no_accept_encoding_is_invented(proxy: Proxy) -> None:
    assert "accept-encoding" not in (await proxy.pass_head(request("GET /things"))).names


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect",
                                    "308 Permanent Redirect"])  # fmt: skip
async def test_a_redirect_is_passed_on_and_never_followed(proxy: Proxy, status: str) -> None:
    location = f"http://127.0.0.1:{proxy.upstream.port}/things?elsewhere"
    _, got = await proxy.pass_on(request("GET /things"), response(status, f"Location: {location}"))
    assert (got.head.line, got.head.get("Location")) == (f"HTTP/1.1 {status}", location)
    assert proxy.upstream.count == 1


@pytest.mark.parametrize(
    "field",
    ['Alt-Svc: h3=":443"', "Strict-Transport-Security: max-age=1", "Set-Cookie: a=b", 'Clear-Site-Data: "*"',
     "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "Keep-Alive: timeout=5",
     "Proxy-Authenticate: Basic", "Trailer: X-Sum", "Proxy-Status: someone; error=dns_error",
     "Upgrade: h2c"],
)  # fmt: skip
async def test_what_would_bind_the_caller_to_the_upstreams_host_does_not_come_back(proxy: Proxy, field: str) -> None:
    _, got = await proxy.pass_on(request("GET /things"), response("200 OK", field, "X-Kept: 1", body=b"ok"))
    assert given(got) == [("X-Kept", "1"), ("Content-Length", "2")]


async def test_fields_that_the_upstream_names_in_connection_end_here(proxy: Proxy) -> None:
    answer = response("200 OK", "Connection: keep-alive, x-hop", "X-Hop: 1", "X-Kept: 2", body=b"ok")
    _, got = await proxy.pass_on(request("GET /things"), answer)
    assert given(got) == [("X-Kept", "2"), ("Content-Length", "2")]


async def test_the_path_goes_out_byte_for_byte_as_it_was_judged(proxy: Proxy) -> None:
    target = "/voices/v1/voices/a%20b%C3%A9~!$&'()*+,=@?x=%zz&y=//../;"
    assert (await proxy.pass_head(request(f"GET {target}"))).target == target


async def test_names_of_operations_with_slashes_are_passed_on(proxy: Proxy) -> None:
    target = "/lro/v1alpha/workspaces/w/ttsAsyncJobs/j/operations/o"
    assert (await proxy.pass_head(request(f"GET {target}"))).target == target


async def test_a_body_of_known_length_arrives_as_it_was_sent(proxy: Proxy) -> None:
    body = bytes(range(256)) * 1000
    seen, got = await proxy.pass_on(request("POST /things", body=body), response("200 OK", body=body[::-1]))
    assert (seen.head.get("Content-Length"), seen.body) == ("256000", body)
    assert (got.head.get("Content-Length"), got.body) == ("256000", body[::-1])


async def test_an_empty_body_keeps_its_length_of_zero(proxy: Proxy) -> None:
    seen, got = await proxy.pass_on(request("POST /things", "Content-Length: 0"), response("200 OK"))
    assert (seen.head.get("Content-Length"), got.head.get("Content-Length")) == ("0", "0")


async def test_a_chunked_body_arrives_with_the_very_chunks_it_was_sent_in(proxy: Proxy) -> None:
    out, back = chunked(b"one", b"x" * 70000, b"three"), chunked(b"a", b"bc")
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + back
    seen, got = await proxy.pass_on(request("POST /things", "Transfer-Encoding: chunked", body=out), answer)
    assert (seen.head.get("Transfer-Encoding"), seen.head.get("Content-Length"), seen.body) == ("chunked", None, out)
    assert (got.head.get("Transfer-Encoding"), got.head.get("Content-Length"), got.body) == ("chunked", None, back)


async def test_trailers_are_dropped_both_ways(proxy: Proxy) -> None:
    trailers = b"4\r\nbody\r\n0\r\nAuthorization: Bearer evil\r\nX-Sum: 1\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + trailers
    raw = request("POST /things", "Transfer-Encoding: chunked", "Trailer: X-Sum", "TE: trailers", body=trailers)
    seen, got = await proxy.pass_on(raw, answer)
    assert seen.body == got.body == b"4\r\nbody\r\n0\r\n\r\n"
    assert not {"trailer", "te", "x-sum"} & {*seen.head.names, *got.head.names}


async def test_trailers_never_become_fields_of_the_next_message_on_the_connection(
    proxy: Proxy, upstream: ScriptedUpstream
) -> None:
    caller = await proxy.caller()
    trailers = b"4\r\nbody\r\n0\r\nX-Last: evil\r\n\r\n"
    await caller.send(request("POST /things", "Transfer-Encoding: chunked", body=trailers))
    wire = await upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + trailers)
    await caller.message()
    await caller.send(request("GET /things"))
    assert "x-last" not in (await wire.message()).head.names
    await wire.send(OK)
    assert "x-last" not in (await caller.message()).head.names


async def test_chunk_extensions_of_the_upstream_are_dropped(proxy: Proxy) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;sum=1\r\nbody\r\n0;last\r\n\r\n"
    _, got = await proxy.pass_on(request("GET /things"), answer)
    assert got.body == b"4\r\nbody\r\n0\r\n\r\n"


async def test_chunk_extensions_of_a_caller_are_refused(proxy: Proxy) -> None:
    body = b"4;sum=1\r\nbody\r\n0\r\n\r\n"
    got = await proxy.ask(request("POST /things", "Transfer-Encoding: chunked", body=body))
    assert got.head.status == 400


async def test_interim_answers_stay_between_the_upstream_and_the_proxy(proxy: Proxy) -> None:
    interim = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    )
    _, got = await proxy.pass_on(request("GET /things"), interim + OK)
    assert (got.head.status, got.content) == (200, b"ok")


async def test_an_upstream_that_speaks_http_1_0_and_closes_is_passed_on_in_chunks(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nas long as it lasts")
    wire.close()
    got = await caller.message()
    assert (got.head.line, got.head.get("Transfer-Encoding")) == ("HTTP/1.1 200 OK", "chunked")
    assert got.content == b"as long as it lasts"
    await caller.send(request("GET /things"))
    second = await proxy.upstream.accept()
    await second.message()
    await second.send(OK)
    assert (await caller.message()).content == b"ok"
