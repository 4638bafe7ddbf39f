"""https upstreams are verified, always, and reached directly or through a CONNECT proxy; else nothing is sent."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
from dataclasses import replace
from typing import Any, Self

import pytest

from proxy.core.model import Snapshot, Upstream
from proxy.wire.secure import SecureTransport
from proxy.wire.tunnel import Tunnel, TunnelEnd
from tests.certificates import DEEP, DEFECTS, HOST, Certificates, undemanding
from tests.proxies import Proxies, Proxy
from tests.snapshots import AUTHORIZATION, HANDSHAKE, make_snapshot, upstream_at
from tests.wires import OK, ScriptedUpstream, bounded, request


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def _https(upstream: ScriptedUpstream, ca_file: str | None, host: str = "localhost") -> Upstream:
    return replace(upstream_at(upstream.port, scheme="https", host=host), ca_file=ca_file)


async def _start(proxies: Proxies, context: ssl.SSLContext, ca_file: str | None, host: str = "localhost") -> Proxy:
    upstream = await proxies.upstream(context)
    return await proxies.start(make_snapshot(_https(upstream, ca_file, host)), upstream)


async def test_an_upstream_with_a_good_certificate_is_served(proxies: Proxies, certificates: Certificates) -> None:
    proxy = await _start(proxies, certificates.good("localhost"), certificates.ca_file)
    seen, got = await proxy.pass_on(request("POST /things", body=b"x" * 300_000))
    assert seen.head.get("Authorization") == AUTHORIZATION
    assert seen.head.get("Host") == f"localhost:{proxy.upstream.port}"
    assert (len(seen.body), got.content) == (300_000, b"ok")


async def test_secure_connections_are_used_again_and_survive_an_idle_close(
    proxies: Proxies, certificates: Certificates
) -> None:
    proxy = await _start(proxies, certificates.good("localhost"), certificates.ca_file)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    for turn in range(3):
        if turn:
            await caller.send(request("GET /things"))
        await wire.message()
        await wire.send(OK)
        assert (await caller.message()).content == b"ok"
    wire.close()
    await bounded(wire._writer.wait_closed())
    await caller.send(request("POST /things", body=b"x"))
    second = await proxy.upstream.accept()
    await second.message()
    await second.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_an_address_is_verified_as_an_address(proxies: Proxies, certificates: Certificates) -> None:
    proxy = await _start(proxies, certificates.good("127.0.0.1"), certificates.ca_file, "127.0.0.1")
    assert (await proxy.pass_on(request("GET /things"))).got.content == b"ok"


async def test_tunnels_go_through_tls(proxies: Proxies, certificates: Certificates) -> None:
    proxy = await _start(proxies, certificates.good("localhost"), certificates.ca_file)
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x01a")
    assert (await caller.head()).status == 101
    assert await caller.exactly(3) == b"\x81\x01a"
    await caller.send(b"\x82\xff" + (2**20).to_bytes(8, "big") + bytes(4) + b"x" * 2**20)
    assert len(await wire.exactly(2**20 + 14)) == 2**20 + 14
    caller.close()
    await wire.gone()
    await proxy.metrics.until(lambda m: m.in_flight == 0)


async def test_a_tunnel_that_ended_leaves_nothing_to_the_garbage_collector_through_tls_either(
    proxies: Proxies, certificates: Certificates
) -> None:
    proxy = await _start(proxies, certificates.good("localhost"), certificates.ca_file)
    gc.collect()
    gc.disable()
    try:
        caller = await proxy.caller()
        await caller.send(HANDSHAKE)
        wire = await proxy.upstream.accept()
        await wire.head()
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert (await caller.head()).status == 101
        caller.close()
        await wire.gone()
        await proxy.metrics.until(lambda m: m.in_flight == 0)
        for _ in range(5):  # the transports let go of their protocols
            await asyncio.sleep(0)
        left = [each for each in gc.get_objects() if isinstance(each, Tunnel | TunnelEnd | SecureTransport)]
        assert not left
    finally:
        gc.enable()


async def test_a_broken_body_looks_broken_through_tls_too(proxies: Proxies, certificates: Certificates) -> None:
    proxy = await _start(proxies, certificates.good("localhost"), certificates.ca_file)
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await caller.head()
    assert await caller.exactly(6)
    wire.reset()
    assert await caller.until_broken() == b""


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_defective_upstream_is_502_and_never_gets_a_byte_of_the_request(
    proxies: Proxies, certificates: Certificates, defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, host = DEFECTS[defect](certificates)
    _resolve(monkeypatch, host)
    upstream = await proxies.upstream(context)
    proxy = await proxies.start(make_snapshot(_https(upstream, certificates.ca_file, host)), upstream)
    caller = await proxy.caller()
    await caller.send(request("POST /things", body=b"the body"))
    if context is None:
        wire = await upstream.accept()
        hello = await wire.some()
        assert (hello[:1], b"things" in hello) == (b"\x16", False)
        await wire.send(OK)
    got = await caller.message()
    assert (got.head.status, b"upstream_tls_failed" in got.body) == (502, True)
    assert got.head.get("Proxy-Status") == 'inworld-proxy; error=tls_protocol_error; details="upstream_tls_failed"'
    assert proxy.metrics.upstream_errors == {("inworld", "upstream_tls_failed"): 1}
    if context is not None:
        # A connection is handed to the script only after a handshake that the proxy finished.
        for wire in upstream.wires:
            assert await wire.until_broken() == b""


@pytest.mark.parametrize("names", [(HOST,), (DEEP,), ("*.b.example",)])
async def test_a_certificate_without_the_defect_is_accepted(
    proxies: Proxies, certificates: Certificates, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the refusals above are refusals of the defect and of nothing else."""
    host = HOST if names == (HOST,) else DEEP
    _resolve(monkeypatch, host)
    proxy = await _start(proxies, certificates.issue(names), certificates.ca_file, host)
    assert (await proxy.pass_on(request("GET /things"))).got.content == b"ok"


@pytest.mark.parametrize("defect", [each for each in DEFECTS if each != "no TLS at all"])
async def test_a_client_that_verifies_nothing_would_have_been_served(certificates: Certificates, defect: str) -> None:
    """So that each refusal above is the proxy's: the server itself completes its handshake."""
    context, _ = DEFECTS[defect](certificates)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await bounded(asyncio.open_connection("127.0.0.1", port, ssl=undemanding()))
        version = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
    assert version == ("TLSv1.1" if defect == "TLS 1.1 at most" else "TLSv1.3")


def _resolve(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Makes a name that nobody has stand for this machine."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(asked: str, port: int, **options: Any) -> Any:
        return await real("127.0.0.1" if asked == host != "localhost" else asked, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


# -- through a CONNECT proxy ------------------------------------------------------------------------------------------


class ConnectProxy:
    """A tiny CONNECT proxy: records what it was asked, answers what the test says, then joins the two connections."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.asked: list[bytes] = []
        self._target = port
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._answer)
            if b" 200 " in self._answer:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
                finally:
                    far_writer.close()
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def _through(snapshot: Snapshot, egress: ConnectProxy, authorization: str | None = None) -> Snapshot:
    upstream = next(iter(snapshot.upstreams.values()))
    changed = replace(upstream, connect_proxy=("127.0.0.1", egress.port), connect_proxy_authorization=authorization)
    return make_snapshot(changed)


@pytest.mark.parametrize("credentials", [None, "Basic " + base64.b64encode(b"user:pass").decode()])
async def test_a_connect_proxy_is_asked_for_the_upstream_and_verified_tls_runs_inside(
    proxies: Proxies, certificates: Certificates, credentials: str | None
) -> None:
    upstream = await proxies.upstream(certificates.good("api.example"))
    async with ConnectProxy(upstream.port) as egress:
        snapshot = make_snapshot(
            replace(upstream_at(443, scheme="https", host="api.example"), ca_file=certificates.ca_file)
        )
        proxy = await proxies.start(_through(snapshot, egress, credentials), upstream)
        assert (await proxy.pass_on(request("GET /things"))).got.content == b"ok"
        expected = "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n"
        if credentials is not None:
            expected += f"Proxy-Authorization: {credentials}\r\n"
        assert egress.asked == [(expected + "\r\n").encode()]
        for wire in upstream.wires:
            wire.close()


async def test_plain_http_goes_through_a_connect_proxy_too(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    async with ConnectProxy(upstream.port) as egress:
        proxy = await proxies.start(_through(make_snapshot(upstream_at(upstream.port)), egress), upstream)
        assert (await proxy.pass_on(request("GET /things"))).got.content == b"ok"
        for wire in upstream.wires:
            wire.close()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\n\r\n",
     b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere\r\n\r\n", b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2\r\n",
     b"HTTP/1.1 200 OK\r\n\r\nunasked", b"x" * 70000],
)  # fmt: skip
async def test_a_connect_proxy_that_opens_no_tunnel_is_502(proxies: Proxies, answer: bytes) -> None:
    upstream = await proxies.upstream()
    async with ConnectProxy(upstream.port, answer) as egress:
        proxy = await proxies.start(
            _through(make_snapshot(upstream_at(upstream.port, scheme="https")), egress, "Basic abc"), upstream
        )
        got = await proxy.ask(request("GET /things"))
        assert (got.head.status, b"upstream_proxy_failed" in got.body) == (502, True)
        assert b"abc" not in got.body


async def test_a_connect_proxy_that_is_not_there_is_502(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    async with ConnectProxy(upstream.port) as egress:
        pass
    proxy = await proxies.start(_through(make_snapshot(upstream_at(upstream.port)), egress), upstream)
    assert (await proxy.ask(request("GET /things"))).head.status == 502


async def test_the_environment_does_not_reroute_anything(proxies: Proxies, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    proxy = await proxies.start()
    assert (await proxy.pass_on(request("GET /things"))).got.content == b"ok"
