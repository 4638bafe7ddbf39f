"""A key set is fetched from one address, seldom, one fetch at a time; what cannot be fetched changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.core.model import KeySetSource, Upstream
from proxy.credentials.clock import Clock
from proxy.credentials.key_set import APART, EVERY, LARGEST_SET, FetchedKeys, FetchError, KeySetEndpoint
from tests.credentials.conftest import START, StillLoop

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[KeySetEndpoint]]


@dataclass(frozen=True)
class Set:
    """A key set as whoever reads one makes it."""

    keys: bytes
    refused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


def read(content: bytes) -> Set:
    if content == b"garbage":
        raise ValueError("the key set is garbage")
    return Set(content)


@dataclass
class Issuer:
    """Publishes what a test says; an exception stands for trouble."""

    answer: bytes | Exception = b"one"
    gate: asyncio.Event | None = None
    fetched: list[float] = field(default_factory=list)
    in_flight: int = 0

    async def __call__(self) -> bytes:
        self.fetched.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        assert self.in_flight == 1
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.in_flight -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scene:
    """Keys on a clock that stands until told."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StillLoop)
        self.loop = loop
        self.issuer = Issuer()
        self.tasks: list[asyncio.Task[None]] = []
        clock = Clock(wall=lambda: START + loop.now, monotonic=loop.time)
        self.keys = FetchedKeys("studio", self.issuer, read, clock=clock)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self.tasks.append(self.loop.create_task(work))
        return self.tasks[-1]

    async def start(self) -> None:
        self.keys.start(self.spawn)
        await self.loop.settle()

    def fetches(self) -> list[float]:
        """Seconds from the first fetch to each."""
        return [moment - self.issuer.fetched[0] for moment in self.issuer.fetched]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    scene.keys.close()
    ended = await asyncio.gather(*scene.tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


still = pytest.mark.asyncio(loop_factories=["still"])


@still
async def test_keys_are_fetched_at_the_start_and_every_ten_minutes(scene: Scene) -> None:
    source: KeySetSource = scene.keys
    assert (source.state().ready, scene.keys.current()) == (False, None)
    await scene.start()
    assert scene.keys.current() == Set(b"one")
    state = source.state()
    assert (state.ready, state.keys, state.fault, state.fetches) == (True, 3, None, {"success": 1, "failed": 0})
    assert state.fetched_at == START + scene.loop.now
    await scene.loop.advance(2.5 * EVERY)
    assert scene.fetches() == [0, EVERY, 2 * EVERY]
    assert (EVERY, APART) == (600, 60), "what docs/callers.md promises"


@still
async def test_the_same_keys_stay_the_same_object_and_others_replace_them(scene: Scene) -> None:
    await scene.start()
    first = scene.keys.current()
    await scene.loop.advance(EVERY)
    assert scene.keys.current() is first
    scene.issuer.answer = b""
    await scene.loop.advance(EVERY)
    assert scene.keys.current() == Set(b"")
    assert not scene.keys.state().ready, "an issuer that publishes no keys has withdrawn them"


@still
async def test_however_often_a_key_is_wanted_it_is_asked_for_once_a_minute(scene: Scene) -> None:
    await scene.start()
    for _ in range(300):
        scene.keys.wanted()
        await scene.loop.advance(1)
    assert scene.fetches() == [0, APART, 2 * APART, 3 * APART, 4 * APART, 5 * APART][: len(scene.fetches())]
    assert len(scene.fetches()) in (5, 6)


@still
async def test_a_key_wanted_later_is_fetched_at_once(scene: Scene) -> None:
    await scene.start()
    await scene.loop.advance(APART + 1)
    scene.issuer.answer = b"two"
    scene.keys.wanted()
    await scene.loop.settle()
    assert scene.fetches() == [0, APART + 1]
    assert scene.keys.current() == Set(b"two")


@still
async def test_there_is_one_fetch_at_a_time_and_a_wish_during_it_is_kept(scene: Scene) -> None:
    scene.issuer.gate = asyncio.Event()
    await scene.start()
    for _ in range(100):
        scene.keys.wanted()
        await scene.loop.settle()
    assert len(scene.fetches()) == 1
    scene.issuer.gate.set()
    await scene.loop.advance(APART - 1)
    assert len(scene.fetches()) == 1
    await scene.loop.advance(1)
    assert scene.fetches() == [0, APART]


@still
@pytest.mark.parametrize("trouble", [FetchError("the address could not be reached"), b"garbage"])
async def test_where_a_fetch_fails_the_keys_before_stay(
    scene: Scene, trouble: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.start()
    first = scene.keys.current()
    scene.issuer.answer = trouble
    await scene.loop.advance(EVERY + 3 * APART)
    assert scene.keys.current() is first
    state = scene.keys.state()
    assert state.ready
    assert state.fault is not None
    assert state.fetches == {"success": 1, "failed": 4}
    assert scene.fetches() == [0, *(EVERY + number * APART for number in range(4))]
    assert caplog.text.count("the keys before stay in use") == 1, "trouble that lasts is one line"
    scene.issuer.answer = b"two"
    await scene.loop.advance(APART)
    assert (scene.keys.current(), scene.keys.state().fault) == (Set(b"two"), None)


@still
async def test_keys_that_were_not_there_at_the_start_come_a_minute_later(scene: Scene) -> None:
    scene.issuer.answer = FetchError("the address could not be reached")
    await scene.start()
    scene.keys.wanted()
    await scene.loop.advance(APART - 1)
    assert (scene.keys.current(), scene.keys.state().ready, len(scene.fetches())) == (None, False, 1)
    scene.issuer.answer = b"one"
    await scene.loop.advance(1)
    assert scene.keys.current() == Set(b"one")


@still
async def test_a_closed_one_fetches_no_more_and_keeps_its_keys(scene: Scene) -> None:
    await scene.start()
    scene.keys.close()
    scene.keys.wanted()
    await scene.loop.advance(3 * EVERY)
    assert (len(scene.fetches()), scene.keys.current()) == (1, Set(b"one"))


@still
async def test_what_was_fetched_before_the_start_is_not_fetched_again_at_the_start(scene: Scene) -> None:
    await scene.keys.fetch_first()
    await scene.keys.fetch_first()
    assert scene.keys.current() == Set(b"one")
    await scene.start()
    await scene.loop.advance(APART)
    assert scene.fetches() == [0]
    await scene.loop.advance(EVERY)
    assert scene.fetches() == [0, EVERY]


@still
async def test_keys_that_are_not_used_are_said_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.keys._read = lambda content: Set(content, ("a key too short", "a key too short"))
    await scene.start()
    await scene.loop.advance(EVERY)
    assert caplog.text.count("a key too short") == 1


# -- over HTTP --------------------------------------------------------------------------------------------------------


def endpoint_at(port: int, path: str = "/keys", **changed: str) -> KeySetEndpoint:
    scheme, host = changed.get("scheme", "http"), "127.0.0.1"
    return KeySetEndpoint.of(Upstream("u", scheme, host, port, f"{host}:{port}", changed.get("ca_file")), path)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one handler on every path; the endpoint that asks it is returned."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(handler: Handler, tls: ssl.SSLContext | None = None, **changed: str) -> KeySetEndpoint:
            application = web.Application()
            application.router.add_route("*", "/{tail:.*}", handler)
            server = TestServer(application, scheme="https" if tls else "http")
            await server.start_server(ssl=tls)
            stack.push_async_callback(server.close)
            return endpoint_at(server.port or 0, **changed)

        yield begin


def answering(status: int, body: bytes = b'{"keys":[]}', **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def reason_of(endpoint: KeySetEndpoint) -> str:
    with pytest.raises(FetchError) as raised:
        await endpoint()
    return raised.value.reason


async def test_one_plain_get_and_nothing_from_the_environment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[tuple[str, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((f"{request.method} {request.raw_path}", dict(request.headers)))
        return web.Response(body=b'{"keys":[]}', headers={"Set-Cookie": "a=b", "Cache-Control": "max-age=9"})

    endpoint = await serve(handler)
    endpoint = endpoint_at(endpoint.host.port, "/tenant/keys?p=signin&v=1")
    for _ in range(2):
        assert await endpoint() == b'{"keys":[]}'
    line, headers = seen[1]
    assert line == "GET /tenant/keys?p=signin&v=1"
    assert headers.pop("User-Agent").startswith("inworld-proxy/")
    assert headers == {
        "Host": endpoint.host.authority,
        "Accept": "application/jwk-set+json, application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(serve: Serve, status: int) -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(body=b'{"keys":[]}')

    other = await serve(elsewhere)
    reason = await reason_of(await serve(answering(status, Location=f"http://{other.host.authority}/keys")))
    assert "redirects" in reason
    assert asked == []


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 429, 500])
async def test_anything_else_but_200_is_trouble(serve: Serve, status: int) -> None:
    reason = await reason_of(await serve(answering(status, b"")))
    assert "redirects" in reason if status == 304 else reason == f"the key set's address answered {status}"


async def test_a_huge_answer_is_not_read_to_its_end(serve: Serve) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * LARGEST_SET)
                sent += LARGEST_SET
        return response

    assert await reason_of(await serve(handler)) == "the key set is too large"
    assert sent < 100 * 2**20
    assert len(await (await serve(answering(200, b" " * LARGEST_SET)))()) == LARGEST_SET


async def test_a_compressed_answer_is_never_unpacked(serve: Serve) -> None:
    """Nobody asked for one: 256 KiB may be a gigabyte of them."""
    packed = gzip.compress(b'{"keys":[]}')
    endpoint = await serve(answering(200, packed, **{"Content-Encoding": "gzip"}))
    assert await endpoint() == packed


async def test_a_slow_answer_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.credentials.key_set.TIME_LIMIT", 0.2)

    given_up = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await given_up.wait()
        return response

    assert "in time" in await reason_of(await serve(handler))
    given_up.set()


async def test_an_address_that_is_not_there_is_trouble() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert await reason_of(endpoint_at(held.getsockname()[1])) == "the key set's address could not be reached"


async def test_an_answer_from_whom_nobody_vouches_for_is_trouble(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = await serve(answering(200), context, scheme="https", ca_file=str(tmp_path / "ca.pem"))
    assert await trusting() == b'{"keys":[]}'
    mistrusting = await serve(answering(200), context, scheme="https")
    assert await reason_of(mistrusting) == "the key set's address could not be reached"
