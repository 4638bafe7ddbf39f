"""A sandbox on a real loopback socket for every test that asks for one, and a client that carries a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.sandbox.app import make_application
from proxy.sandbox.keys import DEMO_KEYS, SandboxKey
from proxy.sandbox.options import SandboxOptions

KEYS: dict[str, SandboxKey] = {key.name: key for key in DEMO_KEYS}


@dataclass
class Clock:
    """A clock that stands until a test moves it."""

    now: float = 1_780_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Running:
    """A running sandbox and a session to talk to it."""

    url: str
    session: aiohttp.ClientSession
    clock: Clock = field(default_factory=Clock)

    async def ask(self, method: str, path: str, key: str | None = "full", **extra: Any) -> aiohttp.ClientResponse:
        headers = dict(extra.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Basic {KEYS[key].basic}")
        response = await self.session.request(method, self.url + path, headers=headers, **extra)
        await response.read()
        return response

    async def open_stream(self, path: str, body: dict[str, Any], key: str = "full") -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Basic {KEYS[key].basic}"}
        return await self.session.post(self.url + path, headers=headers, json=body)

    async def json(self, method: str, path: str, body: Any = None, key: str | None = "full") -> Any:
        response = await self.ask(method, path, key, **({} if body is None else {"json": body}))
        assert response.status == 200, (response.status, await response.text())
        return await response.json()

    async def socket(self, path: str, key: str | None = "full", **extra: Any) -> Any:
        headers = {} if key is None else {"Authorization": f"Basic {KEYS[key].basic}"}
        return await self.session.ws_connect(self.url + path, headers=headers, max_msg_size=0, **extra)

    async def seen(self) -> list[dict[str, Any]]:
        answer = await (await self.session.get(f"{self.url}/_sandbox/seen?settled=30")).json()
        assert answer["settled"]
        return list(answer["requests"])


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a sandbox with the options given as keyword arguments."""
    opened: list[tuple[TestServer, aiohttp.ClientSession]] = []

    async def begin(**options: Any) -> Running:
        clock = Clock()
        application: web.Application = make_application(replace(SandboxOptions(clock=clock), **options))
        server = TestServer(application)
        await server.start_server()
        session = aiohttp.ClientSession()
        opened.append((server, session))
        return Running(str(server.make_url("")).rstrip("/"), session, clock)

    yield begin
    for server, session in opened:
        await session.close()
        await server.close()


@pytest.fixture
async def sandbox(start: Start) -> Running:
    """A sandbox with the default options."""
    return await start()
