"""The proxy as a process, in front of an upstream that says which process asked, and callers that check answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from tests.secrets_watch import WATCH
from tests.wires import Message, ScriptedUpstream, Wire, bounded, connect, request, response

ROOT = Path(__file__).parents[2]
START = 60.0
"""Seconds in which a process must have started; it takes less than one when nothing else runs, and ten on a machine
that is busy."""

PATH = "/llm/v1alpha/models"
GET = request(f"GET {PATH}")


def key_of(name: str) -> str:
    """The key of this process: what it shows to the upstream tells who it is."""
    return base64.b64encode(f"{name}:secret-of-this-process".encode()).decode()


class TellingUpstream(ScriptedUpstream):
    """Answers every request with the name of the process that asked."""

    def __init__(self) -> None:
        super().__init__()
        self._answer = b"by name"

    async def _serve(self, wire: Wire, answer: bytes) -> None:
        wire.patience = None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await wire.message()).head
                key = base64.b64decode((head.get("Authorization") or "").removeprefix("Basic "))
                await wire.send(response("200 OK", body=key.partition(b":")[0]))


class Running:
    """A proxy process. What it says on standard error is read all the time; its standard output is the test's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        self.port = self.admin = 0

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line.decode()
            WATCH.read("a proxy process", line.decode())
            self._news.set()

    async def until(self, pattern: str, seconds: float = START) -> re.Match[str]:
        """Waits until it has said this."""
        async with asyncio.timeout(seconds):
            while (found := re.search(pattern, self.said)) is None:
                assert not self._reading.done(), self.said
                self._news.clear()
                await asyncio.wait(
                    (self._reading, asyncio.ensure_future(self._news.wait())), return_when=asyncio.FIRST_COMPLETED
                )
        return found

    async def ready(self) -> Running:
        """Waits until it says where it is."""
        found = await self.until(
            r"(?s) on (?:http://[0-9a-z.\[\]:]*:(\d+)|unix:\S+) ->.*metrics: \S+?(?::(\d+))?/metrics"
        )
        self.port, self.admin = int(found[1] or 0), int(found[2] or 0)
        return self

    async def ask_admin(self, path: str) -> Message:
        """One request to the operator's listener, on a connection of its own."""
        wire = await connect("127.0.0.1", self.admin)
        try:
            await wire.send(request(f"GET {path}", "Connection: close"))
            return await wire.message()
        finally:
            await wire.cleanup()

    async def metrics(self) -> Mapping[str, float]:
        """Every sample without the prefix, by name and labels as they are spelled."""
        text = (await self.ask_admin("/metrics")).content.decode()
        lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("inworld_proxy_")]
        return {name.removeprefix("inworld_proxy_"): float(value) for name, _, value in lines}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = START) -> int:
        """Its exit code, once it has ended by itself."""
        code = await bounded(self.process.wait(), seconds)
        await bounded(self._reading)
        return code

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def cleanup(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await bounded(self._reading)
        # The pipes of the subprocess close with its transport.
        self.process._transport.close()  # type: ignore[attr-defined]


class Processes:
    """Starts proxies in front of one upstream and ends them all."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self.upstream: ScriptedUpstream = TellingUpstream()

    async def __aenter__(self) -> Self:
        await self.put(self.upstream)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def put(self, upstream: ScriptedUpstream) -> None:
        """The upstream of the proxies that are started from now on."""
        self.upstream = await upstream.start()
        self._stack.push_async_callback(upstream.cleanup)

    async def begin(
        self,
        name: str = "one",
        *options: str,
        before: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
        environ: Mapping[str, str] | None = None,
    ) -> Running:
        """Starts one without waiting for it. ``before`` are the program and arguments that run it."""
        arguments = [*options]
        for option in ("--listen", "--admin"):
            if option not in options and option.replace("listen", "fd").replace("admin", "admin-fd") not in options:
                arguments += [option, "127.0.0.1:0"]
        if "--config" not in options:
            arguments += ["--upstream", f"http://127.0.0.1:{self.upstream.port}"]
        return await self.begin_with(name, *arguments, before=before, pass_fds=pass_fds, stdout=stdout, environ=environ)

    async def begin_with(
        self,
        name: str,
        *arguments: str,
        before: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
        environ: Mapping[str, str] | None = None,
    ) -> Running:
        """The same with these arguments and no others."""
        kept = {each: os.environ[each] for each in ("PATH", "HOME", "TMPDIR", "LANG") if each in os.environ}
        process = await asyncio.create_subprocess_exec(
            *before, sys.executable, "-m", "proxy", "serve", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
            env={**kept, "INWORLD_API_KEY": key_of(name), **(environ or {})}, pass_fds=pass_fds,
        )  # fmt: skip
        running = Running(process)
        self._stack.push_async_callback(running.cleanup)
        return running

    async def start(self, name: str = "one", *options: str, **more: object) -> Running:
        """Starts one and waits until it serves."""
        return await (await self.begin(name, *options, **more)).ready()  # type: ignore[arg-type]

    async def wire(self, port: int) -> Wire:
        """A caller's connection, closed after the test."""
        wire = await connect("127.0.0.1", port)
        self._stack.push_async_callback(wire.cleanup)
        return wire


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A listening socket that the test keeps, as a supervisor would."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        yield sock


async def ask(wire: Wire) -> Message:
    """One request on this connection, and its answer."""
    await wire.send(GET)
    return await wire.message()


class Load:
    """Callers that ask all the time. They retry nothing; what went wrong is in ``failed``, with who had answered last.

    Half of them keep their connection for as long as it may be kept, the others make a new one for every request.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = False
        self.answered: dict[str, int] = {}
        self.failed: list[tuple[str, str, BaseException]] = []
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, *, callers: int = 6) -> AsyncIterator[Load]:
        kinds = [self._keep if number % 2 else self._come_anew for number in range(callers)]
        tasks = [asyncio.ensure_future(kind()) for kind in kinds]
        try:
            yield self
        finally:
            self._stop = True
            await bounded(asyncio.gather(*tasks))

    async def until_answered(self, name: str, more: int) -> None:
        """Waits until this process has answered so many more requests."""
        wanted = self.answered.get(name, 0) + more
        async with asyncio.timeout(START):
            while self.answered.get(name, 0) < wanted:
                self._news.clear()
                await self._news.wait()

    async def _keep(self) -> None:
        while not self._stop:
            by = "nobody yet"
            try:
                wire = await connect("127.0.0.1", self._port)
            except OSError as exc:
                self.failed.append(("connecting", by, exc))
                continue
            try:
                while not self._stop:
                    message = await ask(wire)
                    by = self._count(message)
                    if (message.head.get("Connection") or "").lower() == "close":
                        break
            except (OSError, AssertionError, EOFError, TimeoutError) as exc:
                self.failed.append(("asking again", by, exc))
            finally:
                await wire.cleanup()

    async def _come_anew(self) -> None:
        while not self._stop:
            try:
                wire = await connect("127.0.0.1", self._port)
            except OSError as exc:
                self.failed.append(("connecting", "nobody yet", exc))
                continue
            try:
                self._count(await ask(wire))
            except (OSError, AssertionError, EOFError, TimeoutError) as exc:
                self.failed.append(("asking", "nobody yet", exc))
            finally:
                await wire.cleanup()

    def _count(self, message: Message) -> str:
        by = message.content.decode()
        assert message.head.status == 200, message
        self.answered[by] = self.answered.get(by, 0) + 1
        self._news.set()
        return by
