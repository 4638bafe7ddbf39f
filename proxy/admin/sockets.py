"""Where the operator connects: sockets that listen before there is anything to answer with.

What belongs here: opening them, or taking the inherited one, and closing them. What does not: answering
(``application.py``), which needs aiohttp's server and is imported only after callers can connect: a scraper that comes
in between waits in the kernel's backlog for a fifth of a second.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from proxy.core.model import Address
from proxy.wire.listener import open_sockets, place_of
from proxy.wire.socket_file import SocketFile


class AdminSockets:
    """They listen; nobody accepts yet."""

    __slots__ = ("_file", "sockets")

    def __init__(self, sockets: Sequence[socket.socket], file: SocketFile | None = None) -> None:
        self.sockets = sockets
        self._file = file

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, or ``unix:/path`` and 0. Of several, the first."""
        return place_of(self.sockets[0])

    def close(self) -> None:
        """Removes the unix socket's file, if it was made here, and closes all."""
        if self._file is not None:
            self._file.close()
        for sock in self.sockets:
            sock.close()


async def open_admin(address: Address, inherited: socket.socket | None = None) -> AdminSockets:
    """The sockets at this address, or the inherited one. Raises ``OSError`` when the address cannot be had."""
    if inherited is not None:
        return AdminSockets((inherited,))
    if address.path is not None:
        # Not aiohttp's own UnixSite: it makes the file by the umask, and over whatever socket is there.
        file = SocketFile(address.path)
        return AdminSockets((file.sock,), file)
    return AdminSockets(await open_sockets(asyncio.get_running_loop(), address))
