"""Where a connection may lead instead of to the upstream: nowhere, a resolver that fails, an egress that refuses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.scene import Scene
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import bounded

NAME = "api.example"
EGRESS_AUTHORIZATION = "Basic dXNlcjpwYXNz"


class Blackhole:
    """A port where a connection is neither accepted nor refused: its backlog is full, so the kernel drops each SYN."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self._waiting = socket.create_connection(self._listener.getsockname()[:2], timeout=5)

    def close(self) -> None:
        self._waiting.close()
        self._listener.close()


class Resolver:
    """The network's name service as the loop sees it. ``addresses`` are given in this order; ``failure`` instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = addresses
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self._real = loop.getaddrinfo
        patch.setattr(loop, "getaddrinfo", self._getaddrinfo)

    async def _getaddrinfo(self, host: str, port: int, **options: Any) -> list[Any]:
        if host != NAME:
            return await self._real(host, port, **options)
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        found = []
        for address in self.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            where = (address, port, 0, 0) if ":" in address else (address, port)
            found.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
        return found


class Egress:
    """A CONNECT proxy. It gives ``answer``, or never one; once that opens a tunnel, it joins the two connections."""

    OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def __init__(self, target: int, joined: dict[int, int]) -> None:
        self.joined = joined
        self.answer: bytes | None = self.OPEN
        self.asked: list[bytes] = []
        self.waits = asyncio.Event()
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> Egress:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop_listening(self) -> None:
        assert self._server is not None
        self._server.close()

    async def cleanup(self) -> None:
        self.stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(writer.transport.abort)
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            if self.answer is None:
                self.waits.set()
                await reader.read()
                return
            writer.write(self.answer)
            if self.answer != self.OPEN:
                writer.write_eof()
                await reader.read()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            stack.callback(far_writer.transport.abort)
            near = writer.get_extra_info("peername")[1]
            self.joined[near] = far_writer.get_extra_info("sockname")[1]
            await asyncio.wait(
                [asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def nowhere(scene: Scene) -> None:
    """Nobody listens at the upstream's port."""
    await scene.listen()
    scene.upstream.stop_listening()
    await scene.start()


async def swallowed(scene: Scene) -> None:
    """Connections to the upstream are never made."""
    await nowhere(scene)
    scene.prop = Blackhole("127.0.0.1", scene.upstream.port)
    scene.stack.callback(scene.prop.close)


async def found_again(scene: Scene) -> None:
    """The upstream listens where it should."""
    if isinstance(scene.prop, Blackhole):
        scene.prop.close()
    await scene.upstream.listen_again()


def resolving(*addresses: str):
    """The upstream has a name, and the name these addresses."""

    async def stage(scene: Scene) -> None:
        scene.prop = Resolver(scene.loop, scene.patch, *addresses)
        upstream = await scene.listen()
        await scene.start(make_snapshot(upstream_at(upstream.port, host=NAME)))

    return stage


def through(answer: bytes | None = Egress.OPEN, *, scheme: str = "https"):
    """The upstream, with TLS, behind a CONNECT proxy that answers like this."""

    async def stage(scene: Scene) -> None:
        context = scene.certificates.good(NAME) if scheme == "https" else None
        upstream = await scene.listen(context)
        scene.prop = egress = await Egress(upstream.port, scene.joined).start()
        egress.answer = answer
        scene.stack.push_async_callback(egress.cleanup)
        behind = replace(
            upstream_at(443, scheme=scheme, host=NAME),
            ca_file=scene.certificates.ca_file,
            connect_proxy=("127.0.0.1", egress.port),
            connect_proxy_authorization=EGRESS_AUTHORIZATION,
        )
        await scene.start(make_snapshot(behind))

    return stage


async def opens_again(scene: Scene) -> None:
    """The CONNECT proxy opens tunnels."""
    scene.prop.answer = Egress.OPEN


async def asked(event: asyncio.Event) -> None:
    """Somebody has got there."""
    await bounded(event.wait())
