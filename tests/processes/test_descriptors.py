"""A process short of descriptors: who is served goes on being served, who comes waits, and it recovers alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from tests.processes.running import GET, Processes, Running, ask
from tests.wires import Wire, bounded, request

LIMIT = 100
FEW = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
WAIT = "new connections wait"
GO_ON = "accepted again"


def _balanced(metrics: dict[str, float]) -> bool:
    ended = sum(value for name, value in metrics.items() if name.startswith("requests_ended_total"))
    return metrics["requests_accepted_total"] == ended and metrics["requests_in_flight"] == 0


async def _ask_all_at_once(wires: Sequence[Wire]) -> list[int]:
    return [message.head.status for message in await asyncio.gather(*map(ask, wires))]


async def test_more_callers_than_descriptors_wait_and_nobody_who_was_accepted_is_dropped(processes: Processes) -> None:
    running = await processes.start("small", before=FEW)
    callers = [await processes.wire(running.port) for _ in range(LIMIT)]
    await running.until(WAIT)
    metrics = dict(await running.metrics())
    accepted = int(metrics["caller_connections"])
    assert (metrics["listener_paused"], metrics["listener_pauses_total"]) == (1, 1)
    assert 20 < accepted < LIMIT - 32
    # Half of those that are there ask at once: for every one of them there is a connection to the upstream.
    busy = callers[: accepted // 2]
    assert await _ask_all_at_once(busy) == [200] * len(busy)
    # The others wait. They are known to wait because everybody before them was served meanwhile.
    for caller in callers[accepted:]:
        await caller.send(GET)
    assert await _ask_all_at_once(busy) == [200] * len(busy)
    assert running.said.count(WAIT) == 1
    for caller in callers[:accepted]:
        await caller.cleanup()
    for caller in callers[accepted:]:
        assert (await caller.message()).head.status == 200
        await caller.cleanup()
    await running.until(GO_ON)
    assert (await ask(await processes.wire(running.port))).head.status == 200
    metrics = dict(await running.metrics())
    assert _balanced(metrics)
    assert metrics["caller_connections_opened_total"] == LIMIT + 1
    assert metrics["requests_accepted_total"] == 2 * len(busy) + (LIMIT - accepted) + 1
    assert metrics['requests_ended_total{ending="answered"}'] == metrics["requests_accepted_total"]
    assert metrics["listener_paused"] == 0
    assert running.said.count(WAIT) == running.said.count(GO_ON) == metrics["listener_pauses_total"]
    assert await running.stop() == 0


async def _fill(processes: Processes, running: Running) -> list[Wire]:
    """Takes every descriptor that is left, by way of the operator's listener: it does not look at the table."""
    taken: list[Wire] = []
    while len(taken) < LIMIT:
        wire = await processes.wire(running.admin)
        taken.append(wire)
        with contextlib.suppress(ConnectionError):
            await wire.send(request("GET /healthz"))
            if await wire.some():
                continue
        break  # it was closed unanswered: there was no descriptor for it
    return taken


async def test_when_something_else_takes_all_descriptors_new_callers_wait_and_the_others_are_told(
    processes: Processes,
) -> None:
    running = await processes.start("small", before=FEW)
    caller = await processes.wire(running.port)
    assert (await ask(caller)).head.status == 200
    others = await _fill(processes, running)
    await running.until(WAIT)
    late = await processes.wire(running.port)
    await late.send(GET)
    # Its connection to the upstream was given up to make room, and taken: there is none to be had.
    statuses = set()
    while 503 not in statuses:
        refused = await ask(caller)
        statuses.add(refused.head.status)
        others += await _fill(processes, running)
    assert b"descriptors_exhausted" in refused.head.raw + refused.content
    assert statuses <= {200, 503}
    for wire in others:
        await wire.cleanup()
    await running.until(GO_ON)
    assert (await ask(caller)).head.status == 200
    assert (await late.message()).head.status == 200
    metrics = dict(await running.metrics())
    assert metrics["listener_paused"] == 0
    assert _balanced(metrics)
    assert await bounded(running.stop()) == 0


async def test_a_process_takes_all_the_descriptors_that_it_may_have(processes: Processes) -> None:
    running = await processes.start("more", before=("sh", "-c", 'ulimit -S -n 256; ulimit -H -n 1000; exec "$@"', "sh"))
    text = (await running.ask_admin("/metrics")).content.decode()
    assert "process_max_fds 1000.0" in text
    assert await running.stop() == 0
