"""A WebSocket to one client: accepting it, its idle limit, the echo, and sending JSON.

What belongs here: what the three sockets share. What does not: their events.

Invented: any frame that is not a JSON object of a shape the socket knows comes back as it was, text as text and binary
as binary, so that a test of the way there and back needs no protocol. (Where the documented services would answer an
error.)
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from proxy.sandbox.answers import to_json
from proxy.sandbox.authentication import offered_bearer
from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.pacing import break_off
from proxy.sandbox.shapes import JsonObject, Malformed

if TYPE_CHECKING:
    from proxy.sandbox.exchange import Exchange

MAX_MESSAGE = 32 * 1024 * 1024
"""Audio in base64 passes through in one message; the clients' own limits are lower."""

ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class ChannelClosed(Exception):  # noqa: N818 - how a conversation ends; not a fault.
    """The client went away, or the sandbox broke off; nothing more can be said."""


class Channel:
    """An open socket."""

    def __init__(self, exchange: Exchange, socket: web.WebSocketResponse) -> None:
        self._exchange = exchange
        self._socket = socket
        self._sent = 0

    @property
    def response(self) -> web.WebSocketResponse:
        """What the handler returns in the end."""
        return self._socket

    async def send(self, message: JsonObject) -> None:
        """One JSON object as a text frame; raises ``ChannelClosed``."""
        try:
            await self._socket.send_str(to_json(message))
        except (aiohttp.ClientConnectionResetError, ConnectionError) as exc:
            raise ChannelClosed from exc
        self._sent += 1
        if self._exchange.cut:
            break_off(self._exchange.request)
            raise ChannelClosed

    async def close(self, reason: str = "") -> None:
        """Says goodbye."""
        await self._socket.close(code=WSCloseCode.OK, message=reason.encode())

    async def messages(self, recognises: Callable[[JsonObject], bool]) -> AsyncIterator[JsonObject]:
        """The messages that the socket knows, until it ends; the others are echoed."""
        while True:
            try:
                frame = await self._socket.receive(timeout=self._exchange.sandbox.options.socket_idle)
            except TimeoutError:
                await self.close("inactivity")
                return
            if frame.type in ENDED:
                self._exchange.record.close_code = self._socket.close_code
                return
            self._exchange.record.messages += 1
            message = _object(frame.data) if frame.type is WSMsgType.TEXT else None
            if message is not None and recognises(message):
                yield message
            else:
                await self._echo(frame)

    async def _echo(self, frame: aiohttp.WSMessage) -> None:
        try:
            if frame.type is WSMsgType.TEXT:
                await self._socket.send_str(frame.data)
            else:
                await self._socket.send_bytes(frame.data)
        except (aiohttp.ClientConnectionResetError, ConnectionError) as exc:
            raise ChannelClosed from exc


def _object(text: str) -> JsonObject | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


async def accept(exchange: Exchange) -> Channel:
    """Answers 101; raises ``Refusal`` if it was not asked for."""
    offered = offered_bearer(exchange.request)
    # Invented: that the offered ``bearer_…`` is selected. Undocumented, but a browser gives up otherwise.
    protocols = (offered,) if offered else ()
    socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, protocols=protocols, compress=True)
    if not socket.can_prepare(exchange.request).ok:
        raise invalid("this path is a WebSocket: an Upgrade header is required")
    exchange.record.status = 101
    await socket.prepare(exchange.request)
    return Channel(exchange, socket)


async def refuse_in_a_frame(exchange: Exchange, refusal: Refusal) -> web.StreamResponse:
    """Answers 101 and then says no, as the TTS and STT sockets were seen to: to a missing credential at once, to a bad
    one never (unless ``explain_bad_key`` is set).
    """
    channel = await accept(exchange)
    if refusal.status == 401 or exchange.sandbox.options.explain_bad_key:
        await channel.send({"error": refusal.status_object()})
        # Invented: that the socket is closed then, and the code.
        await channel.response.close(code=WSCloseCode.POLICY_VIOLATION, message=b"unauthenticated")
        return channel.response
    while (await channel.response.receive()).type not in ENDED:
        exchange.record.messages += 1
    return channel.response


def error_of(exc: Refusal | Malformed) -> JsonObject:
    """The google.rpc.Status of a message that was refused."""
    return exc.status_object() if isinstance(exc, Refusal) else invalid(str(exc)).status_object()
