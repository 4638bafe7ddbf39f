"""One connection with large bodies. The kernel moves and drops them for us, so that what is timed is the proxy."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from bench import contract
from bench.asked import request
from bench.load import Seen

PATIENCE = 20.0
"""Seconds without a byte after which a proxy is given up."""

_SCRATCH = bytearray(contract.MIB)


def down(port: int, authorization: str, seconds: float, meter: Callable[[], int]) -> Seen:
    """Large answers, one after the other; an operation is a MiB."""
    asked = request("GET", f"{contract.VOICES}?bytes={contract.DOWN}", authorization)

    def once(sock: socket.socket) -> int:
        sock.sendall(asked)
        length, left = _read_head(sock)
        _drop(sock, left)
        return length

    return _again_and_again(port, once, seconds, meter)


def up(port: int, authorization: str, seconds: float, meter: Callable[[], int]) -> Seen:
    """Uploads, one after the other; an operation is a MiB."""
    head = request("POST", contract.UPLOAD, authorization, fields=f"Content-Length: {contract.UP}\r\n")
    with os.fdopen(os.memfd_create("upload"), "rb+", buffering=0) as file:
        file.truncate(contract.UP)

        def once(sock: socket.socket) -> int:
            sock.sendall(head)
            sock.sendfile(file, 0, contract.UP)
            _drop(sock, _read_head(sock)[1])
            return contract.UP

        return _again_and_again(port, once, seconds, meter)


def _again_and_again(port: int, once: Callable[[socket.socket], int], seconds: float, meter: Callable[[], int]) -> Seen:
    moved = 0
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        once(sock)  # both connections have grown their windows
        used, began = meter(), time.monotonic()
        while (now := time.monotonic()) < began + seconds or not moved:
            moved += once(sock)
        now = time.monotonic()
        return Seen(moved // contract.MIB, 0, now - began, meter() - used)


def _read_head(sock: socket.socket) -> tuple[int, int]:
    """The length of the body that follows a head with status 200, and how much of it has not been read yet."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionError("closed before the head of an answer")
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    lengths = [int(line.partition(b":")[2]) for line in fields if line.lower().startswith(b"content-length:")]
    if b" 200 " not in status + b" " or len(lengths) != 1:
        raise ConnectionError(f"answered {status!r} with lengths {lengths}")
    return lengths[0], lengths[0] - len(body)


def _drop(sock: socket.socket, left: int) -> None:
    while left:
        got = sock.recv_into(_SCRATCH, min(left, len(_SCRATCH)), socket.MSG_TRUNC)
        if not got:
            raise ConnectionError(f"closed with {left} bytes missing")
        left -= got
