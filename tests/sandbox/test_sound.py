"""Tunes: deterministic, playable, and carrying their text."""

from __future__ import annotations

import io
import wave

import pytest

from proxy.sandbox.sound import Instrument, compose, read_texts, wav_header


def play(text: str, rate: int = 24_000, voice: str = "Ashley", speed: float = 1.0) -> bytes:
    return b"".join(Instrument().play(compose(text, voice=voice, rate=rate, speed=speed)))


def test_the_same_text_in_the_same_voice_is_the_same_sound_and_another_voice_is_not() -> None:
    assert play("good morning") == play("good morning")
    assert play("good morning") != play("good morning", voice="Dennis")
    assert play("good morning") != play("good evening")


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("text", ["hi", "Hello, world!", "数字は日本語で" * 20, "ß" * 300, "the quick brown fox " * 99])
def test_every_text_can_be_read_back_from_its_sound(text: str, rate: int) -> None:
    assert read_texts(play(text, rate)) == [text]


def test_texts_are_read_from_samples_that_follow_each_other_after_other_sound() -> None:
    assert read_texts(bytes(2 * 999) + play("one") + bytes(2 * 50) + play("two")) == ["one", "two"]
    assert read_texts(bytes(range(256)) * 512) == []


def test_faster_speech_is_shorter() -> None:
    assert len(play("a sentence of some length", speed=1.5)) < len(play("a sentence of some length"))


def test_the_header_makes_a_file_that_plays() -> None:
    tune = compose("play me", voice="Ashley", rate=16_000)
    with wave.open(io.BytesIO(wav_header(tune.samples, 16_000) + play("play me", 16_000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getnframes() == tune.samples
        loudest = max(abs(sample) for sample in memoryview(file.readframes(tune.samples)).cast("h"))
    assert 3_000 < loudest < 32_000


def test_words_are_timed_in_order_within_the_tune() -> None:
    tune = compose("one, two three.", voice="Ashley", rate=8_000)
    times = [moment for word in tune.words for moment in (word.start, word.end)]
    assert [word.text for word in tune.words] == ["one,", "two", "three."]
    assert times == sorted(times)
    assert times[-1] < tune.seconds
