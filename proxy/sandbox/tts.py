"""Speech synthesis over HTTP: whole, as NDJSON, as binary audio in OpenAI's shape, as a job, and the older routes.

What belongs here: the routes. What does not: the socket (``tts_socket.py``) and how audio is made (``speech.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from proxy.sandbox.answers import json_answer, line
from proxy.sandbox.body import read_json, read_message
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Stack, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.operations import keep_json
from proxy.sandbox.pacing import Pace, Pacer, computed, pace_of, pacer, stream
from proxy.sandbox.shapes import JsonObject, list_of, number_of, object_of, rfc3339, text_of
from proxy.sandbox.sound import Tune, wav_header
from proxy.sandbox.speech import (
    MAX_ASYNC_CHARACTERS,
    Voicing,
    audio_message,
    checked_text,
    chunk_message,
    pieces,
    timestamps,
    voicing_of,
    whole,
)

RESULT_LIFETIME = 24 * 3600.0
MAX_SPEECH_CHARACTERS = 4_000
"""Documented for ``POST /v1/audio/speech``."""
MAX_BATCH_ITEMS = 1_000
"""Invented: the real limit is not in the public reference."""

# What OpenAI's clients may ask for, and the type they get. Invented: all but pcm are the same WAV file underneath.
SPEECH_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_SPEECH_RATE = 24_000
_BULK_BLOCK = bytes(range(256)) * 1024


async def synthesize(exchange: Exchange) -> web.Response:
    """``POST /tts/v1/voice``."""
    message = await read_message(exchange)
    text, voicing = checked_text(message), voicing_of(exchange, message)
    tune = voicing.tune(text)
    answer = audio_message(whole(exchange.sandbox.instrument, tune, raw=voicing.raw), voicing, len(text))
    if message.get("timestampType"):
        answer["timestampInfo"] = timestamps(tune.words, voicing.timestamps)
    return await computed(exchange, message, answer)


async def synthesize_stream(exchange: Exchange) -> web.StreamResponse:
    """``POST /tts/v1/voice:stream``: one JSON object per line."""
    message = await read_message(exchange)
    text, voicing = checked_text(message), voicing_of(exchange, message)
    lines = _lines(exchange, text, voicing, pace_of(exchange.sandbox.options, message))
    return await stream(exchange, lines, content_type="application/json")


async def _lines(exchange: Exchange, text: str, voicing: Voicing, pace: Pace) -> AsyncIterator[bytes]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    tune = voicing.tune(text)
    for piece in pieces(exchange.sandbox.instrument, tune, pace.chunk_bytes, raw=voicing.raw):
        await waiting.wait()
        yield line({"result": chunk_message(piece, voicing, len(text))})


async def audio_speech(exchange: Exchange) -> web.StreamResponse:
    """``POST /v1/audio/speech``, as OpenAI's clients call it."""
    body = await read_json(exchange)
    pace = pace_of(exchange.sandbox.options, body)
    kind = text_of(body, "response_format", "mp3")
    if kind not in SPEECH_TYPES:
        raise invalid(f"response_format must be one of {', '.join(SPEECH_TYPES)}")
    if pace.bulk_bytes is not None:
        length = pace.bulk_bytes if pace.known_length else None
        chunks = _bulk(pace.bulk_bytes, Pacer(pace, exchange.sandbox.gates))
        return await stream(exchange, chunks, content_type=SPEECH_TYPES[kind], length=length)
    text = checked_text({"text": body.get("input")}, longest=MAX_SPEECH_CHARACTERS)
    voicing = Voicing(
        # Invented: any voice name is accepted here, so that an application written for OpenAI's voices makes a sound.
        voice=text_of(body, "voice", "Ashley"),
        model=text_of(body, "model"),
        encoding="PCM" if kind == "pcm" else "WAV",
        rate=_SPEECH_RATE,
        speed=min(1.5, max(0.5, number_of(body, "speed", 1.0))),
        timestamps="",
    )
    return await stream(exchange, _audio(exchange, voicing.tune(text), pace, voicing), content_type=SPEECH_TYPES[kind])


async def _audio(exchange: Exchange, tune: Tune, pace: Pace, voicing: Voicing) -> AsyncIterator[bytes]:
    waiting = Pacer(pace, exchange.sandbox.gates)
    for piece in pieces(exchange.sandbox.instrument, tune, pace.chunk_bytes, raw=voicing.raw):
        await waiting.wait()
        yield piece.audio


async def _bulk(total: int, waiting: Pacer) -> AsyncIterator[bytes]:
    """Filler: the 256 byte values over and over."""
    sent = 0
    while sent < total:
        await waiting.wait()
        block = _BULK_BLOCK[: total - sent]
        yield block
        sent += len(block)


async def preview(exchange: Exchange) -> web.Response:
    """``GET /tts/v1/voice:preview?voice_id=&model_id=``; unmetered, so no usage in the answer."""
    query = exchange.request.query
    voice, model = query.get("voice_id") or query.get("voiceId"), query.get("model_id") or query.get("modelId")
    voicing = voicing_of(exchange, {"voiceId": voice, "modelId": model})
    audio = whole(exchange.sandbox.instrument, voicing.tune(f"Hello, I am {voicing.voice}."), raw=False)
    return json_answer({"audioContent": audio_message(audio, voicing, 0)["audioContent"]})


async def synthesize_async(exchange: Exchange) -> web.Response:
    """``POST /tts/v1/voice:synthesizeAsync``: the body of ``synthesize``, answered by an operation."""
    message = await read_message(exchange)
    text, voicing = checked_text(message, longest=MAX_ASYNC_CHARACTERS), voicing_of(exchange, message)
    tune = voicing.tune(text)
    response: JsonObject = {"audioUri": _keep_audio(exchange, tune, voicing)}
    if message.get("timestampType"):
        response["timestampsUri"] = keep_json(exchange, timestamps(tune.words, voicing.timestamps))
    response["expireTime"] = rfc3339(exchange.sandbox.options.clock() + RESULT_LIFETIME)
    return json_answer(exchange.sandbox.operations.start(exchange.workspace, "ttsAsyncJobs", response))


async def synthesize_batch(exchange: Exchange) -> web.Response:
    """``POST /tts/v1/voice:synthesizeBatch``: many such bodies, each with a name of the client's choosing."""
    message = await read_message(exchange)
    items = list_of(message, "items")
    if not 1 <= len(items) <= MAX_BATCH_ITEMS:
        raise invalid(f"items must hold 1 to {MAX_BATCH_ITEMS} requests")
    results: list[JsonObject] = []
    for item in items:
        inner = object_of(object_of({"items": item}, "items"), "request")
        text, voicing = checked_text(inner, longest=MAX_ASYNC_CHARACTERS), voicing_of(exchange, inner)
        uri = _keep_audio(exchange, voicing.tune(text), voicing)
        results.append({"customId": text_of(item, "customId"), "audioUri": uri})
    # Invented: the results file's member names; only that one file names every item's audio is documented.
    response: JsonObject = {"resultsUri": keep_json(exchange, {"results": results})}
    return json_answer(exchange.sandbox.operations.start(exchange.workspace, "ttsBatchJobs", response))


def _keep_audio(exchange: Exchange, tune: Tune, voicing: Voicing) -> str:
    instrument = exchange.sandbox.instrument

    # The tune is kept, not its samples: those of 100,000 characters would be half a gigabyte.
    def play() -> Iterator[bytes]:
        if not voicing.raw:
            yield wav_header(tune.samples, tune.rate)
        yield from instrument.play(tune)

    return exchange.sandbox.operations.keep(exchange, play, "audio/wav")


async def list_voices_legacy(exchange: Exchange) -> web.Response:
    """``GET /tts/v1/voices[?filter=language=en]``: deprecated, still called by LiveKit's plugin."""
    wanted = exchange.request.query.get("filter", "").removeprefix("language=").strip("\"' ").lower()
    voices = [
        {
            "languages": [voice.language],
            "voiceId": voice.voice_id,
            "displayName": voice.display_name,
            "description": voice.description,
            "tags": list(voice.tags),
        }
        for voice in exchange.sandbox.voices.visible(exchange.workspace)
        if wanted in ("", voice.language)
    ]
    return json_answer({"voices": voices})


async def synthesize_v1alpha(exchange: Exchange) -> web.StreamResponse:
    """``POST /tts/v1alpha/text:synthesize``: NDJSON."""
    message = _from_v1alpha(await read_message(exchange))
    text, voicing = checked_text(message), voicing_of(exchange, message)
    lines = _lines(exchange, text, voicing, pace_of(exchange.sandbox.options, message))
    return await stream(exchange, lines, content_type="application/json")


async def synthesize_sync_v1alpha(exchange: Exchange) -> web.Response:
    """``POST /tts/v1alpha/text:synthesize-sync``: one object."""
    message = _from_v1alpha(await read_message(exchange))
    text, voicing = checked_text(message), voicing_of(exchange, message)
    await pacer(exchange, message).wait()
    audio = whole(exchange.sandbox.instrument, voicing.tune(text), raw=voicing.raw)
    return json_answer(audio_message(audio, voicing, len(text)))


def _from_v1alpha(message: JsonObject) -> JsonObject:
    """The older request in today's fields. Invented in parts: its reference is gone; third-party code shows these."""
    newer = dict(message)
    newer.setdefault("text", object_of(message, "input").get("text"))
    newer.setdefault("voiceId", object_of(message, "voice").get("name"))
    newer.setdefault("modelId", "inworld-tts-1")
    return newer


ENDPOINTS = (
    Endpoint("tts.synthesize", "POST", "/tts/v1/voice", synthesize),
    Endpoint("tts.synthesize_stream", "POST", "/tts/v1/voice:stream", synthesize_stream, Stack.GATEWAY_STREAM),
    Endpoint("tts.synthesize_async", "POST", "/tts/v1/voice:synthesizeAsync", synthesize_async),
    Endpoint("tts.synthesize_batch", "POST", "/tts/v1/voice:synthesizeBatch", synthesize_batch),
    Endpoint("tts.voice_preview", "GET", "/tts/v1/voice:preview", preview),
    Endpoint("tts.list_voices_legacy", "GET", "/tts/v1/voices", list_voices_legacy),
    # Invented: that this route is on the stack that answers chat; only chat itself was ever observed.
    Endpoint("tts.openai_speech", "POST", "/v1/audio/speech", audio_speech, Stack.OPENAI),
    Endpoint("tts.list_voices_v1alpha", "GET", "/tts/v1alpha/voices", list_voices_legacy),
    Endpoint(
        "tts.synthesize_v1alpha", "POST", "/tts/v1alpha/text:synthesize", synthesize_v1alpha, Stack.GATEWAY_STREAM
    ),
    Endpoint("tts.synthesize_sync_v1alpha", "POST", "/tts/v1alpha/text:synthesize-sync", synthesize_sync_v1alpha),
)
