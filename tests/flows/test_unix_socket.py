"""Callers on a unix socket: the kernel says who connected, once for each connection, and nothing that is sent does."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.callers.user import user_recogniser
from proxy.core.model import Address, Caller, Limits, Snapshot
from proxy.wire.frames import close_frame
from tests.proxies import Proxies, Proxy
from tests.snapshots import HANDSHAKE, SWITCH, TOKEN, make_snapshot, upstream_at, with_policy
from tests.wires import OK, Wire, request

HERE = os.getuid()
ELSE = 4211
"""A user of nobody's."""

GET = request("GET /things")
WITH_TOKEN = request("GET /things", f"Authorization: Bearer {TOKEN}")

as_root = pytest.mark.skipif(HERE != 0, reason="only root can connect as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user of this machine can look into; pytest's own are for one user."""
    path = Path(tempfile.mkdtemp(prefix="proxy-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _users(snapshot: Snapshot, **users: int) -> Snapshot:
    """The same with callers that are users; each may do everything."""
    routes = next(iter(snapshot.callers.values())).routes
    callers = {name: Caller(name, routes) for name in users}
    recognise = user_recogniser({uid: callers[name] for name, uid in users.items()})
    return with_policy(replace(snapshot, callers={**snapshot.callers, **callers}), recognise_user=recognise)


@pytest.fixture
def start(proxies: Proxies, folder: Path) -> Callable[..., object]:
    async def start(*, mode: int = 0o600, limits: Limits | None = None, **users: int) -> Proxy:
        upstream = await proxies.upstream()
        snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN})
        listen = Address("", 0, str(folder / "proxy.sock"))
        snapshot = replace(_users(snapshot, **users), listen=listen, listen_mode=mode, limits=limits or Limits())
        return await proxies.start(snapshot, upstream)

    return start


Start = Callable[..., object]


async def _caller(proxy: Proxy, user: int | None = None) -> Wire:
    """A connection to the proxy's socket, by this user of the machine."""
    sock = socket.socket(socket.AF_UNIX)
    if user is not None:
        os.seteuid(user)
    try:
        sock.connect(proxy.host.removeprefix("unix:"))
    except OSError:
        sock.close()
        raise
    finally:
        os.seteuid(HERE)
    sock.setblocking(False)
    wire = Wire(*await asyncio.open_unix_connection(sock=sock))
    proxy._wires.append(wire)
    return wire


async def _status(wire: Wire, raw: bytes) -> int:
    await wire.send(raw)
    return (await wire.message()).head.status


async def test_it_is_private_and_goes_with_the_listener(start: Start, folder: Path) -> None:
    proxy = await start(batch=HERE)
    assert proxy.host == f"unix:{folder}/proxy.sock"
    assert stat.S_IMODE((folder / "proxy.sock").lstat().st_mode) == 0o600
    proxy.server.listener.close()
    assert not (folder / "proxy.sock").exists()


async def test_the_user_who_connected_needs_no_token(start: Start) -> None:
    proxy = await start(batch=HERE)
    proxy.upstream.always(OK)
    caller = await _caller(proxy)
    for _ in range(3):
        assert await _status(caller, GET) == 200
    assert [(record.caller, record.peer) for record in proxy.records] == [("batch", f"unix:{HERE}")] * 3


async def test_a_token_decides_where_one_is_shown_whatever_was_asked_before(start: Start) -> None:
    proxy = await start(batch=HERE)
    proxy.upstream.always(OK)
    caller = await _caller(proxy)
    wrong = request("GET /things", "Authorization: Bearer wrong")
    statuses = [await _status(caller, raw) for raw in (GET, wrong, WITH_TOKEN, GET, wrong)]
    assert statuses == [200, 401, 200, 200, 401]
    assert [record.caller for record in proxy.records] == ["batch", None, "storefront", "batch", None]


async def test_a_user_who_is_no_caller_is_asked_for_a_token(start: Start) -> None:
    proxy = await start(batch=ELSE)
    proxy.upstream.always(OK)
    caller = await _caller(proxy)
    await caller.send(GET)
    got = await caller.message()
    assert (got.head.status, f"The user who connected, {HERE}, is none of them" in got.body.decode()) == (401, True)
    assert await _status(caller, WITH_TOKEN) == 200


async def test_over_ip_there_is_no_user(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN})
    proxy = await proxies.start(_users(snapshot, batch=HERE), upstream)
    assert (await proxy.ask(GET)).head.status == 401


@as_root
async def test_each_connection_has_its_own_user_and_none_profits_from_what_another_was_allowed(start: Start) -> None:
    proxy = await start(mode=0o666, batch=HERE, nightly=ELSE)
    proxy.upstream.always(OK)
    callers = [await _caller(proxy), await _caller(proxy, ELSE), await _caller(proxy, ELSE + 1)]
    for _ in range(3):
        # The same bytes, one after the other, on connections of different users: no answer is remembered across them.
        assert [await _status(caller, GET) for caller in callers] == [200, 200, 401]
    assert [(record.caller, record.peer) for record in proxy.records[-3:]] == [
        ("batch", f"unix:{HERE}"), ("nightly", f"unix:{ELSE}"), (None, f"unix:{ELSE + 1}"),
    ]  # fmt: skip


@as_root
async def test_others_cannot_connect_to_a_private_socket(start: Start) -> None:
    proxy = await start(batch=ELSE)
    with pytest.raises(PermissionError):
        await _caller(proxy, ELSE)


@as_root
async def test_connections_are_counted_by_user(start: Start) -> None:
    proxy = await start(mode=0o666, limits=Limits(connections_per_address=1), batch=HERE, nightly=ELSE)
    proxy.upstream.always(OK)
    first = await _caller(proxy)
    assert await _status(first, GET) == 200
    assert await _status(await _caller(proxy), GET) == 429
    assert await _status(await _caller(proxy, ELSE), GET) == 200
    assert set(proxy.server._addresses) >= {f"unix:{HERE}", f"unix:{ELSE}"}


async def test_a_reload_that_takes_a_user_away_is_in_force_at_once_and_closes_the_websocket(start: Start) -> None:
    proxy = await start(batch=HERE)
    caller, tunnel = await _caller(proxy), await _caller(proxy)
    await tunnel.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(SWITCH)
    assert (await tunnel.head()).status == 101
    # The same again is no reason to close it.
    proxy.server.adopt(_users(proxy.server.snapshot, batch=HERE))
    await wire.send(b"\x82\x02hi")
    assert await tunnel.exactly(4) == b"\x82\x02hi"
    proxy.server.adopt(_users(proxy.server.snapshot, other=ELSE))
    frame = close_frame(1008, b"caller_required")
    assert await tunnel.exactly(len(frame)) == frame
    assert await _status(caller, GET) == 401


async def test_a_name_that_is_none_of_the_proxys_is_refused_here_too(start: Start) -> None:
    proxy = await start(batch=HERE)
    proxy.upstream.always(OK)
    caller = await _caller(proxy)
    for host, status in (("localhost", 200), ("127.0.0.1:80", 200), ("a-page.example", 421)):
        assert await _status(caller, request("GET /things", host=host)) == status


async def test_a_pause_leaves_the_file_and_whoever_comes_meanwhile_is_served(start: Start, folder: Path) -> None:
    proxy = await start(batch=HERE)
    proxy.upstream.always(OK)
    proxy.server.listener.pause()
    assert (folder / "proxy.sock").exists()
    caller = await _caller(proxy)
    assert await _status(caller, GET) == 200
