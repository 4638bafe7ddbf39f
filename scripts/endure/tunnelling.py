"""The tunnels of `make endure`: each opens a WebSocket, has its messages echoed, ends it in one of four ways, again.

What belongs here: a tunnel from the caller's side. What does not: the echo (``answering.py``).
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from dataclasses import dataclass

from answering import ENOUGH
from asking import FREE, TOKENS, Asker
from script import DO, Accounts, Order
from wire import BINARY, CLOSE, BrokenError, frame, leave, read_frame, read_head

PATHS = (
    "/tts/v1/voice:streamBidirectional",
    "/stt/v1/transcribe:streamBidirectional",
    "/api/v1/realtime/session?key={identity}&protocol=realtime",
)
ENDS = ("caller", "caller", "caller-left", "upstream", "upstream-cut")
LONGEST = 6.0
"""Seconds that a tunnel lives, about; most live a third of it."""

NORMAL = 1000


@dataclass
class Tunnels:
    """Keeps so many open, each for a while."""

    port: int
    asker: Asker
    accounts: Accounts
    patience: float

    async def run(self, count: int, seconds: float) -> None:
        """For so long. When it returns, all are closed."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._keep(number / max(1, count), until))

    async def once(self, how: str) -> None:
        """One, whose end is known."""
        order = Order(how, self.asker.chance.randint(10, 20_000), self.asker.chance.randint(2, 6), 10)
        await self._told(order)

    async def _keep(self, delay: float, until: float) -> None:
        chance = self.asker.chance
        await asyncio.sleep(delay)
        while time.monotonic() < until:
            life = LONGEST * chance.random() ** 2
            messages = chance.randint(1, 20)
            size = int(50_000 * chance.random() ** 6) + 10
            await self._told(Order(chance.choice(ENDS), size, messages, int(life * 1000 / messages)))
            await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def _told(self, order: Order) -> None:
        self.accounts.asked += 1
        self.accounts.connections += 1
        try:
            async with asyncio.timeout(self.patience + order.pieces * order.pause / 1000):
                wrong = await self._one(order)
        except TimeoutError:
            wrong = f"stuck for {self.patience:g} s"
        except (BrokenError, OSError) as exc:
            wrong = f"{exc!r}"
        self.accounts.tunnels[order.how] += 1
        if wrong:
            self.accounts.tell(f"tunnel to be ended by {order.how}: {wrong}")

    async def _one(self, order: Order) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        try:
            writer.write(self._handshake(order))
            head = await read_head(reader)
            if head is None or head.status != 101:
                return f"not opened: {head and head.first} {head and head.get('proxy-status')}"
            return await self._talk(order, reader, writer)
        finally:
            await leave(writer, reset=order.how == "caller-left")

    def _handshake(self, order: Order) -> bytes:
        chance, identity = self.asker.chance, self.asker.identity()
        key = base64.b64encode(chance.randbytes(16)).decode()
        by_protocol = chance.random() < 0.5
        shown = f"Sec-WebSocket-Protocol: bearer_{TOKENS[FREE]}" if by_protocol else f"X-Api-Key: {TOKENS[FREE]}"
        return (
            f"GET {chance.choice(PATHS).format(identity=identity)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"X-Request-Id: {identity}\r\n{DO}: {order.write()}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{shown}\r\n\r\n"
        ).encode()

    async def _talk(self, order: Order, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        for _ in range(order.pieces):
            message = random.randbytes(order.size)  # noqa: S311 - content, not secret
            writer.write(frame(BINARY, message, masked=True))
            got = await read_frame(reader)
            if got is None or (got.opcode, got.payload) != (BINARY, message):
                return f"an echo that is not what was said: {got and (got.opcode, len(got.payload))}"
            self.accounts.messages += 1
            await asyncio.sleep(order.pause / 1000)
        match order.how:
            case "caller-left":
                return ""
            case "upstream-cut":
                return await _ended(reader)
            case "upstream":
                got = await read_frame(reader)
                writer.write(frame(CLOSE, ENOUGH.to_bytes(2, "big"), masked=True))
                right = ENOUGH
            case _:
                writer.write(frame(CLOSE, NORMAL.to_bytes(2, "big"), masked=True))
                got = await read_frame(reader)
                right = NORMAL
        if got is None or (got.opcode, got.status) != (CLOSE, right):
            return f"not closed with {right}: {got}"
        return ""


async def _ended(reader: asyncio.StreamReader) -> str:
    """A connection that must end without a word, in whichever way."""
    try:
        got = await read_frame(reader)
    except (BrokenError, OSError):
        return ""
    return "" if got is None else f"a frame {got.opcode} after the end"
