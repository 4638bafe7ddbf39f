"""The tunnels of `make chaos`: each echoes random messages, ends in one of many ways, and is opened again.

What belongs here: a tunnel from the caller's side, and how it ended. What does not: the echo (``sockets.py``).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import time
from dataclasses import dataclass

from callers import ANSWER_LIMIT, Wire, World
from heard import OF_CALLER, Caller, token_lines
from plan import ID, REFUSED, Fault, socket_fault_of
from wire import BINARY, CLOSE, BrokenError, Head, frame, leave, read_body, read_frame, read_head

PATHS = (
    "/tts/v1/voice:streamBidirectional",
    "/stt/v1/transcribe:streamBidirectional",
    "/api/v1/realtime/session?key={identity}&protocol=realtime",
)
NOT_PERMITTED = 1008
ECHO_LIMIT = 10.0
"""Seconds for an echo."""

_MAY = OF_CALLER | {
    "upstream_connect_failed", "upstream_closed", "upstream_invalid_response", "credential_unavailable",
    "concurrency_limited", "rate_limited",
}  # fmt: skip
_ANSWERS = {"refused-403": (403, b"not you"), "refused-500": (500, b"oops"), "not-a-101": (200, b"ok")}


@dataclass
class Life:
    """One tunnel that opened. Times are ``time.monotonic()``; ``status`` of the Close frame that ended it, if any."""

    caller: Caller
    opened: float
    ended: float = float("inf")
    status: int = 0
    gone_ourselves: bool = False


class TunnelLoad:
    """Keeps one tunnel open, again and again."""

    def __init__(self, world: World, caller: Caller, lives: list[Life]) -> None:
        self._world = world
        self._heard = world.heard
        self._caller = caller
        self._lives = lives
        self._chance = random.Random(f"{world.seed}/tunnel/{caller.name}")  # noqa: S311 - repeatable, not secret

    async def run(self) -> None:
        """Until the end of the load; closes what it opened."""
        count = 0
        while not self._world.stop.is_set():
            count += 1
            wire = await self._world.connect()
            try:
                async with asyncio.timeout(2 * ANSWER_LIMIT):
                    await self._one(wire, f"{self._caller.name}-tunnel{count}")
            except TimeoutError:
                self._heard.tell("tunnel", f"{self._caller.name}: stuck")
            finally:
                await leave(wire.writer, reset=self._chance.random() < 0.3)
            await self._world.rest(self._chance.uniform(0.1, 1.0))

    async def _one(self, wire: Wire, identity: str) -> None:
        fault = socket_fault_of(self._world.seed, identity)
        with self._caller.show() as token:
            head = await self._shake_hands(wire, identity, token)
            if head is not None and head.status == 101:
                life = Life(self._caller, time.monotonic())
                self._lives.append(life)
                self._heard.tunnels["opened"] += 1
                await Talk(self._world, wire, life, fault, self._chance).run()
            else:
                await self._refused(wire, head, fault, identity)

    async def _shake_hands(self, wire: Wire, identity: str, token: str) -> Head | None:
        chance = self._chance
        path = chance.choice(PATHS).format(identity=identity)
        offered = chance.random() < 0.3
        lines = b"" if offered else token_lines(self._caller.name, token, chance).replace(b"keep-alive, ", b"")
        protocol = f"bearer_{token}, chaos" if offered else "chaos"
        key = base64.b64encode(chance.randbytes(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._world.port}\r\n{ID}: {identity}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n"
        )
        wire.writer.write(head.encode() + lines + b"\r\n")
        self._heard.asked += 1
        try:
            return await read_head(wire.reader)
        except (BrokenError, OSError):
            return None

    async def _refused(self, wire: Wire, head: Head | None, fault: Fault, identity: str) -> None:
        self._heard.tunnels["refused"] += 1
        try:
            body = await read_body(wire.reader, head)
        except (BrokenError, OSError) as exc:
            self._heard.cut += 1
            self._heard.tell("tunnel", f"{identity} ({fault.name}): no answer to its handshake: {exc!r}")
            return
        assert head is not None
        self._heard.statuses[head.status] += 1
        said = head.get("proxy-status")
        code = said.rpartition("details=")[2].strip('"')
        if said:
            self._heard.codes[code] += 1
            if code not in _MAY:
                self._heard.tell("tunnel", f"{identity} ({fault.name}): {code}")
            if code in OF_CALLER and not self._caller.flapping:
                self._heard.tell("refused", f"{identity}: {code}")
        elif (head.status, body) not in (_ANSWERS.get(fault.name), (401, REFUSED)):
            self._heard.tell("tunnel", f"{identity} ({fault.name}): {head.status} {body[:80]!r}")


class Talk:
    """One open tunnel: what is said comes back, whole and in order, until somebody ends it."""

    def __init__(self, world: World, wire: Wire, life: Life, fault: Fault, chance: random.Random) -> None:
        self._world = world
        self._wire = wire
        self._life = life
        self._fault = fault
        self._chance = chance
        self._sent: list[bytes] = []
        self._echoed = 0
        self._over = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """From the handshake to the end."""
        listening = asyncio.create_task(self._listen())
        try:
            with contextlib.suppress(OSError):
                await self._speak()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self._life.ended = min(self._life.ended, time.monotonic())
        self._world.heard.messages += self._echoed
        how = "left" if self._life.gone_ourselves else (f"closed {self._life.status}" if self._life.status else "cut")
        self._world.heard.tunnels[how] += 1
        expected = {"goodbye": "closed 1011", "cut": "cut"}.get(self._fault.name)
        if how in ("left", expected) or (how == "closed 1008" and self._life.caller.flapping):
            return
        name, where = self._life.caller.name, f"after {self._echoed} of {len(self._sent)} messages"
        self._world.heard.tell("tunnel", f"{name} ({self._fault.name}): {how} {where}")

    async def _speak(self) -> None:
        for _ in range(self._chance.randint(3, 25)):
            for _ in range(self._chance.randint(1, 3)):
                message = self._chance.randbytes(int(60_000 * self._chance.random() ** 6))
                self._sent.append(message)
                half = self._chance.randint(0, len(message)) if self._chance.random() < 0.2 else len(message)
                self._wire.writer.write(frame(BINARY, message[:half], final=half == len(message), masked=True))
                if half != len(message):
                    self._wire.writer.write(frame(0, message[half:], masked=True))
            await self._wire.writer.drain()
            if not await self._all_echoed():
                return
            await self._world.rest(self._chance.uniform(0.1, 0.9))
            if self._over.is_set():
                return
            if self._world.stop.is_set():
                break
        self._life.gone_ourselves = True
        if self._chance.random() < 0.7:
            self._wire.writer.write(frame(CLOSE, (1000).to_bytes(2, "big"), masked=True))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ECHO_LIMIT):
                    await self._over.wait()
                    return
            self._world.heard.tell("tunnel", f"{self._life.caller.name}: its Close was not answered")

    async def _all_echoed(self) -> bool:
        """True when everything came back; False when it ended."""
        try:
            async with asyncio.timeout(ECHO_LIMIT):
                while self._echoed < len(self._sent) and not self._over.is_set():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            self._world.heard.tell("tunnel", f"{self._life.caller.name}: no echo in {ECHO_LIMIT:g} s")
            self._life.gone_ourselves = True
            return False
        return not self._over.is_set()

    async def _listen(self) -> None:
        # Apart from what is said: a Close is noticed at once, and before a reset takes it away.
        pieces = b""
        try:
            while (got := await read_frame(self._wire.reader)) is not None:
                if got.opcode == CLOSE:
                    self._life.status = got.status
                    if not self._life.gone_ourselves:
                        self._wire.writer.write(frame(CLOSE, got.payload[:2], masked=True))
                    break
                pieces += got.payload
                if got.final:
                    self._on_message(pieces)
                    pieces = b""
        except (BrokenError, OSError):
            pass
        self._life.ended = time.monotonic()
        self._over.set()
        self._moved.set()

    def _on_message(self, message: bytes) -> None:
        if self._echoed >= len(self._sent) or self._sent[self._echoed] != message:
            self._world.heard.tell("body", f"{self._life.caller.name}: an echo of {len(message)} bytes is not the next")
        else:
            self._sent[self._echoed] = b""
        self._echoed += 1
        self._moved.set()
