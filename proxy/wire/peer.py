"""Who is at the other end of a unix socket: the user, as the kernel knows it.

It is the one that the process had when it connected. What it becomes later, and whom it hands the connection to, does
not change the answer.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

_LINUX = struct.Struct("iII")
"""``struct ucred``: process, user, group (unix(7))."""

_DARWIN = struct.Struct("II")
"""How ``struct xucred`` begins: its version, which is 0, and the user (sys/ucred.h)."""

_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE = 0, 1, 76
"""Of macOS (sys/un.h); Python has no names for them."""


def _of_linux(sock: socket.socket) -> int | None:
    # The name is missing on other systems; 17 is what it stands for on all of Linux that CPython is built for.
    _, uid, _ = _LINUX.unpack(sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_PEERCRED", 17), _LINUX.size))
    return int(uid)


def _of_darwin(sock: socket.socket) -> int | None:
    version, uid = _DARWIN.unpack_from(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE))
    return int(uid) if version == 0 else None


ASK: Mapping[str, Callable[[socket.socket], int | None]] = MappingProxyType({"linux": _of_linux, "darwin": _of_darwin})
"""How the kernel is asked, by platform. ``settings/user_callers.py`` refuses callers known by user on any other."""


def peer_user(sock: socket.socket) -> int | None:
    """The number of the user at the other end; None for a connection by IP, and where the kernel does not say."""
    ask = ASK.get(sys.platform)
    if sock.family != socket.AF_UNIX or ask is None:
        return None
    try:
        return ask(sock)
    except (OSError, struct.error):
        return None
