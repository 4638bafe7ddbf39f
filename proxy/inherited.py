"""Descriptors from the parent process: listening sockets, given by number or by systemd (sd_listen_fds(3)).

What belongs here: finding them, and refusing what is none. What does not: accepting (``wire/listener.py``), and whether
such an address may be listened on: ``address`` is read like ``--listen``, by the same rules.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from proxy.core.model import Address

FIRST = 3
"""Where systemd puts the first one: after standard input, output and error."""

LISTEN, ADMIN = "listen", "admin"
"""What ``FileDescriptorName=`` in a socket unit may say."""

_PID, _COUNT, _NAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
_HOW = "give the number of a socket that the parent process has bound, listens on and lets this one inherit"


class InheritedError(Exception):
    """What was inherited cannot be used. The text is for the operator and says what to do."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """The sockets of the data listener (none: it opens its own), and the one of the admin listener."""

    listen: tuple[socket.socket, ...] = ()
    admin: socket.socket | None = None

    @property
    def listen_address(self) -> str | None:
        """Where callers connect, as ``--listen`` would say it."""
        return address_of(self.listen)

    @property
    def admin_address(self) -> str | None:
        """Where the operator connects, as ``--admin`` would say it."""
        return address_of(() if self.admin is None else (self.admin,))

    @property
    def knows_users(self) -> bool:
        """Is one of the sockets where callers connect a unix socket, so that the kernel says who connected?"""
        return any(sock.family == socket.AF_UNIX for sock in self.listen)


NOTHING = Inherited()


def fill_standard_descriptors() -> None:
    """Opens what the parent has closed of standard input, output and error, in a way that takes no output.

    Else the next connection would have the number of standard output, and the request log would be written into it.
    """
    for number in range(FIRST):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDONLY)  # gets this number: the lowest that is free


def take_inherited(environ: MutableMapping[str, str], fd: int | None, admin_fd: int | None) -> Inherited:
    """The sockets that the command line names, or else those that systemd passed. Raises ``InheritedError``.

    Takes systemd's variables out of the environment: they are for this process, and not for its children.
    """
    pid, count, names = (environ.pop(name, "") for name in (_PID, _COUNT, _NAMES))
    if fd is not None or admin_fd is not None:
        if fd == admin_fd:
            raise InheritedError(f"--fd and --admin-fd are both {fd}: the two listeners cannot share a socket")
        return Inherited(
            () if fd is None else (_adopt(fd, f"--fd {fd}"),),
            None if admin_fd is None else _adopt(admin_fd, f"--admin-fd {admin_fd}"),
        )
    if pid != str(os.getpid()):
        return Inherited()  # nothing was passed, or it was passed to another process that did not clean up
    if not count.isdecimal() or len(count) > 4:
        raise InheritedError(f"{_COUNT} is no number of sockets: start this from a systemd socket unit, or unset it")
    return _named(range(FIRST, FIRST + int(count)), names.split(":"))


def address_of(sockets: Sequence[socket.socket]) -> str | None:
    """Where these listen; of several, the one that most can reach. A unix socket is reached from this machine only."""
    found = [_address(sock) for sock in sockets]
    if not found:
        return None
    return str(min(found, key=lambda address: (address.is_loopback, address.port == 0)))


def _named(numbers: range, names: Sequence[str]) -> Inherited:
    listen: list[socket.socket] = []
    admin: list[socket.socket] = []
    for index, number in enumerate(numbers):
        # Without FileDescriptorName= systemd says the unit's name: that is a data listener.
        name = names[index] if index < len(names) else ""
        (admin if name == ADMIN else listen).append(_adopt(number, f"descriptor {number} from systemd"))
    if len(admin) > 1:
        raise InheritedError(f"systemd passed {len(admin)} sockets named `{ADMIN}`: name one, the others `{LISTEN}`")
    return Inherited(tuple(listen), admin[0] if admin else None)


def _adopt(number: int, called: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except OSError as exc:
        what = "is no socket" if _is_open(number) else "is not open in this process"
        raise InheritedError(f"{called} {what}: {_HOW}") from exc
    fault = _fault_of(sock)
    if fault is not None:
        sock.detach()  # not ours to close
        raise InheritedError(f"{called} {fault}: {_HOW}")
    os.set_inheritable(number, False)  # noqa: FBT003 - its signature
    return sock


def _fault_of(sock: socket.socket) -> str | None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return "is a socket of a family other than IP and unix"
    if sock.type != socket.SOCK_STREAM:
        return "is no stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "is a socket that does not listen"
    return None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        # One without a file (an abstract one, say) has no spelling in a configuration; it is as near as loopback.
        return (Address.of_socket(name) if isinstance(name, str) else None) or Address("localhost", 0)
    # The zone of a link-local address says which interface, and nothing about who can reach it.
    return Address(str(name[0]).partition("%")[0], int(name[1]))
