"""TLS to the upstream: what comes arrives, however large and however slowly it is read, and what was cut looks cut."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.errors import Code
from proxy.observe.record import Ending
from tests.certificates import Certificates
from tests.proxies import Proxies, Proxy
from tests.snapshots import HANDSHAKE, SWITCH, make_snapshot, upstream_at
from tests.wires import OK, Wire, bounded, request

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
LARGE = b"".join(hashlib.sha256(bytes((i % 256, i // 256))).digest() for i in range(60_000)) * 4
"""7.7 MB, no two records of it alike within a quarter."""


@pytest.fixture(params=VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
async def proxy(request: pytest.FixtureRequest, proxies: Proxies, tmp_path: Path) -> Proxy:
    certificates = Certificates(tmp_path)
    context = certificates.good("localhost")
    context.minimum_version = context.maximum_version = request.param
    upstream = await proxies.upstream(context)
    served = replace(upstream_at(upstream.port, scheme="https", host="localhost"), ca_file=certificates.ca_file)
    return await proxies.start(make_snapshot(served), upstream)


async def _asked(proxy: Proxy) -> tuple[Wire, Wire]:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    return caller, wire


def _beneath(wire: Wire) -> socket.socket:
    """The connection itself, without TLS."""
    return socket.socket(fileno=os.dup(wire.socket.fileno()))


async def test_a_body_that_its_connection_ends_is_whole_when_tls_was_closed(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    wire.close()
    got = await caller.message()
    assert got.content == b"all of it"
    assert proxy.ended(Ending.ANSWERED) == 1


async def test_a_body_that_its_connection_ends_is_broken_when_tls_was_not_closed(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
    await caller.head()
    assert await caller.exactly(12) == b"7\r\nhalf of\r\n"
    with _beneath(wire) as line:
        line.shutdown(socket.SHUT_WR)  # a plain end, as from whoever cuts the line
    assert await caller.until_broken() == b""
    record = proxy.records[0]
    assert (record.ending, record.code) == (Ending.ABORTED, Code.UPSTREAM_CLOSED)


async def test_an_answer_with_a_length_needs_no_close_at_all(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(OK)
    with _beneath(wire) as line:
        line.shutdown(socket.SHUT_WR)
    assert (await caller.message()).content == b"ok"
    await caller.send(request("GET /things"))
    again = await proxy.upstream.accept()
    await again.message()
    await again.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_large_answer_arrives_whole_at_a_caller_who_stops_now_and_then(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    sending = asyncio.ensure_future(
        bounded(wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE), 30)
    )
    await caller.head()
    assert await caller.with_stops(len(LARGE)) == LARGE
    await sending


async def test_a_large_upload_arrives_whole(proxy: Proxy) -> None:
    caller = await proxy.caller()
    caller.feed(request("POST /things", body=LARGE))
    wire = await proxy.upstream.accept()
    seen = await wire.message()
    assert seen.content == LARGE
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


async def test_a_tunnel_carries_much_both_ways_at_once(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH + b"\x81\x02hi")
    await caller.head()
    assert await caller.exactly(4) == b"\x81\x02hi"
    caller.feed(LARGE)
    wire.feed(LARGE[::-1])
    assert await asyncio.gather(wire.exactly(len(LARGE)), caller.exactly(len(LARGE))) == [LARGE, LARGE[::-1]]


async def test_a_tunnel_ends_when_tls_is_closed_and_what_was_sent_before_arrives(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH + b"\x81\x03bye")
    wire.close()
    await caller.head()
    assert await caller.rest() == b"\x81\x03bye"


async def test_a_caller_who_leaves_ends_the_connection_to_the_upstream(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    caller.reset()
    await wire.gone()
    assert proxy.upstream_connections("idle") == 0


async def test_garbage_in_the_middle_of_tls_breaks_the_answer_off(proxy: Proxy) -> None:
    caller, wire = await _asked(proxy)
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
    await caller.head()
    assert await caller.exactly(4) == b"some"
    with _beneath(wire) as line:
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
    assert await caller.until_broken() == b""
    assert proxy.records[0].code is Code.UPSTREAM_CLOSED
