"""Several proxies count a caller's rate together in Redis; without Redis each goes on alone or refuses, and says so.

Redis counts by its own clock, which no test moves: bounds are computed from that clock, read before and after. They
hold on a machine of any speed, because whoever is slow is granted more and has taken longer. For the same reason the
proxies here wait for Redis longer than their quarter of a second, and do so by themselves only while it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.model import CallerLimits, SharedLimits, Snapshot
from proxy.limits.leases import LEAD
from proxy.observe.families import registry_of
from tests.proxies import Proxies, Proxy
from tests.redis_server import RedisServer, Unhurried
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK, Message, ScriptedUpstream, bounded, request

TOKENS = {"shop": "a-shared-token-of-the-shop", "other": "a-shared-token-of-the-other"}
PASSWORD = "a-password-that-nobody-may-read"

pytestmark = pytest.mark.usefixtures("unhurried")

SELDOM = 0.01
"""A rate at which nothing comes back while a test runs."""

LINE = 60.0
"""Seconds that a request may stand in line for its turn."""

AT_ONCE = 4.0
"""Seconds for an answer that waits for nothing but a busy machine: fewer than whatever it must not wait for. The least
of that are the five after which the client of Redis gives up by itself."""


def ask(who: str = "shop") -> bytes:
    return request("GET /things", f"Authorization: Bearer {TOKENS[who]}")


async def _replica(
    proxies: Proxies,
    url: str,
    *,
    rate: float,
    queue: float = 0.0,
    concurrent: int | None = None,
    fail_open: bool = True,
) -> Proxy:
    upstream = await proxies.upstream()
    upstream.always(OK)
    limits = CallerLimits(rate, concurrent, queue)
    snapshot = make_snapshot(upstream_at(upstream.port), tokens=TOKENS, limits=limits)
    return await _share(proxies, snapshot, SharedLimits(url, fail_open), upstream)


async def _share(proxies: Proxies, snapshot: Snapshot, shared: SharedLimits, upstream: ScriptedUpstream) -> Proxy:
    proxy = await proxies.start(replace(snapshot, shared_limits=shared), upstream)
    # It asks for as long as it serves: ended before the check that nothing is left to do.
    proxies._stack.callback(proxy.server.gates.share, None, proxy.server.spawn)
    return proxy


async def _many(proxy: Proxy, count: int, who: str = "shop") -> list[int]:
    """The statuses of so many requests, one after the other on one connection."""
    caller = await proxy.caller()
    await caller.send(ask(who) * count)
    return [(await caller.message()).head.status for _ in range(count)]


def _value(proxy: Proxy, name: str, **labels: str) -> float | None:
    return registry_of(proxy.metrics).get_sample_value(f"inworld_proxy_shared_limits_{name}", labels)


async def _until(true: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not true():  # noqa: ASYNC110 - looks at the metrics from outside, which tells nobody
            await asyncio.sleep(0.002)

    await bounded(wait())


async def _timed(proxy: Proxy) -> tuple[Message, float]:
    began = time.monotonic()
    return await proxy.ask(ask()), time.monotonic() - began


# -- one budget -------------------------------------------------------------------------------------------------------


async def test_two_replicas_have_one_budget(proxies: Proxies, redis_server: RedisServer) -> None:
    rate = 30.0
    replicas = [await _replica(proxies, redis_server.url, rate=rate) for _ in range(2)]
    began = await redis_server.now()
    statuses = [*await asyncio.gather(*(_many(replica, 60) for replica in replicas))]
    elapsed = await redis_server.now() - began
    served = sum(each.count(200) for each in statuses)
    assert {status for each in statuses for status in each} == {200, 429}
    assert rate <= served <= rate + rate * elapsed + 1
    # What became of each lease is counted, and nobody had to do without Redis.
    for replica in replicas:
        assert _value(replica, "up") == 1
        assert (_value(replica, "leases_total", result="granted") or 0) >= 1
        assert _value(replica, "fallback_requests_total", choice="open") == 0
        assert len(replica.upstream.requests) <= served


async def test_over_seconds_they_together_keep_to_the_rate(proxies: Proxies, redis_server: RedisServer) -> None:
    rate, count = 60.0, 180
    replicas = [await _replica(proxies, redis_server.url, rate=rate, queue=LINE) for _ in range(2)]
    began = await redis_server.now()
    callers = [replica for replica in replicas for _ in range(3)]
    statuses = [*await bounded(asyncio.gather(*(_many(caller, count // 6) for caller in callers)), LINE)]
    elapsed = await redis_server.now() - began
    assert all(each == [200] * (count // 6) for each in statuses)
    assert elapsed >= (count - rate) / rate - LEAD * len(replicas)  # a burst, and from then on the rate


async def test_callers_take_nothing_from_each_other(proxies: Proxies, redis_server: RedisServer) -> None:
    one = await _replica(proxies, redis_server.url, rate=SELDOM)
    two = await _replica(proxies, redis_server.url, rate=SELDOM)
    assert await _many(one, 2) == [200, 429]
    assert await _many(two, 1) == [429]
    assert await _many(two, 2, "other") == [200, 429]
    assert await _many(one, 1, "other") == [429]
    got = await one.ask(ask())
    assert int(got.head.get("Retry-After") or 0) > 10
    assert "rate_limited" in got.content.decode()


async def test_concurrency_is_counted_by_each_for_itself(proxies: Proxies, redis_server: RedisServer) -> None:
    replicas = []
    for _ in range(2):
        upstream = await proxies.upstream()
        snapshot = make_snapshot(upstream_at(upstream.port), tokens=TOKENS, limits=CallerLimits(100.0, 1))
        replicas.append(await _share(proxies, snapshot, SharedLimits(redis_server.url), upstream))
    open_requests = []
    for replica in replicas:
        caller = await replica.caller()
        await caller.send(ask())
        open_requests.append((caller, await replica.upstream.accept()))
        assert "concurrency_limited" in (await replica.ask(ask())).content.decode()
    for caller, wire in open_requests:
        await wire.send(OK)
        assert (await caller.message()).head.status == 200


async def test_requests_within_a_lease_make_no_round_trip(proxies: Proxies, redis_server: RedisServer) -> None:
    proxy = await _replica(proxies, redis_server.url, rate=20_000.0)
    assert await _many(proxy, 200) == [200] * 200
    before, began = await _questions(redis_server), time.monotonic()
    assert await _many(proxy, 2000) == [200] * 2000
    asked, seconds = await _questions(redis_server) - before, time.monotonic() - began
    assert asked <= 30 + 40 * seconds  # by time, and not by requests


async def _questions(server: RedisServer) -> int:
    return int((await server.ask("INFO", "commandstats"))["cmdstat_eval"]["calls"])


# -- Redis is gone ----------------------------------------------------------------------------------------------------


async def test_open_goes_on_alone_while_redis_is_gone(
    proxies: Proxies, redis_server: RedisServer, unhurried: Unhurried, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "proxy")
    proxy = await _replica(proxies, redis_server.url, rate=SELDOM)
    assert await _many(proxy, 2, "other") == [200, 429]
    await redis_server.kill()
    unhurried.end()
    got, seconds = await _timed(proxy)
    assert (got.head.status, seconds < AT_ONCE) == (200, True)
    assert await _many(proxy, 2) == [429, 429]  # its own rate still holds
    assert _value(proxy, "up") == 0
    assert _value(proxy, "fallback_requests_total", choice="open") == 1
    unhurried.begin()
    await redis_server.start()
    await _until(lambda: _value(proxy, "up") == 1)
    assert await _many(proxy, 1) == [200]  # a new server knows of nothing
    said = [record.getMessage() for record in caplog.records if "shared limits" in record.getMessage()]
    assert len(said) <= 4
    assert "are counted in Redis at 127.0.0.1" in said[0]
    assert "each process counts for itself" in said[1]
    assert "are counted in Redis at 127.0.0.1" in said[-1]


async def test_closed_refuses_while_redis_is_gone(
    proxies: Proxies, redis_server: RedisServer, unhurried: Unhurried
) -> None:
    proxy = await _replica(proxies, redis_server.url, rate=5.0, queue=LINE, fail_open=False)
    assert await _many(proxy, 1) == [200]
    await redis_server.kill()
    unhurried.end()
    for _ in range(3):
        got, seconds = await _timed(proxy)
        assert got.head.line == "HTTP/1.1 503 Service Unavailable"
        assert got.head.get("Retry-After") == "1"
        assert "limits_unavailable" in got.content.decode()
        assert seconds < AT_ONCE
    assert (_value(proxy, "fallback_requests_total", choice="closed") or 0) >= 3
    unhurried.begin()
    await redis_server.start()
    await _until(lambda: _value(proxy, "up") == 1)
    assert await _many(proxy, 1) == [200]


@pytest.mark.parametrize(("fail_open", "status"), [(True, 200), (False, 503)])
async def test_a_server_that_does_not_answer_keeps_nobody_waiting(
    proxies: Proxies, redis_server: RedisServer, unhurried: Unhurried, fail_open: bool, status: int
) -> None:
    proxy = await _replica(proxies, redis_server.url, rate=100.0, queue=LINE, fail_open=fail_open)
    assert await _many(proxy, 1) == [200]
    redis_server.pause()
    unhurried.end()
    answers = await asyncio.gather(*(_timed(proxy) for _ in range(5)))
    assert [got.head.status for got, _ in answers] == [status] * 5
    assert max(seconds for _, seconds in answers) < AT_ONCE
    assert _value(proxy, "leases_total", result="failed") == 1
    unhurried.begin()  # whoever asked it once more would notice
    got, seconds = await _timed(proxy)
    assert (got.head.status, seconds < AT_ONCE) == (status, True)
    redis_server.go_on()
    await _until(lambda: _value(proxy, "up") == 1)
    assert await _many(proxy, 1) == [200]


async def test_a_wrong_password_is_said_and_the_right_one_never_shown(
    proxies: Proxies, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await redis_server.ask("CONFIG", "SET", "requirepass", PASSWORD)
    wrong = await _replica(proxies, f"redis://:not-{PASSWORD}@127.0.0.1:{redis_server.port}", rate=5.0)
    right = await _replica(proxies, f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}", rate=5.0)
    assert await _many(wrong, 1) == await _many(right, 1) == [200]
    await _until(lambda: _value(right, "up") == 1)
    state = wrong.server.gates.shared_state()
    assert state is not None
    assert (state.up, state.fault) == (False, "it does not accept the user and password of its URL, or wants some")
    assert state.fault in caplog.text
    for shown in (caplog.text, repr(right.server.snapshot), repr(state)):
        assert PASSWORD not in shown


async def test_another_server_can_be_taken_while_serving(proxies: Proxies, redis_server: RedisServer) -> None:
    proxy = await _replica(proxies, redis_server.url, rate=SELDOM)
    assert await _many(proxy, 2) == [200, 429]
    for url in (f"unix://{redis_server.socket}?db=1", None):
        shared = None if url is None else SharedLimits(url)
        proxy.server.adopt(replace(proxy.server.snapshot, shared_limits=shared))
        assert await _many(proxy, 2) == [200, 429]
    assert _value(proxy, "up") is None
