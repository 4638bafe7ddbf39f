"""Accepting can stop and go on: who is connected is served all the same, and who comes meanwhile is served later."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from proxy.core.model import Address, Snapshot
from proxy.observe.families import registry_of
from proxy.wire.caller import CallerConnection
from proxy.wire.listener import Listener, place_of
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at, with_policy
from tests.wires import OK, Wire, bounded, connect, request

GET = request("GET /things")


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """This process may open so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _with_other(snapshot: Snapshot, port: int) -> Snapshot:
    """A second upstream, for one operation."""
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    other = upstream_at(port, name="other")
    route = replace(anonymous.routes["things.any"], upstream=other)
    caller = replace(anonymous, routes={**anonymous.routes, "things.any": route})
    return replace(with_policy(snapshot, anonymous=caller), upstreams={**snapshot.upstreams, "other": other})


async def test_a_pause_is_for_new_connections_only_and_ends_by_itself(
    proxies: Proxies, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    # In this process a caller takes two descriptors, and a request two more.
    with at_most(80):
        proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)
        callers: list[Wire] = []
        while not proxy.metrics.listener_paused:
            assert len(callers) < 80
            callers.append(await proxy.caller())
            await asyncio.sleep(0)
        shown = generate_latest(registry_of(proxy.metrics)).decode()
        assert "inworld_proxy_listener_paused 1.0" in shown
        assert "inworld_proxy_listener_pauses_total 1.0" in shown
        late = await proxy.caller()
        await late.send(GET)
        await callers[0].send(GET)
        assert (await callers[0].message()).head.status == 200
        assert len(proxy.records) == 1
        for caller in callers:
            await caller.cleanup()
        assert (await late.message()).head.status == 200
        assert proxy.metrics.connections_total == len(callers) + 1
        assert proxy.metrics.listener_paused == 0
    said = [record.getMessage() for record in caplog.records if record.name == "proxy"]
    assert len(said) == 2 * proxy.metrics.listener_pauses
    assert said[0].startswith("new connections wait: ")
    assert said[1].startswith("new connections are accepted again, after ")


async def test_pausing_twice_or_after_the_end_is_nothing(proxy: Proxy) -> None:
    proxy.server.listener.pause()
    proxy.server.listener.pause()
    assert proxy.metrics.listener_pauses == 1
    await proxy.server.drain(0)
    proxy.server.listener.pause()
    assert (proxy.metrics.listener_pauses, proxy.metrics.listener_paused) == (1, 0)


async def test_a_dial_without_a_descriptor_takes_one_from_an_idle_connection(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        snapshot = _with_other(make_snapshot(upstream_at(upstream.port)), other.getsockname()[1])
        proxy = await proxies.start(snapshot, upstream)
        caller = await proxy.caller()
        await caller.send(request("GET /llm/v1alpha/models"))
        wire = await upstream.accept()
        await wire.message()
        await wire.send(OK)
        await caller.message()
        assert proxy.upstream_connections("idle") == 1
        arrived = asyncio.Event()
        loop.add_reader(other, arrived.set)
        with at_most(0):
            await caller.send(GET)
            await bounded(arrived.wait())
        loop.remove_reader(other)
        assert proxy.metrics.listener_pauses == 1
        connection, _ = await bounded(loop.sock_accept(other))
        wire = Wire(*await asyncio.open_connection(sock=connection))
        await wire.message()
        await wire.send(OK)
        assert (await caller.message()).head.status == 200
        await wire.cleanup()


async def test_a_connection_that_the_kernel_has_accepted_when_draining_begins_may_still_ask(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)
    before = len(proxy.server._tasks)
    # Blocking, on the loopback interface: the kernel has them, and the loop had no chance to see them yet.
    with socket.create_connection((proxy.host, proxy.port)) as sock:
        # One pass at a time: the moment between the two is what is tested.
        while not proxy.metrics.connections and len(proxy.server._tasks) == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
        drain = asyncio.ensure_future(proxy.server.drain(60))
        sock.settimeout(0)
        caller = Wire(*await asyncio.open_connection(sock=sock))
        await caller.send(GET)
        assert (await caller.message()).head.get("Connection") == "close"
        await caller.cleanup()
    await bounded(drain)


async def test_localhost_is_listened_on_wherever_it_leads(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    snapshot = replace(make_snapshot(upstream_at(upstream.port)), listen=Address("localhost", 0))
    proxy = await proxies.start(snapshot, upstream)
    places = [place_of(sock) for sock in proxy.server.listener._sockets]
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    assert {host for host, _ in places} == {str(where[0]) for *_, where in found}
    assert (proxy.host, proxy.port) == places[0]
    for host, port in places:
        caller = await connect(host, port)
        await caller.send(GET)
        assert (await caller.message()).head.status == 200
        await caller.cleanup()


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        snapshot = replace(
            make_snapshot(upstream_at(upstream.port)), listen=Address("127.0.0.1", taken.getsockname()[1])
        )
        with pytest.raises(OSError, match="in use"):
            await proxies.start(snapshot, upstream)


async def test_callers_of_a_unix_socket_have_a_user_and_no_address(proxies: Proxies, tmp_path: Path) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "data"))
        sock.listen()
        assert place_of(sock) == (f"unix:{tmp_path}/data", 0)
        proxy.server.listener.close()
        listener = Listener(
            lambda: CallerConnection(proxy.server),
            loop=proxy.server.loop,
            metrics=proxy.metrics,
            spawn=proxy.server.spawn,
            make_room=lambda: 0,
        )
        assert await listener.start(Address("127.0.0.1", 0), [sock.dup()]) == (f"unix:{tmp_path}/data", 0)
        caller = Wire(*await asyncio.open_unix_connection(str(tmp_path / "data")))
        await caller.send(GET)
        assert (await caller.message()).head.status == 200
        await caller.cleanup()
        assert proxy.records[0].peer == f"unix:{os.getuid()}"
        listener.close()
