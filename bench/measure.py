"""The tests: what one round of each does to one target, and which figures come of it. No rounds and no ratios here."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvloop

from bench import bulk, contract, load, processes
from bench.asked import request
from bench.load import Seen
from bench.processes import Launch, Process, find
from bench.rig import Rig, Running

WRK_CONNECTIONS = 64
PACED_RATE, PACED_CONNECTIONS = 500, 50
SOCKETS = 100
IDLE = 1000

Figures = dict[str, float]
"""By metric; `errors` is always there."""


@dataclass(frozen=True)
class Options:
    """What of the tests can be chosen."""

    seconds: float
    streams: int


@dataclass(frozen=True)
class Metric:
    """A column of figures. The first of a test is the one that is drawn."""

    name: str
    unit: str
    digits: int = 1


@dataclass(frozen=True)
class Test:
    """``most_rounds`` bounds those that start processes; ``direct`` says whether it can be done without a proxy."""

    name: str
    words: str
    metrics: tuple[Metric, ...]
    run: Callable[[Rig, Running, Options], Figures]
    most_rounds: int = 1000
    direct: bool = True
    needs: str = ""


class _Meter:
    """What a target has used so far, in nanoseconds; it is read where a window begins and where it ends."""

    def __init__(self, running: Running) -> None:
        self._family = running.family()
        self._watch = running.watch
        self._waited: list[int] = []

    def __call__(self) -> int:
        if self._watch is not None:
            self._watch()
        used = processes.usage(self._family)
        self._waited.append(used.waited)
        return used.ran

    def waited(self) -> int:
        """For how long it waited for its core between the two."""
        return self._waited[-1] - self._waited[0]


def _figures(seen: Seen, meter: _Meter, delay: float = 0.0) -> Figures:
    """CPU in microseconds per operation; how much of its core the proxy wanted; the median delay, its unit in ns."""
    figures: Figures = {"errors": seen.errors, "operations": seen.operations}
    if seen.operations and seen.seconds:
        figures["rate"] = seen.operations / seen.seconds
        if seen.used:
            figures["cpu"] = seen.used / 1e3 / seen.operations
            figures["wanted"] = (seen.used + meter.waited()) / 1e9 / seen.seconds
    if delay and seen.delays:
        figures["p50"] = statistics.median(seen.delays) / delay
    return figures


def _loaded(work: Coroutine[Any, Any, Seen], seconds: float) -> Seen:
    async def bounded() -> Seen:
        async with asyncio.timeout(seconds + 2 * load.PATIENCE):
            return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


# -- what wrk asks ----------------------------------------------------------------------------------------------------


def wrk(mode: str, *fields: str) -> Callable[[Rig, Running, Options], Figures]:
    """A run of wrk; ``fields`` go into the heads of all requests."""
    path = contract.SPEAK if mode == "post" else contract.VOICES

    def run(rig: Rig, running: Running, options: Options) -> Figures:
        seconds = max(1, math.ceil(options.seconds))  # wrk knows whole seconds only
        words = [
            find("wrk") or "wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", "-s", "bench/wrk.lua",
            *(word for field in (f"Authorization: {running.authorization}", *fields) for word in ("-H", field)),
            f"http://127.0.0.1:{running.place.port}{path}", "--", mode,
        ]  # fmt: skip
        output = rig.folder / "wrk.log"
        meter = _Meter(running)
        before = meter()
        process = Process(Launch(words, output, {}, contract.ROOT), rig.load)
        try:
            process.wait(seconds + load.PATIENCE)
        finally:
            process.stop()
        used = meter() - before
        found = re.search(r"^figures (\d+) (\d+) (\d+) (\d+) (\d+)$", output.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise OSError(f"wrk said: {process.said()}")
        requests, passed, statuses, lost, _median = map(int, found.groups())
        return _figures(Seen(requests, statuses + lost, passed / 1e6, used), meter)

    return run


# -- what we ask ------------------------------------------------------------------------------------------------------


def _delay(rig: Rig, running: Running, options: Options) -> Figures:
    asked = request("GET", contract.VOICES, running.authorization)
    meter = _Meter(running)
    with rig.on_one_core():
        work = load.paced(running.place.port, asked, PACED_CONNECTIONS, PACED_RATE, options.seconds, meter)
        return _figures(_loaded(work, options.seconds), meter, delay=1e3)


def _stream(_: Rig, running: Running, options: Options) -> Figures:
    meter = _Meter(running)
    work = load.streams(running.place.port, running.authorization, options.streams, options.seconds, meter)
    return _figures(_loaded(work, options.seconds), meter, delay=1e6)


def _socket(size: int) -> Callable[[Rig, Running, Options], Figures]:
    def run(_: Rig, running: Running, options: Options) -> Figures:
        meter = _Meter(running)
        work = load.echoes(running.place.port, running.authorization, size, SOCKETS, options.seconds, meter)
        return _figures(_loaded(work, options.seconds), meter)

    return run


def _idle(*, sockets: bool) -> Callable[[Rig, Running, Options], Figures]:
    def run(rig: Rig, running: Running, _: Options) -> Figures:
        with rig.fresh(running) as fresh:
            assert fresh.process is not None
            work = load.idle(fresh.place.port, fresh.authorization, IDLE, fresh.process.memory, sockets=sockets)
            seen = _loaded(work, 1.0)
        return {"errors": seen.errors, "memory": seen.used / 1024 / IDLE}

    return run


def _bulk(move: Callable[[int, str, float, Callable[[], int]], Seen]) -> Callable[[Rig, Running, Options], Figures]:
    def run(_: Rig, running: Running, options: Options) -> Figures:
        meter = _Meter(running)
        return _figures(move(running.place.port, running.authorization, options.seconds, meter), meter)

    return run


# -- how long a start takes -------------------------------------------------------------------------------------------


def _start(rig: Rig, running: Running, _: Options) -> Figures:
    launch = running.target.launch
    assert launch is not None
    place = rig.place(running.target, tls=False)
    prepared = launch(place)
    asked = request("GET", contract.VOICES, running.authorization)
    began = time.monotonic()
    process = Process(prepared, rig.core)
    try:
        while not _served(place.port, asked):
            if process.ended() or time.monotonic() > began + processes.PATIENCE:
                raise OSError(f"serves nothing: {process.said()}")
            time.sleep(0.001)
        return {"errors": 0, "time": (time.monotonic() - began) * 1e3}
    finally:
        process.stop()


def _served(port: int, asked: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(asked)
            return sock.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def time_import(rig: Rig) -> Figures:
    """Python itself and the import that none of its HTTP servers does without, from start to end."""
    began = time.monotonic()
    launch = Launch([sys.executable, "-c", "import aiohttp.web; import os; os._exit(0)"], rig.folder / "import.log")
    process = Process(launch, rig.core)
    try:
        status = process.wait(processes.PATIENCE)
    except subprocess.TimeoutExpired as exc:
        raise OSError("the import does not end") from exc
    finally:
        process.stop()
    return {"errors": int(status != os.EX_OK), "time": (time.monotonic() - began) * 1e3}


IMPORT = "import aiohttp.web"
"""What ``time_import`` is called among the targets."""

# -- all of them ------------------------------------------------------------------------------------------------------

_REQUEST = (Metric("cpu", "CPU µs/request"), Metric("rate", "requests/s", 0))
_ECHO = (Metric("cpu", "CPU µs/echo"), Metric("rate", "echoes/s", 0))
_BULK = (Metric("rate", "MiB/s", 0), Metric("cpu", "CPU µs/MiB", 0))
_DELAY = (Metric("added", "added p50, µs", 0), Metric("p50", "p50, µs", 0), Metric("cpu", "CPU µs/request"))
_STREAM = (Metric("cpu", "CPU µs/chunk"), Metric("p50", "p50 of a chunk's delay, ms", 2))
_MEMORY = (Metric("memory", "KB/connection"),)

_PLAIN = (
    Test("get", "GET of 1 KB, the same head each time", _REQUEST, wrk("get"), needs="wrk"),
    Test("get-varied", "GET of 1 KB, another head each time", _REQUEST, wrk("get-varied"), needs="wrk"),
    Test("post", "POST of 1 KB each way", _REQUEST, wrk("post"), needs="wrk"),
    Test("delay", "500 GET/s over 50 connections, all on one core", _DELAY, _delay),
    Test("stream", "Streams with a chunk of 256 B every 50 ms", _STREAM, _stream),
    Test("ws20", "Echoes of 20 B over 100 WebSockets", _ECHO, _socket(20)),
    Test("ws4k", "Echoes of 4 KB over 100 WebSockets", _ECHO, _socket(4096)),
    Test("idle-ws", "1,000 idle WebSockets", _MEMORY, _idle(sockets=True), 2, direct=False),
    Test("idle-keepalive", "1,000 idle connections", _MEMORY, _idle(sockets=False), 2, direct=False),
    Test("down", "Answers of 64 MiB on one connection", _BULK, _bulk(bulk.down)),
    Test("up", "Uploads of 8 MiB on one connection", _BULK, _bulk(bulk.up)),
    Test("start", "From exec to the first answer", (Metric("time", "ms", 0),), _start, direct=False),
)
TLS = "-tls"
"""What follows a test's name when the upstream speaks TLS."""

TESTS = {test.name: test for test in _PLAIN}
TESTS |= {
    test.name + TLS: dataclasses.replace(test, name=test.name + TLS, words=f"{test.words}; TLS upstream", direct=False)
    for test in _PLAIN
    if test.name != "start"
}
