"""Plays a row, and checks all that must be true after it: what was got, logged and counted, what is left, what follows.

What belongs here: what is checked of every row alike. What does not: anything about one fault.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from proxy.observe.record import Ending, Record
from tests.certificates import Certificates
from tests.faults.reading import Answer, read_answer
from tests.faults.row import MARK, Expected, Row
from tests.faults.scene import PRIMER, Scene
from tests.proxies import Proxies
from tests.snapshots import AUTHORIZATION, KEY
from tests.wires import bounded, request

_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.1\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9]")


async def play(row: Row, certificates: Certificates) -> float:
    """Plays the row. Returns how long the upstream, or else the log, took to hear that the caller left."""
    sockets = _open_sockets()
    proxies = Proxies()
    with pytest.MonkeyPatch.context() as patch:
        scene = Scene(proxies, certificates, patch)
        try:
            await row.stage(scene)
            scene.caller = await scene.calls()
            scene.caller.feed(row.sends)
            await row.fault(scene)
            seconds = await _check(row, scene)
            await _check_what_follows(row, scene)
        finally:
            scene.first.close()
            try:
                await proxies.cleanup()
            finally:
                await scene.stack.aclose()
    await _check_leaks(sockets)
    return seconds


async def _check(row: Row, scene: Scene) -> float:
    proxy, before = scene.proxy, scene.others
    answer = await _settled(row, scene)
    _check_answer(row.expected, answer)
    await proxy.metrics.until(lambda metrics: metrics.in_flight == 0)
    records = [record for record in proxy.records if record.path != PRIMER]
    assert len(records) == 1, records
    _check_record(row, records[0])
    metrics = proxy.metrics
    endings = [0] * len(Ending)
    endings[Ending.ANSWERED] = before
    endings[row.expected.ending] += 1
    assert metrics.endings == endings
    counted = {code: count for (_, code), count in metrics.upstream_errors.items()}
    assert counted == dict(row.upstream_errors)
    refusals = {code: count for (code, *_), count in metrics.refusals.items()}
    assert refusals == ({row.expected.code: 1} if row.expected.ending is Ending.REFUSED else {})
    assert sum(metrics.upstream_dials.values()) == row.dials
    assert (proxy.upstream_connections("active"), proxy.upstream_connections("idle")) == (0, row.idle)
    await _check_upstream(row, scene)
    return _seconds_until_heard(scene, records[0])


async def _settled(row: Row, scene: Scene) -> Answer | None:
    """What the caller has, once there is nothing more to come."""
    caller, method = scene.caller, row.sends.partition(b" ")[0].decode()

    def read() -> Answer | None:
        ended = caller.ended_at is not None
        return read_answer(bytes(caller.received), method, ended=ended, error=caller.error is not None)

    if row.kept:
        await caller.until(lambda wire: (answer := read()) is not None and answer.whole)
    else:
        await caller.until_ended()
    answer = read()
    if answer is not None and answer.head.status != 101:
        assert answer.rest == b""
        assert _STATUS_LINE.search(answer.content) is None, "an answer inside of an answer"
    return answer


def _check_answer(expected: Expected, answer: Answer | None) -> None:
    if answer is None or expected.shown is None:
        assert (answer, expected.shown) == (None, None)
        return
    head = answer.head
    assert head.status == expected.shown
    if head.status != 101:
        assert answer.whole is expected.whole
    if expected.content is not None:
        assert answer.content == expected.content
    ours = head.get("Proxy-Status")
    if expected.ending in (Ending.FAILED, Ending.REFUSED):
        assert ours is not None
        assert ours.endswith(f'details="{expected.code}"')
        assert head.all("Content-Length") != ["0"]
        if answer.content:
            assert str(expected.code).encode() in answer.content
    else:
        assert ours is None
    assert (head.get("Retry-After") is not None) is expected.again_after


def _check_record(row: Row, record: Record) -> None:
    expected = row.expected
    code = None if record.code is None else record.code.value
    assert (record.ending.word, record.status, code) == (expected.ending.word, expected.logged, expected.code)
    assert record.retried is row.retried


async def _check_upstream(row: Row, scene: Scene) -> None:
    """The request arrived as often as the row says, a write never twice, and nothing that is no request at all."""
    await _only_the_pool_is_left(scene)
    seen = b"\r\n\r\n".join(bytes(wire.received) for wire in scene.upstream.wires)
    method = row.sends.partition(b" ")[0]
    arrived = len(re.findall(rb"%b [^ \r\n]+\?%b HTTP/1\.1\r\n" % (method, MARK.encode()), seen))
    assert arrived == row.arrived
    assert method in (b"GET", b"HEAD") or arrived <= 1
    assert len(_REQUEST_LINE.findall(seen)) == arrived + scene.others
    if not arrived and not scene.others:
        assert KEY.encode() not in seen
        assert all(wire.received[:1] in (b"", b"\x16") for wire in scene.upstream.wires), "more than a TLS greeting"


async def _only_the_pool_is_left(scene: Scene) -> None:
    """Whatever the upstream ever accepted has ended, but for what waits in the pool."""
    pooled = scene.pooled()
    assert len(pooled) == scene.proxy.upstream_connections("idle")
    for wire in scene.upstream.wires:
        if wire not in pooled:
            wire.read_again()
            await wire.until_broken()
            await wire.until_ended()


def _seconds_until_heard(scene: Scene, record: Record) -> float:
    if scene.left_at is None:
        return 0.0
    # Where the upstream has no connection that could end, the log says when the proxy was done.
    ended = record.ended if scene.wire is None else scene.wire.ended_at
    assert ended is not None
    return ended - scene.left_at


async def _check_what_follows(row: Row, scene: Scene) -> None:
    """The same proxy serves the next requests, on clean connections: a read, then a write, each its own answer."""
    if row.healed is not None:
        await row.healed(scene)
    caller = scene.caller if row.kept else await scene.calls()
    read = request(f"GET {PRIMER}?after", *scene.fields)
    write = request("POST /tts/v1/voice?after", *scene.fields, body=b"after")
    for number, raw in enumerate((read, write)):
        body = b"the answer to request %d after the fault" % number
        seen, got = await scene.exchange(caller, raw, body)
        assert (seen.head.raw.count(b"?after HTTP/1.1\r\n"), seen.content) == (1, raw.partition(b"\r\n\r\n")[2])
        assert (got.head.status, got.content) == (200, body)
        authorization = seen.head.get("Authorization")
        assert authorization is not None
        assert authorization == AUTHORIZATION or authorization.startswith("Bearer ")
    await _only_the_pool_is_left(scene)
    if not row.idle:
        assert scene.proxy.upstream_connections("idle") == 1


def _open_sockets() -> int:
    """How many sockets this process, which holds every end of every connection, has open."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(each.readlink()))
        except FileNotFoundError:
            continue  # the folder itself, while it was listed
    return sum(link.startswith("socket:") for link in links)


async def _check_leaks(sockets: int) -> None:
    """No task and no socket is left that was not there before."""

    async def wait() -> None:
        while _open_sockets() > sockets or len(asyncio.all_tasks()) > 2:  # noqa: ASYNC110 - closing tells nobody
            await asyncio.sleep(0)

    try:
        await bounded(wait())
    except TimeoutError:
        pytest.fail(f"{_open_sockets() - sockets} sockets are left, and {asyncio.all_tasks()}")
