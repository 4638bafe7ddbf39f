"""When an answer arrives: the delays before and between its chunks, gates that a test opens, and writing a stream.

What belongs here: time and chunks. What does not: what the chunks contain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.shapes import JsonObject, Malformed, number_of, object_of, text_of

if TYPE_CHECKING:
    from proxy.sandbox.exchange import Exchange
    from proxy.sandbox.options import SandboxOptions

SANDBOX_FIELD = "sandbox"
"""Invented: a member of a request body with settings for this one answer. The real service ignores unknown fields."""

LONGEST_DELAY = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of one answer: the sandbox's options, or what the request's own ``sandbox`` field says."""

    first: float
    between: float
    chunk_bytes: int
    chunk_words: int
    gate: str | None = None
    """Invented: wait before every chunk but the first until ``POST /_sandbox/gates/{gate}`` lets one through."""
    bulk_bytes: int | None = None
    """Invented: answer with this many bytes of filler in place of audio."""
    known_length: bool = True
    """Whether such a bulk answer says its Content-Length, or is chunked."""


def pace_of(options: SandboxOptions, body: JsonObject) -> Pace:
    """The pace for the answer to a request with this body; raises ``Malformed``."""
    asked = object_of(body, SANDBOX_FIELD)
    bulk = asked.get("bytes")
    pace = Pace(
        first=number_of(asked, "first", options.latency_first),
        between=number_of(asked, "between", options.latency_between),
        chunk_bytes=int(number_of(asked, "chunkBytes", options.chunk_bytes)),
        chunk_words=int(number_of(asked, "chunkWords", options.chunk_words)),
        gate=text_of(asked, "gate") or None,
        bulk_bytes=None if bulk is None else int(number_of(asked, "bytes", 0)),
        known_length=asked.get("chunked") is not True,
    )
    delays_fit = 0 <= pace.first <= LONGEST_DELAY and 0 <= pace.between <= LONGEST_DELAY
    if not delays_fit or pace.chunk_bytes < 1 or pace.chunk_words < 1 or (pace.bulk_bytes or 0) < 0:
        raise Malformed("sandbox: a delay is at most an hour, a chunk at least one byte or word")
    return pace


class Gates:
    """Named turnstiles that a test opens, so that streaming can be proven without looking at a clock."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Semaphore] = {}

    def _gate(self, name: str) -> asyncio.Semaphore:
        return self._gates.setdefault(name, asyncio.Semaphore(0))

    def open(self, name: str, chunks: int) -> None:
        """Lets this many chunks through, now or whenever they come."""
        gate = self._gate(name)
        for _ in range(chunks):
            gate.release()

    async def pass_through(self, name: str) -> None:
        """Waits until the gate lets one chunk through."""
        await self._gate(name).acquire()


class Pacer:
    """Holds each chunk of one answer back as long as its pace says."""

    def __init__(self, pace: Pace, gates: Gates) -> None:
        self._pace = pace
        self._gates = gates
        self._first = True

    async def wait(self) -> None:
        """To be awaited before each chunk."""
        delay = self._pace.first if self._first else self._pace.between
        if delay:
            await asyncio.sleep(delay)
        if not self._first and self._pace.gate is not None:
            await self._gates.pass_through(self._pace.gate)
        self._first = False


def pacer(exchange: Exchange, body: JsonObject) -> Pacer:
    """The pacer for the answer to a request with this body; raises ``Malformed``."""
    return Pacer(pace_of(exchange.sandbox.options, body), exchange.sandbox.gates)


async def computed(exchange: Exchange, body: JsonObject, answer: JsonObject) -> web.Response:
    """An answer in one piece, after the delay that computing it would have cost."""
    await pacer(exchange, body).wait()
    return json_answer(answer)


async def stream(
    exchange: Exchange,
    chunks: AsyncIterator[bytes],
    *,
    content_type: str,
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
) -> web.StreamResponse:
    """Sends the chunks as they come; the head goes with the first, as the real service computes before it answers.

    A client that leaves ends this with an exception, and closes the iterator.
    """
    response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
    if length is not None:
        response.content_length = length
    async for chunk in chunks:
        if not response.prepared:
            await response.prepare(exchange.request)
        await response.write(chunk)
        if exchange.cut:
            break_off(exchange.request)
            return response
    if not response.prepared:
        await response.prepare(exchange.request)
    await response.write_eof()
    return response


def break_off(request: web.Request) -> None:
    """Drops the connection without a word, as a crashed server would."""
    if request.transport is not None:
        request.transport.abort()
