"""The unix socket that this process makes: who may connect from its first moment on, what may be in its place, its end.

What belongs here: the file. What does not: accepting (``listener.py``), and sockets that somebody else has made
(``proxy/inherited.py``), whose files are theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from proxy.core.model import PRIVATE

_SILENT = frozenset({errno.ECONNREFUSED, errno.ENOENT})
"""What connecting says where nobody listens. Anything else, a refused permission too, may be somebody."""


class SocketFile:
    """A unix socket that listens, and its file. Raises ``OSError`` with a sentence when it cannot be had."""

    def __init__(self, path: str, mode: int = PRIVATE, *, backlog: int = 128) -> None:
        self.path = path
        self._made: tuple[int, int] | None = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear(path)
            # By umask and not by chmod: the file has its mode from the moment that it is there, and no second step goes
            # to whatever has its name by then, which in a folder of several users may be a link to something else.
            # Before listen() nobody can connect. The umask is the whole process's: a file that another thread makes in
            # these microseconds is more private than it would be, which is the harmless way round.
            with _umask(~mode & 0o777):
                sock.bind(path)
            made = os.lstat(path)
            self._made = (made.st_dev, made.st_ino)
            sock.listen(backlog)
        except OSError as exc:
            self._unlink()
            sock.close()
            raise OSError(exc.errno, _explain(path, exc)) from exc
        self.sock = sock

    def close(self) -> None:
        """Removes the file, if it is still this socket's, and closes the socket."""
        # In this order: while the socket is open no other file can have its number.
        self._unlink()
        self.sock.close()

    def _unlink(self) -> None:
        # It may be another's by now: of a process that was started while this one was still draining.
        if self._made is not None:
            with contextlib.suppress(OSError):
                _unlink_exactly(self.path, self._made)
        self._made = None


def _clear(path: str) -> None:
    """Takes away a socket on which nobody listens: a process that was killed leaves one.

    Of two processes that find the same one in the same instant, one may take away the other's: the later one has the
    path. A lock would prevent that, and give everyone who can read the folder a way to keep the proxy from starting.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        # A link too: what it leads to is nobody's to replace.
        raise FileExistsError(errno.EEXIST, "something that is no socket is there, and stays")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - its signature
        code = probe.connect_ex(path)
    if code not in _SILENT:
        raise OSError(errno.EADDRINUSE, "somebody listens there already")
    with contextlib.suppress(FileNotFoundError):
        _unlink_exactly(path, (found.st_dev, found.st_ino))


def _unlink_exactly(path: str, this: tuple[int, int]) -> None:
    found = os.lstat(path)
    if (found.st_dev, found.st_ino) == this:
        Path(path).unlink()


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _explain(path: str, exc: OSError) -> str:
    match exc.errno:
        case errno.ENOENT:
            return f"unix:{path}: there is no such folder"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"unix:{path}: this user may not make files in that folder"
        case _:
            return f"unix:{path}: {exc.strerror}"
