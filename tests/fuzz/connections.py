"""Whole connections: any bytes from a caller and from an upstream, in any pieces, through the real protocols.

The transports are made up, so that nothing waits and thousands can be tried in a second; everything else is the
product. What each came to is judged as in ``tests/security/``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import zlib
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any
from unittest import mock

from proxy.core.model import TimeLimits
from proxy.observe.metrics import Metrics
from proxy.wire import reading
from proxy.wire.caller import CallerConnection
from proxy.wire.server import DataServer
from tests.fuzz.engine import Target, cut
from tests.fuzz.transports import MadeUp
from tests.proxies import ClockLoop, RecordedLog
from tests.security import answers, framings, heads, judging
from tests.security.raw import EVERY_LIMIT, SECOND, Outcome
from tests.security.strict import Malformed, Request, Unfinished, read_request
from tests.security.test_framing_of_answers import CLEAN, NEXT
from tests.security.test_framing_of_answers import faults_of as faults_of_answer
from tests.snapshots import make_snapshot, upstream_at


class Upstream:
    """The other end of the proxy's connections, in the place of what dials: reads strictly, answers as it is told."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.sock = sock
        self.loop = loop
        self.requests: list[Request] = []
        self.raw: list[bytes] = []
        self.faults: list[str] = []
        self.held: dict[MadeUp, bytes] = {}
        self.respond: Callable[[MadeUp, Request], None] = lambda transport, request: None

    async def connect(self, protocol: Any, time: TimeLimits) -> tuple[Any, socket.socket]:
        made = MadeUp(protocol, self.sock, lambda data: self._read(made, data))
        return protocol, self.sock

    def _read(self, transport: MadeUp, data: bytes) -> None:
        data = self.held.pop(transport, b"") + data
        while data:
            try:
                request = read_request(data, trailers=False)
            except Unfinished:
                self.held[transport] = data
                return
            except Malformed as exc:
                self.faults.append(f"{exc}: {data[:200]!r}")
                return
            self.requests.append(request)
            self.raw.append(data[: request.size])
            data = data[request.size :]
            self.loop.call_soon(self.respond, transport, request)


class Connections:
    """One proxy, and one connection of a caller after the other."""

    def __init__(self) -> None:
        self.loop = ClockLoop()
        self.loop.stand_still()  # however slow the machine is
        self.clock = mock.patch.object(reading, "thread_time", self.loop.time)
        self.clock.start()
        asyncio.set_event_loop(self.loop)
        self.socks = socket.socketpair()
        self.upstream = Upstream(self.socks[0], self.loop)
        time = TimeLimits(head=10.0, keep_alive=10.0, body_idle=10.0, first_byte=10.0, idle=10.0)
        self.snapshot = replace(make_snapshot(upstream_at(9)), time=time)
        self.errors: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(repr(context)))
        self.handler = logging.Handler(logging.ERROR)
        self.handler.emit = lambda record: self.errors.append(logging.Formatter().format(record))  # type: ignore[method-assign]
        logging.getLogger("proxy").addHandler(self.handler)
        metrics = Metrics(lambda: self.server.snapshot)
        self.log = RecordedLog(self.snapshot.log, self.loop, lambda lines: None)
        self.server = DataServer(self.snapshot, metrics, self.log, self.loop)
        (pool,) = self.server.pools.values()
        pool._dialer = self.upstream  # type: ignore[assignment]
        self.answered = 0

    def close(self) -> None:
        self._advance()
        self.loop.run_until_complete(self.server.close())
        logging.getLogger("proxy").removeHandler(self.handler)
        self.clock.stop()
        self.loop.close()
        for sock in self.socks:
            sock.close()

    def _run(self) -> None:
        """Everything that can happen by itself."""
        while True:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if not self.loop._ready:  # type: ignore[attr-defined]
                return

    def _advance(self) -> None:
        self.loop._ahead += EVERY_LIMIT
        self._run()

    def converse(self, pieces: list[bytes], *, leaves: bool = False) -> Outcome:
        """What comes of a connection on which these pieces arrive. ``leaves``: the caller hangs up after them."""
        upstream, log = self.upstream, self.log
        log.records.clear()
        upstream.requests, upstream.raw, upstream.faults, upstream.held = [], [], [], {}
        self.errors.clear()
        got: list[bytes] = []
        caller = MadeUp(CallerConnection(self.server), self.socks[0], got.append)
        lazy = random.Random(zlib.crc32(b"".join(pieces)))
        for piece in pieces:
            if not caller.closing:
                caller.arrive(piece)
            if lazy.random() < 0.5:
                self._run()
        if leaves:
            caller.hang_up()
        self._run()
        for _ in range(12):
            if caller.closing:
                break
            self._advance()
        assert caller.closing, "the connection was not ended"
        self._run()
        assert not self.errors, self.errors
        assert not self.server.connections
        begun = [data for data in upstream.held.values() if data]
        return Outcome(
            b"".join(got), not caller.ended, upstream.requests, upstream.raw, begun, [*log.records], upstream.faults
        )

    def _show(self, readable: bool) -> None:
        """Whether something waits in the proxy's connections to the upstream."""
        if readable:
            self.socks[1].send(b"x")
        else:
            self.socks[0].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self.socks[0].recv(100)

    def requests(self, data: bytes) -> Hashable:
        """What a caller sends; one in eight hangs up then."""
        self.upstream.respond = self._answer
        pieces = [piece for piece in cut(data) if piece]
        leaves = zlib.crc32(data) % 8 == 0
        outcome = self.converse(pieces, leaves=leaves)
        assert all(record.ended for record in outcome.records)
        if not leaves:
            faults = judging.faults_of(data, outcome, in_pieces=True)
            assert not faults, faults
        ends = tuple((record.status, record.code, record.request_bytes > 0) for record in outcome.records)
        return ends[:4], len(outcome.requests), len(outcome.begun), leaves

    def _answer(self, transport: MadeUp, request: Request) -> None:
        number = len(self.upstream.requests)
        content = judging.SEEN % number
        head = b"HTTP/1.1 200 OK\r\nX-Seen: %d\r\nContent-Length: %d\r\n\r\n" % (number, len(content))
        if request.head.all(b"upgrade"):
            head = head.replace(b"200 OK", b"403 No")
        transport.arrive(head if request.method == "HEAD" else head + content)

    def answers(self, data: bytes) -> Hashable:
        """What the upstream writes; half of the time it closes then."""
        check = zlib.crc32(data)
        attempt = answers.Attempt("", tuple(cut(data, most=4)), check % 2 == 0)
        first = self.answered + 1

        def respond(transport: MadeUp, request: Request) -> None:
            if transport.closing:
                return  # it hung up before it read this one, which the proxy then asks somebody else
            if request.target == "/things?next":
                self.answered += 1
                content = CLEAN % self.answered
                transport.arrive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
                return
            pieces = [piece for piece in attempt.pieces if piece]
            while pieces and not transport.closing:
                # What is on its way can be seen by who looks at the socket, and the pool does.
                self._show(len(pieces) > 1 or attempt.closes)
                transport.arrive(pieces.pop(0))
            self._show(False)
            if attempt.closes:
                transport.hang_up()

        self.upstream.respond = respond
        outcome = self.converse([attempt.line + b"\r\nHost: 127.0.0.1\r\n\r\n" + NEXT])
        faults = faults_of_answer(attempt, outcome, first)
        assert not faults, faults
        ends = tuple((record.status, record.code, record.response_bytes > 0) for record in outcome.records)
        return ends, b"Proxy-Status" in outcome.got, attempt.closes, outcome.got[-5:] == b"0\r\n\r\n"


_WORDS = (
    SECOND, b"GET /things HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n",
    b"HTTP/1.0", b"\r\n",
    b"Authorization: Bearer a\r\n", b"Connection: keep-alive\r\n", b"HEAD ", b"POST ", b"hello", b"\r\n ",
    b"HTTP/1.1 200 OK\r\n",
)  # fmt: skip


def targets() -> tuple[Target, ...]:
    made = Connections()
    tables = (
        framings.lengths_and_codings,
        framings.chunks,
        heads.lines_and_hosts,
        heads.credentials,
        heads.expectations_and_upgrades,
    )
    raw = [attempt.raw for table in tables for attempt in [*table()][::37] if len(attempt.raw) < 2000]
    # A changed name carries anything across, so what is in these credentials is not looked for.
    asked = [each.replace(judging.EVIL.encode(), b"a-word") for each in raw]
    tables = (answers.framed, answers.in_chunks, answers.interim_and_more)
    written = [attempt.raw.replace(b"oison", b"erson") for table in tables for attempt in [*table()][::37]]
    return (
        Target("callers' bytes", made.requests, tuple(asked), _WORDS),
        Target("upstream's bytes", made.answers, tuple(each for each in written if each), _WORDS, made.close),
    )
