"""The same head has the same answer without being read again, and no other head has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.headers import sort_request_lines
from proxy.core.model import Allow
from proxy.core.policy import decide
from proxy.wire.head import RequestParts, read_request
from proxy.wire.memo import Memo, remember
from tests.proxies import Proxies, Proxy
from tests.snapshots import TOKEN, make_snapshot, upstream_at
from tests.wires import OK, request

SNAPSHOT = make_snapshot(upstream_at(1))
GET = request("GET /things", "Accept: */*")
POST = request("POST /tts/v1/voice", "Accept: */*", body=b"hello").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def memo_of(raw: bytes, second: int = 7) -> Memo:
    parts = read_request(raw)
    assert isinstance(parts, RequestParts)
    allow = decide(SNAPSHOT.policy, parts.head, float(second))
    assert isinstance(allow, Allow)
    memo = remember(raw, SNAPSHOT, second, parts, allow)
    assert memo is not None
    return memo


@pytest.mark.parametrize("length", [0, 1, 5, 99999, 10**17])
def test_another_length_is_the_same_head(length: int) -> None:
    parts = memo_of(POST).recall(POST.replace(b": 5\r\n", b": %d\r\n" % length), SNAPSHOT, 7)
    assert parts is not None
    assert parts.length == length


@pytest.mark.parametrize(
    "other",
    [
        POST.replace(b": 5\r\n", b": \r\n"),
        POST.replace(b": 5\r\n", b": -5\r\n"),
        POST.replace(b": 5\r\n", b": 5, 5\r\n"),
        POST.replace(b": 5\r\n", b": 5\r\nContent-Length: 6\r\n"),
        POST.replace(b": 5\r\n", b": 1234567890123456789\r\n"),
        POST.replace(b": 5\r\n", b": \xb2\r\n"),
        POST.replace(b"voice", b"voicE"),
        POST.replace(b"POST", b"GET "),
        POST.replace(b"*/*", b"a/b"),
        POST[:-2] + b"X: y\r\n\r\n",
        GET,
    ],
)
def test_any_other_difference_is_another_head(other: bytes) -> None:
    assert memo_of(POST).recall(other, SNAPSHOT, 7) is None


def test_a_head_without_a_body_is_only_the_same_to_the_byte() -> None:
    memo = memo_of(GET)
    assert memo.recall(GET, SNAPSHOT, 7) is memo.parts
    assert memo.recall(GET[:-2] + b"X: y\r\n\r\n", SNAPSHOT, 7) is None
    assert memo.recall(GET[:-2], SNAPSHOT, 7) is None


def test_another_configuration_or_another_second_decides_again() -> None:
    memo = memo_of(GET)
    assert memo.recall(GET, replace(SNAPSHOT), 7) is None
    assert memo.recall(GET, SNAPSHOT, 8) is None


def test_what_is_remembered_is_what_would_be_read_again() -> None:
    raw = POST.replace(b": 5\r\n", b": 42\r\n")
    recalled = memo_of(POST).recall(raw, SNAPSHOT, 7)
    read = read_request(raw)
    assert isinstance(read, RequestParts)
    assert recalled is not None
    assert (recalled.length, recalled.keep_alive, recalled.head.target) == (42, read.keep_alive, read.head.target)
    lines, noted, _ = sort_request_lines(raw.split(b"\r\n")[1:-2])
    assert recalled.head.kept == lines
    assert set(recalled.head.noted) == set(noted)


async def test_bodies_of_changing_length_arrive_whole_on_one_connection(proxy: Proxy) -> None:
    caller = await proxy.caller()
    wire = None
    for body in (b"a", b"bb" * 50, b"", b"c" * 70000, b"d"):
        length = [] if body else ["Content-Length: 0"]
        await caller.send(request("POST /tts/v1/voice", *length, body=body))
        wire = wire or await proxy.upstream.accept()
        assert (await wire.message()).content == body
        await wire.send(OK)
        assert (await caller.message()).content == b"ok"


async def test_a_caller_who_is_no_longer_known_is_refused_at_the_next_request(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN})
    proxy = await proxies.start(snapshot, upstream)
    caller = await proxy.caller()
    asked = request("GET /things", f"Authorization: Bearer {TOKEN}")
    await caller.send(asked)
    assert (await caller.message()).head.status == 200
    proxy.server.snapshot = make_snapshot(upstream_at(upstream.port), tokens={"other": "another-token"})
    await caller.send(asked)
    assert (await caller.message()).head.status == 401


async def test_an_expectation_counts_for_each_request_by_its_own_length(proxy: Proxy) -> None:
    """The same head but for its length: with nothing to wait for, and then with something."""
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    await caller.send(request("POST /things", "Expect: 100-continue", "Content-Length: 0"))
    assert (await caller.message()).head.status == 200
    await caller.send(request("POST /things", "Expect: 100-continue", "Content-Length: 5"))
    assert (await caller.head()).status == 100
    await caller.send(b"hello")
    assert (await caller.message()).head.status == 200
