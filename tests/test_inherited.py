"""What the parent hands over is taken out of the environment, and kept from this process's own children."""

from __future__ import annotations

import os
import socket

import pytest

from proxy.inherited import Inherited, InheritedError, address_of, take_inherited


def _variables(**changes: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": "listen", "HOME": "/", **changes}


@pytest.mark.parametrize("pid", [str(os.getpid()), "1", ""])
def test_the_variables_are_for_this_process_and_not_for_its_children(pid: str) -> None:
    environ = _variables(LISTEN_PID=pid)
    assert take_inherited(environ, None, None) == Inherited()
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("count", ["", "-1", "two", "99999999999"])
def test_a_count_that_is_none_is_said(count: str) -> None:
    with pytest.raises(InheritedError, match="LISTEN_FDS is no number of sockets"):
        take_inherited(_variables(LISTEN_FDS=count), None, None)


def test_variables_for_another_process_are_not_read() -> None:
    assert take_inherited(_variables(LISTEN_PID="1", LISTEN_FDS="7"), None, None) == Inherited()


def test_children_do_not_get_what_was_inherited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        os.set_inheritable(sock.fileno(), True)
        number = os.dup(sock.fileno())
        os.set_inheritable(number, True)
        inherited = take_inherited({}, number, None)
        with inherited.listen[0] as adopted:
            assert adopted.fileno() == number
            assert not adopted.get_inheritable()
            assert inherited.listen_address == f"127.0.0.1:{sock.getsockname()[1]}"
            assert inherited.admin_address is None


def test_what_cannot_be_used_stays_open_for_who_owns_it() -> None:
    with socket.socket() as sock:
        with pytest.raises(InheritedError, match="does not listen"):
            take_inherited({}, None, sock.fileno())
        assert sock.getsockname()


def test_of_several_addresses_the_one_that_most_can_reach_is_judged() -> None:
    with (
        socket.socket(socket.AF_UNIX) as local,
        socket.create_server(("127.0.0.1", 0)) as loopback,
        socket.create_server(("0.0.0.0", 0)) as everywhere,
    ):
        assert address_of(()) is None
        assert address_of((local,)) == "localhost:0"
        assert address_of((local, loopback)) == f"127.0.0.1:{loopback.getsockname()[1]}"
        assert address_of((local, loopback, everywhere)) == f"0.0.0.0:{everywhere.getsockname()[1]}"
