"""What attacks on resources cost: `make attacks`, or python scripts/attacks.py.

A proxy in a process of its own is attacked in eight ways, one after the other, while an honest caller asks for what
the proxy answers itself every few milliseconds. Its slowest answer bounds for how long the event loop stood still;
what the machine did besides is in it too. Everything is on 127.0.0.1, bounded in number and time, and ended by pid.

Prints a row for each attack, as THREAT_MODEL.md has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import resource
import select
import string
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVERY = 0.005
"""Seconds between two requests of the honest caller."""

HEAD, BODY_IDLE = 3.0, 3.0
"""Seconds that the proxy is given for a head and between two pieces of a body: short, so that the attacks are."""

HOST = b"Host: 127.0.0.1\r\n"
MIB = 2**20


@dataclass
class Proxy:
    """The process, and where it is."""

    process: asyncio.subprocess.Process
    port: int
    admin: int

    def memory(self) -> int:
        """Bytes that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the data listener."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def metrics(self) -> str:
        """What it counted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        writer.write(b"GET /metrics HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return text


def ask_honestly(port: int) -> None:
    """The caller who does nothing wrong, in a process of its own: asks until its standard input ends, then says how
    long answers took: the 99th of a hundred, and the slowest, in milliseconds."""
    seconds = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        began = time.perf_counter()
        connection.request("GET", "/nothing")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    print(f"{seconds[int(len(seconds) * 0.99)] * 1000:.0f} {seconds[-1] * 1000:.0f}")


# -- the attacks: each returns a sentence about what came of it --------------------------------------------------------


async def slow_heads(proxy: Proxy) -> str:
    """400 connections that send a byte of their head now and then."""
    return await _drip(proxy, 400, b"GET /things HTTP/1.1\r\n" + HOST, b"X")


async def slow_bodies(proxy: Proxy) -> str:
    """400 connections that begin an upload and send nothing more."""
    head = b"POST /tts/v1/voice HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\nx"
    return await _drip(proxy, 400, head, b"")


async def _drip(proxy: Proxy, count: int, first: bytes, drop: bytes) -> str:
    began = time.monotonic()
    ends = [await proxy.connect() for _ in range(count)]
    for _, writer in ends:
        writer.write(first)

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = asyncio.ensure_future(reader.read())
        while not answer.done():
            if drop and not writer.is_closing():
                writer.write(drop)
            await asyncio.wait({answer}, timeout=0.5)
        with contextlib.suppress(ConnectionError):
            await answer
        writer.close()

    await asyncio.gather(*(until_closed(*end) for end in ends))
    return f"all {count} closed after {time.monotonic() - began:.1f} s (limit {HEAD:g} s)"


async def slow_readers(proxy: Proxy) -> str:
    """100 callers who read nothing of a large answer."""
    before = proxy.memory()
    ends = []
    for _ in range(100):
        reader, writer = await proxy.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        writer.write(b"GET /llm/v1alpha/models HTTP/1.1\r\n" + HOST + b"\r\n")
        ends.append((reader, writer))
    await _settle(proxy)
    grown = proxy.memory() - before
    for _, writer in ends:
        writer.transport.abort()
    return f"{grown / 100 / 1024:.0f} KiB each"


async def idle_connections(proxy: Proxy) -> str:
    """10,000 connections that say nothing."""
    before = proxy.memory()
    ends = []
    for _ in range(100):
        ends += await asyncio.gather(*(proxy.connect() for _ in range(100)))
    grown = proxy.memory() - before
    for _, writer in ends:
        writer.transport.abort()
    return f"{grown / len(ends) / 1024:.1f} KiB each"


async def head_bombs(proxy: Proxy) -> str:
    """2,000 heads of 30 KiB in 3,000 fields, and 2,000 that are too long."""
    fields = b"".join(b"x%d: y\r\n" % number for number in range(2900))
    heads = [b"GET /nothing HTTP/1.1\r\n" + HOST + fields + b"\r\n", b"GET /nothing HTTP/1.1\r\n" + b"x: y\r\n" * 8000]
    answers = [await _ask_all(proxy, [head] * 2000) for head in heads]
    return f"answered {answers[0]} and {answers[1]}"


async def tiny_chunks(proxy: Proxy) -> str:
    """Four uploads of 500,000 chunks of one byte."""
    head = b"POST /tts/v1/voice HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

    async def upload() -> None:
        reader, writer = await proxy.connect()
        writer.write(head)
        for _ in range(500):
            writer.write(b"1\r\nx\r\n" * 1000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    began, before = time.monotonic(), proxy.cpu()
    await asyncio.gather(*(upload() for _ in range(4)))
    used = (proxy.cpu() - before) / 2_000_000
    return f"2,000,000 chunks in {time.monotonic() - began:.1f} s, {used * 1e6:.2f} us of CPU each"


async def random_requests(proxy: Proxy) -> str:
    """100,000 pipelined requests for random paths by random methods."""
    before = len((await proxy.metrics()).split("\n"))
    pick = random.Random(1)  # noqa: S311 - repeatable
    letters = string.ascii_letters + string.digits

    async def flood() -> None:
        reader, writer = await proxy.connect()
        reading = asyncio.ensure_future(reader.read())
        for _ in range(500):
            pieces = []
            for _ in range(50):
                path = "".join(pick.choices(letters, k=12))
                method = pick.choice(("GET", "POST", "DELETE", "".join(pick.choices(string.ascii_uppercase, k=5))))
                pieces.append(f"{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            writer.write(b"".join(pieces))
            await writer.drain()
        writer.write_eof()
        await reading
        writer.close()

    await asyncio.gather(*(flood() for _ in range(4)))
    text = await proxy.metrics()
    dropped = re.findall(r"^inworld_proxy_log_lines_dropped_total (\S+)", text, re.MULTILINE)[0]
    return f"{len(text.split(chr(10))) - before} more lines of metrics, {float(dropped):g} log lines dropped"


async def garbage(proxy: Proxy) -> str:
    """20,000 connections' worth of bytes that are no HTTP."""
    pick = random.Random(2)  # noqa: S311 - repeatable
    noise = [pick.randbytes(200) + b"\r\n\r\n" for _ in range(20_000)]
    return f"answered {await _ask_all(proxy, noise)}"


async def _ask_all(proxy: Proxy, requests: list[bytes]) -> dict[str, int]:
    statuses: dict[str, int] = {}

    async def ask(share: list[bytes]) -> None:
        for request in share:
            reader, writer = await proxy.connect()
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                status = (await reader.read(12))[9:12].decode() or "closed"
                statuses[status] = statuses.get(status, 0) + 1
            writer.transport.abort()

    await asyncio.gather(*(ask(requests[start::20]) for start in range(20)))
    return statuses


async def _settle(proxy: Proxy) -> None:
    """Until memory stands still."""
    last = -1
    while (now := proxy.memory()) > last:
        last = now
        await asyncio.sleep(0.5)


ATTACKS: tuple[Callable[[Proxy], Awaitable[str]], ...] = (
    slow_heads, slow_bodies, slow_readers, idle_connections, head_bombs, tiny_chunks, random_requests, garbage,
)  # fmt: skip


# -- what is attacked --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _upstream() -> AsyncIterator[int]:
    """Answers a POST when it is whole, and a GET with 100 MB."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB))
                    for _ in range(100):
                        writer.write(bytes(MIB))
                        await writer.drain()
                else:
                    while (piece := await reader.read(65536)) and not piece.endswith(b"0\r\n\r\n"):
                        pass
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def _proxy(upstream: int, folder: Path) -> AsyncIterator[Proxy]:
    configuration = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": f"http://127.0.0.1:{upstream}"}},
        "time": {"head": HEAD, "body_idle": BODY_IDLE},
        "log": {"format": "json"},
    }
    (folder / "proxy.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    environ = {"PATH": os.environ["PATH"], "INWORLD_API_KEY": "aWQ6c2VjcmV0LXNlY3JldA=="}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", "--config", str(folder / "proxy.yaml"),
            cwd=ROOT, env=environ, stdout=log, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            told = (await process.stderr.readline()) + (await process.stderr.readline())
            port, admin = re.findall(rb"(?: on |metrics: )http://127\.0\.0\.1:(\d+)", told)
            yield Proxy(process, int(port), int(admin))
        finally:
            process.terminate()
            await process.wait()


async def _measure(attack: Callable[[Proxy], Awaitable[str]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        async with _upstream() as upstream, _proxy(upstream, Path(folder)) as proxy:
            pipe = asyncio.subprocess.PIPE
            honest = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "--honest", str(proxy.port), stdin=pipe, stdout=pipe
            )
            await asyncio.sleep(0.3)
            came = await attack(proxy)
            told, _ = await honest.communicate(b"")
            p99, slowest = told.split()
            words = (attack.__doc__ or "").rstrip(".")
            return f"| {words} | {came} | {int(p99)} | {int(slowest)} |"


def main() -> None:
    """All attacks, or those that are named."""
    if sys.argv[1:2] == ["--honest"]:
        ask_honestly(int(sys.argv[2]))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else soft, hard))
    chosen = [attack for attack in ATTACKS if not sys.argv[1:] or attack.__name__ in sys.argv[1:]]
    print("| attack | what came of it | an honest caller's p99, ms | slowest, ms |\n| --- | --- | --- | --- |")
    for attack in chosen:
        print(asyncio.run(_measure(attack)), flush=True)


if __name__ == "__main__":
    main()
