"""The proxy while everything around it misbehaves: `make chaos`, or python scripts/chaos/run.py.

The real process stands in front of two upstreams of this run's own, which reset, garble, stall, refuse and close by
plan; 100 callers and 100 tunnels upload, pipeline, dawdle, leave and send nonsense; meanwhile the configuration is
rewritten every second or two, well and badly, and keys and tokens are replaced. Everything is on 127.0.0.1. What is
done to which request follows from the seed; when that is does not, so a run is repeated in kind and not to the byte.

Prints what was counted and every bar; ends with status 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bars import Report
from callers import CallerLoad, World
from heard import READS, Asked, Caller, Heard
from operations import Operator
from plan import answer_of, fault_of
from processes import PATIENCE, Running, Scrape, proxy, scrape, upstream
from tunnels import Life, TunnelLoad
from wire import BrokenError, read_body, read_head

CALLERS = 100
"""And as many tunnels. One in five has a grant that comes and goes, and one in five has limits of its own."""

SCRAPES_APART = 10.0
"""Seconds, or a fifth of a short run; Prometheus asks as often where it is told to hurry."""

Told = dict[str, Any]
"""What an upstream says of itself."""

WARM = 8
"""Requests to each upstream before anything is compared."""


def _callers(count: int) -> list[Caller]:
    return [Caller(number, flapping=number % 5 == 0, limited=number % 5 == 1) for number in range(count)]


async def _keep_scraping(running: Running, stop: asyncio.Event, took: list[float], apart: float) -> None:
    while not stop.is_set():
        took.append((await scrape(running)).seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(apart):
                await stop.wait()


def _planned(seed: int, prefix: str, fault: str, upstream_name: str) -> Asked:
    """A GET to which this fault is done: the first id of which that is so."""
    number = 0
    while (drawn := fault_of(seed, f"{prefix}-{number}", upstream=upstream_name, upload=False)).name != fault:
        number += 1
    path = READS[upstream_name][0]
    return Asked(f"{prefix}-{number}", "0", "GET", path, upstream_name, 20_000, b"", chunked=False, fault=drawn)


async def _one(world: World, caller: Caller, asked: Asked, begun: asyncio.Event) -> str:
    """One request on a connection of its own: how it was answered. ``begun`` is set when that begins."""
    wire = await world.connect()
    try:
        with caller.show() as token:
            wire.writer.write(asked.head(world.port, f"Authorization: Bearer {token}\r\n".encode()))
            head = await read_head(wire.reader)
            begun.set()
            body = b"" if head is None else await read_body(wire.reader, head)
    except (BrokenError, OSError) as exc:
        return repr(exc)
    finally:
        wire.writer.close()
    right = answer_of(asked.fault, asked.identity, asked.nonce, asked.size)
    return "whole" if body == right else f"{head and head.first}, {len(body)} bytes"


async def _warm_up(world: World, running: Running, upstreams: dict[str, Running], caller: Caller) -> Scrape:
    """Asks a little of each upstream, so that all is there that stays."""
    for number in range(WARM):
        for name in ("a", "b"):
            world.heard.asked += 1
            world.heard.left += 1  # what it is told is nobody's concern: mints fail from the first on
            await _one(world, caller, _planned(world.seed, f"warm{number}", "well", name), asyncio.Event())
    return (await _quiet(running, upstreams, None))[0]


async def _quiet(
    running: Running, upstreams: dict[str, Running], warm: Scrape | None
) -> tuple[Scrape, dict[str, Told]]:
    """The last look at both sides: as soon as nothing is going on any more, or when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        told = {name: await each.order({"do": "report"}) for name, each in upstreams.items()}
        now = await scrape(running)
        busy = now["caller_connections"] or now["requests_in_flight"] or now.active
        more = warm is not None and (now["tasks"] > warm["tasks"] or now.descriptors > warm.descriptors)
        # An upstream that pauses in the middle of an answer notices only afterwards that nobody waits for the rest.
        open_there = sum(each["open"] for each in told.values()) > now.idle
        if not (busy or more or open_there) or time.monotonic() > deadline:
            return now, told
        await asyncio.sleep(0.25)


async def chaos(seconds: float, seed: int, count: int, folder: Path) -> Report:
    """Runs all of it for so long; what was counted."""
    callers, heard, lives, took = _callers(count), Heard(), list[Life](), list[float]()
    async with contextlib.AsyncExitStack() as stack:
        upstreams = {name: await stack.enter_async_context(upstream(name, seed, seconds)) for name in ("a", "b")}
        operator = Operator(seed, folder, callers, upstreams, seconds)
        running = await stack.enter_async_context(proxy(await operator.prepare(), folder))
        operator.proxy = running
        world = World(seed, running.port, heard, asyncio.Event())
        warm = await _warm_up(world, running, upstreams, callers[-1])

        async with asyncio.TaskGroup() as load:
            for caller in callers:
                load.create_task(CallerLoad(world, caller).run())
                load.create_task(TunnelLoad(world, caller, lives).run())
            load.create_task(operator.work(world.stop))
            load.create_task(_keep_scraping(running, world.stop, took, min(SCRAPES_APART, seconds / 5)))
            try:
                await asyncio.sleep(seconds)
            finally:
                world.stop.set()

        for each in upstreams.values():
            await each.order({"do": "calm"})
        await operator.finish()
        end, told = await _quiet(running, upstreams, warm)
        last, code = await _stop(world, running, callers[-1])
        log, errors = (path.read_text(encoding="utf-8", errors="replace") for path in (running.log, running.errors))
        return Report(heard, told, operator.done, lives, warm, end, max(took), len(took), last, code, log, errors)


async def _stop(world: World, running: Running, caller: Caller) -> tuple[str, int]:
    """Tells the proxy to stop while it is answering; how that answer went, and with what status it ended."""
    begun = asyncio.Event()
    asked = _planned(world.seed, "last", "slow-drip", "a")
    asking = asyncio.create_task(_one(world, caller, asked, begun))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    running.process.send_signal(signal.SIGTERM)
    last = await asyncio.wait_for(asking, PATIENCE)
    return last, await asyncio.wait_for(running.process.wait(), PATIENCE)


def _print(report: Report, seconds: float, seed: int) -> int:
    heard, done = report.heard, report.done
    print(f"seed {seed}: {heard.asked} requests and handshakes in {seconds:g} s, {heard.left} left, {heard.cut} cut")
    print(f"statuses: {dict(sorted(heard.statuses.items()))}")
    print(f"codes: {dict(heard.codes.most_common())}")
    print(f"tunnels: {dict(heard.tunnels.most_common())}, {heard.messages} messages echoed")
    for name, told in report.upstreams.items():
        print(f"upstream {name}: {told['requests']} requests, answers {told['faults']}, sockets {told['sockets']}")
        more = ("uploads", "repeated_reads", "refused_tokens", "listener_closed", "mints")
        print(f"  {', '.join(f'{each} {told[each]}' for each in more)}")
    print(f"reloads: {dict(done.ways)}; keys {dict(done.keys)}, callers' tokens {done.tokens}, revoked {done.revoked}")
    failed = 0
    for holds, words in report.bars():
        failed += not holds
        print(f"{'  ok  ' if holds else 'FAILED'}  {words}")
    return failed


def main() -> None:
    """Reads the command line, and says what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="how long (default: 180)")
    parser.add_argument("--callers", type=int, default=CALLERS, help=f"and as many tunnels (default: {CALLERS})")
    parser.add_argument("--seed", type=int, help="what is done to which request (default: by the clock)")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(chaos(arguments.seconds, seed, arguments.callers, Path(folder)))
    if _print(report, arguments.seconds, seed):
        print(f"the proxy's standard error, its end:\n{report.errors[-5000:]}")
        sys.exit(1)


if __name__ == "__main__":
    main()
