"""Finished requests as OTLP spans: one for each exchange, handed to a thread that tells a collector.

What belongs here: the thread, its bounded queue, and what of a record a span says. What does not: ids and the choice of
requests (``tracing.py``).

The data path puts a record into a queue and knows no more. OpenTelemetry is imported by the thread, so that neither a
start nor a reload waits for it; a collector that is dead or slow costs the spans that do not fit the queue, counted.
Never a query, a body, a field, a peer's address.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Iterator, Mapping
from threading import Thread
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.core.model import METHODS, Address, SpanSettings
from proxy.observe.record import GONE, Ending, Record

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from requests import Response

MOST_WAITING = 4096
"""Spans that wait for the collector; twice the SDK's own bound: a busy proxy makes thousands a second.

Records of 4 MB (measured, 2026-11-22) and their paths, which ``limits.line`` bounds; heads only of those that the
inspector keeps anyway."""

MOST_AT_ONCE = 512
"""Spans in one export, as in the SDK."""

GATHER = 1.0
"""Seconds from a span's end until it is exported, if not many come: soon enough for whoever looks for it."""

FLUSH = 2.0
"""Seconds for which the process waits at its end for what is left to be exported."""

_NOWHERE = frozenset({"0.0.0.0", "::"})

logger = logging.getLogger("proxy")


class SpanExport:
    """Owns the thread and its queue. ``counts`` (exported, failed, dropped) outlives it: the next adds to it too."""

    def __init__(
        self,
        settings: SpanSettings,
        templates: Mapping[str, str],
        listen: Address,
        counts: dict[str, int],
        *,
        secure: bool = False,
    ) -> None:
        self._settings = settings
        self._templates = templates
        self._listen = listen
        self._scheme = "https" if secure else "http"
        self._counts = counts
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._failing = False
        self._working = Thread(target=self._run, name="spans", daemon=True)
        self._working.start()

    def put(self, record: Record) -> None:
        """Takes a record that changes no more."""
        if self._queue.qsize() >= MOST_WAITING:
            self._counts["dropped"] += 1
        else:
            self._queue.put(record)

    def end(self) -> None:
        """Nothing more will come: the thread exports what it has, and ends."""
        self._queue.put(None)

    @property
    def is_working(self) -> bool:
        """Has it something to export yet, or may it be given something?"""
        return self._working.is_alive()

    def wait(self, until: float) -> None:
        """After ``end()``: waits until all is exported, but not for longer than this, by the monotonic clock."""
        self._working.join(max(0.0, until - time.monotonic()))
        if self._working.is_alive() and (left := self._queue.qsize() - 1) > 0:
            logger.warning("%d spans were not exported: %s takes too long", left, self._settings.endpoint)

    def _run(self) -> None:
        try:
            exporter, to_span = self._prepare()
        except Exception:
            # A broken installation, or a variable of OpenTelemetry's that it cannot use: requests go on without spans.
            logger.exception("no spans are exported: OpenTelemetry cannot be used")
            for batch in self._batches():
                self._counts["failed"] += len(batch)
            return
        for batch in self._batches():
            self._export(exporter, [to_span.make(record) for record in batch])
        exporter.shutdown()  # type: ignore[no-untyped-call]

    def _prepare(self) -> tuple[OTLPSpanExporter, _Spans]:
        import requests  # noqa: PLC0415 - all three: see above
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource  # noqa: PLC0415

        # What it says about failures may quote the collector, and comes for each batch; we say it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        settings = self._settings
        resource = Resource.create({SERVICE_NAME: settings.service_name, SERVICE_VERSION: __version__})
        session = requests.Session()
        session.trust_env = False  # no proxy and no ~/.netrc that nobody named
        session.hooks["response"].append(_refuse_redirect)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, headers=dict(settings.headers), session=session)
        return exporter, _Spans(resource, self._templates, self._listen, self._scheme)

    def _batches(self) -> Iterator[list[Record]]:
        """What has come, at most so much at once, until nothing more will."""
        while (record := self._queue.get()) is not None:
            batch = [record]
            until = time.monotonic() + GATHER
            more: Record | None = record
            while more is not None and len(batch) < MOST_AT_ONCE:
                try:
                    more = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if more is not None:
                    batch.append(more)
            yield batch
            if more is None:
                return

    def _export(self, exporter: OTLPSpanExporter, spans: list[ReadableSpan]) -> None:
        taken = False
        with contextlib.suppress(Exception):  # an export that failed is counted and said below, whatever the reason
            taken = exporter.export(spans).name == "SUCCESS"
        self._counts["exported" if taken else "failed"] += len(spans)
        if taken and self._failing:
            logger.info("%s takes spans again", self._settings.endpoint)
        elif not taken and not self._failing:
            logger.warning("%s does not take spans; they are lost until it does", self._settings.endpoint)
        self._failing = not taken


def _refuse_redirect(response: Response, *_: object, **__: object) -> None:
    """Called by requests for each answer. The SDK takes 3xx for success, and the headers are for this address only."""
    if 300 <= response.status_code < 400:
        response.close()  # whoever asked gets an exception and not this
        raise ValueError("a redirect")


class _Spans:
    """Makes spans of records. The names of attributes are OpenTelemetry's (HTTP server spans) where it has one."""

    def __init__(self, resource: Resource, templates: Mapping[str, str], listen: Address, scheme: str) -> None:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - only where spans are exported
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

        self._span, self._context, self._status = ReadableSpan, SpanContext, Status
        self._kind, self._ok, self._error = SpanKind.SERVER, Status(StatusCode.UNSET), Status(StatusCode.ERROR)
        self._flags = TraceFlags(TraceFlags.SAMPLED)
        self._scope = InstrumentationScope("inworld-proxy", __version__)
        self._resource = resource
        self._templates = templates
        self._server: dict[str, str | int] = {"url.scheme": scheme}
        if listen.path is None and listen.host not in _NOWHERE:
            self._server |= {"server.address": listen.host, "server.port": listen.port}

    def make(self, record: Record) -> ReadableSpan:
        """The span of a finished request: its whole life, a WebSocket's too."""
        trace_id = int(record.trace_id, 16)
        parent = self._context(trace_id, int(record.parent_id, 16), is_remote=True) if record.parent_id else None
        route = self._templates.get(record.operation or "")
        method = record.method if record.method in METHODS else "HTTP"
        start = int(record.moment * 1e9)
        return self._span(
            f"{method} {route}" if route else method,
            context=self._context(trace_id, int(record.span_id, 16), is_remote=False, trace_flags=self._flags),
            parent=parent,
            resource=self._resource,
            attributes=self._server | attributes_of(record) | ({"http.route": route} if route else {}),
            kind=self._kind,
            instrumentation_scope=self._scope,
            status=self._error if has_failed(record) else self._ok,
            start_time=start,
            end_time=start + int((record.ended - record.received) * 1e9),
        )


def has_failed(record: Record) -> bool:
    """Is it an error of a server span? A refusal is none, and a caller that left has made none."""
    return record.status >= 500 or record.ending in (Ending.FAILED, Ending.ABORTED)


def attributes_of(record: Record) -> dict[str, str | int | float | bool]:
    """What a span says of a record: HTTP's own attributes, and ours by the names of the log fields."""
    known = record.method in METHODS
    said: dict[str, str | int | float | bool | None] = {
        "http.request.method": record.method if known else "_OTHER",
        "url.path": record.path,
        "http.response.status_code": record.status if record.status not in (0, GONE) else None,
        "error.type": _error_type(record) if has_failed(record) else None,
        "inworld_proxy.operation": record.operation,
        "inworld_proxy.caller": record.caller,
        "inworld_proxy.decision": _decision(record),
        "inworld_proxy.code": None if record.code is None else record.code.value,
        "inworld_proxy.would_refuse": None if record.would_refuse is None else record.would_refuse.value,
        "inworld_proxy.ending": record.ending.word,
        "inworld_proxy.upstream": record.upstream,
        "inworld_proxy.credential": record.credential,
        "inworld_proxy.first_byte_ms": _ms(record.first_byte - record.received) if record.first_byte else None,
        "inworld_proxy.overhead_ms": _ms(record.sent - record.received) if record.sent else None,
        "inworld_proxy.request_bytes": record.request_bytes,
        "inworld_proxy.response_bytes": record.response_bytes,
        "inworld_proxy.messages_in": record.messages_in if record.tunnel_opened else None,
        "inworld_proxy.messages_out": record.messages_out if record.tunnel_opened else None,
        "inworld_proxy.retried": True if record.retried else None,
        "inworld_proxy.request_id": record.request_id,
        "inworld_proxy.inworld_request_id": record.inworld_request_id,
    }
    return {name: value for name, value in said.items() if value is not None}


def _decision(record: Record) -> str:
    if record.ending is Ending.REFUSED:
        return "refused"
    return "allowed" if record.would_refuse is None else "would_refuse"


def _error_type(record: Record) -> str:
    return str(record.status) if record.code is None else record.code.value


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
