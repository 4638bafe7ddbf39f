"""Whoever sends much is read a piece at a time, with turns for the others, and never against the reader's wish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count

import pytest

from proxy.wire import reading
from proxy.wire.reading import MOST, InPieces, read_at_once, read_in_pieces


class Transport(asyncio.Transport):
    """Remembers whether it reads and for whom."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol | None = None
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol


class Reader(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport = Transport()
        self.transport.protocol = self
        self.in_pieces = False
        self.got: list[bytes] = []
        self.wants = True
        self.then: Callable[[], None] = lambda: None

    def wants_more(self) -> bool:
        return self.wants

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        self.then()


def _arrives(reader: Reader, data: bytes) -> None:
    protocol = reader.transport.protocol
    assert isinstance(protocol, InPieces)
    buffer = protocol.get_buffer(-1)
    assert len(data) <= len(buffer)
    buffer[: len(data)] = data
    protocol.buffer_updated(len(data))


@pytest.fixture
def reader() -> Reader:
    made = Reader()
    read_in_pieces(made)
    return made


async def test_what_arrives_is_handed_on(reader: Reader) -> None:
    _arrives(reader, b"some")
    assert reader.got == [b"some"]
    assert reader.transport.reading


async def test_after_a_full_piece_the_others_have_their_turn(reader: Reader) -> None:
    _arrives(reader, bytes(MOST))
    assert not reader.transport.reading
    await asyncio.sleep(0)
    assert reader.transport.reading


async def test_a_pause_that_was_asked_for_meanwhile_holds(reader: Reader) -> None:
    _arrives(reader, bytes(MOST))
    reader.wants = False
    await asyncio.sleep(0)
    assert not reader.transport.reading


async def test_a_reader_that_paused_is_not_resumed(reader: Reader) -> None:
    def pause() -> None:
        reader.wants = False
        reader.transport.pause_reading()

    reader.then = pause
    _arrives(reader, bytes(MOST))
    await asyncio.sleep(0)
    assert not reader.transport.reading


def _read_size(reader: Reader) -> int:
    protocol = reader.transport.protocol
    assert isinstance(protocol, InPieces)
    return len(protocol.get_buffer(-1))


async def test_of_a_sender_whose_bytes_take_long_less_is_read_until_they_do_not(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = 0.1
    ticks = (moment for _ in count() for moment in (0.0, spent))
    monkeypatch.setattr(reading, "thread_time", lambda: next(ticks))
    _arrives(reader, b"slow")
    assert not reader.transport.reading
    small = _read_size(reader)
    assert small < MOST / 16
    spent = 0.001  # for so little it is long
    _arrives(reader, bytes(small))
    assert _read_size(reader) == small
    spent = 0.00001
    _arrives(reader, b"less than could have been read says little")
    assert _read_size(reader) == small
    _arrives(reader, bytes(small))
    assert _read_size(reader) == MOST


async def test_what_the_machine_does_meanwhile_is_not_the_senders_fault(reader: Reader) -> None:
    reader.then = lambda: time.sleep(3 * reading.MOST_SPENT)
    _arrives(reader, b"something")
    assert _read_size(reader) == MOST


async def test_a_reader_that_reads_at_once_again_is_left_alone(reader: Reader) -> None:
    reader.then = lambda: read_at_once(reader)
    _arrives(reader, bytes(MOST))
    assert reader.transport.protocol is reader
    assert reader.transport.reading
