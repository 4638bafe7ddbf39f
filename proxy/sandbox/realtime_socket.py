"""The Realtime socket: OpenAI's Realtime events both ways.

What belongs here: ``/api/v1/realtime/session`` and which client event leads to what. What does not: the content of a
response (``realtime_session.py``); WebRTC signalling (``webrtc.py``).
Not played: tool calls, and truncating or retrieving single items beyond acknowledging them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.sandbox.body import bytes_of
from proxy.sandbox.channel import Channel, ChannelClosed, accept
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pacer, pace_of
from proxy.sandbox.realtime_session import Conversation, Reply, default_session, merged
from proxy.sandbox.shapes import JsonObject, Malformed, new_id, object_of, text_of


class _Session:
    """One connected session: its conversation, and the response that is being given, if any."""

    def __init__(self, exchange: Exchange, channel: Channel, identifier: str) -> None:
        self._exchange = exchange
        self._channel = channel
        self._conversation = Conversation(default_session(identifier))
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._answers: dict[str, Callable[[JsonObject], Awaitable[None]]] = {
            "session.update": self._update,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    def recognises(self, message: JsonObject) -> bool:
        """True for an event of a type that the session answers."""
        return message.get("type") in self._answers

    async def greet(self) -> None:
        """The first event."""
        await self._say({"type": "session.created", "session": self._conversation.session})

    async def took(self, message: JsonObject) -> None:
        """Answers one event; an event that makes no sense gets an ``error`` event, as in OpenAI's API."""
        try:
            await self._answers[message["type"]](message)
        except (Refusal, Malformed) as exc:
            error: JsonObject = {
                "type": "invalid_request_error",
                "code": "invalid_value",
                "message": str(exc),
                "param": None,
                "event_id": message.get("event_id"),
            }
            await self._say({"type": "error", "error": error})

    async def stop(self) -> None:
        """Ends the response that is being given; says nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _say(self, event: JsonObject) -> None:
        await self._channel.send({"event_id": new_id("event_")} | event)

    async def _update(self, message: JsonObject) -> None:
        changes = object_of(message, "session")
        self._conversation.session = merged(self._conversation.session, changes)
        await self._say({"type": "session.updated", "session": self._conversation.session})

    async def _create_item(self, message: JsonObject) -> None:
        item = object_of(message, "item")
        if item.get("type") not in ("message", "function_call", "function_call_output"):
            raise invalid("item.type must be message, function_call or function_call_output")
        await self._added(item, self._conversation.last_id())

    async def _added(self, item: JsonObject, previous: str | None) -> JsonObject:
        added = self._conversation.add(item)
        for kind in ("conversation.item.added", "conversation.item.done"):
            await self._say({"type": kind, "previous_item_id": previous, "item": added})
        return added

    async def _delete_item(self, message: JsonObject) -> None:
        identifier = text_of(message, "item_id")
        items = self._conversation.items
        if not any(item["id"] == identifier for item in items):
            raise invalid(f"item not found: {identifier}")
        self._conversation.items = [item for item in items if item["id"] != identifier]
        await self._say({"type": "conversation.item.deleted", "item_id": identifier})

    async def _truncate_item(self, message: JsonObject) -> None:
        named = {name: message.get(name) for name in ("item_id", "content_index", "audio_end_ms")}
        await self._say({"type": "conversation.item.truncated"} | named)

    async def _append(self, message: JsonObject) -> None:
        hearing = self._conversation.hearing
        had_voice = hearing.heard_voice
        hearing.hear(bytes_of(message, "audio"))
        if not self._conversation.detects_turns():
            return
        if hearing.heard_voice and not had_voice:
            await self._interrupt()
            await self._say({"type": "input_audio_buffer.speech_started", "item_id": "", "audio_start_ms": 0})
        if hearing.turn_ended():
            ended = {"item_id": "", "audio_end_ms": hearing.milliseconds}
            await self._say({"type": "input_audio_buffer.speech_stopped"} | ended)
            await self._commit({})
            await self._respond({})

    async def _commit(self, _message: JsonObject) -> None:
        hearing = self._conversation.hearing
        if hearing.empty:
            raise invalid("the input audio buffer is empty")
        said = hearing.transcript()
        self._conversation.listen_anew()
        previous = self._conversation.last_id()
        identifier = new_id("item_")
        committed = {"previous_item_id": previous, "item_id": identifier}
        await self._say({"type": "input_audio_buffer.committed"} | committed)
        content = {"type": "input_audio", "transcript": said}
        await self._added({"id": identifier, "type": "message", "role": "user", "content": [content]}, previous)
        kind = "conversation.item.input_audio_transcription"
        at = {"item_id": identifier, "content_index": 0}
        await self._say({"type": f"{kind}.delta", "delta": said} | at)
        await self._say({"type": f"{kind}.completed", "transcript": said} | at)

    async def _clear(self, _message: JsonObject) -> None:
        self._conversation.listen_anew()
        await self._say({"type": "input_audio_buffer.cleared"})

    async def _respond(self, message: JsonObject) -> None:
        if self._task is not None and not self._task.done():
            raise invalid("conversation already has an active response")
        asked = object_of(message, "response")
        paced = {"sandbox": message.get("sandbox") or asked.get("sandbox")}
        pace = pace_of(self._exchange.sandbox.options, paced)
        reply = Reply(self._conversation, self._exchange.sandbox.instrument, asked)

        async def give() -> None:
            try:
                async for event in reply.events(Pacer(pace, self._exchange.sandbox.gates), pace):
                    await self._say(event)
            except ChannelClosed:
                return

        self._reply = reply
        self._task = asyncio.create_task(give(), name="sandbox realtime response")

    async def _interrupt(self) -> None:
        if self._task is not None and not self._task.done() and self._reply is not None:
            await self.stop()
            await self._say(self._reply.cancelled())

    async def _cancel(self, _message: JsonObject) -> None:
        if self._task is None or self._task.done():
            raise invalid("cancellation failed: no active response found")
        await self._interrupt()


async def realtime_socket(exchange: Exchange) -> web.StreamResponse:
    """``GET /api/v1/realtime/session?key=&protocol=realtime``; ``key`` is a session id of the client's choosing."""
    query = exchange.request.query
    if not query.get("key") or query.get("protocol") != "realtime":
        # Documented: both are required. Invented: the sentence.
        raise invalid("the query parameters key and protocol=realtime are required")
    channel = await accept(exchange)
    session = _Session(exchange, channel, query["key"])
    try:
        await session.greet()
        async for message in channel.messages(session.recognises):
            await session.took(message)
    except ChannelClosed:
        pass
    finally:
        await session.stop()
    return channel.response


ENDPOINTS = (
    Endpoint("realtime.session", "GET", "/api/v1/realtime/session", realtime_socket, admission=Admission.REALTIME),
)
