"""Systemd is told what happens, where it asked; whoever does not listen stops nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.notify import Notifier


@pytest.fixture
def told() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        yield sock


def test_the_variable_is_for_this_process_and_not_for_its_children(told: socket.socket, tmp_path: Path) -> None:
    told.bind(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "HOME": "/"}
    notifier = Notifier.take(environ)
    assert environ == {"HOME": "/"}
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    said = [told.recv(100).decode() for _ in range(3)]
    assert said[0] == "READY=1"
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", said[1])
    assert said[2] == "STOPPING=1"


def test_an_abstract_address_begins_with_an_at_sign(told: socket.socket, tmp_path: Path) -> None:
    told.bind(f"\0{tmp_path}")
    Notifier(f"@{tmp_path}").ready()
    assert told.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "vsock:2:1234", "relative", "/nowhere/at/all"])
def test_nobody_who_listens_stops_nothing(path: str) -> None:
    Notifier(path).ready()
    Notifier.take({}).ready()
