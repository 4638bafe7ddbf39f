"""The Realtime conversation, in the events of OpenAI's Realtime API with the vendor's audio settings.

What belongs here: what a session remembers and the events it answers with. What does not: the socket
(``realtime_socket.py``).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from proxy.sandbox.hearing import Listener
from proxy.sandbox.pacing import Pace, Pacer
from proxy.sandbox.replies import content_text, reply_to, text_pieces, words_in
from proxy.sandbox.shapes import JsonObject, list_of, new_id, number_of, object_of, text_of
from proxy.sandbox.sound import Instrument, compose
from proxy.sandbox.speech import pieces

Send = Callable[[JsonObject], Awaitable[None]]

DEFAULT_RATE = 24_000


def default_session(identifier: str) -> JsonObject:
    """The session before the client has said anything. Invented: the models named in it."""
    pcm = {"type": "audio/pcm", "rate": DEFAULT_RATE}
    return {
        "id": identifier,
        "object": "realtime.session",
        "type": "realtime",
        "model": "openai/gpt-4o-mini",
        "instructions": "",
        "output_modalities": ["audio", "text"],
        "audio": {
            "input": {
                "format": pcm,
                "transcription": {"model": "inworld/inworld-stt-1"},
                "turn_detection": {"type": "semantic_vad", "create_response": True, "interrupt_response": True},
            },
            "output": {"format": pcm, "model": "inworld-tts-2", "voice": "Ashley", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
    }


def merged(settings: JsonObject, changes: JsonObject) -> JsonObject:
    """The settings with the changes put in, member by member; an explicit null replaces."""
    result = dict(settings)
    for name, value in changes.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


@dataclass(slots=True)
class Conversation:
    """What a session remembers."""

    session: JsonObject
    items: list[JsonObject] = field(default_factory=list)
    hearing: Listener = field(default_factory=lambda: new_listener(DEFAULT_RATE))

    def detects_turns(self) -> bool:
        """True unless the client took turn detection upon itself."""
        return object_of(object_of(self.session, "audio"), "input").get("turn_detection") is not None

    def listen_anew(self) -> None:
        """Forgets the audio heard so far."""
        self.hearing = new_listener(self._rate("input"))

    def last_id(self) -> str | None:
        """The id of the newest item."""
        return self.items[-1]["id"] if self.items else None

    def add(self, item: JsonObject) -> JsonObject:
        """Appends an item, completed with what the service fills in."""
        filled: JsonObject = {"id": new_id("item_"), "object": "realtime.item", "status": "completed"}
        filled |= {name: value for name, value in item.items() if value is not None}
        self.items.append(filled)
        return filled

    def last_said(self) -> str:
        """What the user said last."""
        for item in reversed(self.items):
            if item.get("role") == "user":
                return content_text(list_of(item, "content"))
        return ""

    def speaks(self, response: JsonObject) -> bool:
        """True if the answer is to be heard, and not only read."""
        wanted = response.get("output_modalities") or response.get("modalities")
        return "audio" in (wanted or self.session.get("output_modalities") or ["audio"])

    def voice(self) -> str:
        """The voice of the answers."""
        return text_of(object_of(object_of(self.session, "audio"), "output"), "voice", "Ashley")

    def output_rate(self) -> int:
        """The sample rate of the answers."""
        return self._rate("output")

    def _rate(self, direction: str) -> int:
        audio = object_of(object_of(self.session, "audio"), direction)
        given = audio.get("format")
        return int(number_of(given, "rate", DEFAULT_RATE)) if isinstance(given, dict) else DEFAULT_RATE


def new_listener(rate: int) -> Listener:
    """A listener for the audio that a client appends."""
    return Listener(rate=rate, turns=True)


class Reply:
    """One response: its events in order, and the ending if it is cancelled."""

    def __init__(self, conversation: Conversation, instrument: Instrument, asked: JsonObject) -> None:
        self._conversation = conversation
        self._instrument = instrument
        self._spoken = conversation.speaks(asked)
        self._text = reply_to(conversation.last_said())
        self._response: JsonObject = {
            "id": new_id("resp_"),
            "object": "realtime.response",
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "metadata": asked.get("metadata"),
            "usage": None,
        }
        self._item: JsonObject = {
            "id": new_id("item_"),
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._at: JsonObject = {
            "response_id": self._response["id"],
            "item_id": self._item["id"],
            "output_index": 0,
            "content_index": 0,
        }

    async def events(self, pacer: Pacer, pace: Pace) -> AsyncIterator[JsonObject]:
        """The whole response, event by event."""
        yield {"type": "response.created", "response": dict(self._response)}
        output = {"response_id": self._response["id"], "output_index": 0}
        yield {"type": "response.output_item.added", "item": dict(self._item)} | output
        yield {
            "type": "conversation.item.added",
            "previous_item_id": self._conversation.last_id(),
            "item": dict(self._item),
        }
        yield {"type": "response.content_part.added", "part": self._part("")} | self._at
        async for said in self._audio(pacer, pace) if self._spoken else self._words(pacer, pace):
            yield said | self._at
        yield {"type": "response.content_part.done", "part": self._part(self._text)} | self._at
        content = {"type": "output_audio", "transcript": self._text} if self._spoken else self._part(self._text)
        done = self._conversation.add(self._item | {"status": "completed", "content": [content]})
        yield {"type": "response.output_item.done", "item": done} | output
        yield {"type": "conversation.item.done", "previous_item_id": None, "item": done}
        yield self._done("completed", [done])

    def cancelled(self) -> JsonObject:
        """The event that ends a response which was interrupted."""
        details: JsonObject = {"type": "cancelled", "reason": "client_cancelled"}
        return self._done("cancelled", [self._item | {"status": "incomplete"}], details)

    def _done(self, status: str, output: list[JsonObject], details: JsonObject | None = None) -> JsonObject:
        asked, answered = words_in(self._conversation.last_said()), words_in(self._text)
        usage = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
        ending: JsonObject = {"status": status, "status_details": details, "output": output, "usage": usage}
        return {"type": "response.done", "response": self._response | ending}

    def _part(self, text: str) -> JsonObject:
        return {"type": "audio", "transcript": text} if self._spoken else {"type": "output_text", "text": text}

    async def _words(self, pacer: Pacer, pace: Pace) -> AsyncIterator[JsonObject]:
        for piece in text_pieces(self._text, pace.chunk_words):
            await pacer.wait()
            yield {"type": "response.output_text.delta", "delta": piece}
        yield {"type": "response.output_text.done", "text": self._text}

    async def _audio(self, pacer: Pacer, pace: Pace) -> AsyncIterator[JsonObject]:
        tune = compose(self._text, voice=self._conversation.voice(), rate=self._conversation.output_rate())
        for piece in pieces(self._instrument, tune, pace.chunk_bytes, raw=True):
            await pacer.wait()
            if piece.words:
                heard = " ".join(word.text for word in piece.words) + " "
                yield {"type": "response.output_audio_transcript.delta", "delta": heard}
            yield {"type": "response.output_audio.delta", "delta": base64.b64encode(piece.audio).decode()}
        yield {"type": "response.output_audio.done"}
        yield {"type": "response.output_audio_transcript.done", "transcript": self._text}
