"""Where the operator connects, before there is anything to answer with."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import app
from proxy.admin.sockets import open_admin
from proxy.core.model import Address
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import bounded


async def test_who_connects_before_anyone_accepts_waits_in_the_backlog() -> None:
    sockets = await open_admin(Address("127.0.0.1", 0))
    place = sockets.place
    with socket.create_connection(place, 5):
        sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, 5)


async def test_an_address_that_another_has_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        await open_admin(Address(*other.getsockname()))


async def test_the_file_of_a_unix_socket_goes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "admin.sock"
    sockets = await open_admin(Address("unix", 0, str(file)))
    assert sockets.place == (f"unix:{file}", 0)
    assert file.is_socket()
    sockets.close()
    assert not file.exists()


async def test_an_inherited_socket_is_the_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        sockets = await open_admin(Address("127.0.0.1", 1), given)
        assert list(sockets.sockets) == [given]
        assert sockets.place == given.getsockname()
        sockets.close()
        assert given.fileno() == -1


async def test_the_file_is_gone_before_the_last_answer_to_the_operator_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may take a minute; a process that has the name by then must keep it."""
    waits, may_end, began = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Answering:
        async def cleanup(self) -> None:
            waits.set()
            await may_end.wait()

    async def answering(*_: object) -> Answering:
        return Answering()

    monkeypatch.setattr(app, "_answer_operator", answering)
    file = tmp_path / "admin.sock"
    snapshot = replace(make_snapshot(upstream_at(1)), admin=Address("unix", 0, str(file)))
    serving = asyncio.get_running_loop().create_task(app.serve(snapshot, ready=lambda _: began.set()))
    await bounded(began.wait())
    assert file.is_socket()
    serving.cancel()
    await bounded(waits.wait())
    assert not file.exists()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
