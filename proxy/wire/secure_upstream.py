"""TLS to an upstream: whoever dialled waits for the handshake, and learns why there is none."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from proxy.wire.reading import Callbacks
from proxy.wire.secure import CutOffError, SecureTransport


class SecureUpstream(SecureTransport):
    """``await opened`` after the transport below has been connected.

    It raises ``ssl.SSLError`` (a certificate that cannot be trusted is one) or ``OSError``; until then nothing of the
    protocol is called, and nothing of it is sent.
    """

    __slots__ = ("opened",)

    def __init__(self, reader: Callbacks, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop, name: str) -> None:
        super().__init__(reader, context, loop, name)
        self.opened: asyncio.Future[None] = loop.create_future()

    def _on_open(self) -> None:
        if self.opened.done():  # given up meanwhile
            self.abort()
            return
        self.opened.set_result(None)
        self._reader.connection_made(cast("asyncio.BaseTransport", self))

    def _on_refused(self, exc: ssl.SSLError) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc)
        self._below.close()

    def _on_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or CutOffError("closed during the TLS handshake"))
        elif not self.opened.cancelled() and self.opened.exception() is None:
            self._tell_lost(exc)
