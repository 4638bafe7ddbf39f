"""Traffic does not depend on who reads the log: what cannot be written is counted, and nothing waits for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes.running import GET, START, Processes, Running, ask, listening
from tests.wires import OK, ScriptedUpstream, Wire, bounded, request

OUTPUT = {"closed": "&-"} | ({"full": "/dev/full"} if Path("/dev/full").exists() else {})
"""Where the shell sends standard output to."""

NOWHERE = request("GET /nowhere")
AT_ONCE = 500
ENOUGH = 26_000
"""Lines: a pipe takes 64 KiB of them, and the writer keeps 20 000 for a reader that may come back."""


@contextlib.asynccontextmanager
async def _caller(processes: Processes, running: Running) -> AsyncIterator[Wire]:
    wire = await processes.wire(running.port)
    yield wire
    await wire.cleanup()


async def _is_well(processes: Processes, running: Running) -> None:
    async with _caller(processes, running) as caller:
        await caller.send(GET)
        assert (await caller.message()).head.status == 200


@pytest.fixture
async def answering(processes: Processes) -> Processes:
    upstream = ScriptedUpstream()
    upstream.always(OK)
    await processes.put(upstream)
    return processes


async def _with_output(processes: Processes, how: str) -> Running:
    if how != "broken":
        return await processes.start("one", before=("sh", "-c", f'exec "$@" >{OUTPUT[how]}', "sh"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return await processes.start("one", stdout=writing)
    finally:
        os.close(writing)


@pytest.mark.parametrize("how", ["broken", *OUTPUT])
async def test_what_cannot_be_written_is_counted_and_traffic_goes_on(answering: Processes, how: str) -> None:
    running = await _with_output(answering, how)
    for _ in range(20):
        await _is_well(answering, running)
    while (metrics := await running.metrics())["log_lines_dropped_total"] < 20:
        await _is_well(answering, running)  # lost lines are counted when the next are handed over
    assert metrics["log_lines_dropped_total"] <= metrics["requests_accepted_total"]
    assert metrics['requests_ended_total{ending="answered"}'] == metrics["requests_accepted_total"]
    assert await bounded(running.stop()) == 0
    assert "Traceback" not in running.said


async def test_with_no_standard_descriptor_at_all_no_log_is_written_into_a_connection(processes: Processes) -> None:
    # Whatever is opened first would have the number of standard output: a listener, or a caller's connection.
    with listening() as sock:
        await processes.begin(
            "silent", "--fd", str(sock.fileno()), pass_fds=(sock.fileno(),),
            before=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"),
        )  # fmt: skip
        callers = [await processes.wire(sock.getsockname()[1]) for _ in range(5)]
        callers[0].patience = START
        for caller in callers * 3:
            assert (await ask(caller)).content == b"silent"


async def test_a_pipe_that_nobody_reads_stops_nothing_and_the_end_does_not_wait_for_it(answering: Processes) -> None:
    reading, writing = os.pipe()
    try:
        running = await answering.start("one", stdout=writing)
        os.close(writing)
        async with _caller(answering, running) as caller:
            for _ in range(ENOUGH // AT_ONCE):
                caller.feed(NOWHERE * AT_ONCE)
                first = await caller.message()
                await caller.exactly((AT_ONCE - 1) * (len(first.head.raw) + len(first.body)))
        await _is_well(answering, running)
        metrics = await running.metrics()
        assert 2_000 < metrics["log_lines_dropped_total"] < ENOUGH
        assert metrics["requests_accepted_total"] == ENOUGH + 1
        assert await bounded(running.stop()) == 0
    finally:
        os.close(reading)
