"""All checks in their order. What depends on something that failed is skipped, and says what that was.

A data server like that of ``serve`` is made for it, known to nobody but this process: the requests of the checks go
through it, so that they meet what a caller's would meet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType

import aiohttp

from proxy.core.model import LogFormat, LogSettings, Snapshot, TimeLimits, Upstream
from proxy.doctor.api import Answer, Door, Pair, check_clock, check_mint, check_read, check_socket, pairs_of
from proxy.doctor.certificate import check_own
from proxy.doctor.finding import Finding, State, within
from proxy.doctor.here import check_address, check_descriptors, check_redis
from proxy.doctor.settings import Told, examine_settings
from proxy.doctor.way import check_connection, check_name, check_tls
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.session.grants import make_token, session_caller, session_snapshot
from proxy.wire.server import DataServer

SHARE = 0.9
"""Of a check's time, what a step within it may take: then it is said which step it was."""

_SUCCEEDED = (State.OK, State.WARN)


async def examine(told: Told) -> AsyncIterator[Finding]:
    """Looks at everything, and says each thing when it is known."""
    loaded = await examine_settings(told)
    for finding in loaded.findings:
        yield finding
    snapshot = loaded.snapshot
    if snapshot is None:
        yield Finding("upstreams", State.SKIP, "the configuration has to load first")
        yield check_descriptors(None)
        return
    token = make_token()
    server = _make_server(snapshot, token, told.limit, loaded.usable)
    try:
        sound = set()
        for upstream in snapshot.upstreams.values():
            states = []
            async for finding in _examine_way(upstream, server, told.limit):
                yield finding
                states.append(finding.state)
            if all(state in _SUCCEEDED for state in states):
                sound.add(upstream.name)
        async for finding in _examine_api(server, token, told.limit, sound, loaded.usable):
            yield finding
    finally:
        await server.close()
    for setting, address in (("listen", snapshot.listen), ("admin", snapshot.admin)):
        yield await within(told.limit, setting, check_address(setting, address))
    if snapshot.tls is not None and not snapshot.tls.self_signed:
        yield check_own(snapshot.tls, time.time())
    if snapshot.shared_limits is not None:
        yield await within(told.limit, "redis", check_redis(snapshot.shared_limits))
    yield check_descriptors(snapshot)


def _make_server(snapshot: Snapshot, token: str, limit: float, usable: frozenset[str]) -> DataServer:
    loop = asyncio.get_running_loop()
    step = limit * SHARE
    limits = TimeLimits(connect=step, tls=step, first_byte=step, idle=step, drain=0.0)
    whole = replace(
        session_snapshot(snapshot, session_caller(snapshot, None), token, logs=False),
        # One without its secret must not mint with what stands for it.
        credentials=MappingProxyType({name: each for name, each in snapshot.credentials.items() if name in usable}),
        time=limits,
        log=LogSettings(LogFormat.OFF),
    )

    def current() -> Snapshot:
        return server.snapshot

    server = DataServer(whole, Metrics(current), RequestLog(whole.log, loop, lambda _: None), loop)
    return server


async def _examine_way(upstream: Upstream, server: DataServer, limit: float) -> AsyncIterator[Finding]:
    step = limit * SHARE
    failed = ""
    steps: tuple[tuple[str, Callable[[], Awaitable[Finding]]], ...] = (
        (f"dns {upstream.name}", lambda: check_name(upstream)),
        (f"tcp {upstream.name}", lambda: check_connection(upstream, step, server.spawn)),
        (f"tls {upstream.name}", lambda: check_tls(upstream, step, server.spawn, time.time())),
    )
    for name, check in steps:
        if failed:
            yield Finding(name, State.SKIP, f"`{failed}` has to be right first")
            continue
        finding = await within(limit, name, check())
        failed = "" if finding.state in _SUCCEEDED else name
        yield finding


async def _examine_api(
    server: DataServer, token: str, limit: float, sound: set[str], usable: frozenset[str]
) -> AsyncIterator[Finding]:
    host, port = await server.listen()
    timeout = aiohttp.ClientTimeout(total=None)  # each check has its own
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as http:
        door = Door(f"http://{host}:{port}", token, http)
        for pair in pairs_of(server.snapshot):
            why = _why_not(pair, sound, usable)
            if why is not None:
                for check in ("clock", "read", "mint", "websocket"):
                    yield Finding(f"{check} {pair.title}", State.SKIP, why)
                continue
            for finding in await _examine_pair(pair, door, limit):
                yield finding


def _why_not(pair: Pair, sound: set[str], usable: frozenset[str]) -> str | None:
    if pair.credential.name not in usable:
        return f"the secret of {pair.credential.name} has to be read first"
    return None if pair.upstream in sound else f"there is no way to {pair.upstream}"


async def _examine_pair(pair: Pair, door: Door, limit: float) -> list[Finding]:
    """The mint first, as the others need a token; told in the order in which they are read."""
    skew: float | None = None
    answers: list[Answer] = []

    async def mint() -> Finding:
        nonlocal skew
        finding, skew = await check_mint(pair)
        return finding

    async def read() -> Finding:
        finding, answer = await check_read(pair, door)
        answers.extend([answer] if answer is not None else [])
        return finding

    async def socket() -> Finding:
        finding, answer = await check_socket(pair, door, limit)
        answers.extend([answer] if answer is not None else [])
        return finding

    minted = await within(limit, f"mint {pair.title}", mint())
    if minted.state is State.FAIL:
        why = "there is no token"
        others = [Finding(f"{check} {pair.title}", State.SKIP, why) for check in ("read", "websocket")]
    else:
        others = [
            await within(limit, f"read {pair.title}", read()),
            await within(limit, f"websocket {pair.title}", socket()),
        ]
    dated = next((answer for answer in answers if answer.has_date), None)
    if skew is None and dated is not None:
        skew = dated.skew
    clock = check_clock(pair.title, skew, has_date=dated is not None)
    return [clock, others[0], minted, others[1]]
