"""Where frames begin and end: what is known after a read must not depend on how the bytes were cut into reads."""

from __future__ import annotations

import pytest

from proxy.wire.frames import FrameCursor, close_frame, frame_size

TEXT, PART, PING = b"\x81\x05hello", b"\x01\x02he", b"\x89\x00"
MASKED = b"\x82\x83abcdxyz"
LONG = b"\x82\x7e\x01\x00" + b"x" * 256
LONGEST = b"\x82\x7f" + (65536).to_bytes(8, "big") + b"x" * 65536


@pytest.mark.parametrize(
    ("frames", "messages", "closed"),
    [
        ([TEXT], 1, False),
        ([MASKED], 1, False),
        ([b"\x81\x00"], 1, False),
        ([b"\x81\x80abcd"], 1, False),
        ([b"\x82\x7d" + b"x" * 125], 1, False),
        ([PING], 0, False),
        ([PART, PING, b"\x80\x03llo"], 1, False),
        ([LONG, LONGEST, TEXT], 3, False),
        ([TEXT, close_frame(1000, b"")], 1, True),
        ([close_frame(1000, b"", b"abcd")], 0, True),
        ([b"\x08\x00"], 0, True),  # not to be sent in parts, and the end all the same
    ],
)
def test_frames_one_by_one_all_at_once_and_byte_by_byte_say_the_same(
    frames: list[bytes], messages: int, *, closed: bool
) -> None:
    whole = b"".join(frames)
    for pieces in (frames, [whole], [whole[at : at + 1] for at in range(len(whole))], [whole[:1], whole[1:]]):
        cursor = FrameCursor()
        for piece in pieces:
            cursor.feed(piece)
        assert (cursor.messages, cursor.closed, cursor.at_boundary) == (messages, closed, True)


@pytest.mark.parametrize("frame", [TEXT, MASKED, PING, LONG], ids=["text", "masked", "ping", "long"])
def test_within_a_frame_is_no_boundary(frame: bytes) -> None:
    for cut in range(1, len(frame)):
        cursor = FrameCursor()
        cursor.feed(frame[:cut])
        assert not cursor.at_boundary
        assert cursor.feed_to_boundary(frame[cut:] + TEXT) == frame[cut:]
        assert cursor.at_boundary
    assert frame_size(frame) == len(frame)


def test_a_small_frame_within_a_large_one_is_its_payload() -> None:
    cursor = FrameCursor()
    cursor.feed(LONG[:4])
    cursor.feed(TEXT)
    assert (cursor.messages, cursor.at_boundary) == (1, False)
    cursor.feed(b"x" * (256 - len(TEXT)))
    assert (cursor.messages, cursor.at_boundary) == (1, True)
