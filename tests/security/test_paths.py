"""Whatever reaches the upstream was allowed however the upstream reads it. Real sockets, every reading."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.catalogue.load import load_built_in
from proxy.core.headers import sort_request_lines
from proxy.core.model import Allow, KeyPower, Policy, RequestHead
from proxy.core.policy import decide
from proxy.core.target import OperationTree, strip_query
from tests.proxies import Proxies, Proxy
from tests.security.readings import methods, paths, spell
from tests.security.targets import Attempt, attempts
from tests.snapshots import make_snapshot, upstream_at, with_policy
from tests.wires import OK, Head, Message, Wire

CATALOGUE = load_built_in("inworld")
ATTEMPTS = [*attempts(CATALOGUE.operations)]
AT_ONCE = 24
LEAST_REACHED = 500
"""So many attempts are harmless and must arrive: a proxy that refuses everything is safe and of no use."""


def _policy(snapshot_policy: Policy, *, lower: bool) -> Policy:
    operations = [replace(each, template=_lower(each.template)) if lower else each for each in CATALOGUE.operations]
    return replace(snapshot_policy, tree=OperationTree.of(operations))


def _lower(template: str) -> str:
    """Without case but for the names of variables, as a backend that does not tell case apart would declare it."""
    return "".join(part if part.startswith("{") else part.lower() for part in _split(template))


def _split(template: str) -> list[str]:
    out, rest = [], template
    while "{" in rest:
        before, _, after = rest.partition("{")
        name, _, rest = after.partition("}")
        out += [before, "{" + name + "}"]
    return [*out, rest]


@pytest.fixture
async def proxy(proxies: Proxies) -> Proxy:
    upstream = await proxies.upstream()
    upstream.always(OK)
    snapshot = make_snapshot(upstream_at(upstream.port), power=KeyPower())
    (route,) = snapshot.routes
    operations = {each.name: each for each in CATALOGUE.operations}
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    return await proxies.start(
        with_policy(
            snapshot,
            tree=OperationTree.of(CATALOGUE.operations),
            operations=operations,
            anonymous=replace(anonymous, routes=dict.fromkeys(operations, route)),
        ),
        upstream,
    )


def _bytes(number: int, attempt: Attempt) -> bytes:
    lines = [f"{attempt.method} {attempt.target} HTTP/1.1", "Host: 127.0.0.1", f"X-Case: {number}", *attempt.fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _try_all(proxy: Proxy, numbers: list[int], statuses: Counter[int]) -> None:
    """One caller's share, over as few connections as the proxy allows."""
    caller: Wire | None = None
    for number in numbers:
        attempt = ATTEMPTS[number]
        if caller is None:
            caller = await proxy.caller()
        await caller.send(_bytes(number, attempt))
        got = await caller.message(answers=attempt.method)
        statuses[got.head.status] += 1
        if got.head.get("Connection") == "close" or "HTTP" in attempt.target or attempt.method == "HEAD":
            await caller.cleanup()
            caller = None


def test_the_corpus_is_large_and_has_no_attempt_twice() -> None:
    assert len(ATTEMPTS) == len({*ATTEMPTS}) > 20_000


@pytest.mark.asyncio
async def test_whatever_reaches_the_upstream_was_allowed_under_every_reading(
    proxy: Proxy, tried: Callable[[int], None]
) -> None:
    statuses: Counter[int] = Counter()
    shares = [[*range(start, len(ATTEMPTS), AT_ONCE)] for start in range(AT_ONCE)]
    await asyncio.gather(*(_try_all(proxy, share, statuses) for share in shares))
    tried(statuses.total())
    assert statuses.total() == len(ATTEMPTS)
    assert not {status for status in statuses if status >= 500} - {505}, statuses
    policy = proxy.server.snapshot.policy
    exact, lower = _policy(policy, lower=False), _policy(policy, lower=True)
    wrong = []
    for seen in proxy.upstream.requests:
        attempt = ATTEMPTS[int(seen.head.get("X-Case") or "")]
        wrong += [(attempt, fault) for fault in _faults(exact, lower, attempt, seen)]
    assert not wrong, (len(wrong), wrong[:10])
    assert len(proxy.upstream.requests) == statuses[200] >= LEAST_REACHED


def _faults(exact: Policy, lower: Policy, attempt: Attempt, seen: Message) -> list[str]:
    """What is wrong with this having arrived."""
    faults = []
    path, mark, query = attempt.target.partition("?")
    kept = strip_query(query, frozenset({"key"}))
    if seen.head.target != (path if query and not kept else path + mark + kept):
        faults.append(f"{seen.head.target} is not what was judged")
    fields = dict(seen.head.fields)
    handshake = "Upgrade" in fields
    for method in methods(seen.head.line.partition(" ")[0], seen.head.target, fields):
        for name, read in paths(seen.head.target):
            policy = lower if name == "lower case" else exact
            if not isinstance(decide(policy, _head(method, spell(name, read), handshake), 0.0), Allow):
                faults.append(f"{method} {read} ({name})")
    return faults


def _head(method: str, target: str, handshake: bool) -> RequestHead:
    lines = [b"Host: 127.0.0.1"]
    if handshake:
        lines += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
    kept, noted, _ = sort_request_lines(lines)
    return RequestHead(method, target, 11, kept, noted)


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("POST", "/voices/v1/voices%3Aclone", ""),
        ("POST", "/tts/v1/../../voices/v1/voices:clone", ""),
        ("POST", "/tts/v1/voice/%252e%252e/%252e%252e/voices/v1/voices:clone", ""),
        ("POST", "/tts/v1/voice\\..\\..\\..\\voices\\v1\\voices:clone", ""),
        ("POST", "/tts;x/v1/voice", ""),
        ("POST", "/lro/v1alpha/..;/..;/voices/v1/voices:clone", ""),
        ("POST", "http://127.0.0.1/voices/v1/voices:clone", ""),
        ("POST", "/VOICES/v1/voices:clone", ""),
        ("POST", "/tts/v1/voice%00x", ""),
        ("POST", "/tts/v1/voice#/../../../voices/v1/voices:clone", ""),
        ("POST", "/voices/v1/voices:clone%20", ""),
        ("GET", "/voices/v1/voices/x?_method=DELETE", ""),
        ("GET", "/voices/v1/voices/x", "X-HTTP-Method-Override: delete"),
        ("QUERY", "/tts/v1/voice", ""),
        ("POST", "//voices/v1/voices:clone", ""),
    ],
)
async def test_what_has_fooled_others_would_be_noticed_here(proxy: Proxy, method: str, target: str, field: str) -> None:
    """The judge itself: each of these, had it arrived, is a fault under some reading."""
    raw = f"{method} {target} HTTP/1.1\r\nX-Case: 0\r\n{field}".encode("latin-1").rstrip(b"\r\n") + b"\r\n\r\n"
    policy = proxy.server.snapshot.policy
    exact, lower = _policy(policy, lower=False), _policy(policy, lower=True)
    assert _faults(exact, lower, Attempt(method, target), Message(Head.read(raw), b"", b""))
