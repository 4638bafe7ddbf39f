"""A long life: `make endure`, or python scripts/endure/run.py. Does anything grow that should not?

For ten minutes a proxy with callers, limits, log and metrics is asked 400 times a second, while 40 tunnels open and
close; connections come and go on both sides, and no two heads are the same. Every ten seconds it is looked at: memory,
objects, descriptors, threads, tasks, connections. What is kept on purpose and has a bound (names of fields and hosts,
verified tokens) is filled to it before the first look, so that all growth from then on is growth.

Prints a table of the samples and every bar; ends with status 1 when one does not hold. Everything is on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "chaos"))

from answering import Upstream
from asking import CALLERS, JWT_SECRET, KINDS, Ask, Asker
from load import MOST_AT_ONCE, Load
from processes import PATIENCE, ROOT, Running, scrape, until
from sampling import SHORTEST, Look, Report, heading, row
from script import KEY, Accounts, Order
from tunnelling import ENDS, Tunnels

LINGER = 20.0
"""Seconds of the time limits that are configured: short, so that what idles is gone before the looks at rest."""

FIELDS, HOSTS, SIGNED = 2048, 256, 4096
"""The bounds of what the proxy remembers: names of fields (``core/headers.py``), values of Host (``core/browser.py``)
and verified tokens (``callers/jwt.py``). This many are shown before the first look, and a few more."""

FIELDS_EACH = 100
OF_ALL, OF_EACH = 4000, 20
"""Requests before the first look: so many that there is a series for every pair of operation and caller, as bounded;
in a short run, where growth has no bar, some of each kind."""


@dataclass
class Watched:
    """The proxy, and the line to the thread inside."""

    running: Running
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    accounts: Accounts
    began: float

    async def look(self, question: str) -> Look:
        """One sample: ``now``, or ``rest``, which leaves what the collector would take anyway out."""
        at, asked = time.monotonic() - self.began, self.accounts.asked
        self.writer.write(f"{question}\n".encode())
        inside = json.loads(await asyncio.wait_for(self.reader.readline(), PATIENCE))
        return Look(at, asked, inside, await scrape(self.running))

    async def rest(self, before: Look | None, *, thoroughly: bool) -> Look:
        """The first look at which nothing goes on, and nothing is left of before; or the last one, after a while."""
        deadline = time.monotonic() + PATIENCE
        if thoroughly:
            await asyncio.sleep(LINGER * 1.25)
        while True:
            look = await self.look("rest")
            more = any(look.open.values()) or (thoroughly and look.scrape.idle)
            if before is not None and not more:
                spare = before.inside["descriptors"] - before.scrape.idle
                more = look.scrape["tasks"] > before.scrape["tasks"]
                more = more or look.inside["descriptors"] - look.scrape.idle > spare
            if not more or time.monotonic() > deadline:
                return look
            await asyncio.sleep(0.25)

    async def keep_looking(self, looks: list[Look], every: float, seconds: float) -> None:
        """A row for each sample, for so long."""
        print(heading(), flush=True)
        while (due := (len(looks) + 1) * every) <= seconds:
            await asyncio.sleep(max(0.0, self.began + due - time.monotonic()))
            looks.append(await self.look("now"))
            print(row(looks[-1]), flush=True)


def _configuration(upstream: int) -> str:
    seconds = f"{LINGER:g}s"
    configuration = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": f"http://127.0.0.1:{upstream}"}},
        "credentials": {
            "key": {"kind": "api-key", "secret": "env:KEY", "permissions": {"voices": "write", "router": "write"}}
        },
        "routes": [{"operations": "*", "credential": "key"}],
        "callers": CALLERS,
        "time": {
            **dict.fromkeys(("keep_alive", "body_idle", "first_byte", "idle", "tunnel_idle"), seconds),
            "upstream_keep_alive": "5s",
            "upstream_max_age": "30s",
        },
        "limits": {"connections": 2000, "connections_per_address": 2000, "in_flight": 1000, "tunnels": 500},
        "log": {"format": "json"},
    }
    return json.dumps(configuration)  # JSON is YAML


@contextlib.asynccontextmanager
async def _proxy(upstream: int, folder: Path, accounts: Accounts) -> AsyncIterator[Watched]:
    (folder / "proxy.yaml").write_text(_configuration(upstream), encoding="utf-8")
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    environ |= {"KEY": KEY, "JWT_SECRET": JWT_SECRET}
    ours, theirs = socket.socketpair()
    program = str(Path(__file__).with_name("inside.py"))
    arguments = (program, str(theirs.fileno()), "--config", str(folder / "proxy.yaml"))
    with (folder / "errors").open("wb") as errors, theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, env=environ, pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    try:
        errors_so_far = folder / "errors"

        async def announced() -> list[str] | None:
            told = await asyncio.to_thread(errors_so_far.read_text, encoding="utf-8")
            found = re.findall(r"(?: on |metrics: )(http://127\.0\.0\.1:\d+)", told)
            return found if len(found) == 2 else None

        url, admin = await until(announced, f"the proxy did not start, see {errors_so_far}")
        reader, writer = await asyncio.open_connection(sock=ours, limit=2**20)
        yield Watched(Running(process, url, admin, errors=errors_so_far), reader, writer, accounts, time.monotonic())
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _warm_up(load: Load, tunnels: Tunnels, *, thoroughly: bool) -> None:
    """Some of everything; and what has a bound is filled to it."""
    asker = load.asker
    asks = [make(asker) for make, _ in KINDS for _ in range(OF_EACH)]
    if thoroughly:
        asks += [asker.next() for _ in range(OF_ALL)]
        for _ in range(HOSTS + 20):
            ask = asker.made("host", "GET", ("/llm/v1alpha/models",), Order("whole"))
            ask.host, ask.must = f"host-{ask.identity}.test", "421 host_not_allowed"
            asks.append(ask)
        asks += [_with_fields(asker) for _ in range(FIELDS // FIELDS_EACH + 2)]
        for _ in range(SIGNED + 20):
            ask = asker.made("signed", "GET", ("/nothing/{0}",), Order("whole"))
            ask.token, ask.must = asker.sign(), "404 no_operation"
            asks.append(ask)
    await load.ask_each(asks)
    await asyncio.gather(*(tunnels.once(how) for how in ENDS * 3))
    await load.finish()


def _with_fields(asker: Asker) -> Ask:
    ask = asker.made("fields", "GET", ("/nothing/{0}",), Order("whole"))
    ask.must = "404 no_operation"
    ask.more = [f"X-{asker.identity()}: y" for _ in range(FIELDS_EACH)]
    return ask


async def endure(arguments: argparse.Namespace, folder: Path) -> Report:
    """Loads a proxy for so long; what was counted."""
    accounts, asker, seconds = Accounts(), Asker(arguments.seed), arguments.seconds
    thoroughly = seconds >= SHORTEST
    async with Upstream(accounts).listening() as port, _proxy(port, folder, accounts) as watched:
        load = Load(watched.running.port, asker, accounts, 2 * PATIENCE)
        tunnels = Tunnels(watched.running.port, asker, accounts, 2 * PATIENCE)
        await watched.look("now")
        await _warm_up(load, tunnels, thoroughly=thoroughly)
        await watched.look("now")
        rate = arguments.rate or await load.measure(5.0) / 2
        first = await watched.rest(None, thoroughly=thoroughly)
        print(f"{rate:.0f} requests a second; at rest before:\n{heading()}\n{row(first)}", flush=True)

        looks: list[Look] = []
        watched.began = time.monotonic()
        await asyncio.gather(
            load.run(rate, seconds),
            tunnels.run(arguments.tunnels, seconds),
            watched.keep_looking(looks, arguments.every, seconds),
        )
        last = await watched.rest(first, thoroughly=thoroughly)
        print(f"at rest afterwards:\n{row(last)}", flush=True)

        watched.running.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(watched.running.process.wait(), 2 * PATIENCE)
        errors = watched.running.errors.read_text(encoding="utf-8", errors="replace")
        return Report(seconds, first, looks, last, accounts, code, errors)


def _print(report: Report) -> int:
    seen, cpu = report.accounts, report.last.inside["cpu"] - report.first.inside["cpu"]
    print(f"{seen.asked} requests and handshakes on {seen.connections} connections; slowest {seen.slowest:.2f} s")
    print(f"left out because {MOST_AT_ONCE} were unanswered: {seen.late}")
    print(f"kinds: {dict(seen.kinds.most_common())}")
    print(f"statuses: {dict(sorted(seen.statuses.items()))}; tunnels ended by {dict(seen.tunnels.most_common())}")
    print(f"the proxy used {cpu / report.seconds:.0%} of a processor; load average {os.getloadavg()[0]:.1f}")
    failed = 0
    for holds, words in report.bars():
        failed += not holds
        print(f"{'  ok  ' if holds else 'FAILED'}  {words}")
    if report.seconds < SHORTEST:
        print(f"(growth has no bar in less than {SHORTEST:g} s)")
    return failed


def main() -> None:
    """Reads the command line, and says what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second (default: 400); 0: half of what "
                        "the proxy and this script can do here, by a measurement of five seconds")  # fmt: skip
    parser.add_argument("--tunnels", type=int, default=40, help="at once (default: 40)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds from sample to sample (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="what is asked (default: 1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(endure(arguments, Path(folder)))
    if _print(report):
        print(f"the proxy's standard error, its end:\n{report.errors[-5000:]}")
        sys.exit(1)


if __name__ == "__main__":
    main()
