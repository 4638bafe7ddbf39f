"""A collector of spans on the loopback interface that reads what it is sent, and may be slow or refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.wires import PATIENCE


class Span(NamedTuple):
    """A span as it arrived; ids in hexadecimal, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    error: bool
    attributes: dict[str, Any]


class Collector:
    """Between ``start()`` and ``close()``. ``status`` is what it answers, with this ``location``; ``open`` lets answers
    out."""

    def __init__(self) -> None:
        self.status = 200
        self.location: str | None = None
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.shown: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._came = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.release()
                collector.open.wait(PATIENCE)
                if collector.status == 200:
                    collector._take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(collector.status)
                if collector.location is not None:
                    self.send_header("Location", collector.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> Collector:
        self._thread.start()
        return self

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()

    def wait(self, count: int) -> list[Span]:
        """The spans, when there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.spans) >= count, PATIENCE), self.spans
            return self.spans

    def _take(self, path: str, fields: dict[str, str], body: bytes) -> None:
        with self._came:
            self.paths.append(path)
            self.shown.append(fields)
            for resource, spans in _read(body):
                self.resources.append(resource)
                self.spans += spans
            self._came.notify_all()


def _read(body: bytes) -> Iterator[tuple[dict[str, Any], list[Span]]]:
    for told in ExportTraceServiceRequest.FromString(body).resource_spans:
        yield (
            _plain(told.resource.attributes),
            [
                Span(
                    each.name,
                    each.trace_id.hex(),
                    each.span_id.hex(),
                    each.parent_span_id.hex(),
                    each.kind,
                    each.start_time_unix_nano,
                    each.end_time_unix_nano,
                    each.status.code == each.status.STATUS_CODE_ERROR,
                    _plain(each.attributes),
                )
                for scope in told.scope_spans
                for each in scope.spans
            ],
        )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
