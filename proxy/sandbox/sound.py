"""What the sandbox says instead of speech: a little tune per text, as 16-bit mono PCM, made by plain Python.

What belongs here: from text to samples and back. What does not: requests, encodings on the wire (``speech.py``).

Every syllable is one plucked note of a pentatonic scale, chosen by its letters and the voice; commas and full stops are
rests. The same text in the same voice gives the same bytes. Notes are made once and reused, so that a minute of audio
costs a join.

Invented: the text itself is written into the lowest bit of the first samples, 90 dB below the tune. The sandbox's own
speech recognition reads it back, through any container and any chunking that keeps the samples as they are.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

BYTES_PER_SAMPLE = 2
WAV_HEADER_BYTES = 44

# At most four letters around the vowels, so that a script without vowels is long enough to hold its own text.
_SYLLABLE = re.compile(r"[^aeiouy]{0,4}[aeiouy]{1,4}(?:[^aeiouy]{0,4}$)?|[^aeiouy]{1,4}", re.IGNORECASE)
_WORD = re.compile(r"\S+")

# About three characters per syllable: eight syllables a second keep 2,000 characters below the documented 16 MB.
_SYLLABLE_SECONDS = 0.125
_WORD_GAP_SECONDS = 0.03
_REST_SECONDS = {",": 0.12, ";": 0.15, ":": 0.15, ".": 0.25, "!": 0.25, "?": 0.25}

# A minor pentatonic scale over two octaves, in semitones: no two of its notes sound bad together.
_SCALE = (0, 3, 5, 7, 10, 12, 15, 17, 19)
_LOWEST_HERTZ = 174.6
_AMPLITUDE = 9000
_ATTACK_SECONDS = 0.008
_DECAY = 4.5
_HARMONICS = ((1, 1.0), (2, 0.35), (3, 0.12))

_MARK = b"\x5aIWSB\xa5"
_LONGEST_TEXT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Note:
    """One block of samples: a note of the scale, or silence if ``pitch`` is None."""

    pitch: int | None
    samples: int


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and when it sounds, in seconds from the start."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Tune:
    """What a text sounds like: its notes in order, and when each of its words sounds."""

    text: str
    rate: int
    notes: tuple[Note, ...]
    words: tuple[TimedWord, ...]

    @property
    def samples(self) -> int:
        """The length in samples."""
        return sum(note.samples for note in self.notes)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.samples / self.rate


def compose(text: str, *, voice: str, rate: int, speed: float = 1.0) -> Tune:
    """The tune of a text in a voice: a value, made without computing a sample."""
    transpose = hashlib.sha256(voice.encode()).digest()[0] % 7
    notes: list[Note] = []
    words: list[TimedWord] = []
    at = 0

    def add(pitch: int | None, seconds: float) -> None:
        nonlocal at
        notes.append(Note(pitch, round(seconds * rate / speed)))
        at += notes[-1].samples

    for word in _WORD.findall(text):
        start = at
        for syllable in _SYLLABLE.findall(word.strip(".,;:!?\"'()")):
            chosen = hashlib.sha256(f"{voice}/{syllable.lower()}".encode()).digest()[0]
            step = _SCALE[chosen % len(_SCALE)]
            add(step + transpose, _SYLLABLE_SECONDS)
        words.append(TimedWord(word, start / rate, at / rate))
        add(None, _REST_SECONDS.get(word[-1], _WORD_GAP_SECONDS))
    add(None, _REST_SECONDS["."])
    return Tune(text, rate, tuple(notes), tuple(words))


class Instrument:
    """Plays tunes. Remembers the notes it has made; there are at most a few dozen per sample rate and speed."""

    _REMEMBERED_NOTES = 2000

    def __init__(self) -> None:
        self._made: dict[tuple[int, Note], bytes] = {}

    def play(self, tune: Tune) -> Iterator[bytes]:
        """The tune's samples in blocks, little-endian; the text is written into the lowest bits of the first ones."""
        bits = _bits(tune.text)
        for note in tune.notes:
            block = self._block(tune.rate, note)
            if bits:
                block, bits = _engrave(block, bits)
            yield block

    def _block(self, rate: int, note: Note) -> bytes:
        block = self._made.get((rate, note))
        if block is None:
            if len(self._made) >= self._REMEMBERED_NOTES:
                self._made.clear()
            block = self._made[rate, note] = bytes(BYTES_PER_SAMPLE * note.samples)
            if note.pitch is not None:
                block = self._made[rate, note] = _pluck(rate, note.pitch, note.samples)
        return block


def _pluck(rate: int, pitch: int, samples: int) -> bytes:
    hertz = _LOWEST_HERTZ * 2 ** (pitch / 12)
    attack = _ATTACK_SECONDS * rate
    turn = 2 * math.pi * hertz / rate
    values = array("h")
    for index in range(samples):
        # The fade at the end avoids a click where the next note begins.
        edges = min(1.0, index / attack, (samples - index) / attack)
        envelope = edges * math.exp(-_DECAY * index / samples)
        wave = sum(share * math.sin(turn * multiple * index) for multiple, share in _HARMONICS)
        # The lowest bit belongs to the text: always 0 where none is written.
        values.append(int(_AMPLITUDE * envelope * wave) & ~1)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _bits(text: str) -> bytes:
    """The mark, the length and the text, one byte (0 or 1) per bit."""
    encoded = text.encode()[:_LONGEST_TEXT]
    framed = _MARK + struct.pack("<H", len(encoded)) + encoded
    return bytes((byte >> shift) & 1 for byte in framed for shift in range(8))


def _engrave(block: bytes, bits: bytes) -> tuple[bytes, bytes]:
    count = min(len(bits), len(block) // BYTES_PER_SAMPLE)
    marked = bytearray(block)
    marked[0 : 2 * count : 2] = bytes(low | bit for low, bit in zip(block[0 : 2 * count : 2], bits, strict=False))
    return bytes(marked), bits[count:]


_LOWEST_BIT = bytes(value & 1 for value in range(256))
_MARK_BITS = bytes((byte >> shift) & 1 for byte in _MARK for shift in range(8))


def read_texts(pcm: bytes) -> list[str]:
    """The texts that the sandbox itself wrote into these samples, in order of appearance; cheap for any length."""
    texts: list[str] = []
    bits = pcm[0::BYTES_PER_SAMPLE].translate(_LOWEST_BIT)
    at = bits.find(_MARK_BITS)
    while at >= 0:
        at += len(_MARK_BITS)
        length = int.from_bytes(_bytes(bits[at : at + 16]), "little")
        framed = _bytes(bits[at + 16 : at + 16 + 8 * length])
        if len(framed) == length:
            texts.append(framed.decode(errors="replace"))
        at = bits.find(_MARK_BITS, at)
    return texts


def _bytes(bits: bytes) -> bytes:
    return bytes(sum(bits[at + shift] << shift for shift in range(8)) for at in range(0, len(bits) - 7, 8))


def wav_header(samples: int, rate: int) -> bytes:
    """The 44 bytes before the samples of a 16-bit mono WAV file."""
    size = BYTES_PER_SAMPLE * samples
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", WAV_HEADER_BYTES - 8 + size, b"WAVE",
        b"fmt ", 16, 1, 1, rate, BYTES_PER_SAMPLE * rate, BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE,
        b"data", size,
    )  # fmt: skip
