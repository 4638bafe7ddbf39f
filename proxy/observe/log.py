"""One line per request on standard output or in a file: JSON, or readable on a terminal. Never a query, a credential
or a body.

The data path appends a line to a list; the list is handed to a writing thread a few times a second, so a slow pipe or
a full disk never stops traffic: what cannot be written in time is dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from proxy.core.compiling import mypyc_attr
from proxy.core.model import LogFormat, LogLevel, LogSettings
from proxy.observe.record import Ending, Record

FLUSH_SECONDS = 0.1
"""A person who watches sees lines at once; a busy proxy writes thousands with one system call."""

MOST_WAITING = 20_000
"""Lines handed over and not yet written; about 6 MB. More are dropped."""

_ENDINGS: Final = [ending.word for ending in Ending]
_LEAST = {LogLevel.ALL: 0, LogLevel.REFUSED: 400, LogLevel.FAILED: 500}
"""The statuses from which on a request is written at each level; what was cut off is, at each."""


@mypyc_attr(allow_interpreted_subclasses=True)  # tests watch it
class RequestLog:
    """Formats records and hands them to the thread that writes. ``dropped`` is called with a count of lost lines.

    ``descriptor`` is where they are written to: standard output, unless that is somebody else's.
    """

    def __init__(
        self,
        settings: LogSettings,
        loop: asyncio.AbstractEventLoop,
        dropped: Callable[[int], None],
        descriptor: int = 1,
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._dropped = dropped
        self._lines: list[str] = []
        self._flush: asyncio.TimerHandle | None = None
        self._writer: _Writer | None = None
        self._second = 0
        self._second_text = ""
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Takes new settings, at once."""
        self._off = settings.format is LogFormat.OFF
        self._text = settings.format is LogFormat.TEXT or (
            settings.format is LogFormat.AUTO and os.isatty(self._descriptor)
        )
        self._least = _LEAST[settings.level]
        self._omit = settings.omit

    def write(self, record: Record) -> None:
        """One request is over."""
        if self._off or (self._least and not self._is_wanted(record)):
            return
        self._lines.append(self._line(record))
        if self._flush is None:
            self._flush = self._loop.call_later(FLUSH_SECONDS, self.flush)

    def _is_wanted(self, record: Record) -> bool:
        if record.status >= self._least or record.ending is Ending.ABORTED:
            return True
        return self._least < 500 and record.ending is not Ending.ANSWERED

    def flush(self) -> None:
        """Hands the collected lines to the writer."""
        self._flush = None
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if self._writer is None:
            self._writer = _Writer(self._descriptor)
        if not self._writer.put(lines):
            self._dropped(len(lines))
        self._count_lost(self._writer)

    def close(self) -> None:
        """Writes what is left, waiting at most a second for a slow reader."""
        if self._flush is not None:
            self._flush.cancel()
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._count_lost(self._writer)

    def _count_lost(self, writer: _Writer) -> None:
        lost = writer.take_lost()
        if lost:
            self._dropped(lost)

    def _line(self, record: Record) -> str:
        if self._text:
            return _text_line(record, self._omit)
        second = int(record.moment)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = _json_line(record, self._second_text, _THOUSANDTHS[int((record.moment - second) * 1000)])
        if self._omit:
            fields = {name: value for name, value in json.loads(line).items() if name not in self._omit}
            line = json.dumps(fields, separators=(",", ":")) + "\n"
        return line


class _Writer:
    """Owns the thread. ``waiting`` is changed under the queue's own lock order: put adds, the thread subtracts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lost = 0
        self._lock = threading.Lock()
        # Not _thread: compiled, it becomes __thread, which is a word of C.
        self._writing = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._writing.start()

    def put(self, lines: list[str]) -> bool:
        with self._lock:
            if self._waiting + len(lines) > MOST_WAITING:
                return False
            self._waiting += len(lines)
        self._queue.put(lines)
        return True

    def take_lost(self) -> int:
        """How many lines could not be written since this was last asked."""
        with self._lock:
            lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        self._queue.put(None)
        self._writing.join(timeout=1.0)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            text = "".join(lines).encode("utf-8", "backslashreplace")
            lost = 0
            try:
                while text:
                    text = text[os.write(self._descriptor, text) :]
            except OSError:
                # Its reader is gone or its disk is full: traffic goes on, these lines do not.
                lost = text.count(b"\n")
                time.sleep(FLUSH_SECONDS)
            with self._lock:
                self._waiting -= len(lines)
                self._lost += lost


_THOUSANDTHS: Final = tuple(f".{number:03d}" for number in range(1000))
_NUMBERS: Final = tuple(str(number) for number in range(1000))
_METHODS: Final = {method: f'"{method}"' for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


def _add_ms(pieces: list[str], seconds: float) -> None:
    """Seconds as milliseconds with three digits behind the point."""
    microseconds = max(0, int(seconds * 1_000_000 + 0.5))
    whole = microseconds // 1000
    pieces.append(_NUMBERS[whole] if whole < 1000 else str(whole))
    pieces.append(_THOUSANDTHS[microseconds % 1000])


# C's string escaping, whole numbers, and pieces that mostly exist, joined once: an exchange spends 27 thousand
# instructions on its line with `format` and its fractions, 10.6 with strings within strings, and 9.5 like this
# (callgrind, compiled, 2026-11-22).
def _json_line(record: Record, second: str, thousandth: str) -> str:
    received = record.received
    names = _NAMES.get((record.operation, record.caller)) or _names(record.operation, record.caller)
    pieces = [
        '{"time":"', second, thousandth, 'Z","method":', _METHODS.get(record.method) or quote(record.method),
        ',"path":', quote(record.path), names,
        ',"status":', _NUMBERS[record.status], ',"ending":"', _ENDINGS[record.ending], '","duration_ms":',
    ]  # fmt: skip
    _add_ms(pieces, record.ended - received)
    if record.first_byte:
        pieces.append(',"first_byte_ms":')
        _add_ms(pieces, record.first_byte - received)
    if record.sent:
        pieces.append(',"overhead_ms":')
        _add_ms(pieces, record.sent - received)
    pieces += [',"request_bytes":', str(record.request_bytes), ',"response_bytes":', str(record.response_bytes)]
    if record.upstream is not None and record.credential is not None:
        key = (record.upstream, record.credential, record.reused)
        pieces.append(_SHOWN.get(key) or _shown(record.upstream, record.credential, reused=record.reused))
    _add_rare_fields(pieces, record)
    pieces += [',"peer":"', record.peer, '"}\n']
    return "".join(pieces)


# Names come again: of operations, callers, upstreams, credentials. What is written of them is made once.
_NAMES: Final[dict[tuple[str | None, str | None], str]] = {}
_SHOWN: Final[dict[tuple[str, str, bool], str]] = {}
_MOST_NAMES = 4096


def _names(operation: str | None, caller: str | None) -> str:
    text = "" if operation is None else f',"operation":{quote(operation)}'
    text += "" if caller is None else f',"caller":{quote(caller)}'
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[operation, caller] = text
    return text


def _shown(upstream: str, credential: str, *, reused: bool) -> str:
    word = "true" if reused else "false"
    text = f',"upstream":{quote(upstream)},"credential":{quote(credential)},"reused":{word}'
    if len(_SHOWN) < _MOST_NAMES:
        _SHOWN[upstream, credential, reused] = text
    return text


def _add_rare_fields(pieces: list[str], record: Record) -> None:
    if record.code is not None:
        pieces.append(f',"code":"{record.code.value}"')
    if record.would_refuse is not None:
        pieces.append(f',"would_refuse":"{record.would_refuse.value}"')
    if record.tunnel_opened:
        pieces.append(f',"messages_in":{record.messages_in},"messages_out":{record.messages_out}')
    if record.retried:
        pieces.append(',"retried":true')
    if record.request_id:
        pieces += [',"request_id":"', record.request_id, '"']  # of harmless characters alone (core/trace.py)
    if record.trace_id != record.request_id:
        pieces.append(f',"trace_id":"{record.trace_id}"')
    if record.inworld_request_id is not None:
        pieces.append(f',"inworld_request_id":{quote(record.inworld_request_id)}')


def _text_line(record: Record, omit: frozenset[str]) -> str:
    clock = time.strftime("%H:%M:%S")
    what = record.code.value if record.code is not None else (record.operation or "")
    note = "" if record.ending in (Ending.ANSWERED, Ending.REFUSED, Ending.FAILED) else f" {record.ending.word}"
    caller = "" if "caller" in omit or record.caller in (None, "anonymous") else f" {record.caller}"
    path = "-" if "path" in omit else record.path.encode("unicode_escape").decode("ascii")
    duration = f"{(record.ended - record.received) * 1000:.1f}"
    size = f"{record.response_bytes} B"
    # Whoever has to ask about it needs the id; of the others a person sees none.
    asked_about = record.code is not None or record.status >= 400
    name = f" id={record.request_id}" if asked_about and record.request_id and "request_id" not in omit else ""
    return f"{clock} {record.status or '---'} {record.method} {path} {what}{caller}{note} {duration} ms {size}{name}\n"
