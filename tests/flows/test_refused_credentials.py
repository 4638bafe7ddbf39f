"""The upstream refuses what it was shown: a token is replaced and the request sent once more, a key is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.model import CredentialState, CredentialUnavailable, Snapshot, Spawn
from proxy.observe.record import Ending
from tests.proxies import Proxies, Proxy
from tests.snapshots import ALL_POWERS, AUTHORIZATION, HANDSHAKE, make_snapshot, upstream_at
from tests.wires import OK, Message, Wire, chunked, request, response

UNKNOWN = b'{"code":7,"message":"API key does not exist or was deleted: \\"a2V5***\\"","details":[]}'
REFUSED = response("401 Unauthorized", "WWW-Authenticate: authentication is required", body=b'{"code":16}')


class Tokens:
    """A credential with a list of tokens; each refusal moves on to the next. Implements ``Credential``."""

    name = "live"
    kind = "session-token"
    power = ALL_POWERS
    renews = True

    def __init__(self, *tokens: str) -> None:
        self._tokens = [*tokens]
        self.dropped: list[bytes] = []
        self.doubts: list[bytes] = []

    def authorization(self) -> bytes | None:
        return f"Authorization: Bearer {self._tokens[0]}\r\n".encode() if self._tokens else None

    async def refresh(self) -> None:
        raise CredentialUnavailable(self.name, 7.2)

    def refused(self, line: bytes) -> bool:
        self.dropped.append(line)
        if line == self.authorization():
            del self._tokens[0]
        return True

    def doubted(self, line: bytes) -> None:
        self.doubts.append(line)

    def start(self, spawn: Spawn) -> None: ...

    def close(self) -> None: ...

    def state(self) -> CredentialState:
        return CredentialState(ready=bool(self._tokens), source="env", succeeded_at=0.0, source_reads={})


def with_credential(snapshot: Snapshot, tokens: Tokens) -> Snapshot:
    """The snapshot with this credential on every route."""
    (route,) = snapshot.routes
    route = replace(route, credential=tokens)
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    caller = replace(anonymous, routes=dict.fromkeys(anonymous.routes, route))
    policy = replace(snapshot.policy, anonymous=caller)
    return replace(snapshot, policy=policy, routes=(route,), credentials={tokens.name: tokens})


async def start(proxies: Proxies, tokens: Tokens) -> Proxy:
    upstream = await proxies.upstream()
    return await proxies.start(with_credential(make_snapshot(upstream_at(upstream.port)), tokens), upstream)


async def answer(wire: Wire, raw: bytes) -> Message:
    """Reads one request and answers it with these bytes."""
    seen = await wire.message()
    await wire.send(raw)
    return seen


async def tunnel(proxy: Proxy) -> tuple[Wire, Wire]:
    """The caller's and the upstream's end of an open WebSocket."""
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await caller.head()).status == 101
    return caller, wire


@pytest.mark.parametrize(
    "refusal",
    [
        REFUSED,
        response("401 Unauthorized"),
        response("403 Forbidden", body=UNKNOWN),
        b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b'{"code"', b":16}"),
        b"HTTP/1.0 401 Unauthorized\r\n\r\nUnauthorized",
    ],
)
async def test_a_refused_token_is_replaced_and_the_request_sent_once_more(proxies: Proxies, refusal: bytes) -> None:
    tokens = Tokens("old", "new")
    proxy = await start(proxies, tokens)
    caller = await proxy.caller()
    await caller.send(request("POST /tts/v1/voice", body=b"hello"))
    wire = await proxy.upstream.accept()
    first = await answer(wire, refusal)
    if refusal.startswith(b"HTTP/1.0"):
        wire.close()
        wire = await proxy.upstream.accept()
    second = await answer(wire, OK)
    assert (await caller.message()).content == b"ok"
    assert (first.head.all("authorization"), first.content) == (["Bearer old"], b"hello")
    assert (second.head.all("authorization"), second.content) == (["Bearer new"], b"hello")
    assert tokens.dropped == [b"Authorization: Bearer old\r\n"]
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    (record,) = proxy.records
    assert (record.status, record.ending, record.retried, record.request_bytes) == (200, Ending.ANSWERED, True, 5)
    assert proxy.upstream_connections("idle") == 1


async def test_the_second_refusal_is_the_callers_answer(proxies: Proxies) -> None:
    tokens = Tokens("old", "older", "oldest")
    proxy = await start(proxies, tokens)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await answer(wire, REFUSED)
    await answer(wire, REFUSED)
    got = await caller.message()
    assert (got.head.status, got.content) == (401, b'{"code":16}')
    assert len(tokens.dropped) == 2


async def test_without_another_token_the_caller_is_told_when_to_come_again(proxies: Proxies) -> None:
    proxy = await start(proxies, Tokens("only"))
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    await answer(await proxy.upstream.accept(), REFUSED)
    got = await caller.message()
    assert (got.head.status, got.head.get("retry-after")) == (503, "7")
    assert b"credential_unavailable" in got.content


async def test_a_body_over_the_replay_bound_is_not_sent_again(proxies: Proxies) -> None:
    tokens = Tokens("old", "new")
    proxy = await start(proxies, tokens)
    caller = await proxy.caller()
    await caller.send(request("POST /tts/v1/voice", body=b"x" * 65537))
    await answer(await proxy.upstream.accept(), REFUSED)
    assert (await caller.message()).head.status == 401
    assert tokens.dropped == [b"Authorization: Bearer old\r\n"]


async def test_a_body_of_just_the_replay_bound_is(proxies: Proxies) -> None:
    proxy = await start(proxies, Tokens("old", "new"))
    caller = await proxy.caller()
    await caller.send(request("POST /tts/v1/voice", body=b"x" * 65536))
    wire = await proxy.upstream.accept()
    await answer(wire, REFUSED)
    assert (await answer(wire, OK)).content == b"x" * 65536
    assert (await caller.message()).content == b"ok"


async def test_a_refused_handshake_is_made_again(proxies: Proxies) -> None:
    proxy = await start(proxies, Tokens("old", "new"))
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await answer(wire, REFUSED)
    head = await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert head.all("authorization") == ["Bearer new"]
    assert (await caller.head()).status == 101


async def test_a_static_key_is_never_tried_again_and_its_echo_is_unreadable(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    proxy = await proxies.start(snapshot, upstream)
    passed = await proxy.pass_on(request("GET /things"), response("403 Forbidden", body=UNKNOWN))
    assert passed.seen.head.all("authorization") == [AUTHORIZATION]
    assert passed.got.head.status == 403
    assert b"a2V5" not in passed.got.content
    assert b"API key does not exist" in passed.got.content
    assert len(passed.got.content) == len(UNKNOWN)
    assert snapshot.credentials["workspace"].state().refused


async def test_a_missing_permission_is_not_a_refused_credential(proxies: Proxies) -> None:
    tokens = Tokens("old", "new")
    proxy = await start(proxies, tokens)
    body = b'{"code":7,"message":"permission denied","details":[]}'
    passed = await proxy.pass_on(request("GET /things"), response("403 Forbidden", body=body))
    assert (passed.got.head.status, passed.got.content) == (403, body)
    assert tokens.dropped == []


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_long_error_body_passes_whole(proxies: Proxies, framing: str) -> None:
    proxy = await start(proxies, Tokens("old"))
    body = bytes(range(256)) * 1024
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    if framing == "close":
        await wire.send(b"HTTP/1.0 403 Forbidden\r\n\r\n" + body)
        wire.close()
    elif framing == "length":
        await wire.send(response("403 Forbidden", body=body))
    else:
        head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head + chunked(body[:70000], body[70000:]))
    got = await caller.message()
    assert (got.head.status, got.content) == (403, body)


async def test_an_error_body_that_breaks_off_is_a_bad_gateway(proxies: Proxies) -> None:
    """Nothing has gone to the caller yet, so it need not look broken: it can be said."""
    proxy = await start(proxies, Tokens("old"))
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{")
    wire.close()
    got = await caller.message()
    assert (got.head.status, b"upstream_closed" in got.content) == (502, True)


async def test_a_tunnel_that_the_upstream_ends_at_once_counts_against_the_token(proxies: Proxies) -> None:
    tokens = Tokens("doubtful")
    proxy = await start(proxies, tokens)
    caller, wire = await tunnel(proxy)
    wire.close()
    await caller.gone()
    caller.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert tokens.doubts == [b"Authorization: Bearer doubtful\r\n"]


async def test_a_tunnel_that_the_caller_ends_counts_against_nothing(proxies: Proxies) -> None:
    tokens = Tokens("good")
    proxy = await start(proxies, tokens)
    caller, wire = await tunnel(proxy)
    caller.close()
    await wire.gone()
    wire.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    assert tokens.doubts == []
