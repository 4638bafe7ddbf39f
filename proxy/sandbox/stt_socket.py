"""The STT socket: a configuration, then audio; transcripts come back.

What belongs here: ``/stt/v1/transcribe:streamBidirectional``. What does not: hearing (``hearing.py``).
"""

from __future__ import annotations

from aiohttp import web

from proxy.sandbox.body import bytes_of
from proxy.sandbox.channel import Channel, ChannelClosed, accept, error_of
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.hearing import Listener
from proxy.sandbox.pacing import pacer
from proxy.sandbox.shapes import JsonObject, Malformed, camel, object_of
from proxy.sandbox.stt import listener_for, transcription, usage_of

KNOWN = frozenset({"transcribeConfig", "audioChunk", "endTurn", "closeStream"})
INTERIM_SECONDS = 0.5
"""Invented: how much audio between two interim transcripts."""


def _recognises(message: JsonObject) -> bool:
    return any(key in KNOWN for key in camel(dict.fromkeys(message)))


class _Session:
    """One stream of audio, in turns."""

    def __init__(self, exchange: Exchange, channel: Channel) -> None:
        self._exchange = exchange
        self._channel = channel
        self._config: JsonObject | None = None
        self._turn: Listener | None = None
        self._interim_at = 1000 * INTERIM_SECONDS
        self._milliseconds = 0

    async def took(self, message: JsonObject) -> bool:
        """Answers one message; False once the stream is over."""
        if "transcribeConfig" in message:
            config = object_of(message, "transcribeConfig")
            self._turn = listener_for(config, turns=True)
            self._config = config | {"sandbox": message.get("sandbox") or config.get("sandbox")}
            return True
        if self._config is None or self._turn is None:
            raise invalid("the first message must be transcribeConfig")
        if "audioChunk" in message:
            await self._audio(self._turn, bytes_of(object_of(message, "audioChunk"), "content"))
            if self._turn.turn_ended():
                await self._end_turn()
            return True
        await self._end_turn()
        if "closeStream" not in message:
            return True
        usage = usage_of(self._turn, self._config) | {"transcribedAudioMs": self._milliseconds}
        await self._channel.send({"result": {"usage": usage}})
        return False

    async def _audio(self, turn: Listener, audio: bytes) -> None:
        had_voice = turn.heard_voice
        turn.hear(audio)
        if turn.heard_voice and not had_voice:
            started = {"startTimeMs": self._milliseconds, "confidence": 1.0}
            await self._channel.send({"result": {"speechStarted": started}})
        if turn.milliseconds >= self._interim_at and turn.heard_voice:
            self._interim_at = turn.milliseconds + 1000 * INTERIM_SECONDS
            interim = {"transcript": turn.transcript(), "isFinal": False, "wordTimestamps": []}
            await self._channel.send({"result": {"transcription": interim}})

    async def _end_turn(self) -> None:
        turn, config = self._turn, self._config
        if turn is None or config is None or turn.empty:
            return
        await pacer(self._exchange, config).wait()
        await self._channel.send({"result": {"transcription": transcription(turn, config)}})
        self._milliseconds += turn.milliseconds
        self._turn = listener_for(config, turns=True)
        self._interim_at = 1000 * INTERIM_SECONDS


async def transcribe_socket(exchange: Exchange) -> web.StreamResponse:
    """``GET /stt/v1/transcribe:streamBidirectional``."""
    channel = await accept(exchange)
    session = _Session(exchange, channel)
    try:
        async for message in channel.messages(_recognises):
            try:
                if not await session.took(camel(message)):
                    await channel.close()
                    break
            except (Refusal, Malformed) as exc:
                await channel.send({"error": error_of(exc)})
    except ChannelClosed:
        pass
    return channel.response


ENDPOINTS = (
    Endpoint(
        "stt.transcribe_ws",
        "GET",
        "/stt/v1/transcribe:streamBidirectional",
        transcribe_socket,
        admission=Admission.SOCKET,
    ),
)
