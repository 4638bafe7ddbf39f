"""The TTS socket: several contexts on one connection, each a voice that text is sent to and audio comes back from.

What belongs here: ``/tts/v1/voice:streamBidirectional``. What does not: how audio is made (``speech.py``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from aiohttp import web

from proxy.sandbox.channel import Channel, ChannelClosed, accept, error_of
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import Refusal, invalid, not_found
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.pacing import Pace, Pacer, pace_of
from proxy.sandbox.shapes import JsonObject, Malformed, camel, new_uuid, number_of, object_of, text_of
from proxy.sandbox.speech import Voicing, chunk_message, pieces, voicing_of

KNOWN = frozenset({"create", "sendText", "flushContext", "update", "closeContext", "cancelContext"})
MAX_CONTEXTS = 5
"""Documented, per connection."""
MAX_TEXT = 1_000
"""Documented, in characters per send_text."""
DEFAULT_THRESHOLD = 250
"""Invented: how much text is enough to begin with, where the client does not say."""
# What a client may send ahead of the voice before the socket is no longer read.
_QUEUED = 64
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "\n")


def _recognises(message: JsonObject) -> bool:
    return any(key in KNOWN for key in camel(dict.fromkeys(message)))


@dataclass(slots=True)
class _Context:
    """One voice, and the task that speaks for it."""

    identifier: str
    voicing: Voicing
    created: JsonObject
    pace: Pace
    auto: bool
    threshold: int
    delay: float | None
    """How long text may wait for more of it."""
    inbox: asyncio.Queue[JsonObject] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    text: str = ""
    task: asyncio.Task[None] | None = None

    def ripe(self) -> bool:
        """True if the text that has come is enough to begin speaking."""
        if len(self.text) >= self.threshold:
            return True
        return self.auto and self.text.rstrip(" ").endswith(_SENTENCE_ENDS)


class _Session:
    """The contexts of one connection. Their tasks end with it."""

    def __init__(self, exchange: Exchange, channel: Channel) -> None:
        self._exchange = exchange
        self._channel = channel
        self._contexts: dict[str, _Context] = {}

    async def took(self, message: JsonObject) -> None:
        """Hands one message to its context; raises ``Refusal`` or ``Malformed``."""
        if "create" in message:
            await self._create(text_of(message, "contextId"), object_of(message, "create"))
            return
        context = self._context(text_of(message, "contextId"))
        if "cancelContext" in message:
            await self._stop(context)
            await self._say(context, "contextClosed", {})
            return
        if len(text_of(object_of(message, "sendText"), "text")) > MAX_TEXT:
            raise invalid(f"send_text: text is longer than {MAX_TEXT} characters")
        await context.inbox.put(message)

    async def refuse(self, message: JsonObject, exc: Refusal | Malformed) -> None:
        """Says which context an error is about, if it is about one."""
        identifier = message.get("contextId")
        if identifier:
            await self._channel.send({"result": {"contextId": identifier, "status": error_of(exc)}})
        else:
            await self._channel.send({"error": error_of(exc)})

    async def stop(self) -> None:
        """Ends every context."""
        for context in list(self._contexts.values()):
            await self._stop(context)

    def _context(self, identifier: str) -> _Context:
        if not identifier and len(self._contexts) == 1:
            return next(iter(self._contexts.values()))
        context = self._contexts.get(identifier)
        if context is None:
            raise not_found("Context not found")
        return context

    async def _create(self, identifier: str, create: JsonObject) -> None:
        identifier = identifier or new_uuid()
        if identifier in self._contexts:
            raise Refusal(409, "Context already exists", code=6)
        if len(self._contexts) >= MAX_CONTEXTS:
            raise Refusal(429, f"a connection holds at most {MAX_CONTEXTS} contexts")
        delay = number_of(create, "maxBufferDelayMs", 0)
        context = _Context(
            identifier=identifier,
            voicing=voicing_of(self._exchange, create),
            created=create,
            pace=pace_of(self._exchange.sandbox.options, create),
            auto=create.get("autoMode") is True,
            threshold=int(number_of(create, "bufferCharThreshold", 0)) or DEFAULT_THRESHOLD,
            delay=delay / 1000 if delay > 0 else None,
        )
        self._contexts[identifier] = context
        await self._say(context, "contextCreated", create)
        context.task = asyncio.create_task(self._speak_for(context), name=f"sandbox tts context {identifier}")

    async def _stop(self, context: _Context) -> None:
        self._contexts.pop(context.identifier, None)
        if context.task is not None:
            context.task.cancel()
            await asyncio.gather(context.task, return_exceptions=True)

    async def _speak_for(self, context: _Context) -> None:
        """Takes the context's messages in order until it is closed."""
        try:
            while True:
                message = await self._next(context)
                context.text += text_of(object_of(message, "sendText"), "text")
                if "update" in message:
                    self._update(context, object_of(message, "update"))
                if "closeContext" in message:
                    await self._generate(context, always=False)
                    break
                if "flushContext" in message or "flushContext" in object_of(message, "sendText"):
                    await self._generate(context, always=True)
                elif not message or context.ripe():
                    await self._generate(context, always=False)
            self._contexts.pop(context.identifier, None)
            await self._say(context, "contextClosed", {})
        except ChannelClosed:
            return

    async def _next(self, context: _Context) -> JsonObject:
        """The next message, or an empty one if the text has waited long enough for it."""
        try:
            async with asyncio.timeout(context.delay if context.text.strip() else None):
                return await context.inbox.get()
        except TimeoutError:
            return {}

    def _update(self, context: _Context, update: JsonObject) -> None:
        # Invented: what may be updated, and that nothing answers it. The reference names the message and no more.
        try:
            context.created = context.created | update
            context.voicing = replace(voicing_of(self._exchange, context.created))
        except (Refusal, Malformed):
            return

    async def _generate(self, context: _Context, *, always: bool) -> None:
        """Speaks the text that has come; with ``always`` even an empty one is reported as done."""
        text, context.text = context.text, ""
        if text.strip():
            pacer = Pacer(context.pace, self._exchange.sandbox.gates)
            tune = context.voicing.tune(text)
            instrument = self._exchange.sandbox.instrument
            for piece in pieces(instrument, tune, context.pace.chunk_bytes, raw=context.voicing.raw):
                await pacer.wait()
                await self._say(context, "audioChunk", chunk_message(piece, context.voicing, len(text)))
        if always or text.strip():
            await self._say(context, "flushCompleted", {})

    async def _say(self, context: _Context, what: str, content: JsonObject) -> None:
        status: JsonObject = {"code": 0, "message": "", "details": []}
        await self._channel.send({"result": {"contextId": context.identifier, "status": status, what: content}})


async def synthesize_socket(exchange: Exchange) -> web.StreamResponse:
    """``GET /tts/v1/voice:streamBidirectional``."""
    with exchange.sandbox.limits.socket(exchange.workspace) as granted:
        if not granted:
            raise Refusal(429, "too many concurrent WebSocket connections")
        channel = await accept(exchange)
        session = _Session(exchange, channel)
        try:
            async for message in channel.messages(_recognises):
                understood = camel(message)
                try:
                    await session.took(understood)
                except (Refusal, Malformed) as exc:
                    await session.refuse(understood, exc)
        except ChannelClosed:
            pass
        finally:
            await session.stop()
        return channel.response


ENDPOINTS = (
    Endpoint(
        "tts.synthesize_ws",
        "GET",
        "/tts/v1/voice:streamBidirectional",
        synthesize_socket,
        admission=Admission.SOCKET,
    ),
)
