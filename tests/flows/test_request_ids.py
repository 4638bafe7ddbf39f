"""Every request has one id: the upstream is sent it, the caller gets it, the log has it; and a place in a trace."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.proxies import Passed, Proxies, Proxy
from tests.snapshots import SOCKET, make_snapshot, upstream_at
from tests.wires import OK, Head, ScriptedUpstream, request, response

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
MADE = re.compile("[0-9a-f]{32}")
BEGUN = re.compile("00-([0-9a-f]{32})-[0-9a-f]{16}-00")
HANDSHAKE = request(
    f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "X-Request-Id: mine",
)  # fmt: skip
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Request-Id: theirs\r\n\r\n"
)


def one_id(proxy: Proxy, passed: Passed) -> str:
    """The id of the only request so far: the same at all three places, and once at each."""
    told = passed.got.head.get("X-Request-Id")
    assert told is not None
    assert passed.seen.head.get("X-Request-Id") == told == proxy.records[-1].request_id
    return told


async def test_the_callers_id_is_sent_on_returned_and_logged(proxy: Proxy) -> None:
    passed = await proxy.pass_on(request("GET /things", "x-request-ID:  7f0c-3a52 "))
    assert one_id(proxy, passed) == "7f0c-3a52"


async def test_an_id_is_made_where_there_is_none_and_it_is_the_traces(proxy: Proxy) -> None:
    passed = await proxy.pass_on(request("GET /things"))
    begun = BEGUN.fullmatch(passed.seen.head.get("traceparent") or "")
    assert begun is not None
    assert one_id(proxy, passed) == begun[1]


@pytest.mark.parametrize(
    "fields", [["X-Request-Id: a", "X-Request-Id: a"], ["X-Request-Id: a b"], ["X-Request-Id: " + "a" * 129],
               ["X-Request-Id:"], ['X-Request-Id: "}{"forged":"1'], ["X-Request-Id: a", "Connection: X-Request-Id"]],
)  # fmt: skip
async def test_an_id_that_is_none_is_replaced_and_the_request_served(proxy: Proxy, fields: list[str]) -> None:
    assert MADE.fullmatch(one_id(proxy, await proxy.pass_on(request("GET /things", *fields))))


async def test_a_twin_with_an_underscore_is_no_id_and_goes_nowhere(proxy: Proxy) -> None:
    passed = await proxy.pass_on(request("GET /things", "X_Request_Id: evil"))
    assert MADE.fullmatch(one_id(proxy, passed))
    assert b"evil" not in passed.seen.head.raw


async def test_the_upstreams_own_id_does_not_come_back_beside_it(proxy: Proxy) -> None:
    answer = response("200 OK", "X-Request-Id: theirs", "x-inworld-request-id: i-1", body=b"ok")
    passed = await proxy.pass_on(request("GET /things", "X-Request-Id: mine"), answer)
    assert one_id(proxy, passed) == "mine"
    assert passed.got.head.get("x-inworld-request-id") == proxy.records[-1].inworld_request_id == "i-1"


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content"])
async def test_every_kind_of_answer_has_it(proxy: Proxy, status: str) -> None:
    passed = await proxy.pass_on(request("GET /things", "X-Request-Id: mine"), response(status))
    assert one_id(proxy, passed) == "mine"


@pytest.mark.parametrize(
    ("raw", "status", "told"),
    [
        (request("GET /nothing/here", "X-Request-Id: mine"), 404, "mine"),
        (request("TRACE /things", "X-Request-Id: mine"), 405, "mine"),
        (request("HEAD /nothing/here", "X-Request-Id: mine"), 404, "mine"),
        (b"GET /things HTTP/1.1\r\nX-Request-Id: mine\r\nbroken\r\n\r\n", 400, None),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, None),
    ],
)
async def test_a_refusal_has_it_too(proxy: Proxy, raw: bytes, status: int, told: str | None) -> None:
    got = await proxy.ask(raw, answers=raw.partition(b" ")[0].decode())
    (record,) = proxy.records
    assert got.head.status == status
    assert got.head.get("X-Request-Id") == record.request_id
    assert record.request_id == told if told else MADE.fullmatch(record.request_id)


async def test_a_failure_of_the_upstream_has_it(proxies: Proxies) -> None:
    proxy = await proxies.start(make_snapshot(upstream_at(1)), await proxies.upstream())
    got = await proxy.ask(request("GET /things", "X-Request-Id: mine"))
    assert (got.head.status, got.head.get("X-Request-Id")) == (502, "mine")


async def test_a_page_gets_it_with_a_preflight_and_may_read_it(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    policy = replace(snapshot.policy, origins=frozenset({"https://app.example"}))
    proxy = await proxies.start(replace(snapshot, policy=policy), upstream)
    asked = request(
        "OPTIONS /things", "Origin: https://app.example", "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: traceparent,x-request-id",
    )  # fmt: skip
    preflight = await proxy.ask(asked)
    assert preflight.head.get("X-Request-Id") == proxy.records[-1].request_id
    assert preflight.head.get("Access-Control-Allow-Headers") == "traceparent, x-request-id"
    passed = await proxy.pass_on(request("GET /things", "Origin: https://app.example", "Sec-Fetch-Site: cross-site"))
    assert one_id(proxy, passed)
    assert passed.got.head.get("Access-Control-Expose-Headers") == "*"


async def test_a_websocket_is_answered_with_it(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await upstream.accept()
    seen = await wire.head()
    await wire.send(SWITCH)
    got = await caller.head()
    assert seen.get("X-Request-Id") == got.get("X-Request-Id") == "mine"
    assert BEGUN.fullmatch(seen.get("traceparent") or "")
    assert seen.names[-1] == "authorization"


async def test_a_request_that_goes_out_once_more_is_the_same_one(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await upstream.accept()
    await wire.message()
    await wire.send(OK)
    await caller.message()
    await caller.send(request("GET /things", "Accept: a"))
    first = (await wire.message()).head
    wire.close()
    other = await upstream.accept()
    again = (await other.message()).head
    await other.send(OK)
    got = await caller.message()
    assert proxy.records[-1].retried
    assert first.get("X-Request-Id") == again.get("X-Request-Id") == got.head.get("X-Request-Id")
    assert first.get("traceparent") == again.get("traceparent")


async def test_the_same_head_has_another_id_each_time(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    caller = await proxy.caller()
    told = []
    wire = None
    for _ in range(5):
        await caller.send(request("GET /things"))
        wire = wire or await upstream.accept()
        seen = (await wire.message()).head
        await wire.send(OK)
        got = (await caller.message()).head
        assert seen.get("X-Request-Id") == got.get("X-Request-Id")
        told.append((seen.get("X-Request-Id"), seen.get("traceparent")))
    assert len({identity for identity, _ in told}) == len({trace for _, trace in told}) == 5
    assert [record.request_id for record in proxy.records] == [identity for identity, _ in told]


async def test_callers_that_share_an_upstream_connection_keep_their_own(
    proxy: Proxy, upstream: ScriptedUpstream
) -> None:
    one, other = await proxy.caller(), await proxy.caller()
    wire = None
    for turn in range(3):
        for caller, name in ((one, "one"), (other, "other")):
            await caller.send(request("GET /things", f"X-Request-Id: {name}-{turn % 2}"))
            wire = wire or await upstream.accept()
            seen = (await wire.message()).head
            await wire.send(OK)
            got = (await caller.message()).head
            assert seen.get("X-Request-Id") == got.get("X-Request-Id") == f"{name}-{turn % 2}"
    assert upstream.count == 1


async def trace_of(proxy: Proxy, *fields: str) -> Head:
    return await proxy.pass_head(request("GET /things", *fields))


async def test_a_trace_is_passed_on_as_it_came(proxy: Proxy) -> None:
    seen = await trace_of(proxy, f"TraceParent: {TRACEPARENT}", "TraceState: rojo=1", "tracestate: congo=2")
    assert (seen.get("traceparent"), seen.get("tracestate")) == (TRACEPARENT, "rojo=1,congo=2")
    assert proxy.records[-1].request_id == TRACE


@pytest.mark.parametrize(
    "parents", [["00-bad"], [TRACEPARENT, TRACEPARENT], [f"00-{'0' * 32}-{PARENT}-01"], [f"{TRACEPARENT}-more"]]
)
async def test_a_trace_that_is_none_is_begun_anew_without_its_state(proxy: Proxy, parents: list[str]) -> None:
    seen = await trace_of(proxy, *(f"traceparent: {parent}" for parent in parents), "tracestate: rojo=1")
    begun = BEGUN.fullmatch(seen.get("traceparent") or "")
    assert begun is not None
    assert begun[1] != TRACE
    assert seen.get("tracestate") is None


async def test_what_instrumentation_adds_for_its_own_services_stays_here(proxy: Proxy) -> None:
    assert (await trace_of(proxy, "baggage: userId=alice,tier=gold")).get("baggage") is None
