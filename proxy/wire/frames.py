"""Where a WebSocket frame begins and ends (RFC 6455): a pure cursor over bytes as they arrive, and the Close frame.

Nothing here touches a socket, so all of it is fuzzed.
"""

from __future__ import annotations


class FrameCursor:
    """Follows the frame headers of one direction of a WebSocket (RFC 6455 section 5.2) and skips the payloads.

    ``messages`` counts finished data messages; ``at_boundary`` is true between frames, where a Close frame can be put
    in; ``closed`` once a Close frame has passed. Payloads are neither read nor unmasked nor checked.
    """

    __slots__ = ("_held", "_remaining", "closed", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.closed = False
        self._remaining = 0
        self._held = b""

    @property
    def at_boundary(self) -> bool:
        """Is the next byte the first of a frame?"""
        return self._remaining == 0 and not self._held

    def feed_to_boundary(self, data: bytes) -> bytes:
        """Takes no more than what ends the frame that has begun, and returns that. The rest is left aside."""
        end = self._remaining
        if self._held:
            whole = self._held + data
            size = frame_size(whole)
            end = len(data) if size is None else size - len(self._held)
        taken = data[:end]
        self.feed(taken)
        return taken

    def feed(self, data: bytes) -> None:
        """Takes what passes by. Never fails: lengths are all it reads."""
        size = len(data)
        position = self._remaining
        if position > size:
            self._remaining = position - size
            return
        if self._held:
            data = self._held + data
            size = len(data)
            self._held = b""
        while position < size:
            if size - position < 2:
                break
            first = data[position]
            second = data[position + 1]
            length = second & 0x7F
            header = 6 if second & 0x80 else 2
            if length > 125:
                extra = 2 if length == 126 else 8
                if size - position < 2 + extra:
                    break
                length = int.from_bytes(data[position + 2 : position + 2 + extra], "big")
                header += extra
            opcode = first & 0x0F
            if opcode < 8:
                if first & 0x80:
                    self.messages += 1
            elif opcode == 8:
                self.closed = True
            position += header + length
        if position < size:
            self._held = data[position:]
            self._remaining = 0
        else:
            self._remaining = position - size


def frame_size(data: bytes) -> int | None:
    """Bytes of the frame that ``data`` begins with, header and payload; None when its header is not complete."""
    if len(data) < 2:
        return None
    length = data[1] & 0x7F
    header = 6 if data[1] & 0x80 else 2
    if length > 125:
        extra = 2 if length == 126 else 8
        if len(data) < 2 + extra:
            return None
        length = int.from_bytes(data[2 : 2 + extra], "big")
        header += extra
    return header + length


def close_frame(status: int, reason: bytes, mask: bytes = b"") -> bytes:
    """A Close frame (RFC 6455 sections 5.5.1 and 5.3). ``mask``: the four bytes that what goes to a server needs."""
    payload = status.to_bytes(2, "big") + reason
    if not mask:
        return bytes((0x88, len(payload))) + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x88, 0x80 | len(payload))) + mask + masked
