"""TLS where callers connect: what passes without it passes with it, and what is no TLS harms nobody else."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import socket
import ssl
import struct
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from proxy.core.model import Limits, TimeLimits
from proxy.observe.families import registry_of
from proxy.observe.record import Ending
from proxy.wire.caller import LINGER
from proxy.wire.secure_caller import PLAIN_ANSWER
from proxy.wire.tunnel import Tunnel, TunnelEnd
from tests.certificates import Certificates, undemanding
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.snapshots import HANDSHAKE, SWITCH, make_snapshot, upstream_at
from tests.wires import OK, Wire, bounded, connect, request

LARGE = b"".join(hashlib.sha256(bytes((i % 256, i // 256))).digest() for i in range(60_000)) * 2
GET = request("GET /things")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def _start(proxies: Proxies, certificates: Certificates, **changes: object) -> Proxy:
    upstream = await proxies.upstream()
    snapshot = replace(make_snapshot(upstream_at(upstream.port)), tls=certificates.listener(), **changes)  # type: ignore[arg-type]
    proxy = await proxies.start(snapshot, upstream)
    proxy.trust = certificates.trusting()
    return proxy


@pytest.fixture
async def secure(proxies: Proxies, certificates: Certificates) -> Proxy:
    """A proxy that speaks TLS with its callers."""
    return await _start(proxies, certificates)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def each(request: pytest.FixtureRequest, secure: Proxy) -> Proxy:
    """The same, with callers of either version."""
    assert secure.trust is not None
    secure.trust.minimum_version = secure.trust.maximum_version = request.param
    return secure


class Strict:
    """A caller that tells an end that was said from one that was cut, which asyncio's does not. Blocks in threads."""

    def __init__(self, proxy: Proxy) -> None:
        assert proxy.trust is not None
        plain = socket.create_connection((proxy.host, proxy.port), timeout=10)
        self._end = proxy.trust.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)

    @classmethod
    async def connect(cls, proxy: Proxy) -> Strict:
        return await asyncio.to_thread(cls, proxy)

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self._end.sendall, data)

    async def some(self) -> bytes:
        return await asyncio.to_thread(self._end.recv, 65536)

    async def rest(self) -> bytes:
        """Everything up to an end that was said. Raises ``ssl.SSLEOFError`` or ``ConnectionError`` at a cut."""
        pieces = []
        while piece := await self.some():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._end.close()


# -- what passes ------------------------------------------------------------------------------------------------------


async def test_requests_are_served_one_after_the_other_on_one_connection(each: Proxy) -> None:
    each.upstream.always(OK)
    caller = await each.caller()
    for _ in range(3):
        await caller.send(GET)
        assert (await caller.message()).content == b"ok"
    await caller.send(GET + GET)
    assert [(await caller.message()).content for _ in range(2)] == [b"ok", b"ok"]
    assert each.metrics.handshakes == {"ok": 1}
    assert [record.peer for record in each.records] == ["127.0.0.1"] * 5


async def test_a_large_upload_and_a_large_answer_arrive_whole(each: Proxy) -> None:
    caller = await each.caller()
    caller.feed(request("POST /things", body=LARGE))
    wire = await each.upstream.accept()
    assert (await wire.message()).content == LARGE
    sending = asyncio.ensure_future(
        bounded(wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE), 30)
    )
    await caller.head()
    assert await caller.with_stops(len(LARGE)) == LARGE
    await sending


async def test_a_websocket_carries_much_both_ways_at_once(each: Proxy) -> None:
    caller = await each.caller()
    await caller.send(HANDSHAKE)
    wire = await each.upstream.accept()
    await wire.head()
    await wire.send(SWITCH + b"\x81\x02hi")
    await caller.head()
    assert await caller.exactly(4) == b"\x81\x02hi"
    caller.feed(LARGE)
    wire.feed(LARGE[::-1])
    assert await asyncio.gather(wire.exactly(len(LARGE)), caller.exactly(len(LARGE))) == [LARGE, LARGE[::-1]]


async def test_a_caller_may_ask_by_any_name_and_for_other_protocols_and_gets_http_1(secure: Proxy) -> None:
    """No name, another, a certificate of its own, HTTP/2: HTTP/1.1 is what there is."""
    secure.upstream.always(OK)
    for protocols, name in ((["h2", "http/1.1"], "localhost"), (["h2"], "elsewhere.example"), ([], None)):
        context = undemanding()
        context.set_alpn_protocols(protocols)
        reader, writer = await asyncio.open_connection(
            secure.host, secure.port, ssl=context, server_hostname=name or ""
        )
        caller = Wire(reader, writer)
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == ("http/1.1" if "http/1.1" in protocols else None)
        await caller.send(GET)
        assert (await caller.message()).content == b"ok"
        await caller.cleanup()


# -- how it ends ------------------------------------------------------------------------------------------------------


async def test_a_connection_that_is_closed_after_an_answer_says_so_in_tls(each: Proxy) -> None:
    each.upstream.always(OK)
    caller = await Strict.connect(each)
    await caller.send(request("GET /things", "Connection: close"))
    assert (await caller.rest()).endswith(b"ok")
    caller.close()


async def test_a_body_that_broke_off_is_cut_without_a_word_in_tls(each: Proxy) -> None:
    caller = await Strict.connect(each)
    await caller.send(GET)
    wire = await each.upstream.accept()
    await wire.message()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
    while not (await caller.some()).endswith(b"some"):
        pass
    wire.reset()
    with pytest.raises((ssl.SSLEOFError, ConnectionError)):
        await caller.rest()
    caller.close()


async def test_an_answer_arrives_although_the_rest_of_a_refused_body_is_on_its_way(each: Proxy) -> None:
    caller = await Strict.connect(each)
    await caller.send(request("POST /nothing", "Content-Length: 10000000"))
    for _ in range(20):
        await caller.send(b"x" * 10_000)
    assert b"no_operation" in await caller.rest()
    caller.close()


async def test_a_drained_proxy_closes_idle_connections_and_websockets_in_tls(
    proxies: Proxies, certificates: Certificates
) -> None:
    proxy = await _start(proxies, certificates)
    idle, busy = await Strict.connect(proxy), await Strict.connect(proxy)
    await busy.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert b"101" in await busy.some()
    draining = asyncio.ensure_future(proxy.server.drain(1.1))
    assert await idle.rest() == b""
    goodbye = await busy.some()
    assert goodbye[0] == 0x88
    assert struct.unpack(">H", goodbye[2:4]) == (1001,)
    await busy.send(b"\x88\x82\0\0\0\0\x03\xe9")
    assert await busy.rest() == b""
    wire.close()
    await bounded(draining)
    idle.close()
    busy.close()


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_caller_who_leaves_ends_its_request_upstream(each: Proxy, says_so: bool) -> None:
    caller = await each.caller()
    await caller.send(GET)
    wire = await each.upstream.accept()
    await wire.message()
    if says_so:
        caller.close()
    else:
        caller.reset()
    await wire.gone()
    await each.metrics.until(lambda m: m.connections == 0)
    assert each.ended(Ending.CALLER_GONE) == 1


async def test_a_websocket_that_is_over_leaves_nothing_to_the_garbage_collector(secure: Proxy) -> None:
    gc.collect()
    gc.disable()
    try:
        caller = await secure.caller()
        await caller.send(HANDSHAKE)
        wire = await secure.upstream.accept()
        await wire.head()
        await wire.send(SWITCH + b"\x88\x00")
        wire.close()
        await caller.gone()
        caller.close()
        await secure.metrics.until(lambda m: m.in_flight == m.connections == 0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not [one for one in gc.get_objects() if isinstance(one, Tunnel | TunnelEnd)]
    finally:
        gc.enable()


# -- the certificate --------------------------------------------------------------------------------------------------


async def test_another_certificate_is_shown_to_new_connections_and_the_old_ones_go_on(
    secure: Proxy, tmp_path: Path
) -> None:
    secure.upstream.always(OK)
    before = await secure.caller()
    (tmp_path / "other").mkdir()
    others = Certificates(tmp_path / "other")
    secure.server.adopt(replace(secure.server.snapshot, tls=others.listener()))
    with pytest.raises(ssl.SSLCertVerificationError):
        await Strict.connect(secure)
    secure.trust = others.trusting()
    for caller in (before, await secure.caller()):
        await caller.send(GET)
        assert (await caller.message()).content == b"ok"
    assert secure.metrics.handshakes == {"ok": 2, "refused": 1}
    shown = generate_latest(registry_of(secure.metrics)).decode()
    assert 'inworld_proxy_caller_tls_handshakes_total{result="refused"} 1.0' in shown
    assert "inworld_proxy_listener_certificate_expiry_timestamp_seconds " in shown


async def test_a_connection_that_was_resumed_is_served(each: Proxy) -> None:
    each.upstream.always(OK)
    assert each.trust is not None

    def twice() -> list[bool]:
        reused, session = [], None
        for _ in range(2):
            plain = socket.create_connection((each.host, each.port), timeout=10)
            with each.trust.wrap_socket(plain, server_hostname="localhost", session=session) as end:
                end.sendall(GET)
                assert end.recv(65536).endswith(b"ok")
                reused.append(bool(end.session_reused))
                session = end.session
        return reused

    assert await asyncio.to_thread(twice) == [False, True]


# -- what is no TLS, or not enough of it ------------------------------------------------------------------------------


def _hello(change: Callable[[ssl.SSLContext], None] = lambda _: None) -> bytes:
    """What a client says first."""
    context = undemanding()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        change(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def _at_most_1_1(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def _weak(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")


SSL_2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x07\x00\xc0" * 7 + b"c" * 16
FAULTS = {
    "SSL 2": (SSL_2, "version"),
    "TLS 1.1 at most": (_hello(_at_most_1_1), "version"),
    "no cipher in common": (_hello(_weak), "cipher"),
    "HTTP/2 in clear": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no_tls"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", "no_tls"),
    "zeros": (bytes(4000), "no_tls"),
    "a CONNECT": (b"CONNECT localhost:443 HTTP/1.1\r\n\r\n", "plain_http"),
    "a record that is too long": (b"\x16\x03\x01\xff\xff" + bytes(4000), "other"),
    "a hello that is too long": (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + bytes(4000), "other"),
    "empty records": (b"\x16\x03\x01\x00\x00" * 50, "other"),
    "application data first": (b"\x17\x03\x03\x00\x10" + bytes(16), "other"),
    "an alert first": (b"\x15\x03\x01\x00\x02\x02\x28", "other"),
    "a hello of nonsense": (b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + b"\xff" * 41, "other"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_handshake_that_cannot_be_ends_is_counted_and_harms_nobody(secure: Proxy, fault: str) -> None:
    secure.upstream.always(OK)
    sent, reason = FAULTS[fault]
    bystander = await secure.caller()
    caller = await connect(secure.host, secure.port)
    await caller.send(sent)
    await caller.until_broken()
    await caller.cleanup()
    await secure.metrics.until(lambda m: m.connections == 1)
    assert secure.metrics.handshakes == {"ok": 1, reason: 1}
    for each in (bystander, await secure.caller()):
        await each.send(GET)
        assert (await each.message()).content == b"ok"
    assert len(secure.records) == 2


@pytest.mark.parametrize("raw", [GET, request("POST /things", body=LARGE), HANDSHAKE])
async def test_a_caller_who_speaks_plain_http_is_told_so(secure: Proxy, raw: bytes) -> None:
    caller = await connect(secure.host, secure.port)
    caller.feed(raw)
    assert await caller.rest() == PLAIN_ANSWER
    await caller.cleanup()
    await secure.metrics.until(lambda m: m.connections == 0)
    assert secure.metrics.handshakes == {"plain_http": 1}
    assert secure.upstream.count == 0


@pytest.mark.parametrize("much", [0, 1, 5, 100])
async def test_a_handshake_that_is_cut_in_its_middle_leaves_nothing(secure: Proxy, much: int) -> None:
    for _ in range(5):
        caller = await connect(secure.host, secure.port)
        await caller.send(_hello()[:much])
        caller.end()
        await caller.gone()
        await caller.cleanup()
    await secure.metrics.until(lambda m: m.connections == 0 and m.connections_total == 5)
    assert secure.metrics.handshakes == {"closed": 5}


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_a_handshake_that_drips_is_cut_when_its_time_is_over(
    proxies: Proxies, certificates: Certificates, clock: ClockLoop
) -> None:
    proxy = await _start(proxies, certificates, time=TimeLimits(head=10))
    caller = await connect(proxy.host, proxy.port)
    for byte in _hello()[:9]:
        await caller.send(bytes((byte,)))
        await clock.advance(1)
    await proxy.metrics.until(lambda m: m.connections == 1)
    assert proxy.metrics.handshakes == {}
    await clock.advance(1.5)
    await caller.gone()
    await caller.cleanup()
    assert proxy.metrics.handshakes == {"timeout": 1}


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_whoever_was_told_that_there_is_no_plain_http_and_stays_is_cut_off(
    proxies: Proxies, certificates: Certificates, clock: ClockLoop
) -> None:
    proxy = await _start(proxies, certificates)
    caller = await connect(proxy.host, proxy.port)
    await caller.send(GET)
    assert await caller.exactly(len(PLAIN_ANSWER)) == PLAIN_ANSWER
    for _ in range(3):
        await caller.send(b"x" * 1000)
    await clock.advance(LINGER + 0.5)
    await proxy.metrics.until(lambda m: m.connections == 0)
    assert proxy.metrics.handshakes == {"plain_http": 1}
    await caller.cleanup()


async def test_a_connection_too_many_is_closed_before_it_costs_a_handshake(
    proxies: Proxies, certificates: Certificates
) -> None:
    proxy = await _start(proxies, certificates, limits=Limits(connections=2))
    proxy.upstream.always(OK)
    begun = await connect(proxy.host, proxy.port)  # one that never shakes hands counts
    served = await proxy.caller()
    late = await connect(proxy.host, proxy.port)
    late.feed(_hello())
    await late.gone()
    assert proxy.metrics.connections_refused == {"connections_limited": 1}
    assert proxy.metrics.handshakes == {"ok": 1}
    await served.send(GET)
    assert (await served.message()).content == b"ok"
    for wire in (begun, late):
        await wire.cleanup()


async def test_a_handshake_that_has_begun_does_not_keep_a_drain_waiting(
    proxies: Proxies, certificates: Certificates
) -> None:
    proxy = await _start(proxies, certificates)
    caller = await connect(proxy.host, proxy.port)
    await caller.send(_hello()[:20])
    await proxy.metrics.until(lambda m: m.connections == 1)
    await bounded(proxy.server.drain(30))
    await caller.cleanup()
    assert proxy.metrics.handshakes == {}
