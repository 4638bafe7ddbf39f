"""What the sandbox hears instead of recognising speech.

What belongs here: from audio bytes to a transcript. What does not: the routes (``stt.py``, the sockets).

Invented: all of it. Audio that the sandbox made itself is transcribed exactly (``sound.py`` writes the text into it);
of any other it says how long it was.
"""

from __future__ import annotations

import sys
from array import array

from proxy.sandbox.shapes import JsonObject
from proxy.sandbox.sound import BYTES_PER_SAMPLE, WAV_HEADER_BYTES, read_texts

REMEMBERED_BYTES = 16 * 1024 * 1024
"""The documented limit of a synchronous request. Of a longer upload only this much is searched for text."""
TURN_SILENCE_SECONDS = 0.5
_LOUD = 300
_DEFAULT_RATE = 16_000
# Of a compressed stream whose format is not known here: 128 kbit/s.
_COMPRESSED_BYTES_PER_SECOND = 16_000


class Listener:
    """Hears audio piece by piece, in memory that does not grow with it.

    With ``turns`` it also listens for sound and silence, which costs a look at every sample.
    """

    def __init__(self, *, rate: int = 0, channels: int = 0, compressed: bool = False, turns: bool = False) -> None:
        self._bytes_per_second = (rate or _DEFAULT_RATE) * (channels or 1) * BYTES_PER_SAMPLE
        self._compressed = compressed
        self._turns = turns and not compressed
        self._kept = bytearray()
        self._total = 0
        self._silent = 0
        self.heard_voice = False

    def hear(self, audio: bytes) -> None:
        """Takes the next piece."""
        self._total += len(audio)
        if len(self._kept) < REMEMBERED_BYTES:
            self._kept += audio
        if not self._turns:
            return
        if _is_loud(audio):
            self.heard_voice = True
            self._silent = 0
        else:
            self._silent += len(audio)

    def turn_ended(self) -> bool:
        """True once there was sound and then half a second of silence: a very small voice activity detector."""
        return self.heard_voice and self._silent >= TURN_SILENCE_SECONDS * self._bytes_per_second

    @property
    def empty(self) -> bool:
        """True if nothing was heard."""
        return self._total == 0

    @property
    def milliseconds(self) -> int:
        """The duration: from the WAV header if there is one, else from what the client said it sends."""
        is_wav = self._kept.startswith(b"RIFF") and len(self._kept) >= WAV_HEADER_BYTES
        per_second = int.from_bytes(self._kept[28:32], "little") if is_wav else self._bytes_per_second
        if self._compressed and not is_wav:
            per_second = _COMPRESSED_BYTES_PER_SECOND
        size = self._total - (WAV_HEADER_BYTES if is_wav else 0)
        return 1000 * size // max(1, per_second)

    def transcript(self) -> str:
        """What was said."""
        texts = read_texts(bytes(self._kept))
        if texts:
            return " ".join(text.strip() for text in texts)
        return f"The sandbox heard {self.milliseconds / 1000:.1f} seconds of audio."


def _is_loud(audio: bytes) -> bool:
    samples = array("h")
    samples.frombytes(audio[: len(audio) - len(audio) % BYTES_PER_SAMPLE])
    if sys.byteorder == "big":
        samples.byteswap()
    return bool(samples) and (max(samples) > _LOUD or min(samples) < -_LOUD)


def word_timestamps(transcript: str, milliseconds: int) -> list[JsonObject]:
    """The words of a transcript, spread evenly over its duration."""
    words = transcript.split()
    each = milliseconds / max(1, len(words))
    return [
        {"word": word, "confidence": 1.0, "startTimeMs": int(index * each), "endTimeMs": int((index + 1) * each)}
        for index, word in enumerate(words)
    ]
