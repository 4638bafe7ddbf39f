"""The processes of `make chaos`: how they start, are told things, are watched and end; and files that are swapped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 15.0
"""Seconds for anything that must happen at all."""

_Value = TypeVar("_Value")


@dataclass
class Running:
    """A process of ours, where it is, and where it writes."""

    process: asyncio.subprocess.Process
    url: str
    admin: str = ""
    log: Path = Path()
    errors: Path = Path()
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def port(self) -> int:
        """Of its URL."""
        return int(self.url.rpartition(":")[2])

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Tells an upstream something, or asks it; what it says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._turn, asyncio.timeout(PATIENCE):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            return dict(json.loads(await self.process.stdout.readline()))


@contextlib.asynccontextmanager
async def _started(
    *arguments: str, out: int | IO[bytes] = asyncio.subprocess.PIPE, err: IO[bytes] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, env=environ, stdin=pipe, stdout=out, stderr=err, limit=1 << 24
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def upstream(name: str, seed: int, seconds: float) -> AsyncIterator[Running]:
    """An upstream. It ends when its standard input does."""
    script = str(ROOT / "scripts" / "chaos" / "upstream.py")
    arguments = (script, name, "--seed", str(seed), "--seconds", str(seconds))
    async with _started(*arguments) as process:
        assert process.stdout is not None
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        yield Running(process, f"http://127.0.0.1:{told['port']}")


@contextlib.asynccontextmanager
async def proxy(configuration: Path, folder: Path) -> AsyncIterator[Running]:
    """The real one."""
    log, errors = folder / "log", folder / "errors"
    arguments = ("-m", "proxy", "serve", "--config", str(configuration))
    with log.open("wb") as out, errors.open("wb") as err:
        async with _started(*arguments, out=out, err=err) as process:

            async def announced() -> list[str] | None:
                told = await asyncio.to_thread(errors.read_text, encoding="utf-8")
                found = re.findall(r"(?: on |metrics: )(http://127\.0\.0\.1:\d+)", told)
                return found if len(found) == 2 else None

            url, admin = await until(announced, f"the proxy did not start: {errors.read_text(encoding='utf-8')}")
            yield Running(process, url, admin, log, errors)


async def until(look: Callable[[], Awaitable[_Value | None]], complaint: str) -> _Value:
    """Looks until there is something. Raises ``TimeoutError``."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        await asyncio.sleep(0.1)
    return found


def put_file(folder: Path, name: str, version: int, text: str) -> None:
    """As Kubernetes does: the file is a link into a link to a folder, and the link to the folder is swapped whole."""
    place = folder / f"..{version}"
    place.mkdir(parents=True)
    (place / name).touch(mode=0o600)
    (place / name).write_text(text, encoding="utf-8")
    (folder / "..new").symlink_to(place.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / name).is_symlink():
        (folder / name).symlink_to(f"..data/{name}")


# -- metrics ----------------------------------------------------------------------------------------------------------

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)$")


@dataclass(frozen=True)
class Scrape:
    """One exposition: each metric summed over its labels, some by label, and how long it took."""

    sums: Counter[str]
    by: dict[str, dict[str, float]]
    seconds: float

    def __getitem__(self, name: str) -> float:
        return self.sums[f"inworld_proxy_{name}"]

    @property
    def descriptors(self) -> float:
        """Open in the process, the idle connections to upstreams aside; 0 where the system does not say."""
        return self.sums["process_open_fds"] and self.sums["process_open_fds"] - self.idle

    @property
    def idle(self) -> float:
        """Idle connections to upstreams."""
        labels = self.by.get("inworld_proxy_upstream_connections", {})
        return sum(value for label, value in labels.items() if 'state="idle"' in label)

    @property
    def active(self) -> float:
        """Connections to upstreams in use."""
        return self["upstream_connections"] - self.idle


_LABELLED = ("inworld_proxy_upstream_connections", "inworld_proxy_configuration_reloads_total")


# A process of its own: this one is busy being 100 callers, and would take its own delays for the proxy's.
_READER = """
import sys, time, urllib.request
began = time.monotonic()
text = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1]).read()
sys.stdout.write(f"{time.monotonic() - began}\\n")
sys.stdout.flush()
sys.stdout.buffer.write(text)
"""


async def scrape(running: Running) -> Scrape:
    """Reads the metrics once."""
    async with _started("-c", _READER, f"{running.admin}/metrics") as process:
        told, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    seconds, _, text = told.decode().partition("\n")
    sums: Counter[str] = Counter()
    by: dict[str, dict[str, float]] = {}
    for name, labels, value in await asyncio.to_thread(_read_samples, text):
        sums[name] += float(value)  # type: ignore[assignment]  # Counter sums floats as well
        if name in _LABELLED:
            by.setdefault(name, {})[labels] = float(value)
    return Scrape(sums, by, float(seconds))


def _read_samples(text: str) -> list[tuple[str | Any, ...]]:
    # Most lines by far are of buckets, and nothing here asks for one.
    lines = (line for line in text.splitlines() if line[0] != "#" and "_bucket{" not in line)
    return [match.groups() for match in map(_SAMPLE.match, lines) if match is not None]
