"""Another configuration while requests are served: none is lost, none is judged by two, and only who lost a grant is
cut off."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from proxy.core.model import (
    Caller,
    CallerLimits,
    KeyPower,
    KeyType,
    LogFormat,
    LogSettings,
    Mode,
    Snapshot,
    TimeLimits,
    Upstream,
)
from proxy.credentials.api_key import ApiKey
from proxy.credentials.secret import Secret
from proxy.settings.load import load_settings
from proxy.wire.frames import close_frame
from proxy.wire.server import RETIRED_FOR
from tests.flows.test_start_and_end import WatchedKeys, WatchedTokens
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import SOCKET, SWITCH, TOKEN, make_snapshot, upstream_at, with_policy
from tests.wires import OK, Wire, bounded, connect, request

STT = "/stt/v1/transcribe:streamBidirectional"
CLOSE_BACK = bytes([0x88, 0x82, 0, 0, 0, 0]) + (1008).to_bytes(2, "big")
FRAME = bytes([0x82, 0x84, 0, 0, 0, 0]) + b"ping"


def handshake(token: str = TOKEN, path: str = SOCKET) -> bytes:
    return request(
        f"GET {path}", f"Authorization: Bearer {token}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )  # fmt: skip


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


# -- who keeps a tunnel -----------------------------------------------------------------------------------------------


def revoked(snapshot: Snapshot) -> Snapshot:
    return make_snapshot(next(iter(snapshot.upstreams.values())), tokens={"store": "another-token", "other": "other"})


def removed(snapshot: Snapshot) -> Snapshot:
    return make_snapshot(next(iter(snapshot.upstreams.values())), tokens={"other": "other"})


def not_granted(snapshot: Snapshot) -> Snapshot:
    return granting(snapshot, "store", frozenset({"tts.synthesize"}))


def audited(snapshot: Snapshot) -> Snapshot:
    return with_policy(not_granted(snapshot), mode=Mode.AUDIT)


def realtime_only(snapshot: Snapshot) -> Snapshot:
    upstream = next(iter(snapshot.upstreams.values()))
    return make_snapshot(
        upstream, tokens={"store": TOKEN, "other": "other"}, power=KeyPower(type=KeyType.REALTIME_ONLY)
    )


def granting(snapshot: Snapshot, name: str, operations: frozenset[str] | None) -> Snapshot:
    """The snapshot, with another grant for one caller."""
    from proxy.callers.token import digest_token, token_recogniser

    callers = {each.name: each for each in snapshot.callers.values()}
    callers[name] = replace(callers[name], operations=operations)
    tokens = {"store": TOKEN, "other": "other"}
    recogniser = token_recogniser((digest_token(tokens[each].encode()), caller) for each, caller in callers.items())
    return with_policy(replace(snapshot, callers=callers), recognisers=(recogniser,))


async def with_callers(proxies: Proxies) -> Proxy:
    upstream = await proxies.upstream()
    return await proxies.start(
        make_snapshot(upstream_at(upstream.port), tokens={"store": TOKEN, "other": "other"}), upstream
    )


async def opened(proxy: Proxy, token: str = TOKEN, path: str = SOCKET) -> tuple[Wire, Wire]:
    caller = await proxy.caller()
    await caller.send(handshake(token, path))
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert (await caller.head()).status == 101
    return caller, wire


async def passes(caller: Wire, wire: Wire) -> bool:
    await caller.send(FRAME)
    return await wire.exactly(len(FRAME)) == FRAME


async def closed_with(caller: Wire, code: str) -> None:
    frame = close_frame(1008, code.encode())
    assert await caller.exactly(len(frame)) == frame
    await caller.send(CLOSE_BACK)
    assert await caller.rest() == b""


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        (revoked, SOCKET, "unknown_caller"),
        (removed, SOCKET, "unknown_caller"),
        (not_granted, SOCKET, "operation_not_granted"),
        (realtime_only, STT, "key_is_realtime_only"),
    ],
)
async def test_who_lost_the_grant_loses_the_tunnel_at_the_end_of_a_frame_and_nobody_else_does(
    proxies: Proxies, change: Callable[[Snapshot], Snapshot], path: str, code: str
) -> None:
    proxy = await with_callers(proxies)
    lost, upstream_of_lost = await opened(proxy, TOKEN, path)
    kept, upstream_of_kept = await opened(proxy, "other")
    await upstream_of_lost.send(b"\x82\x04pi")
    assert await lost.exactly(4) == b"\x82\x04pi"
    proxy.server.adopt(change(proxy.server.snapshot))
    await upstream_of_lost.send(b"ng")
    assert await lost.exactly(2) == b"ng", "a frame that has begun is finished first"
    await closed_with(lost, code)
    assert await passes(kept, upstream_of_kept)
    await proxy.metrics.until(lambda m: m.in_flight == 1)
    (record,) = proxy.records
    assert (record.caller, record.code is not None and record.code.value) == ("store", code)


@pytest.mark.parametrize(
    "change", [audited, realtime_only, lambda snapshot: replace(snapshot, time=TimeLimits(idle=9))]
)
async def test_who_would_be_let_through_again_notices_nothing(
    proxies: Proxies, change: Callable[[Snapshot], Snapshot]
) -> None:
    proxy = await with_callers(proxies)
    caller, wire = await opened(proxy)
    for _ in range(3):
        proxy.server.adopt(change(proxy.server.snapshot))
        assert await passes(caller, wire)


async def test_a_handshake_that_was_on_its_way_is_judged_by_the_rules_it_opens_under(proxies: Proxies) -> None:
    proxy = await with_callers(proxies)
    for token, kept in ((TOKEN, False), ("other", True)):
        caller = await proxy.caller()
        await caller.send(handshake(token))
        wire = await proxy.upstream.accept()
        await wire.head()
        proxy.server.adopt(not_granted(proxy.server.snapshot))
        await wire.send(SWITCH)
        assert (await caller.head()).status == 101
        if kept:
            assert await passes(caller, wire)
        else:
            await closed_with(caller, "operation_not_granted")


async def test_a_thousand_tunnels_are_judged_in_turns(proxies: Proxies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.wire.server.JUDGED_AT_ONCE", 2)
    proxy = await with_callers(proxies)
    tunnels = [await opened(proxy, TOKEN if number % 2 else "other") for number in range(9)]
    proxy.server.adopt(replace(proxy.server.snapshot, time=TimeLimits(idle=9)))
    proxy.server.adopt(not_granted(proxy.server.snapshot))
    for number, (caller, wire) in enumerate(tunnels):
        if number % 2:
            await closed_with(caller, "operation_not_granted")
        else:
            assert await passes(caller, wire)


# -- what is retired --------------------------------------------------------------------------------------------------


def keyed(snapshot: Snapshot, tokens: WatchedTokens) -> Snapshot:
    (route,) = snapshot.routes
    route = replace(route, credential=tokens)
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    routes = dict.fromkeys(anonymous.routes, route)
    callers = {"slow": Caller("slow", routes, limits=CallerLimits(rate=1.0, queue=100.0))}
    snapshot = with_policy(snapshot, anonymous=replace(anonymous, routes=routes))
    return replace(snapshot, routes=(route,), credentials={tokens.name: tokens}, callers=callers)


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_what_a_reload_took_away_goes_on_for_who_was_let_through_and_then_nothing_holds_it(
    proxies: Proxies, clock: ClockLoop
) -> None:
    upstream = await proxies.upstream()
    first, second, keys = WatchedTokens("one"), WatchedTokens("two"), WatchedKeys()
    plain = make_snapshot(upstream_at(upstream.port))
    proxy = await proxies.start(replace(keyed(plain, first), key_sets={"studio": keys}), upstream)
    caller = await proxy.caller()
    await caller.send(handshake())
    wire = await upstream.accept()
    assert (await wire.head()).all("authorization") == ["Bearer one"]
    await wire.send(SWITCH)
    await caller.head()
    proxy.server.adopt(replace(keyed(plain, second), callers={}))
    assert (first.closed, keys.closed, second.started) == (0, 0, 1)
    await clock.advance(RETIRED_FOR + 10)
    assert first.closed == 0, "who stood in line might still be let through, for as long as the old one said"
    await clock.advance(100)
    assert (first.closed, keys.closed, second.closed, proxy.server._retired) == (1, 1, 0, [])
    (tunnel,) = proxy.server.tunnels
    assert tunnel._credential is None, "a tunnel of hours must not keep a key that is gone"
    assert await passes(caller, wire)


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_what_comes_back_in_time_is_not_ended_by_its_retirement(proxies: Proxies, clock: ClockLoop) -> None:
    upstream = await proxies.upstream()
    first, second = WatchedTokens("one"), WatchedTokens("two")
    plain = make_snapshot(upstream_at(upstream.port))
    one, two = replace(keyed(plain, first), callers={}), replace(keyed(plain, second), callers={})
    proxy = await proxies.start(one, upstream)
    proxy.server.adopt(two)
    proxy.server.adopt(one)
    await clock.advance(RETIRED_FOR + 1)
    assert (first.started, first.closed, second.started, second.closed) == (1, 0, 1, 1)


# -- minted tokens ----------------------------------------------------------------------------------------------------


class Serving:
    """An upstream of its own kind, and its end: what is open then is cut."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in [*self._open]:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Mints(Serving):
    """An upstream that mints tokens when its gate is open, and says what each other request was shown."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")}
                await reader.readexactly(int(fields.get("content-length", "0")))
                body: dict[str, Any] = {"shown": fields["authorization"]}
                if "token:generate" in head:
                    self.count += 1
                    self.asked.set()
                    token = f"token-{self.count}"
                    await self.gate.wait()
                    body = {"token": token, "type": "Bearer", "expirationTime": "2100-01-01T00:00:00Z"}
                content = json.dumps(body).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


@pytest.fixture
async def mints() -> AsyncIterator[Mints]:
    mints = await Mints().start()
    yield mints
    await mints.stop()


class Files:
    """A configuration of one minted token, loaded again and again to take the place of the one before."""

    def __init__(self, folder: Path, mints: Mints) -> None:
        self.path = folder / "proxy.yaml"
        self.mints = mints
        self.environ = {"KEY": base64.b64encode(b"id:secret").decode()}

    def load(self, number: int, keep: Snapshot | None = None) -> Snapshot:
        level = ("read", "write")[number // 2 % 2]
        self.path.write_text(f"""\
listen: 127.0.0.1:0
admin: 127.0.0.1:0
upstreams: {{inworld: {{url: "http://127.0.0.1:{self.mints.port}"}}}}
credentials:
  {("live", "alive")[number // 4 % 2]}: {{kind: session-token, secret: env:KEY, permissions: {{voices: {level}}}}}
log: {{format: 'off'}}
time: {{idle: {number + 60}s}}
""")
        return load_settings(self.path, self.environ, keep=keep)


async def _shown(proxy: Proxy) -> str:
    got = await proxy.ask(request("GET /voices/v1/voices"))
    assert got.head.status == 200, got.content
    return str(json.loads(got.content)["shown"])


async def test_a_warm_token_survives_every_reload(proxies: Proxies, mints: Mints, tmp_path: Path) -> None:
    files = Files(tmp_path, mints)
    proxy = await proxies.start(files.load(0))
    assert await _shown(proxy) == "Bearer token-1"
    for number in range(1, 21):
        proxy.server.adopt(files.load(number, proxy.server.snapshot))
        assert await _shown(proxy) == "Bearer token-1"
    (credential,) = proxy.server.snapshot.credentials.values()
    assert (mints.count, credential.state().mints["success"]) == (1, 1)
    await proxy.server.close()


@pytest.mark.parametrize("number", [1, 2, 4])
async def test_a_request_that_waits_for_a_token_is_served_after_a_reload(
    proxies: Proxies, mints: Mints, tmp_path: Path, number: int
) -> None:
    files = Files(tmp_path, mints)
    mints.gate.clear()
    proxy = await proxies.start(files.load(0))
    caller = await proxy.caller()
    await caller.send(request("GET /voices/v1/voices"))
    await bounded(mints.asked.wait())
    await proxy.metrics.until(lambda m: m.in_flight == 1)
    proxy.server.adopt(files.load(number, proxy.server.snapshot))
    mints.gate.set()
    assert (await caller.message()).head.status == 200
    assert (await proxy.ask(request("GET /voices/v1/voices"))).head.status == 200
    await proxy.server.close()


# -- under load -------------------------------------------------------------------------------------------------------

CALLERS, STREAMS, TUNNELS, RELOADS = 24, 4, 4, 36
CHUNKS = 40


class Echo(Serving):
    """An upstream that says which one it is and what it was shown, streams slowly, and gives bytes of tunnels back."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").lower().split("\r\n")
                fields = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
                await reader.readexactly(int(fields.get("content-length", "0")))
                if "upgrade" in fields:
                    writer.write(SWITCH)
                    while piece := await reader.read(65536):
                        writer.write(piece)
                    return
                basic = next(line for line in head.decode("latin-1").split("\r\n") if line.startswith("Authorization"))
                key = base64.b64decode(basic.rpartition(" ")[2]).decode().partition(":")[0]
                said = f"{self.name} {key} "
                if ":stream" in lines[0]:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for number in range(CHUNKS):
                        piece = f"{said}{number};".encode()
                        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                        await writer.drain()
                        await asyncio.sleep(0.002)  # a stream takes time: that is what it is for
                    writer.write(b"0\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said.encode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


class Rules:
    """Configuration number N: an upstream, a key and limits of its own; one caller is served by even ones only."""

    def __init__(self, echoes: list[Echo]) -> None:
        self._echoes = echoes
        self.number = 0

    def snapshot(self) -> Snapshot:
        number = self.number
        echo = self._echoes[number // 2 % len(self._echoes)]
        # Every second reload keeps the upstream and its pool; the key is another in each.
        upstream = Upstream("inworld", "http", "127.0.0.1", echo.port, f"127.0.0.1:{echo.port}")
        limits = (None, CallerLimits(concurrent=500), CallerLimits(concurrent=2, queue=60.0))[number % 3]
        made = make_snapshot(upstream, tokens={"store": TOKEN, "other": "other"}, limits=limits)
        key = ApiKey("workspace", Secret(base64.b64encode(f"key-{number}:secret".encode()).decode()), KeyPower())
        route = replace(made.routes[0], credential=key)
        callers = {
            name: replace(caller, routes=dict.fromkeys(caller.routes, route)) for name, caller in made.callers.items()
        }
        time = TimeLimits(keep_alive=60.0 + number, first_byte=30.0 + number)
        made = replace(made, callers=callers, routes=(route,), credentials={"workspace": key}, time=time)
        made = granting(made, "other", None if number % 2 == 0 else frozenset({"tts.synthesize_stream"}))
        return replace(made, source=f"rules {number}", log=LogSettings(format=LogFormat.OFF))

    def check(self, said: str, began: int) -> int:
        """By which of the rules in force since then it was answered; by a mixture of two is none."""
        name, key = said.split()
        number = int(key.removeprefix("key-"))
        assert began <= number <= self.number
        assert name == self._echoes[number // 2 % len(self._echoes)].name
        return number


class Load:
    """Callers that ask without a pause until they are told to stop."""

    def __init__(self, proxy: Proxy, rules: Rules) -> None:
        self.proxy = proxy
        self.rules = rules
        self.over = False
        self.answered: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def count(self, what: str) -> None:
        self.answered[what] += 1
        self._changed.set()

    async def more(self, what: str, count: int) -> None:
        until = self.answered[what] + count
        while self.answered[what] < until:
            self._changed.clear()
            await bounded(self._changed.wait())

    async def ask(self, token: str) -> None:
        wire = await connect(self.proxy.host, self.proxy.port)
        while not self.over:
            began = self.rules.number
            await wire.send(request("POST /tts/v1/voice", bearer(token), body=b"hello"))
            got = await wire.message()
            if token == TOKEN or got.head.status == 200:
                assert got.head.status == 200, got.content
                number = self.rules.check(got.content.decode(), began)
                assert token == TOKEN or number % 2 == 0, "a key that this caller's own rules never gave it"
            else:
                assert got.head.status == 403, got.content
                assert any(number % 2 for number in range(began, self.rules.number + 1))
            self.count(f"{token} {got.head.status}")
        await wire.cleanup()

    async def stream(self) -> None:
        wire = await connect(self.proxy.host, self.proxy.port)
        while not self.over:
            began = self.rules.number
            await wire.send(request("POST /tts/v1/voice:stream", bearer("other"), body=b"hello"))
            got = await wire.message()
            assert got.head.status == 200
            pieces = got.content.decode().rstrip(";").split(";")
            assert [int(piece.split()[2]) for piece in pieces] == [*range(CHUNKS)]
            assert len({self.rules.check(piece.rpartition(" ")[0], began) for piece in pieces}) == 1
            self.count("stream")
        await wire.cleanup()

    async def tunnel(self) -> None:
        wire = await connect(self.proxy.host, self.proxy.port)
        await wire.send(handshake())
        assert (await wire.head()).status == 101
        while not self.over:
            await wire.send(FRAME)
            assert await wire.exactly(len(FRAME)) == FRAME
            self.count("frame")
        await wire.cleanup()


@pytest.fixture
async def echoes() -> AsyncIterator[list[Echo]]:
    echoes = [await Echo(name).start() for name in ("a", "b", "c")]
    yield echoes
    for echo in echoes:
        await echo.stop()


async def test_under_full_load_a_reload_loses_no_request(proxies: Proxies, echoes: list[Echo]) -> None:
    rules = Rules(echoes)
    proxy = await proxies.start(rules.snapshot(), await proxies.upstream())
    load = Load(proxy, rules)
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(load.ask(TOKEN if number % 3 else "other"))
        for _ in range(STREAMS):
            group.create_task(load.stream())
        for _ in range(TUNNELS):
            group.create_task(load.tunnel())
        await load.more("frame", 1)
        for _ in range(RELOADS):
            rules.number += 1
            proxy.server.adopt(rules.snapshot())
            await load.more(f"{TOKEN} 200", 3 * CALLERS)
            await load.more("frame", 2 * TUNNELS)
        load.over = True
    assert min(load.answered[f"other {status}"] for status in (200, 403)) > 0, load.answered
    assert load.answered["stream"] >= STREAMS
    assert proxy.metrics.upstream_errors == {}
    assert proxy.metrics.aborts == {}
    await proxy.metrics.until(lambda m: m.connections == 0)
    gc.collect()
    kept = [each.source for each in gc.get_objects() if isinstance(each, Snapshot) and each.source.startswith("rules")]
    assert kept == [f"rules {RELOADS}"], "a configuration that is not in force any more is still held"


async def test_requests_in_line_are_served_when_the_limits_change(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    limits = CallerLimits(concurrent=1, queue=60.0)
    old = make_snapshot(upstream_at(upstream.port), tokens={"store": TOKEN}, limits=limits)
    proxy = await proxies.start(old, upstream)
    callers = [await proxy.caller() for _ in range(3)]
    for caller in callers:
        await caller.send(request("GET /things", bearer(TOKEN)))
    await proxy.metrics.until(lambda m: m.callers_waiting().get("store") == 2)
    proxy.server.adopt(make_snapshot(upstream_at(upstream.port), tokens={"store": TOKEN}))
    for _ in callers:
        wire = await upstream.accept()
        await wire.message()
        await wire.send(OK.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n"))
    assert [(await caller.message()).head.status for caller in callers] == [200] * 3
