"""From a synthesis request to audio on the wire: its fields, their documented limits, encodings, chunks and timestamps.

What belongs here: what all the TTS routes share, over HTTP and sockets. What does not: the routes (``tts.py``,
``tts_socket.py``) and the sound itself (``sound.py``).

Invented: every compressed encoding (MP3, OGG_OPUS, FLAC, ALAW, MULAW) is answered with a WAV file, because making them
takes a codec; players look at the bytes. LINEAR16 and WAV are as documented (a 44-byte header, then samples); PCM has
no header.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.sandbox.errors import invalid, not_found
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.shapes import JsonObject, number_of, object_of, text_of
from proxy.sandbox.sound import BYTES_PER_SAMPLE, WAV_HEADER_BYTES, Instrument, TimedWord, Tune, compose, wav_header

ENCODINGS = frozenset({"LINEAR16", "MP3", "OGG_OPUS", "ALAW", "MULAW", "FLAC", "PCM", "WAV"})
MAX_CHARACTERS = 2_000
"""Documented for one synthesis request."""
MAX_ASYNC_CHARACTERS = 100_000
"""Documented for an asynchronous one."""

# Documented ranges and defaults.
_DEFAULT_ENCODING = "MP3"
_DEFAULT_RATE = 48_000
_RATES = (8_000, 48_000)
_SPEEDS = (0.5, 1.5)
_UNSPECIFIED = "TIMESTAMP_TYPE_UNSPECIFIED"


@dataclass(frozen=True, slots=True)
class Voicing:
    """How to speak: what a request says besides the text. A TTS socket keeps one per context."""

    voice: str
    model: str
    encoding: str
    rate: int
    speed: float
    timestamps: str

    def tune(self, text: str) -> Tune:
        """The text in this voice."""
        return compose(text, voice=self.voice, rate=self.rate, speed=self.speed)

    @property
    def raw(self) -> bool:
        """True if the samples come without a WAV header."""
        return self.encoding == "PCM"


def voicing_of(exchange: Exchange, message: JsonObject) -> Voicing:
    """The voicing that a request (or a ``create`` message) asks for; raises ``Refusal`` or ``Malformed``."""
    audio = object_of(message, "audioConfig")
    encoding = text_of(audio, "audioEncoding", _DEFAULT_ENCODING)
    if encoding in ("", "AUDIO_ENCODING_UNSPECIFIED"):
        encoding = _DEFAULT_ENCODING
    if encoding not in ENCODINGS:
        raise invalid(f"invalid value for enum field audioEncoding: {encoding!r}")
    rate = int(number_of(audio, "sampleRateHertz", 0)) or _DEFAULT_RATE
    speed = number_of(audio, "speakingRate", 0) or 1.0
    if not _RATES[0] <= rate <= _RATES[1]:
        raise invalid(f"sampleRateHertz must be in [{_RATES[0]}, {_RATES[1]}]")
    if not _SPEEDS[0] <= speed <= _SPEEDS[1]:
        raise invalid(f"speakingRate must be in [{_SPEEDS[0]}, {_SPEEDS[1]}]")
    model = text_of(message, "modelId")
    if not model:
        raise invalid("modelId is required")
    return Voicing(
        voice=_voice_of(exchange, message),
        model=model,
        encoding=encoding,
        rate=rate,
        speed=speed,
        timestamps=text_of(message, "timestampType", _UNSPECIFIED),
    )


def _voice_of(exchange: Exchange, message: JsonObject) -> str:
    design = object_of(message, "voiceDesign")
    if design:
        # Documented: a voice may be designed for one request. Invented: which of its fields names it.
        return f"design:{text_of(design, 'designPrompt')}"
    voice = text_of(message, "voiceId")
    if not voice:
        raise invalid("voiceId is required")
    if not exchange.sandbox.voices.may_speak(exchange.workspace, voice):
        # Invented: the sentence.
        raise not_found(f"Unknown voice: {voice} not found!")
    return voice


def checked_text(message: JsonObject, *, longest: int = MAX_CHARACTERS) -> str:
    """The text of a synthesis request; raises ``Refusal`` for an empty or a too long one."""
    text = text_of(message, "text")
    if not text.strip():
        raise invalid("text must not be empty")
    if len(text) > longest:
        raise invalid(f"text is {len(text)} characters long; the maximum is {longest}")
    return text


@dataclass(frozen=True, slots=True)
class AudioPiece:
    """One chunk of encoded audio, and the words that begin to sound in it."""

    audio: bytes
    words: tuple[TimedWord, ...]


def pieces(instrument: Instrument, tune: Tune, chunk_bytes: int, *, raw: bool) -> Iterator[AudioPiece]:
    """The tune in chunks of this many bytes (whole samples), the header, if any, at the front of the first."""
    size = max(BYTES_PER_SAMPLE, chunk_bytes - chunk_bytes % BYTES_PER_SAMPLE)
    header = b"" if raw else wav_header(tune.samples, tune.rate)
    pending = bytearray(header)
    heard = 0.0
    offset = len(header)

    def cut(audio: bytes) -> AudioPiece:
        nonlocal heard, offset
        begins = heard
        heard += (len(audio) - offset) / BYTES_PER_SAMPLE / tune.rate
        offset = 0
        return AudioPiece(audio, tuple(word for word in tune.words if begins <= word.start < heard))

    for block in instrument.play(tune):
        pending += block
        while len(pending) >= max(size, WAV_HEADER_BYTES + BYTES_PER_SAMPLE if offset else 0):
            take = max(size, offset + BYTES_PER_SAMPLE) if offset else size
            yield cut(bytes(pending[:take]))
            del pending[:take]
    if pending:
        yield cut(bytes(pending))


def whole(instrument: Instrument, tune: Tune, *, raw: bool) -> bytes:
    """The tune as one file."""
    header = b"" if raw else wav_header(tune.samples, tune.rate)
    return header + b"".join(instrument.play(tune))


def chunk_message(piece: AudioPiece, voicing: Voicing, characters: int) -> JsonObject:
    """One streamed chunk as the API writes it."""
    message = audio_message(piece.audio, voicing, characters)
    if voicing.timestamps != _UNSPECIFIED:
        message["timestampInfo"] = timestamps(piece.words, voicing.timestamps)
    return message


def audio_message(audio: bytes, voicing: Voicing, characters: int) -> JsonObject:
    """Audio and what it cost, as the API writes it."""
    usage: JsonObject = {"processedCharactersCount": characters, "modelId": voicing.model}
    return {"audioContent": base64.b64encode(audio).decode(), "usage": usage}


def timestamps(words: tuple[TimedWord, ...], kind: str) -> JsonObject:
    """The alignment of words, or of their characters spread evenly over them."""
    if kind == "CHARACTER":
        timed = [_character(word, index) for word in words for index in range(len(word.text))]
        letters = [word.text[index] for word in words for index in range(len(word.text))]
        return {
            "characterAlignment": {
                "characters": letters,
                "characterStartTimeSeconds": [start for start, _ in timed],
                "characterEndTimeSeconds": [end for _, end in timed],
            }
        }
    return {
        "wordAlignment": {
            "words": [word.text for word in words],
            "wordStartTimeSeconds": [round(word.start, 3) for word in words],
            "wordEndTimeSeconds": [round(word.end, 3) for word in words],
        }
    }


def _character(word: TimedWord, index: int) -> tuple[float, float]:
    each = (word.end - word.start) / len(word.text)
    return round(word.start + index * each, 3), round(word.start + (index + 1) * each, 3)
