"""``POST /token``: who gets a token, what the answer looks like, and what a caller hears who does not get one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.callers.token import digest_token, token_recogniser
from proxy.core.model import (
    CredentialUnavailable,
    IssuedToken,
    LogFormat,
    LogSettings,
    Mode,
    Snapshot,
)
from proxy.core.target import OperationTree
from proxy.observe.record import Ending
from proxy.settings.tokens import TOKEN_OPERATION
from tests.proxies import Proxies, Proxy
from tests.snapshots import OPERATIONS, TOKEN, make_snapshot, upstream_at, with_policy
from tests.wires import Message, Wire, chunked, request

ISSUED = "issued-token-0d5b1f3c7a92"
OTHER = "a-token-of-a-caller-without-the-grant"
PAGE = "http://localhost:3000"
AS_GRANTED = f"Authorization: Bearer {TOKEN}"
ASK = request("POST /token", AS_GRANTED, body=b'{"for": "realtime"}')


class FakeDesk:
    """Hands out one token again and again, unless told to wait or to fail."""

    def __init__(self, *purposes: str) -> None:
        self.purposes = purposes or ("realtime", "one-time")
        self.asked: list[tuple[str, str]] = []
        self.left: float = 0.0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.minting = asyncio.Event()
        self.cancelled = asyncio.Event()

    def wait(self, caller: str) -> float:
        return self.left

    async def issue(self, purpose: str, caller: str) -> IssuedToken:
        self.asked.append((purpose, caller))
        self.minting.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.failure is not None:
            raise self.failure
        return IssuedToken(ISSUED, 1_780_000_000.0, once=purpose == "one-time")


def offering(port: int, desk: FakeDesk | None, **policy: Any) -> Snapshot:
    """A snapshot with a desk and two callers: one granted everything, one everything but tokens."""
    snapshot = make_snapshot(upstream_at(port), tokens={"storefront": TOKEN, "reader": OTHER})
    reader = replace(snapshot.callers["reader"], operations=frozenset({"models.list"}))
    callers = {"storefront": snapshot.callers["storefront"], "reader": reader}
    recogniser = token_recogniser(
        [(digest_token(TOKEN.encode()), callers["storefront"]), (digest_token(OTHER.encode()), reader)]
    )
    changes: dict[str, Any] = {"recognisers": (recogniser,), **policy}
    if desk is not None:
        operations = (*OPERATIONS, TOKEN_OPERATION)
        changes["tree"] = OperationTree.of(operations)
        changes["operations"] = {operation.name: operation for operation in operations}
    return with_policy(replace(snapshot, callers=callers, desk=desk), **changes)


@pytest.fixture
async def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
async def offers(proxies: Proxies, desk: FakeDesk) -> Proxy:
    """A proxy that hands out tokens, and lets the pages of one origin ask."""
    upstream = await proxies.upstream()
    return await proxies.start(offering(upstream.port, desk, origins=frozenset({PAGE})), upstream)


def code_of(got: Message) -> str:
    return (got.head.get("proxy-status") or "").rpartition("details=")[2].strip('"')


def message_of(got: Message) -> str:
    return json.loads(got.content)["error"]["message"]


@pytest.mark.parametrize(("purpose", "once"), [("realtime", False), ("one-time", True)])
async def test_a_granted_caller_gets_a_token_and_all_there_is_to_know_about_it(
    offers: Proxy, desk: FakeDesk, purpose: str, once: bool
) -> None:
    got = await offers.ask(request("POST /token", AS_GRANTED, body=json.dumps({"for": purpose}).encode()))
    assert got.head.status == 200
    assert got.head.get("content-type") == "application/json"
    assert got.head.get("cache-control") == "no-store"
    assert json.loads(got.content) == {
        "token": ISSUED, "type": "Bearer", "for": purpose, "expiresAt": "2026-05-28T20:26:40Z", "singleUse": once,
    }  # fmt: skip
    assert desk.asked == [(purpose, "storefront")]
    assert offers.upstream.count == 0
    (record,) = offers.records
    assert (record.status, record.operation, record.caller) == (200, "proxy.token", "storefront")
    assert record.ending is Ending.ANSWERED
    assert record.response_bytes == len(got.content)


@pytest.mark.parametrize("body", [b'{"for": "realtime"}', b"nonsense"])
async def test_both_answers_have_the_requests_id(offers: Proxy, body: bytes) -> None:
    got = await offers.ask(request("POST /token", AS_GRANTED, "X-Request-Id: mine", body=body))
    assert got.head.get("X-Request-Id") == offers.records[-1].request_id == "mine"


@pytest.mark.parametrize("mode", Mode)
async def test_a_caller_without_the_grant_gets_none_in_audit_mode_either(
    proxies: Proxies, desk: FakeDesk, mode: Mode
) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(offering(upstream.port, desk, mode=mode), upstream)
    got = await proxy.ask(request("POST /token", f"Authorization: Bearer {OTHER}"))
    assert (got.head.status, code_of(got)) == (403, "operation_not_granted")
    assert desk.asked == []


@pytest.mark.parametrize(
    ("fields", "code"), [((), "caller_required"), (("Authorization: Bearer stranger",), "unknown_caller")]
)
async def test_nobody_else_gets_one(offers: Proxy, desk: FakeDesk, fields: tuple[str, ...], code: str) -> None:
    got = await offers.ask(request("POST /token", *fields, body=b'{"for": "realtime"}'))
    assert (got.head.status, code_of(got)) == (401, code)
    assert desk.asked == []


async def test_without_a_desk_there_is_no_such_place(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(offering(upstream.port, None), upstream)
    got = await proxy.ask(ASK)
    assert (got.head.status, code_of(got)) == (404, "no_operation")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_it_is_posted_and_nothing_else(offers: Proxy, method: str) -> None:
    got = await offers.ask(request(f"{method} /token", AS_GRANTED))
    assert (got.head.status, got.head.get("allow")) == (405, "POST")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"for": "tts"}',
        b'{"for": 1}',
        b'{"for": null}',
        b'["realtime"]',
        b'"realtime"',
        b"realtime",
        b"\xff",
        b"[" * 4000,
        b'{"purpose": "realtime"}',
    ],
    ids=repr,
)
async def test_what_asks_for_nothing_that_there_is_hears_what_there_is(
    offers: Proxy, desk: FakeDesk, body: bytes
) -> None:
    got = await offers.ask(request("POST /token", AS_GRANTED, body=body))
    assert (got.head.status, code_of(got)) == (400, "bad_request")
    assert "realtime, one-time" in message_of(got)
    assert got.head.get("connection") is None
    assert desk.asked == []


async def test_nothing_has_to_be_said_where_there_is_one_purpose(proxies: Proxies) -> None:
    upstream, desk = await proxies.upstream(), FakeDesk("one-time")
    proxy = await proxies.start(offering(upstream.port, desk), upstream)
    bare = await proxy.ask(request("POST /token", AS_GRANTED))
    empty = await proxy.ask(request("POST /token", AS_GRANTED, "Content-Length: 0"))
    assert json.loads(bare.content)["for"] == json.loads(empty.content)["for"] == "one-time"


@pytest.mark.parametrize(
    "raw",
    [
        request("POST /token", AS_GRANTED, "Transfer-Encoding: chunked", body=chunked(b'{"for": "realtime"}')),
        request("POST /token", AS_GRANTED, body=b" " * 4097),
        request("POST /token", AS_GRANTED, "Content-Length: 1000000000000"),
    ],
    ids=["chunked", "large", "huge"],
)
async def test_a_body_of_unknown_or_absurd_length_is_not_read(offers: Proxy, desk: FakeDesk, raw: bytes) -> None:
    caller = await offers.caller()
    await caller.send(raw)
    got = await caller.message()
    assert (got.head.status, code_of(got), got.head.get("connection")) == (400, "bad_request", "close")
    assert await caller.until_broken() == b""
    assert desk.asked == []


async def test_a_caller_who_asks_too_often_hears_when_to_ask_again(offers: Proxy, desk: FakeDesk) -> None:
    desk.left = 12.2
    got = await offers.ask(ASK)
    assert (got.head.status, code_of(got)) == (429, "rate_limited")
    assert got.head.get("retry-after") == "13"
    assert "storefront" in message_of(got)
    assert desk.asked == []


async def test_a_mint_that_fails_is_said_with_when_to_ask_again(offers: Proxy, desk: FakeDesk) -> None:
    desk.failure = CredentialUnavailable("realtime", 7.3)
    caller = await offers.caller()
    await caller.send(ASK)
    got = await caller.message()
    assert (got.head.status, code_of(got)) == (503, "credential_unavailable")
    assert got.head.get("retry-after") == "8"
    desk.failure = None
    await caller.send(ASK)
    assert (await caller.message()).head.status == 200


async def test_a_bug_while_minting_is_answered_and_seen(offers: Proxy, desk: FakeDesk) -> None:
    desk.failure = RuntimeError("a bug")
    got = await offers.ask(ASK)
    assert (got.head.status, code_of(got)) == (500, "internal")
    assert b"a bug" not in got.content
    await asyncio.sleep(0)
    assert "a bug" in str(offers.faults.pop())


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.end], ids=["close", "reset", "half"])
async def test_a_caller_who_leaves_while_its_token_is_minted_leaves_nothing_behind(
    offers: Proxy, desk: FakeDesk, leave: Callable[[Wire], None]
) -> None:
    desk.gate = asyncio.Event()
    caller = await offers.caller()
    await caller.send(ASK)
    await asyncio.wait_for(desk.minting.wait(), 5)
    leave(caller)
    await offers.metrics.until(lambda m: m.in_flight == 0)
    assert offers.records[0].ending is Ending.CALLER_GONE
    assert offers.records[0].status == 499
    await asyncio.wait_for(desk.cancelled.wait(), 5)


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["close", "reset"])
async def test_a_caller_who_leaves_in_the_middle_of_its_body_gets_none(
    offers: Proxy, desk: FakeDesk, leave: Callable[[Wire], None]
) -> None:
    caller = await offers.caller()
    await caller.send(ASK[:-3])
    await offers.metrics.until(lambda m: m.in_flight == 1)
    leave(caller)
    await offers.metrics.until(lambda m: m.in_flight == 0)
    assert offers.records[0].ending is Ending.CALLER_GONE
    assert desk.asked == []


BAD = request("POST /token", AS_GRANTED, body=b'{"for": "nothing"}')
NEXT = request("GET /nowhere", AS_GRANTED)


@pytest.mark.parametrize(
    "cut", [None, -1, 5, len(ASK) - 4], ids=["whole", "before the end", "in the head", "in the body"]
)
@pytest.mark.parametrize(("first", "status"), [(ASK, 200), (BAD, 400)], ids=["served", "refused"])
async def test_what_comes_behind_it_is_served_after_it(
    offers: Proxy, first: bytes, status: int, cut: int | None
) -> None:
    """However the bytes are split, also where the request is answered while its body is being read."""
    caller = await offers.caller()
    if cut is None:
        await caller.send(first + NEXT)
    else:
        at = len(first) - 2 if cut == -1 else cut
        await caller.send(first[:at])
        await asyncio.sleep(0.02)
        await caller.send(first[at:] + NEXT)
    assert (await caller.message()).head.status == status
    assert (await caller.message()).head.status == 404


async def test_a_connection_may_ask_for_many(offers: Proxy, desk: FakeDesk) -> None:
    caller = await offers.caller()
    for _ in range(5):
        await caller.send(ASK)
        assert (await caller.message()).head.status == 200
    assert len(desk.asked) == 5


@pytest.mark.parametrize("line", ["POST /token HTTP/1.0", "POST /token HTTP/1.1"])
async def test_a_connection_that_shall_close_is_closed(offers: Proxy, line: str) -> None:
    caller = await offers.caller()
    await caller.send(request(line, AS_GRANTED, "Connection: close", body=b'{"for": "realtime"}'))
    got = await caller.message()
    assert (got.head.status, got.head.get("connection")) == (200, "close")
    assert await caller.rest() == b""


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(offers: Proxy) -> None:
    body = b'{"for": "realtime"}'
    caller = await offers.caller()
    await caller.send(request("POST /token", AS_GRANTED, "Expect: 100-continue", f"Content-Length: {len(body)}"))
    assert (await caller.head()).status == 100
    await caller.send(body)
    assert (await caller.message()).head.status == 200


async def test_a_page_of_an_allowed_origin_may_ask_and_read_the_answer(offers: Proxy, desk: FakeDesk) -> None:
    may = await offers.ask(
        request(
            "OPTIONS /token", f"Origin: {PAGE}", "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type",
        )
    )  # fmt: skip
    assert (may.head.status, may.head.get("access-control-allow-methods")) == (204, "POST")
    got = await offers.ask(request("POST /token", f"Origin: {PAGE}", AS_GRANTED, body=b'{"for": "realtime"}'))
    assert (got.head.status, got.head.get("access-control-allow-origin")) == (200, PAGE)
    desk.left = 1.0
    late = await offers.ask(request("POST /token", f"Origin: {PAGE}", AS_GRANTED, body=b'{"for": "realtime"}'))
    assert (late.head.status, late.head.get("access-control-allow-origin")) == (429, PAGE)
    other = await offers.ask(request("POST /token", "Origin: http://evil.example", AS_GRANTED, body=b"{}"))
    assert (other.head.status, other.head.get("access-control-allow-origin")) == (403, None)


async def test_neither_token_is_in_the_line_of_the_log(
    proxies: Proxies, desk: FakeDesk, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream = await proxies.upstream()
    snapshot = replace(offering(upstream.port, desk), log=LogSettings(format=LogFormat.JSON))
    proxy = await proxies.start(snapshot, upstream)
    assert (await proxy.ask(ASK)).head.status == 200
    proxy.log.close()
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["operation"] == "proxy.token"
    assert ISSUED not in line
    assert TOKEN not in line
    assert ISSUED not in repr(IssuedToken(ISSUED, 0.0, once=True))


async def test_a_token_that_is_on_its_way_is_waited_for_when_the_process_goes(offers: Proxy, desk: FakeDesk) -> None:
    desk.gate = asyncio.Event()
    caller = await offers.caller()
    await caller.send(ASK)
    await asyncio.wait_for(desk.minting.wait(), 5)
    draining = asyncio.ensure_future(offers.server.drain(60))
    await asyncio.sleep(0)
    desk.gate.set()
    got = await caller.message()
    assert (got.head.status, got.head.get("connection")) == (200, "close")
    await asyncio.wait_for(draining, 5)


async def test_a_token_that_takes_too_long_then_is_given_up(offers: Proxy, desk: FakeDesk) -> None:
    desk.gate = asyncio.Event()
    caller = await offers.caller()
    await caller.send(ASK)
    await asyncio.wait_for(desk.minting.wait(), 5)
    await offers.server.close()
    assert await caller.until_broken() == b""
    assert offers.records[0].ending is Ending.ABORTED
    assert desk.cancelled.is_set()


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_a_caller_who_stops_in_the_middle_of_its_body_is_not_waited_for(
    offers: Proxy, clock: Any, desk: FakeDesk
) -> None:
    caller = await offers.caller()
    await caller.send(ASK[:-3])
    await offers.metrics.until(lambda m: m.in_flight == 1)
    while not offers.records:
        await clock.advance(61)
        await asyncio.sleep(0.01)
    got = await caller.message()
    assert (got.head.status, code_of(got), got.head.get("connection")) == (408, "body_timeout", "close")
    assert desk.asked == []
