"""Where the operator connects, before there is anything to answer with."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from proxy.admin.sockets import open_admin
from proxy.core.model import Address


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
