"""What the upstreams of `make chaos` answer, well and badly: one function for each fault, by name.

What belongs here: the bytes of an answer and what is done to the connection. What does not: choosing
(``plan.py``) and accounts (``upstream.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from plan import ECHOED, STATUSES, Fault, answer_of
from wire import chunk, leave

STRAY = b"HTTP/1.1 200 OK\r\nX-Chaos-Id: nobody\r\nContent-Length: 5\r\n\r\nstray"
"""Comes after an answer; whoever gets it got somebody else's."""

PAUSES = (0.5, 5.0)
"""Seconds, around the shorter time limits that the configurations have."""


@dataclass
class Reply:
    """One request that is to be answered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fault: Fault
    identity: str
    nonce: str
    size: int
    shown: str
    chance: random.Random

    @property
    def body(self) -> bytes:
        """The answer's body."""
        if self.fault.name == "unknown-key":
            return ECHOED % self.shown[:4].encode()
        return answer_of(self.fault, self.identity, self.nonce, self.size)

    def head(self, *more: bytes, version: bytes = b"1.1") -> bytes:
        """The head, with what this upstream should not tell the caller's browser."""
        lines = [
            b"HTTP/%b %d Chaos" % (version, STATUSES.get(self.fault.name, 200)),
            b"Content-Type: application/octet-stream",
            b"Set-Cookie: session=upstream",
            b"X-Chaos-Id: " + self.identity.encode(),
            *more,
        ]
        return b"\r\n".join([*lines, b"", b""])

    def length(self) -> bytes:
        """The line that announces the whole body."""
        return b"Content-Length: %d" % len(self.body)

    async def send(self, *pieces: bytes) -> None:
        """Writes, as far as the proxy reads."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()


Answer = Callable[[Reply], Awaitable[bool]]
"""Answers, and says whether the connection may serve another request."""


async def _well(reply: Reply) -> bool:
    body = reply.body
    if reply.chance.random() < 0.5 or reply.fault.name in STATUSES:
        await reply.send(reply.head(reply.length()) + body)
        return True
    await reply.send(reply.head(b"Transfer-Encoding: chunked"))
    position = 0
    while position < len(body):
        size = reply.chance.randint(1, 40_000)
        await reply.send(chunk(body[position : position + size]))
        position += size
    await reply.send(chunk(b""))
    return True


async def _close_before_head(reply: Reply) -> bool:
    await asyncio.sleep(reply.chance.random() * 0.05)
    return False


async def _reset_before_head(reply: Reply) -> bool:
    await leave(reply.writer, reset=True)
    return False


async def _half_head(reply: Reply) -> bool:
    head = reply.head(reply.length())
    await reply.send(head[: reply.chance.randint(1, len(head) - 4)])
    return False


async def _garbage(reply: Reply) -> bool:
    await reply.send(b"\x16\x03\x01" + reply.body[:2000])
    return False


async def _two_lengths(reply: Reply) -> bool:
    await reply.send(reply.head(reply.length(), b"Content-Length: %d" % (len(reply.body) + 1)) + reply.body)
    return False


async def _interim_flood(reply: Reply) -> bool:
    await reply.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 30)
    return await _well(reply)


async def _interim_few(reply: Reply) -> bool:
    await reply.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3)
    return await _well(reply)


async def _short_length(reply: Reply) -> bool:
    await reply.send(reply.head(reply.length()) + reply.body[:-1])
    return False


async def _reset_length(reply: Reply) -> bool:
    await reply.send(reply.head(reply.length()) + reply.body[: len(reply.body) // 2])
    await asyncio.sleep(0.02)
    await leave(reply.writer, reset=True)
    return False


async def _reset_chunked(reply: Reply) -> bool:
    await reply.send(reply.head(b"Transfer-Encoding: chunked") + chunk(reply.body))
    await asyncio.sleep(0.02)
    await leave(reply.writer, reset=True)
    return False


async def _bad_chunk(reply: Reply) -> bool:
    await reply.send(reply.head(b"Transfer-Encoding: chunked") + chunk(reply.body), b"no size at all\r\n")
    await asyncio.sleep(0.02)
    return False


async def _extra_after(reply: Reply) -> bool:
    await reply.send(reply.head(reply.length()) + reply.body + STRAY)
    return True


async def _until_close(reply: Reply) -> bool:
    await reply.send(reply.head(version=b"1.0") + reply.body)
    return False


async def _slow_drip(reply: Reply) -> bool:
    body, step = reply.body, max(1, len(reply.body) // 8)
    await reply.send(reply.head(reply.length()))
    for position in range(0, len(body), step):
        await reply.send(body[position : position + step])
        await asyncio.sleep(0.06)
    return True


async def _close_after(reply: Reply) -> bool:
    await _well(reply)
    await asyncio.sleep(reply.chance.random() * 0.03)
    return False


async def _reset_after(reply: Reply) -> bool:
    await _well(reply)
    await asyncio.sleep(0.03)
    await leave(reply.writer, reset=True)
    return False


async def _pause(reply: Reply) -> bool:
    body, half = reply.body, len(reply.body) // 2
    await reply.send(reply.head(reply.length()) + body[:half])
    await asyncio.sleep(reply.chance.uniform(*PAUSES))
    await reply.send(body[half:])
    return True


async def _pause_before_head(reply: Reply) -> bool:
    await asyncio.sleep(reply.chance.uniform(*PAUSES))
    return await _well(reply)


async def _early(reply: Reply) -> bool:
    await reply.send(reply.head(reply.length(), b"Connection: close") + reply.body)
    # Closing with unread data would reset the connection, and the answer with it.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while await reply.reader.read(65536):
                pass
    return False


ANSWERS: dict[str, Answer] = {
    "well": _well,
    "close-before-head": _close_before_head,
    "reset-before-head": _reset_before_head,
    "half-head": _half_head,
    "garbage": _garbage,
    "two-lengths": _two_lengths,
    "interim-flood": _interim_flood,
    "interim-few": _interim_few,
    "short-length": _short_length,
    "reset-length": _reset_length,
    "reset-chunked": _reset_chunked,
    "bad-chunk": _bad_chunk,
    "extra-after": _extra_after,
    "until-close": _until_close,
    "slow-drip": _slow_drip,
    "server-error": _well,
    "close-after": _close_after,
    "reset-after": _reset_after,
    "pause": _pause,
    "pause-before-head": _pause_before_head,
    "early-413": _early,
    "early-401": _early,
    "unknown-key": _well,
}
