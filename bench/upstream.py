"""What stands for the API: answers with as little work as Python allows, and only to the injected key. No proxy here.

    python -m bench.upstream PORT [TLS_PORT CERTIFICATE]

Large bodies are moved by the kernel alone (sendfile, MSG_TRUNC), so that a proxy that copies them is the slower side.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import os
import re
import socket
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import cast

import uvloop

from bench import contract

_ANSWERED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
_NO_LENGTH = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)

_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_SOCKET_KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*(\S+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_MOST_KNOWN = 64
_KNOWN: dict[bytes, bytes] = {}
"""Whole requests whose answer is known: it depends on their bytes alone. Varied heads fill it once and no more."""

_SCRATCH = bytearray(contract.MIB)
_ZEROS = os.memfd_create("answer")
os.truncate(_ZEROS, contract.DOWN)


class Upstream(asyncio.Protocol):
    """A connection of a proxy's. ``_receive`` takes what comes while it is an upload or a WebSocket."""

    def __init__(self) -> None:
        self._transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self._buffer = b""
        self._receive: Callable[[bytes], None] | None = None
        self._resume: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bulk: socket.socket | None = None
        self._frame, self._echo = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio's callback."""
        if self._timer is not None:
            self._timer.cancel()
        self._end_bulk()

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        if self._receive is not None:
            self._receive(data)
            return
        if self._buffer:
            data = self._buffer + data
        answer = _KNOWN.get(data)
        if answer is None:
            self._read(data)
        else:
            self._buffer = b""
            self._transport.write(answer)

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        if self._resume is not None:
            self._resume()

    def _read(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._buffer = data
            return
        head, body = data[:end], data[end:]
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.decode("latin-1").partition("?")
        right = _AUTHORIZATION.findall(head) == [contract.INJECTED.encode()]
        if _CHUNKED.search(head):
            self._transport.write(_NO_LENGTH)
            self._transport.close()
            return
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        self._buffer = b""
        if right and (method, path) == (b"POST", contract.UPLOAD):
            self._take_upload(length, body, digest="digest" in query)
        elif len(body) < length:
            self._buffer = data
        elif right and (method, path) == (b"GET", contract.SOCKET):
            self._switch(head)
        elif right and (method, path) == (b"POST", contract.STREAM):
            self._begin_stream(int(dict(urllib.parse.parse_qsl(query))["count"]))
        elif right and (method, path) == (b"GET", contract.VOICES) and query:
            self._send_large(int(dict(urllib.parse.parse_qsl(query))["bytes"]))
        else:
            answer = _short_answer(method, path, head, right=right)
            self._transport.write(answer)
            if len(_KNOWN) < _MOST_KNOWN:
                _KNOWN[data] = answer

    # -- streams ------------------------------------------------------------------------------------------------------

    def _begin_stream(self, count: int) -> None:
        self._transport.write(_STREAM)
        self._write_chunk(0, count, asyncio.get_running_loop().time())

    def _write_chunk(self, number: int, count: int, due: float) -> None:
        piece = b"%x\r\n%b\r\n" % (contract.CHUNK, contract.chunk(time.monotonic_ns(), number))
        if number + 1 == count:
            self._transport.write(piece + b"0\r\n\r\n")
            return
        self._transport.write(piece)
        due += contract.EVERY
        self._timer = asyncio.get_running_loop().call_at(due, self._write_chunk, number + 1, count, due)

    # -- large bodies -------------------------------------------------------------------------------------------------

    def _send_large(self, length: int) -> None:
        head = _ANSWERED % length
        if self._transport.get_extra_info("ssl_object") is not None:
            self._transport.write(head)
            self._write_large(length)
            return
        # Zeros of a file in memory; a descriptor of its own, since the loop keeps the first to itself.
        bulk = self._begin_bulk()
        bulk.send(head)
        sent = 0

        def push() -> None:
            nonlocal sent
            try:
                sent += os.sendfile(bulk.fileno(), _ZEROS, sent, length - sent)
            except BlockingIOError:
                return
            except OSError:
                self._end_bulk()
                return
            if sent == length:
                self._end_bulk()

        asyncio.get_running_loop().add_writer(bulk, push)

    def _write_large(self, left: int) -> None:
        """With TLS the bytes have to come up here."""
        self._resume = None
        while left:
            piece = memoryview(_SCRATCH)[: min(left, len(_SCRATCH))]
            left -= len(piece)
            self._transport.write(bytes(piece))
            if self._transport.get_write_buffer_size() > contract.MIB and left:
                self._resume = functools.partial(self._write_large, left)
                return

    def _take_upload(self, length: int, first: bytes, *, digest: bool) -> None:
        left, taken = length, hashlib.sha256() if digest else None

        def receive(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if taken is not None:
                taken.update(data)
            if left <= 0:
                self._end_upload(length, taken.hexdigest() if taken is not None else "")

        self._receive = receive
        receive(first)
        if left <= contract.MIB or digest or self._transport.get_extra_info("ssl_object") is not None:
            return
        self._transport.pause_reading()
        bulk = self._begin_bulk()

        def pull() -> None:
            nonlocal left
            try:
                # MSG_TRUNC: the kernel drops the bytes instead of copying them.
                got = bulk.recv_into(_SCRATCH, min(left, len(_SCRATCH)), socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError:
                got = 0
            left -= got
            if not left:
                self._end_bulk()
                self._transport.resume_reading()
                self._end_upload(length, "")
            elif not got:
                self._transport.abort()

        asyncio.get_running_loop().add_reader(bulk, pull)

    def _end_upload(self, length: int, digest: str) -> None:
        self._receive = None
        content = b'{"got":%d,"sha256":"%s"}' % (length, digest.encode())
        self._transport.write(_ANSWERED % len(content) + content)

    def _begin_bulk(self) -> socket.socket:
        # uvloop's is a stand-in for a socket: the descriptor is all that it gives.
        self._bulk = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        self._bulk.settimeout(0)
        return self._bulk

    def _end_bulk(self) -> None:
        if self._bulk is not None:
            loop = asyncio.get_running_loop()
            loop.remove_writer(self._bulk)
            loop.remove_reader(self._bulk)
            self._bulk.close()
            self._bulk = None

    # -- WebSockets ---------------------------------------------------------------------------------------------------

    def _switch(self, head: bytes) -> None:
        key = _SOCKET_KEY.search(head)
        digest = hashlib.sha1((key[1] if key else b"") + _GUID, usedforsecurity=False).digest()
        self._transport.write(_SWITCHED % base64.b64encode(digest))
        self._receive = self._receive_frames

    def _receive_frames(self, data: bytes) -> None:
        if data == self._frame and not self._buffer:
            self._transport.write(self._echo)
            return
        self._buffer += data
        while len(self._buffer) >= 6:
            data = self._buffer
            kind, size, start = data[0], data[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            end = start + 4 + size
            if len(data) < end:
                return
            echo = bytes([kind]) + (bytes([size]) if start == 2 else b"\x7e" + data[2:4]) + _unmasked(data, start, size)
            self._frame, self._echo, self._buffer = data[:end], echo, data[end:]
            self._transport.write(echo)
            if kind & 0x0F == 8:
                self._transport.close()


def _unmasked(data: bytes, start: int, size: int) -> bytes:
    mask = (data[start : start + 4] * (size // 4 + 1))[:size]
    plain = int.from_bytes(data[start + 4 : start + 4 + size], "big") ^ int.from_bytes(mask, "big")
    return plain.to_bytes(size, "big")


def _short_answer(method: bytes, path: str, head: bytes, *, right: bool) -> bytes:
    if path == contract.REPORT and method == b"GET":
        shown = len(_AUTHORIZATION.findall(head))
        leaked = contract.TOKEN.encode() in head
        content = b'{"authorizations":%d,"right":%d,"leaked":%d}' % (shown, right, leaked)
    elif (method, path) in {(b"GET", contract.VOICES), (b"POST", contract.SPEAK)}:
        content = contract.ANSWER
    elif path in {contract.STREAM, contract.SOCKET, contract.UPLOAD} and not right:
        return _REFUSED
    else:
        # What no proxy should let through is answered well, so that it is seen when one does.
        content, right = b'{"through":true}', True
    return _ANSWERED % len(content) + content if right or path == contract.REPORT else _REFUSED


async def _serve(port: int, tls_port: int | None, certificate: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    if tls_port is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate)
        await loop.create_server(Upstream, "127.0.0.1", tls_port, ssl=context, backlog=4096)
    await asyncio.Event().wait()  # until a signal ends the process


if __name__ == "__main__":
    tls = int(sys.argv[2]) if sys.argv[2:] else None
    uvloop.run(_serve(int(sys.argv[1]), tls, sys.argv[3] if tls else ""))
