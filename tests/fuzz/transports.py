"""A transport without a socket: what a peer sends is handed in, what is written handed out; nothing is ever full."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class MadeUp(asyncio.Transport):
    """One end of a connection that a fuzz target holds the other end of."""

    def __init__(self, protocol: asyncio.Protocol, sock: socket.socket, on_write: Callable[[bytes], None]) -> None:
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 1)})
        self._protocol: Any = protocol
        self._loop = asyncio.get_event_loop_policy().get_event_loop()
        self._on_write = on_write
        self._reading = True
        self._unread: list[bytes] = []
        self.closing = False
        self.ended = False
        self.reset = False
        protocol.connection_made(self)

    def arrive(self, data: bytes) -> None:
        """The peer sent this; a reader that has paused gets it later."""
        self._unread.append(data)
        while self._unread and self._reading and not self.closing:
            piece = self._unread.pop(0)
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                buffer = self._protocol.get_buffer(len(piece))
                size = min(len(buffer), len(piece))
                buffer[:size] = piece[:size]
                if piece[size:]:
                    self._unread.insert(0, piece[size:])
                self._protocol.buffer_updated(size)
            else:
                self._protocol.data_received(piece)

    def hang_up(self) -> None:
        """The peer ended its side."""
        if not self.closing and not self._protocol.eof_received():
            self.close()

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if not self.closing and not self.ended:
            self._on_write(bytes(data))

    def abort(self) -> None:
        self._close(None)

    def close(self) -> None:
        self._close(None)

    def _close(self, exc: Exception | None) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._protocol.connection_lost, exc)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._unread:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._unread:
            self.arrive(self._unread.pop(0))

    def is_reading(self) -> bool:
        return self._reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0
