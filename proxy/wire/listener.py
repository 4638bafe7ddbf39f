"""Where callers connect: the listening sockets, opened here or inherited, and when to stop accepting for a while.

A process without free descriptors cannot reach the upstream for those that it serves already, and cannot accept: libuv
then closes every waiting connection, and asyncio's own loop logs an error for each. So accepting pauses before that.
Whoever connects meanwhile waits in the kernel's backlog, unharmed, or is accepted by another process that has the same
socket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import cast

from proxy.core.model import PRIVATE, Address, Spawn
from proxy.observe.metrics import Metrics
from proxy.wire.descriptors import are_free, read_limit, reserve_of
from proxy.wire.reading import Callbacks
from proxy.wire.socket_file import SocketFile

BACKLOG = 4096
"""Connections the kernel may hold before they are accepted; it takes the smaller of this and net.core.somaxconn."""

MOST_AT_ONCE = 16
"""Connections accepted before others get their turn, on asyncio's own loop; libuv takes one at a time."""

LOOK = 1.0
"""Seconds between looks at the table while accepting. New connections are looked at one by one and for nothing; this is
for what else opens descriptors, and costs half a microsecond."""

PROBE = 0.1
"""Seconds between looks while paused: a caller that connects meanwhile waits so much longer at most."""

MOST_ROOM = 64
"""Descriptors that must have become free before accepting goes on, or a quarter of the reserve if that is less: or it
would pause again at the next connection."""

_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOT_NOW = (BlockingIOError, InterruptedError, ConnectionAbortedError)

logger = logging.getLogger("proxy")


class Listener:
    """Accepts connections. ``make_room`` closes what can be spared and says how many that were."""

    def __init__(
        self,
        make_protocol: Callable[[], Callbacks],
        *,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        spawn: Spawn,
        make_room: Callable[[], int],
    ) -> None:
        self._make_protocol = cast("Callable[[], asyncio.Protocol]", make_protocol)
        self._loop = loop
        self._metrics = metrics
        self._spawn = spawn
        self._make_room = make_room
        self._sockets: Sequence[socket.socket] = ()
        self._file: SocketFile | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._paused_at: float | None = None
        self._closed = False
        self._read_limit()

    async def start(
        self, address: Address, inherited: Sequence[socket.socket] = (), *, mode: int = PRIVATE
    ) -> tuple[str, int]:
        """Begins to accept and says where. ``mode`` is of the unix socket, where that is what is opened.

        Raises ``OSError`` when the address cannot be had.
        """
        if address.path is not None and not inherited:
            self._file = SocketFile(address.path, mode, backlog=BACKLOG)
            inherited = (self._file.sock,)
        self._sockets = inherited or await open_sockets(self._loop, address)
        for sock in self._sockets:
            sock.settimeout(0)
        await self._accept()
        self._timer = self._loop.call_later(LOOK, self._look_around)
        return place_of(self._sockets[0])

    def look(self, number: int) -> None:
        """A connection has the descriptor of this number. Called for each: it must cost nothing."""
        if number >= self._ceiling:
            self.pause()

    def pause(self) -> None:
        """Stops accepting until there is room in the descriptor table again."""
        if self._paused_at is not None or self._closed or not self._sockets:
            return
        self._paused_at = self._loop.time()
        self._metrics.listener_paused = 1
        self._metrics.listener_pauses += 1
        self._stop_accepting()
        self._look_again_in(PROBE)
        logger.warning(
            "new connections wait: %d of %d descriptors are in use, and the others are for those that are served "
            "(raise the limit of open files: LimitNOFILE= or ulimit -n)",
            self._ceiling,
            self._limit,
        )

    def on_exhausted(self) -> bool:
        """There is not one descriptor left. Says whether something was closed, so that it is worth trying again."""
        self.pause()
        return self._make_room() > 0

    def close(self) -> None:
        """Stops accepting for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._stop_accepting()
        if self._file is not None:
            self._file.close()
        for sock in self._sockets:
            sock.close()
        self._sockets = ()
        self._metrics.listener_paused = 0

    # -- accepting ----------------------------------------------------------------------------------------------------

    async def _accept(self) -> None:
        # Asyncio's own loop accepts here: its server accepts as many as the backlog holds before anyone can look, goes
        # on after EMFILE, and loses what it has accepted when it is closed (Server._attach). Elsewhere the server of
        # the loop costs 10 to 30 us a connection less; it closes what it is given, so it is given a duplicate.
        for sock in self._sockets:
            if isinstance(self._loop, asyncio.SelectorEventLoop):
                sock.listen(BACKLOG)
                self._loop.add_reader(sock, self._accept_some, sock)
            elif sock.family == socket.AF_UNIX:
                server = serve_unix(self._loop, self._make_protocol, sock.dup())
                self._servers.append(await server)
            else:
                server = self._loop.create_server(self._make_protocol, sock=sock.dup(), backlog=BACKLOG)
                self._servers.append(await server)

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if isinstance(self._loop, asyncio.SelectorEventLoop):
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _accept_some(self, sock: socket.socket) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                connection, _ = sock.accept()
            except _NOT_NOW:
                return
            except OSError as exc:
                if exc.errno not in _FULL:
                    raise
                self.pause()
                return
            connection.settimeout(0)
            self._spawn(self._hand_over(connection))
            self.look(connection.fileno())
            if self._paused_at is not None:
                return

    async def _hand_over(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except BaseException:
            connection.close()
            raise

    # -- looking at the table -----------------------------------------------------------------------------------------

    def _read_limit(self) -> None:
        self._limit = read_limit()
        reserve = reserve_of(self._limit)
        self._ceiling = self._limit - reserve
        self._room = max(min(reserve // 4, MOST_ROOM), 1)

    def _look_again_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look_around)

    def _look_around(self) -> None:
        self._read_limit()
        like = self._sockets[0].fileno()
        if self._paused_at is None:
            self._look_again_in(LOOK)
            if not are_free(1, self._ceiling, like):
                self.pause()
            return
        self._look_again_in(PROBE)
        if are_free(self._room, self._ceiling, like):
            self._spawn(self._resume(self._paused_at))
        else:
            self._make_room()

    async def _resume(self, paused_at: float) -> None:
        if self._closed or self._paused_at != paused_at:
            return
        self._paused_at = None
        self._metrics.listener_paused = 0
        try:
            await self._accept()
        except OSError as exc:
            logger.debug("accepting did not go on: %s", exc)
            self.pause()
            return
        logger.warning("new connections are accepted again, after %.1f s", self._loop.time() - paused_at)


async def open_sockets(loop: asyncio.AbstractEventLoop, address: Address) -> list[socket.socket]:
    """Listens on all that this host and port mean. Raises ``OSError`` when that cannot be had."""
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
            try:
                sockets.append(_bound(family, where))
            except OSError as exc:
                # `localhost` has an IPv6 address where there is no IPv6, too: one of its addresses is enough.
                missing = OSError(exc.errno, f"{address}: {exc.strerror}")
                if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise missing from exc
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def _bound(family: int, where: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` means IPv6 alone whatever the machine's default; 0.0.0.0 has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        # Here and not with the first accept: an address in use is found out at once, on macOS too.
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve_unix(
    loop: asyncio.AbstractEventLoop, make_protocol: Callable[[], asyncio.BaseProtocol], sock: socket.socket
) -> asyncio.AbstractServer:
    """Accepts on this unix socket, and leaves its file to whoever made it."""
    if sys.version_info >= (3, 13):
        # From then on the loops remove the file when their server closes, an inherited one too, and with every pause.
        return await loop.create_unix_server(make_protocol, sock=sock, backlog=BACKLOG, cleanup_socket=False)
    return await loop.create_unix_server(make_protocol, sock=sock, backlog=BACKLOG)


def place_of(sock: socket.socket) -> tuple[str, int]:
    """Where a socket listens: host and port, or ``unix:/path`` and 0."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return name[0], name[1]
    path = name.decode("utf-8", "replace").replace("\0", "@") if isinstance(name, bytes) else name
    return f"unix:{path}", 0
