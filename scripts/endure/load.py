"""The load of `make endure`: so many requests a second whatever becomes of them, on connections that come and go.

What belongs here: when something is asked, and on which connection. What does not: what (``asking.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import NamedTuple

from asking import Ask, Asker
from script import Accounts
from wire import BrokenError, leave, read_body, read_head

MOST_AT_ONCE = 200
"""Requests; what would be one more is left out and counted, so that a slow machine has less to do and fails nothing."""

TICK = 0.01
STALE = 5.0
"""Seconds after which a connection is closed rather than used: the proxy closes it after four times as long."""


class Wire(NamedTuple):
    """A connection to the proxy, and how many requests are left for it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    left: int
    used: float


@dataclass
class Load:
    """Everything that is asked of one proxy."""

    port: int
    asker: Asker
    accounts: Accounts
    patience: float

    def __post_init__(self) -> None:
        self._free: list[Wire] = []
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, seconds: float) -> None:
        """For so long. When it returns all is answered, and every connection closed."""
        began, begun = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            due = int(now * rate)
            while begun < due:
                begun += 1
                if len(self._running) >= MOST_AT_ONCE:
                    self.accounts.late += 1
                else:
                    self._begin(self.asker.next())
            await self._close_stale()
            await asyncio.sleep(TICK)
        await self.finish()

    async def measure(self, seconds: float) -> float:
        """How many a second are answered when the next is asked as soon as one is."""
        until, before = time.monotonic() + seconds, self.accounts.asked
        while time.monotonic() < until:
            await self.ask_each([self.asker.next()], at_once=50)
        await self.finish()
        return (self.accounts.asked - before) / seconds

    async def ask_each(self, asks: list[Ask], at_once: int = 16) -> None:
        """These, a few at once."""
        for ask in asks:
            while len(self._running) >= at_once:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._begin(ask)

    async def finish(self) -> None:
        """All is answered, and every connection closed."""
        while self._running:
            await asyncio.wait(self._running)
        for wire in self._free:
            await leave(wire.writer)
        self._free.clear()

    def _begin(self, ask: Ask) -> None:
        task = asyncio.create_task(self._ask(ask))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, ask: Ask) -> None:
        accounts, began = self.accounts, time.monotonic()
        accounts.asked += 1
        accounts.kinds[ask.kind] += 1
        try:
            async with asyncio.timeout(self.patience):
                wrong = await self._exchange(ask)
        except TimeoutError:
            wrong = f"no answer in {self.patience:g} s"
        except (BrokenError, OSError) as exc:
            wrong = f"{exc!r}"
        if wrong:
            accounts.tell(f"{ask.kind} {ask.method} {ask.target} of {ask.caller}: {wrong}")
        accounts.slowest = max(accounts.slowest, time.monotonic() - began)

    async def _exchange(self, ask: Ask) -> str:
        wire = await self._take()
        kept = False
        try:
            wire.writer.write(ask.write(self.asker.chance))
            head = await read_head(wire.reader)
            if head is None:
                return "the connection ended before an answer"
            self.accounts.statuses[str(head.status)] += 1
            if ask.kind == "left":
                await wire.reader.readuntil(b"\r\n")
                return ""
            if ask.order.how == "cut":
                return await _read_cut(wire.reader)
            body = await read_body(wire.reader, head)
            wrong = ask.judge(head, body)
            kept = not wrong and wire.left > 1 and head.get("connection").lower() != "close"
            return wrong
        finally:
            if kept:
                self._free.append(wire._replace(left=wire.left - 1, used=time.monotonic()))
            else:
                await leave(wire.writer, reset=ask.kind == "left" and self.asker.chance.random() < 0.5)

    async def _take(self) -> Wire:
        if self._free:
            wire = self._free.pop()
            if time.monotonic() - wire.used < STALE:
                return wire
            await leave(wire.writer)
        self.accounts.connections += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        # Some live long, and most do not.
        return Wire(reader, writer, self.asker.chance.choice((1, 5, 50, 500)), time.monotonic())

    async def _close_stale(self) -> None:
        before = time.monotonic() - STALE
        while self._free and self._free[0].used < before:
            await leave(self._free.pop(0).writer)


async def _read_cut(reader: asyncio.StreamReader) -> str:
    """An answer that must end before its end, in whichever way."""
    tail = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            tail = (tail + piece)[-7:]
    return "what broke looks whole" if tail == b"\r\n0\r\n\r\n" else ""
