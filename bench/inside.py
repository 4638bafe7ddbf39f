"""What each feature of ours adds to a request, measured within one process: `python -m bench --inside`. No kernel.

Callers and upstream are fakes that keep nothing, so an exchange is the product's own work, from the bytes of a request
to the bytes of its answer. Each feature's calls are timed by themselves, in a loop, on the same request: nothing of the
product is replaced or looked into, so this works for a build that is compiled, too. What configuration can take away
is also taken away from whole exchanges, as a check.

Run in a process of its own, whose standard output is a file: that is where the request log goes.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvloop

from bench import contract
from bench.asked import request
from bench.peers import Place
from bench.product import ALL_ON, Change, Configuration, as_it_is, configuration, limits, no_inspector, no_log
from proxy import app
from proxy.core.model import Allow
from proxy.core.policy import decide
from proxy.core.trace import onward_lines, request_id_line
from proxy.observe.log import RequestLog
from proxy.observe.record import Record
from proxy.settings.load import load_settings
from proxy.wire.caller import CallerConnection
from proxy.wire.head import RequestParts, read_request
from proxy.wire.memo import remember
from proxy.wire.server import DataServer
from proxy.wire.upstream import UpstreamConnection

LOOPS = 2000
"""Requests in a batch: some 0.1 s of exchanges, in which the memo's second passes a few times a round."""

WRITTEN = 0.03
"""Seconds in which the log's thread writes the lines of a batch; sleeping costs no CPU."""

KINDS = ("repeated", "varied")

PIECES = ("decision", "record", "ids", "metrics", "log", "inspector", "limits")

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nServer: up\r\n\r\n" % len(
    contract.ANSWER
)


class _Fake(asyncio.Transport):
    """A transport to nowhere: it counts what is written, and never fills up."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 1)})
        self.bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.bytes += len(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def close(self) -> None:
        raise OSError("a connection was closed, so what was timed was no exchange")

    abort = close


class _Inside:
    """A server of ours with one caller's connection and one upstream's."""

    def __init__(self, change: Change, folder: Path, sock: socket.socket) -> None:
        written: Configuration = copy.deepcopy(configuration(Place(1, 9, None, folder, "inside")))
        change(written)
        file = folder / "inside.yaml"
        file.write_text(json.dumps(written), encoding="utf-8")
        loop = asyncio.get_running_loop()
        self.snapshot = load_settings(file, {"INWORLD_API_KEY": contract.KEY})
        self.server: DataServer = app.build(self.snapshot, loop)
        pool = self.server.pools["inworld"]
        self._upstream = UpstreamConnection(pool)
        self._upstream.connection_made(_Fake(sock))
        self._upstream.born = loop.time()
        self._upstream.readable.register(sock, select.POLLIN)  # the one question to the kernel that is left
        pool.give_back(self._upstream)
        self._caller = CallerConnection(self.server)
        self._fake = _Fake(sock)
        self._caller.connection_made(self._fake)

    def exchange(self, requests: list[bytes]) -> float:
        """CPU microseconds for each of these, one after the other on one connection, its line in the log included."""
        ask, answer, content = self._caller.data_received, self._upstream.data_received, _ANSWER + contract.ANSWER
        before, began = self._fake.bytes, time.process_time()
        for each in requests:
            ask(each)
            answer(content)
        self.server.log.flush()
        time.sleep(WRITTEN)
        used = time.process_time() - began
        if self._fake.bytes - before < len(requests) * len(contract.ANSWER):
            raise OSError("not every request was answered, so what was timed was no exchange")
        return used / len(requests) * 1e6


def _timed(work: Callable[[], None], count: int) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / count * 1e6


class _Pieces:
    """The features' calls, on a request as the whole exchange has it."""

    def __init__(self, inside: _Inside, limited: _Inside, heads: list[bytes]) -> None:
        self._snapshot, self._server, self._heads = inside.snapshot, inside.server, heads
        self._caller = limited.snapshot.callers["bench"]
        self._gates = limited.server.gates
        self._parts = cast("RequestParts", read_request(heads[0]))
        allow = decide(self._snapshot.policy, self._parts.head, time.time())
        if not isinstance(allow, Allow):
            raise OSError(f"the request that is timed is refused: {allow}")
        self._allow = allow

    def decision_repeated(self) -> None:
        """Is it the head from before?"""
        raw, snapshot = self._heads[0], self._snapshot
        memo = remember(raw, snapshot, 1, self._parts, self._allow)
        assert memo is not None
        for _ in self._heads:
            memo.recall(raw, snapshot, 1)

    def decision_varied(self) -> None:
        """It is not, so it is decided, and remembered."""
        snapshot, policy, head, now = self._snapshot, self._snapshot.policy, self._parts.head, time.time()
        memo = remember(self._heads[-1], snapshot, 1, self._parts, self._allow)
        for raw in self._heads:
            if memo is not None:
                memo.recall(raw, snapshot, 1)
            decision = cast("Allow", decide(policy, head, now))
            memo = remember(raw, snapshot, 1, self._parts, decision)

    def record(self) -> Record:
        """What an exchange knows when it is over."""
        now = time.monotonic()
        record = Record(now, time.time(), "GET", contract.VOICES, "127.0.0.1")
        allow = self._allow
        record.caller, record.operation = allow.caller.name, allow.operation.name
        record.upstream, record.credential = allow.route.upstream.name, allow.route.credential.name
        record.reused, record.status, record.response_bytes = True, 200, len(contract.ANSWER)
        record.sent = record.first_byte = record.ended = now + 0.0001
        return record

    def records(self) -> None:
        """One for each request."""
        for _ in self._heads:
            self.record()

    def ids(self) -> None:
        """The request's id and its place in a trace, and the lines that say them to both sides."""
        tracing, context, record = self._server.tracing, self._parts.context, self.record()
        for _ in self._heads:
            tracing.begin(record, context)
            request_id = record.request_id
            onward_lines(context, request_id, record.trace_id, record.span_id, recorded=record.recorded)
            request_id_line(request_id)
            tracing.end(record)

    def inspector(self) -> None:
        """What is kept of a request."""
        trail, parts, allow, record = self._server.trail, self._parts, self._allow, self.record()
        for raw in self._heads:
            record.evidence = trail.evidence(raw, parts.head, allow, parts.length)
            trail.add(record)

    def metrics(self) -> None:
        """All that is counted of a request, in the order in which it is."""
        metrics, record, name = self._server.metrics, self.record(), self._allow.route.upstream.name
        for _ in self._heads:
            metrics.on_begin()
            metrics.on_reuse(name)
            metrics.on_sent(0.0001)
            metrics.on_end(record)

    def log(self) -> None:
        """Lines, and the thread that writes them, to its end."""
        record = self.record()
        log = RequestLog(self._snapshot.log, asyncio.get_running_loop(), _lost)
        for _ in self._heads:
            log.write(record)
        log.close()

    def limits(self) -> None:
        """In, and out again."""
        caller, gates, waiter = self._caller, self._gates, cast("Any", object())
        assert caller.limits is not None
        for _ in self._heads:
            gate = gates.of(caller.name, caller.limits)
            if gate.enter(waiter) is not True:
                raise OSError("the limit that is never reached was reached")
            gate.leave()


def _lost(lines: int) -> None:
    raise OSError(f"{lines} lines of the log were lost, so not all of it was timed")


def _heads(kind: str, number: int) -> list[bytes]:
    """A batch of requests; varied ones differ from each other and from those of other batches."""
    first = number * LOOPS if kind == "varied" else 0
    step = 1 if kind == "varied" else 0
    return [
        request("GET", contract.VOICES, contract.SHOWN, fields=f"X-Request-Id: {first + at * step:08d}\r\n")
        for at in range(LOOPS)
    ]


Rounds = dict[str, dict[str, list[float]]]
"""Microseconds by what was timed, by kind of head, for each round."""

WHOLE: dict[str, Change] = {ALL_ON: as_it_is, "log": no_log, "inspector": no_inspector, "limits": limits}


async def _measure(rounds: int) -> dict[str, Rounds]:
    whole: Rounds = {name: {kind: [] for kind in KINDS} for name in WHOLE}
    pieces: Rounds = {name: {kind: [] for kind in KINDS} for name in PIECES}
    here, there = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, here, there:
        standing = {name: _Inside(change, Path(folder), here) for name, change in WHOLE.items()}
        gc.collect()
        gc.freeze()  # as ours does when it has started
        for number in range(rounds + 1):  # the first one warms up, and does not count
            for kind in KINDS:
                heads = _heads(kind, number)
                for name in standing if number % 2 else reversed(standing):
                    whole[name][kind].append(standing[name].exchange(heads))
                parts = _Pieces(standing[ALL_ON], standing["limits"], heads)
                works = {
                    "decision": parts.decision_repeated if kind == "repeated" else parts.decision_varied,
                    "record": parts.records, "ids": parts.ids, "metrics": parts.metrics, "log": parts.log,
                    "inspector": parts.inspector, "limits": parts.limits,
                }  # fmt: skip
                for name in works if number % 2 else reversed(works):
                    pieces[name][kind].append(_timed(works[name], LOOPS))
                await asyncio.sleep(0)
        for each in standing.values():
            each.server.log.close()
    for of in (whole, pieces):
        for kinds in of.values():
            for values in kinds.values():
                del values[0]
    return {"whole": whole, "pieces": pieces}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_measure(int(sys.argv[2])))
        Path(sys.argv[1]).write_text(json.dumps(measured), encoding="utf-8")
        sys.stdout.flush()
        os._exit(0)  # the fakes have no end that the server could wait for
