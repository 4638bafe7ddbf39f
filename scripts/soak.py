"""The proxy under load while everything about its credentials changes: `make soak`, or python scripts/soak.py.

The sandbox gives tokens of two seconds and fails a third of the mints. 200 requests are kept in flight and 50 tunnels
are opened, echoed through and closed, while two key files are replaced as Kubernetes replaces them; once the new keys
are in use the old ones are deleted, so that whoever still shows one is refused. Nothing leaves this machine.

Prints what was counted and every bar; ends with status 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
REQUESTS, TUNNELS = 200, 50
TOKEN_SECONDS, FAILED_MINTS, MINT_SECONDS, ANSWER_SECONDS = 2, 0.34, 0.05, 0.25
PATIENCE = 15.0
"""Seconds for anything that must happen at all."""

OLD, NEW = {"workspace": "full", "speech": "voices-write"}, {"workspace": "other-workspace", "speech": "router-write"}
"""The sandbox's keys in the two key files, before and after."""

CHAT = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}
SPEECH = {"model": "inworld-tts-1.5-max", "voice": "Ashley", "input": "Hello.", "response_format": "wav"}
ASKED: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/audio/speech", SPEECH),
    ("GET", "/voices/v1/voices", None),
    # More than is kept for a second time: were its token refused, the caller would see it.
    ("POST", "/v1/chat/completions", {**CHAT, "padding": "x" * 100_000}),
    ("GET", "/llm/v1alpha/models", None),
)
SOCKETS = ("/api/v1/realtime/session?key=soak&protocol=realtime", "/stt/v1/transcribe:streamBidirectional")


_Value = TypeVar("_Value")


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    tunnels: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Running:
    """A process of ours, and where it is."""

    process: asyncio.subprocess.Process
    url: str
    admin: str = ""
    told: dict[str, Any] = field(default_factory=dict)


# -- the processes ----------------------------------------------------------------------------------------------------


def _environment(**extra: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "NO_PROXY": "*", **extra}


@contextlib.asynccontextmanager
async def _started(
    *arguments: str, environ: dict[str, str], **streams: int | IO[bytes]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments, cwd=ROOT, env=environ, stdin=asyncio.subprocess.PIPE, **streams
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _sandbox() -> AsyncIterator[Running]:
    arguments = (
        "sandbox", "--port", "0", "--announce-json", "--exit-with-parent", "--token-lifetime", str(TOKEN_SECONDS),
        "--mint-failures", str(FAILED_MINTS), "--mint-latency", str(MINT_SECONDS), "--latency", str(ANSWER_SECONDS),
    )  # fmt: skip
    async with _started(*arguments, environ=_environment(), stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        yield Running(process, f"http://{told['host']}:{told['port']}", told=told)


@contextlib.asynccontextmanager
async def _proxy(sandbox: Running, folder: Path) -> AsyncIterator[Running]:
    configuration = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": sandbox.url}},
        "credentials": {
            "workspace": {"kind": "session-token", "secret": f"file:{folder}/workspace/key"},
            "speech": {"kind": "api-key", "secret": f"file:{folder}/speech/key"},
            "live": {"kind": "session-token", "type": "realtime-only", "secret": "env:LIVE_KEY"},
        },
        "routes": [
            {"operations": "realtime.*", "credential": "live"},
            {"operations": "tts.*", "credential": "speech"},
            {"operations": "*", "credential": "workspace"},
        ],
        "log": {"format": "json"},
    }
    # JSON is YAML.
    (folder / "proxy.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    environ = _environment(LIVE_KEY=_basic(sandbox, "realtime-only"))
    arguments = ("serve", "--config", str(folder / "proxy.yaml"))
    with (folder / "log").open("wb") as log, (folder / "errors").open("wb") as errors:
        async with _started(*arguments, environ=environ, stdout=log, stderr=errors) as process:
            told = await _until(lambda: _announced(folder / "errors"), "the proxy did not start")
            yield Running(process, *told)


async def _announced(errors: Path) -> list[str] | None:
    told = await asyncio.to_thread(errors.read_text, encoding="utf-8")
    found = re.findall(r"(?: on |metrics: )(http://127\.0\.0\.1:\d+)", told)
    return found if len(found) == 2 else None


def _basic(sandbox: Running, key: str) -> str:
    return str(sandbox.told["keys"][key]["basic"])


def _put_key(folder: Path, generation: int, basic: str) -> None:
    """As Kubernetes does: the file is a link into a link to a folder, and the link to the folder is swapped whole."""
    version = folder / f"..{generation}"
    version.mkdir(parents=True)
    (version / "key").touch(mode=0o600)
    (version / "key").write_text(basic, encoding="utf-8")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "key").is_symlink():
        (folder / "key").symlink_to("..data/key")


async def _until(look: Callable[[], Awaitable[_Value | None]], complaint: str) -> _Value:
    deadline = time.monotonic() + PATIENCE
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        await asyncio.sleep(0.1)
    return found


# -- the load ---------------------------------------------------------------------------------------------------------


async def _keep_asking(session: aiohttp.ClientSession, url: str, first: int, seen: Seen) -> None:
    number = first
    while not seen.stop.is_set():
        method, path, body = ASKED[number % len(ASKED)]
        number += 1
        began = time.monotonic()
        try:
            async with session.request(method, url + path, json=body) as response:
                content = await response.read()
                answer = str(response.status) if response.status == 200 else f"{response.status} {content[:200]!r}"
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            answer = f"{method} {path}: {exc!r}"
        seen.statuses[answer] += 1
        seen.slowest = max(seen.slowest, time.monotonic() - began)
        if body is None:
            # These are answered at once; without a pause they would be most of the load.
            await asyncio.sleep(ANSWER_SECONDS)


async def _keep_tunnelling(session: aiohttp.ClientSession, url: str, number: int, seen: Seen) -> None:
    path = SOCKETS[number % len(SOCKETS)]
    while not seen.stop.is_set():
        try:
            async with session.ws_connect(url + path) as socket:
                for turn in range(4):
                    await socket.send_str(f"echo {turn}")
                    while await socket.receive_str(timeout=PATIENCE) != f"echo {turn}":
                        pass
                    await asyncio.sleep(0.2)
            ending = "closed" if socket.close_code == aiohttp.WSCloseCode.OK else f"close code {socket.close_code}"
        except (aiohttp.ClientError, OSError, TimeoutError, TypeError) as exc:
            ending = f"{path}: {exc!r}"
        seen.tunnels[ending] += 1


async def _replace_keys(session: aiohttp.ClientSession, sandbox: Running, folder: Path) -> dict[str, int]:
    """Replaces both; how often each old one had been accepted by the time the new one was in use and it was deleted."""
    for name, key in NEW.items():
        _put_key(folder / name, 2, _basic(sandbox, key))

    async def in_use() -> bool:
        accepted = (await _tally(session, sandbox))["accepted"]
        return all(key in accepted for key in NEW.values())

    await _until(in_use, "the new keys were not used")
    # What had left with an old key arrives.
    await asyncio.sleep(1)
    before = {}
    for key in OLD.values():
        before[key] = _total((await _tally(session, sandbox))["accepted"].get(key, {}))
        async with session.delete(f"{sandbox.url}/_sandbox/keys/{key}") as response:
            assert response.status == 200
    return before


async def _tally(session: aiohttp.ClientSession, sandbox: Running) -> dict[str, Any]:
    async with session.get(f"{sandbox.url}/_sandbox/tally") as response:
        return dict(await response.json())


# -- the bars ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """All that was counted."""

    seen: Seen
    tally: dict[str, Any]
    before: dict[str, int]
    metrics: dict[str, float]
    code: int
    leaked: list[str]
    errors: str

    def bars(self) -> Iterator[tuple[bool, str]]:
        """Each bar: whether it holds, and in words."""
        tally, metrics, seen = self.tally, self.metrics, self.seen
        accepted = tally["accepted"]
        yield not tally["refused"], f"no request carried an expired or refused credential: {tally['refused']}"
        yield set(seen.statuses) == {"200"}, f"every request was answered 200: {dict(seen.statuses.most_common(5))}"
        yield set(seen.tunnels) == {"closed"}, f"every tunnel echoed and closed: {dict(seen.tunnels.most_common(5))}"
        most = tally["mostMintsAtOnce"]
        yield len(most) == 3 and set(most.values()) == {1}, f"at most one mint at a time for each key: {most}"
        after = {key: _total(accepted.get(key, {})) for key in OLD.values()}
        yield after == self.before, f"no key was used after it was replaced: {self.before} then, {after} at the end"
        yield all(_total(accepted.get(key, {})) for key in NEW.values()), "the new keys were used"
        yield bool(tally["mints"].get("503")) and bool(tally["mints"].get("200")), f"mints failed: {tally['mints']}"
        in_flight = metrics["inworld_proxy_requests_in_flight"]
        yield in_flight == 0, f"nothing is in flight at the end: {in_flight:g}"
        came, ended = metrics["inworld_proxy_requests_accepted_total"], metrics["inworld_proxy_requests_ended_total"]
        yield came == ended, f"accepted == ended: {came:g}, {ended:g}"
        yield self.code == 0, f"the proxy's exit code is 0: {self.code}"
        yield not self.leaked, f"no key and no token is in what the proxy wrote: {self.leaked}"


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _sums(exposition: str) -> dict[str, float]:
    """Every metric of the proxy's, summed over its labels."""
    sums: Counter[str] = Counter()
    for name, value in re.findall(r"^(inworld_proxy_\w+)(?:\{.*\})? (\S+)$", exposition, re.MULTILINE):
        sums[name] += float(value)
    return dict(sums)


def _leaks(sandbox: Running, written: bytes) -> list[str]:
    """The names of what was found: keys as they are sent, their secrets, and the head that every token begins with."""
    secrets = {"a token": base64.b64encode(b'{"alg":"')[:10]}
    for name, key in sandbox.told["keys"].items():
        secrets |= {f"the key {name}": key["basic"].encode(), f"the secret of {name}": key["secret"].encode()}
    return [name for name, secret in secrets.items() if secret in written]


# -- all of it --------------------------------------------------------------------------------------------------------


async def soak(seconds: float, folder: Path) -> Report:
    """Loads a proxy for so long; what was counted."""
    seen = Seen()
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(_sandbox())
        for name, key in OLD.items():
            _put_key(folder / name, 1, _basic(sandbox, key))
        proxy = await stack.enter_async_context(_proxy(sandbox, folder))
        connector = aiohttp.TCPConnector(limit=REQUESTS + TUNNELS + 10)
        timeout = aiohttp.ClientTimeout(total=2 * PATIENCE)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))

        async with asyncio.TaskGroup() as load:
            for number in range(REQUESTS):
                load.create_task(_keep_asking(session, proxy.url, number, seen))
            for number in range(TUNNELS):
                load.create_task(_keep_tunnelling(session, proxy.url, number, seen))
            try:
                began = time.monotonic()
                await asyncio.sleep(seconds / 3)
                before = await _replace_keys(session, sandbox, folder)
                await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            finally:
                seen.stop.set()

        async def quiet() -> dict[str, float] | None:
            async with session.get(f"{proxy.admin}/metrics") as response:
                metrics = _sums(await response.text())
            return metrics if not metrics["inworld_proxy_requests_in_flight"] else None

        metrics: dict[str, float] = await _until(quiet, "requests are still in flight")
        tally = await _tally(session, sandbox)
        proxy.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(proxy.process.wait(), PATIENCE)
        written = (folder / "log").read_bytes() + (folder / "errors").read_bytes()
        errors = (folder / "errors").read_text(encoding="utf-8")
        return Report(seen, tally, before, metrics, code, _leaks(sandbox, written), errors)


def main() -> None:
    """Reads the command line, and says what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(soak(seconds, Path(folder)))
    requests, tunnels = report.seen.statuses.total(), report.seen.tunnels.total()
    print(f"{requests} requests (slowest {report.seen.slowest:.2f} s), {tunnels} tunnels in {seconds:g} s")
    print(f"what the sandbox accepted: {report.tally['accepted']}")
    failed = 0
    for holds, words in report.bars():
        failed += not holds
        print(f"{'  ok  ' if holds else 'FAILED'}  {words}")
    if failed:
        print(f"the proxy's standard error:\n{report.errors}")
        sys.exit(1)


if __name__ == "__main__":
    main()
