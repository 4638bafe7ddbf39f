"""Each request's ids, and which requests become spans.

What belongs here: making ids, and deciding. What does not: what a head may say (``core/trace.py``), and how spans leave
(``spans.py``).

Ids are cut from blocks of the kernel's random bytes: a system call for each request would take as long as all the rest,
and from what Python's own generator gave to one caller another's ids could be computed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from proxy.core.model import Snapshot, SpanSettings
from proxy.core.trace import NOTHING_SAID, TraceContext
from proxy.observe.record import Record
from proxy.observe.spans import FLUSH, SpanExport

_DIGITS: Final = 48
"""Of a trace id and a span id. That one is all zeros, which would be none, happens once in 2**64 requests."""

_BLOCK: Final = 6144
"""Random bytes fetched at once: the ids of 256 requests."""
_END: Final = 12288


class Tracing:
    """Gives every record its ids at its beginning, and takes it at its end. One of each process, never copied."""

    def __init__(self, snapshot: Snapshot, counts: dict[str, int], random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._digits = ""
        self._at = _END
        self._export: SpanExport | None = None
        self._ended: list[SpanExport] = []
        """Exports of earlier settings that still have something to tell."""
        self._settings: SpanSettings | None = None
        self._told: object = None
        self._bound = 0
        self._follows = True
        self._counts = counts
        self.configure(snapshot)

    def configure(self, snapshot: Snapshot) -> None:
        """Takes new settings at once. What was waiting to be exported still goes where the old ones said."""
        settings = snapshot.spans
        templates = {name: operation.template for name, operation in snapshot.policy.operations.items()}
        secure = snapshot.tls is not None
        told = (settings, templates, snapshot.listen, secure)
        if told == self._told:
            return
        self._told = told
        self._end_export()
        self._settings = settings
        if settings is not None:
            self._export = SpanExport(settings, templates, snapshot.listen, self._counts, secure=secure)
            self._bound = round(settings.sample * 2**64)
            self._follows = settings.follow_callers

    def begin(self, record: Record, context: TraceContext) -> None:
        """Gives a record its ids: the caller's where it sent usable ones, else new ones."""
        at = self._at
        if at == _END:
            self._digits = self._random(_BLOCK).hex()
            at = 0
        self._at = at + _DIGITS
        digits = self._digits
        if self._settings is None and context is NOTHING_SAID:
            # What most requests are, and the least that has to be done.
            record.request_id = record.trace_id = digits[at : at + 32]
            record.span_id = digits[at + 32 : at + _DIGITS]
            return
        if context.trace_id:
            trace_id = context.trace_id
            record.parent_id = context.parent_id
        else:
            trace_id = digits[at : at + 32]
        record.trace_id = trace_id
        record.request_id = context.request_id or trace_id
        if self._settings is not None and self._is_wanted(context, trace_id):
            record.recorded = True
        # Who passes a trace on without a span of its own leaves the parent as it is.
        record.span_id = (
            digits[at + 32 : at + _DIGITS] if record.recorded or not context.trace_id else context.parent_id
        )

    def _is_wanted(self, context: TraceContext, trace_id: str) -> bool:
        if context.trace_id and self._follows:
            return context.sampled
        # The same trace is decided on alike wherever it is decided so (OpenTelemetry's TraceIdRatioBased).
        return int(trace_id[16:], 16) < self._bound

    def end(self, record: Record) -> None:
        """The request is over; nothing of its record changes any more."""
        if record.recorded and self._export is not None:
            self._export.put(record)

    async def close(self) -> None:
        """Exports what is waiting, for a bounded time, wherever it is to go."""
        self._end_export()
        ended, self._ended = self._ended, []
        if ended:
            await asyncio.to_thread(_wait_for, ended)

    def _end_export(self) -> None:
        export, self._export = self._export, None
        self._ended = [each for each in self._ended if each.is_working]
        if export is not None:
            export.end()
            self._ended.append(export)


def _wait_for(exports: list[SpanExport]) -> None:
    """For all of them no longer than for one."""
    until = time.monotonic() + FLUSH
    for export in exports:
        export.wait(until)
