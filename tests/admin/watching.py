"""A proxy with its inspector on, and what a page sees of it: the stream of events, one request in detail."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

from proxy.admin.application import make_application
from proxy.core.model import Address, Snapshot
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import Message, bounded, connect, request

KEEP = 20


class Stream:
    """A viewer that reads."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.raw = b""

    async def event(self) -> tuple[str, Any]:
        """The next event: its name and its data."""
        name = (await self._line()).removeprefix("event: ")
        data = json.loads((await self._line()).removeprefix("data: "))
        assert await self._line() == ""
        return name, data

    async def until(self, name: str, true: Callable[[Any], object] = bool) -> Any:
        """The data of the next event of this name of which this is true."""
        while True:
            got, data = await self.event()
            if got == name and true(data):
                return data

    async def rows(self, count: int) -> list[dict[str, Any]]:
        """So many rows, in the order in which they are told."""
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            rows += (await self.until("requests", lambda _: True))["rows"]
        return rows

    async def ended(self) -> bool:
        """Was it ended in order, and not cut?"""
        while line := await bounded(self.response.content.readline()):
            self.raw += line
        return True

    async def _line(self) -> str:
        line = await bounded(self.response.content.readline())
        assert line, "the stream ended"
        self.raw += line
        return line.decode().removesuffix("\n")


class Inspected:
    """A proxy and its admin listener, which is on loopback whatever address the configuration names."""

    def __init__(self, proxy: Proxy, runner: web.AppRunner) -> None:
        self.proxy = proxy
        self.runner = runner
        self.session = ClientSession(timeout=ClientTimeout(total=None), read_bufsize=2**22)

    @property
    def port(self) -> int:
        return int(self.runner.addresses[0][1])

    async def ask(self, what: str, *fields: str, host: str = "127.0.0.1") -> Message:
        """One request to the admin listener, and its whole answer."""
        wire = await connect("127.0.0.1", self.port)
        try:
            await wire.send(request(what, *fields, host=host))
            return await wire.message(answers=what.partition(" ")[0])
        finally:
            await wire.cleanup()

    async def detail(self, number: int) -> dict[str, Any]:
        got = await self.ask(f"GET /inspector/requests/{number}")
        assert got.head.status == 200, got
        return json.loads(got.content)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def stream(self, **fields: str) -> AsyncIterator[Stream]:
        """Looks, as the page does."""
        url = f"http://127.0.0.1:{self.port}/inspector/events"
        async with self.session.get(url, headers=fields) as response:
            assert response.status == 200
            yield Stream(response)

    async def rows(self) -> list[dict[str, Any]]:
        """What is kept now, as a page that is opened gets it."""
        async with self.stream() as stream:
            data = await stream.until("requests", lambda _: True)
        return data["rows"]  # type: ignore[no-any-return]

    async def newest(self) -> dict[str, Any]:
        return (await self.rows())[-1]

    async def state(self) -> dict[str, Any]:
        async with self.stream() as stream:
            return await stream.until("state")  # type: ignore[no-any-return]


class Inspectors:
    """Makes them for one test, and ends them before their proxies."""

    def __init__(self, proxies: Proxies) -> None:
        self.proxies = proxies
        self._stack = AsyncExitStack()

    async def start(
        self,
        change: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
        *,
        address: str = "127.0.0.1",
        keep: int = KEEP,
        **options: Any,
    ) -> Inspected:
        """``options`` are those of ``make_snapshot()``."""
        upstream = await self.proxies.upstream()
        snapshot = make_snapshot(upstream_at(upstream.port), **options)
        snapshot = change(replace(snapshot, admin=Address(address, 0), inspector=keep))
        proxy = await self.proxies.start(snapshot, upstream)
        runner = web.AppRunner(make_application(proxy.server), access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        # Small buffers, which connections inherit: a viewer that does not read is soon noticed.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.bind(("127.0.0.1", 0))
        await web.SockSite(runner, sock).start()
        inspected = Inspected(proxy, runner)
        self._stack.push_async_callback(inspected.session.close)
        return inspected

    async def cleanup(self) -> None:
        await self._stack.aclose()
