"""The callers of `make chaos`: each asks, uploads, pipelines, dawdles, leaves and misbehaves as its chance has it.

What belongs here: what callers do with their connections. What does not: what they ask and whether the answer is right
(``heard.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from heard import Asked, Asker, Caller, Heard, token_lines
from plan import FORBIDDEN, NEVER_AT, caller_token
from wire import BrokenError, Head, connect, leave, read_body, read_head

ANSWER_LIMIT = 30.0
"""Seconds for any answer: longer than every time limit of the configurations together."""

THINKING = 0.5
"""Seconds between two requests of one caller, on average; with 100 callers about what half a core can do."""

_MARK = f"{FORBIDDEN}: 1\r\n".encode()


class Wire(NamedTuple):
    """A caller's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class World:
    """What all callers share: where the proxy is, the accounts, and when to stop."""

    seed: int
    port: int
    heard: Heard
    stop: asyncio.Event

    async def connect(self, *, buffer: int | None = None) -> Wire:
        """A connection to the proxy on which nothing secret may arrive."""

        def found(word: bytes) -> None:
            self.heard.tell("secret", f"a caller was sent {word!r}")

        return Wire(*await connect(("127.0.0.1", self.port), NEVER_AT["caller"], found, buffer=buffer))

    async def rest(self, seconds: float) -> None:
        """Sleeps, or less if it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()


class CallerLoad:
    """One caller at work."""

    def __init__(self, world: World, caller: Caller) -> None:
        self._world = world
        self._heard = world.heard
        self._caller = caller
        self._chance = random.Random(f"{world.seed}/{caller.name}")  # noqa: S311 - repeatable, not secret
        self._asker = Asker(world.seed, caller)
        self._wire: Wire | None = None

    async def run(self) -> None:
        """Until the end of the load; closes what it opened."""
        works = [work for work, _ in _WORKS]
        weights = [weight for _, weight in _WORKS]
        while not self._world.stop.is_set():
            work = self._chance.choices(works, weights)[0]
            try:
                async with asyncio.timeout(ANSWER_LIMIT):
                    await work(self)
            except TimeoutError:
                self._heard.tell("lost", f"{self._asker.last}: nothing after {ANSWER_LIMIT:g} s of {work.__name__}")
                await self._drop()
            await self._world.rest(self._chance.expovariate(1 / THINKING))
        await self._drop()

    # -- what a caller does -------------------------------------------------------------------------------------------

    async def ask(self) -> None:
        """One request on the connection that is kept."""
        await self._exchange(self._asker.ask(self._chance))

    async def ask_for_voices(self) -> None:
        """What the key may or may not do just now."""
        may = frozenset({"read_not_permitted", "write_not_permitted"})
        method = self._chance.choice(("GET", "POST"))
        path = "/voices/v1/voices" if method == "GET" else "/voices/v1/voices:design"
        await self._exchange(self._asker.ask(self._chance, method=method, path=path, may=may, sizes=(2, 5000)))

    async def ask_as_of_old(self) -> None:
        """HTTP/1.0: the end of the connection may be the end of the answer."""
        await self._drop()
        await self._exchange(self._asker.ask(self._chance, version="1.0", sizes=(2, 50_000)))

    async def pipeline(self) -> None:
        """Several requests at once, answered in order."""
        many = [self._asker.ask(self._chance, sizes=(2, 4000)) for _ in range(self._chance.randint(2, 5))]
        wire = await self._connected()
        with self._caller.show() as token:
            lines = token_lines(self._caller.name, token, self._chance)
            port = self._world.port
            wire.writer.write(b"".join(each.head(port, lines) + b"".join(each.pieces(self._chance)) for each in many))
            self._heard.asked += len(many)
            for number, asked in enumerate(many, start=1):
                if not await self._hear(wire, asked):
                    self._heard.left += len(many) - number
                    return

    async def dawdle(self) -> None:
        """A long answer, read slowly."""
        await self._drop()
        self._wire = wire = await self._world.connect(buffer=8192)

        async def brake() -> None:
            for _ in range(15):
                try:
                    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
                    await asyncio.sleep(0.05)
                finally:
                    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(0.002)

        braking = asyncio.create_task(brake())
        try:
            await self._exchange(self._asker.ask(self._chance, sizes=(100_000, 300_000)))
        finally:
            braking.cancel()
            await asyncio.gather(braking, return_exceptions=True)

    async def expect(self) -> None:
        """An upload that waits to be asked for."""
        asked = self._asker.ask(self._chance, method="POST", sizes=(2, 100_000))
        wire = await self._connected()
        with self._caller.show() as token:
            lines = token_lines(self._caller.name, token, self._chance)
            wire.writer.write(asked.head(self._world.port, lines, b"Expect: 100-continue\r\n"))
            self._heard.asked += 1
            head = None
            with contextlib.suppress(BrokenError, OSError):
                head = await read_head(wire.reader)
            if head is None or head.status != 100:
                await self._judge(wire, asked, head)
                # Whether a body comes after a refusal, neither side can tell.
                await self._drop()
                return
            await self._send_and_hear(wire, asked)

    async def go(self) -> None:
        """Leaves in the middle: of the head, of the body, of the waiting, or of the answer."""
        await self._drop()
        wire = await self._world.connect()
        asked = self._asker.ask(self._chance)
        phase = self._chance.choice(("head", "body", "waiting", "answer"))
        with self._caller.show() as token, contextlib.suppress(OSError):
            head = asked.head(self._world.port, token_lines(self._caller.name, token, self._chance))
            body = b"".join(asked.pieces(self._chance))
            sent = head + body if phase in ("waiting", "answer") else head + body[: len(body) // 2]
            wire.writer.write(head[: self._chance.randint(1, len(head) - 1)] if phase == "head" else sent)
            self._heard.asked += 1
            self._heard.left += 1
            if phase == "answer":
                await wire.reader.read(1000)
            else:
                await asyncio.sleep(self._chance.random() * 0.05)
        await leave(wire.writer, reset=self._chance.random() < 0.5)

    async def forbidden(self) -> None:
        """What no caller may, or not this one; what there is not; and by whom nobody knows."""
        method, path, code = self._chance.choice(_FORBIDDEN)
        must = frozenset({code} | ({"unknown_caller", "operation_not_granted"} if self._caller.flapping else set()))
        token = None
        if code == "unknown_caller":
            token = caller_token("nobody", self._chance.getrandbits(32))
        asked = self._asker.ask(self._chance, method=method, path=path, must=must, sizes=(2, 2000))
        await self._exchange(asked, token=token)

    async def malform(self) -> None:
        """What is no request at all, or two."""
        await self._drop()
        wire = await self._world.connect()
        with self._caller.show() as token, contextlib.suppress(OSError):
            lines = token_lines(self._caller.name, token, self._chance).replace(b"keep-alive, ", b"")
            wire.writer.write(self._chance.choice(_MALFORMED).replace(b"LINES", lines + _MARK))
            self._heard.asked += 1
            try:
                head = await read_head(wire.reader)
                body = b"" if head is None else await read_body(wire.reader, head)
            except BrokenError:
                head, body = None, b""
            if head is None or not head.get("proxy-status") or not 400 <= head.status < 506:
                self._heard.tell("allowed", f"malformed, and answered with {head and head.first}: {body[:80]!r}")
            else:
                self._heard.statuses[head.status] += 1
        await leave(wire.writer)

    # -- connections --------------------------------------------------------------------------------------------------

    async def _connected(self) -> Wire:
        if self._wire is None:
            self._wire = await self._world.connect()
        return self._wire

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await leave(wire.writer)

    async def _exchange(self, asked: Asked, *, token: str | None = None) -> None:
        wire = await self._connected()
        with self._caller.show() as own:
            lines = token_lines(self._caller.name, token or own, self._chance) + (_MARK if asked.must else b"")
            wire.writer.write(asked.head(self._world.port, lines))
            self._heard.asked += 1
            await self._send_and_hear(wire, asked)

    async def _send_and_hear(self, wire: Wire, asked: Asked) -> None:
        """The body goes up while the answer is awaited: an upstream may refuse it half way."""

        async def send() -> None:
            with contextlib.suppress(OSError):
                for piece in asked.pieces(self._chance):
                    wire.writer.write(piece)
                    await wire.writer.drain()

        sending = asyncio.create_task(send())
        try:
            await self._hear(wire, asked)
        finally:
            if not sending.done():
                sending.cancel()
                await self._drop()
            await asyncio.gather(sending, return_exceptions=True)

    async def _hear(self, wire: Wire, asked: Asked) -> bool:
        """Reads one answer and judges it. True where the connection is still there."""
        head = None
        with contextlib.suppress(BrokenError, OSError):
            head = await read_head(wire.reader)
        return await self._judge(wire, asked, head)

    async def _judge(self, wire: Wire, asked: Asked, head: Head | None) -> bool:
        keep = False
        try:
            body = await read_body(wire.reader, head, until_close=asked.version == "1.0")
        except (BrokenError, OSError) as exc:
            self._heard.on_cut(asked, begun=head is not None, why=repr(exc))
        else:
            assert head is not None
            self._heard.on_whole(self._caller, asked, head, body)
            keep = head.get("connection").lower() != "close" and asked.version == "1.1"
        if not keep:
            await self._drop()
        return keep


_FORBIDDEN = (
    ("POST", "/auth/v1/tokens", "token_mint_refused"),
    ("POST", "/v1/sessionTokens/token:generate", "token_mint_refused"),
    ("GET", "/router/v1/routers", "operation_not_granted"),
    ("GET", "/nothing/here", "no_operation"),
    ("DELETE", "/v1/chat/completions", "method_not_allowed"),
    ("GET", "/stt/v1/transcribe:streamBidirectional", "upgrade_required"),
    ("GET", "/llm/v1alpha/models", "unknown_caller"),
    ("POST", "/v1/chat/completions", "unknown_caller"),
)

_MALFORMED = (
    b"HELLO\r\n\r\n",
    b"GET /llm/v1alpha/models HTTP/2.0\r\nHost: 127.0.0.1\r\nLINES\r\n",
    b"GET /llm/v1alpha/models HTTP/1.1\r\nLINES\r\n",
    b"GET /llm//v1alpha/models HTTP/1.1\r\nHost: 127.0.0.1\r\nLINES\r\n",
    b"GET /llm/v1alpha/%6dodels HTTP/1.1\r\nHost: 127.0.0.1\r\nLINES\r\n",
    b"GET /llm/v1alpha/models HTTP/1.1\r\nHost: 127.0.0.1\r\n folded\r\nLINES\r\n",
    b"GET /llm/v1alpha/models HTTP/1.1\nHost: 127.0.0.1\n\n",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nLINES\r\n",
    b"GET /llm/v1alpha/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 40_000 + b"\r\nLINES\r\n",
    b"POST /tts/v1/voice HTTP/1.1\r\nHost: 127.0.0.1\r\nLINESContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
    (
        b"POST /tts/v1/voice HTTP/1.1\r\nHost: 127.0.0.1\r\nLINESContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /llm/v1alpha/models HTTP/1.1\r\nHost: 127.0.0.1\r\nLINES\r\n"
    ),
    b"POST /tts/v1/voice HTTP/1.1\r\nHost: 127.0.0.1\r\nLINESTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
)
"""Each must be refused by the proxy itself, and nothing of it may arrive at an upstream."""

_Work = Callable[[CallerLoad], Awaitable[None]]
_WORKS: tuple[tuple[_Work, float], ...] = (
    (CallerLoad.ask, 60),
    (CallerLoad.pipeline, 6),
    (CallerLoad.go, 9),
    (CallerLoad.ask_for_voices, 5),
    (CallerLoad.ask_as_of_old, 4),
    (CallerLoad.dawdle, 2),
    (CallerLoad.expect, 4),
    (CallerLoad.forbidden, 6),
    (CallerLoad.malform, 4),
)
