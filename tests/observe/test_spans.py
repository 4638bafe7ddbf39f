"""One span for each exchange, as a collector reads it; and what a collector that is dead or slow costs: spans."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import Code
from proxy.core.model import Address, SpanSettings
from proxy.observe import spans
from proxy.observe.record import GONE, Ending, Record
from proxy.observe.spans import SpanExport, attributes_of, has_failed
from tests.observe.collectors import Collector
from tests.proxies import Proxies, Proxy
from tests.snapshots import AUTHORIZATION, SOCKET, make_snapshot, upstream_at
from tests.wires import OK, PATIENCE, bounded, request, response

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, STARTED = 2, 1_700_000_000.0
HANDSHAKE = request(
    f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector().start()
    yield made
    made.close()


def to(url: str, **more: Any) -> SpanSettings:
    return SpanSettings(f"{url}/v1/traces", **more)


def finished(**facts: Any) -> Record:
    record = Record(100.0, STARTED, "GET", "/things", "192.0.2.7")
    record.ended, record.status, record.operation, record.caller = 100.25, 200, "things.any", "storefront"
    record.request_id = record.trace_id = TRACE
    record.span_id, record.recorded = "b7ad6b7169203331", True
    for name, value in facts.items():
        setattr(record, name, value)
    return record


class Exporting:
    """An export on its own, and what it counts."""

    def __init__(self, url: str, **more: Any) -> None:
        self.counts = {"exported": 0, "failed": 0, "dropped": 0}
        templates = {"things.any": "/things"}
        self.export = SpanExport(to(url, **more), templates, Address("127.0.0.1", 8080), self.counts)

    def close(self) -> float:
        before = time.monotonic()
        self.export.end()
        self.export.wait(before + spans.FLUSH)
        return time.monotonic() - before


async def start(proxies: Proxies, collector: Collector, **more: Any) -> Proxy:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    return await proxies.start(replace(snapshot, spans=to(collector.url, **more)), upstream)


async def serve(proxy: Proxy, count: int) -> None:
    """So many requests on one connection."""
    caller = await proxy.caller()
    await caller.send(request("GET /things") * count)
    wire = await proxy.upstream.accept()
    for _ in range(count):
        await wire.message()
        await wire.send(OK)
        assert (await caller.message()).content == b"ok"


async def collected(proxy: Proxy, collector: Collector, count: int) -> list[Any]:
    await proxy.server.tracing.close()
    return collector.wait(count)


async def test_an_exchange_is_one_span_with_what_the_log_says_of_it(proxies: Proxies, collector: Collector) -> None:
    proxy = await start(proxies, collector)
    seen, _ = await proxy.pass_on(
        request("GET /voices/v1/voices/v7?secret=hush", f"traceparent: 00-{TRACE}-{PARENT}-01", "tracestate: a=b"),
        response("200 OK", "x-inworld-request-id: i-1", body=b"hello"),
    )
    (span,) = await collected(proxy, collector, 1)
    (record,) = proxy.records
    assert (span.name, span.kind, span.error) == ("GET /voices/v1/voices/{voice_id}", SERVER, False)
    assert (span.trace_id, span.parent_id, span.span_id) == (TRACE, PARENT, record.span_id)
    assert (seen.head.get("traceparent"), seen.head.get("tracestate")) == (f"00-{TRACE}-{span.span_id}-01", "a=b")
    assert 0 <= span.end - span.start < PATIENCE * 1e9
    said = span.attributes
    assert 0 < said.pop("inworld_proxy.overhead_ms") <= said.pop("inworld_proxy.first_byte_ms") < PATIENCE * 1000
    assert said == {
        "http.request.method": "GET",
        "http.route": "/voices/v1/voices/{voice_id}",
        "http.response.status_code": 200,
        "url.path": "/voices/v1/voices/v7",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 0,
        "inworld_proxy.operation": "voices.get",
        "inworld_proxy.caller": "anonymous",
        "inworld_proxy.decision": "allowed",
        "inworld_proxy.ending": "answered",
        "inworld_proxy.upstream": "inworld",
        "inworld_proxy.credential": record.credential,
        "inworld_proxy.request_bytes": 0,
        "inworld_proxy.response_bytes": 5,
        "inworld_proxy.request_id": TRACE,
        "inworld_proxy.inworld_request_id": "i-1",
    }
    assert collector.resources[0]["service.name"] == "inworld-proxy"
    assert collector.paths == ["/v1/traces"]
    _until(lambda: proxy.metrics.spans == {"exported": 1, "failed": 0, "dropped": 0})


def test_where_callers_speak_tls_the_scheme_says_so(collector: Collector) -> None:
    counts = {"exported": 0, "failed": 0, "dropped": 0}
    export = SpanExport(to(collector.url), {}, Address("127.0.0.1", 8443), counts, secure=True)
    export.put(finished())
    export.end()
    (span,) = collector.wait(1)
    assert span.attributes["url.scheme"] == "https"


async def test_a_refusal_is_a_span_and_no_error(proxies: Proxies, collector: Collector) -> None:
    proxy = await start(proxies, collector)
    await proxy.ask(request("GET /nothing/here?secret=hush"))
    (span,) = await collected(proxy, collector, 1)
    assert (span.name, span.parent_id, span.error) == ("GET", "", False)
    assert span.attributes["inworld_proxy.decision"] == "refused"
    assert span.attributes["inworld_proxy.code"] == "no_operation"
    assert "error.type" not in span.attributes


async def test_a_websocket_is_one_span_for_its_whole_life(proxies: Proxies, collector: Collector) -> None:
    proxy = await start(proxies, collector)
    caller = await proxy.caller()
    await caller.send(HANDSHAKE)
    wire = await proxy.upstream.accept()
    seen = await wire.head()
    await wire.send(SWITCH + b"\x81\x02hi")
    await caller.head()
    await caller.exactly(4)
    caller.close()
    wire.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    (span,) = await collected(proxy, collector, 1)
    assert span.attributes["http.response.status_code"] == 101
    assert (span.attributes["inworld_proxy.messages_in"], span.attributes["inworld_proxy.messages_out"]) == (0, 1)
    assert seen.get("traceparent") == f"00-{span.trace_id}-{span.span_id}-01"


async def test_a_failure_is_an_error_with_its_code(proxies: Proxies, collector: Collector) -> None:
    snapshot = replace(make_snapshot(upstream_at(1)), spans=to(collector.url))
    proxy = await proxies.start(snapshot, await proxies.upstream())
    await proxy.ask(request("GET /things"))
    (span,) = await collected(proxy, collector, 1)
    assert (span.error, span.attributes["http.response.status_code"]) == (True, 502)
    assert span.attributes["error.type"] == span.attributes["inworld_proxy.code"] == "upstream_connect_failed"


async def test_nothing_secret_and_no_address_is_told(proxies: Proxies, collector: Collector) -> None:
    proxy = await start(proxies, collector)
    hush = ["Authorization: Bearer hush-1", "Cookie: hush-2", "X-Own: hush-3", "baggage: hush=4"]
    await proxy.pass_on(request("POST /things?key=hush-5", *hush, body=b"hush-6"), response("200 OK", body=b"hush-7"))
    (span,) = await collected(proxy, collector, 1)
    told = f"{span} {collector.resources}"
    assert "hush" not in told
    assert AUTHORIZATION.partition(" ")[2] not in told
    assert "192.0.2" not in str(attributes_of(finished()))


async def test_every_request_of_many_has_its_span(proxies: Proxies, collector: Collector) -> None:
    proxy = await start(proxies, collector)
    await serve(proxy, 40)
    told = await collected(proxy, collector, 40)
    assert [span.span_id for span in told] == [record.span_id for record in proxy.records]


@pytest.mark.parametrize(
    ("facts", "decision", "failed"),
    [
        ({}, "allowed", False),
        ({"would_refuse": Code.OPERATION_NOT_GRANTED}, "would_refuse", False),
        ({"ending": Ending.REFUSED, "status": 403, "code": Code.WRITE_NOT_PERMITTED}, "refused", False),
        ({"status": 404}, "allowed", False),
        ({"status": 500}, "allowed", True),
        ({"ending": Ending.FAILED, "status": 502, "code": Code.UPSTREAM_CLOSED}, "allowed", True),
        ({"ending": Ending.ABORTED, "code": Code.UPSTREAM_CLOSED}, "allowed", True),
        ({"ending": Ending.CALLER_GONE, "status": GONE}, "allowed", False),
    ],
)
def test_what_was_decided_and_what_counts_as_an_error(facts: dict[str, Any], decision: str, failed: bool) -> None:
    record = finished(**facts)
    said = attributes_of(record)
    assert (said["inworld_proxy.decision"], has_failed(record), "error.type" in said) == (decision, failed, failed)
    assert said.get("http.response.status_code") == (None if record.status == GONE else record.status)


def test_a_method_that_a_caller_invented_is_no_name_of_a_span(collector: Collector) -> None:
    exporting = Exporting(collector.url)
    exporting.export.put(finished(method="X" * 5000, operation=None))
    exporting.close()
    (span,) = collector.wait(1)
    assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert (span.start, span.end - span.start) == (int(STARTED * 1e9), 250_000_000)


def test_the_collector_is_shown_what_is_configured_and_nobodys_proxy_is_asked(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    exporting = Exporting(collector.url, headers=(("authorization", "Bearer otlp"),), service_name="studio")
    exporting.export.put(finished())
    exporting.close()
    collector.wait(1)
    assert collector.shown[0]["authorization"] == "Bearer otlp"
    assert collector.resources[0]["service.name"] == "studio"
    assert "otlp" not in repr(to(collector.url, headers=(("authorization", "Bearer otlp"),)))


def test_a_collector_that_is_not_there_costs_the_spans_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    collector._server.server_close()
    with caplog.at_level(logging.INFO):
        exporting = Exporting(collector.url)
        exporting.export.put(finished())
        assert exporting.close() < spans.FLUSH + 1.0
    assert exporting.counts["exported"] == 0


def test_a_collector_that_refuses_is_said_once_and_so_is_that_it_takes_them_again(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    with caplog.at_level(logging.INFO, "proxy"):
        exporting = Exporting(collector.url)
        for count in (1, 2):
            exporting.export.put(finished())
            assert collector.asked.acquire(timeout=PATIENCE)
            _until(lambda count=count: exporting.counts["failed"] == count)
        collector.status = 200
        exporting.export.put(finished())
        exporting.close()
    assert exporting.counts == {"exported": 1, "failed": 2, "dropped": 0}
    said = [record.getMessage() for record in caplog.records]
    assert [("does not take" in each, "again" in each) for each in said] == [(True, False), (False, True)]


def test_a_slow_collector_costs_what_does_not_fit_the_queue_and_the_end_does_not_wait_for_it(
    collector: Collector,
) -> None:
    collector.open.clear()
    exporting = Exporting(collector.url)
    exporting.export.put(finished())
    assert collector.asked.acquire(timeout=PATIENCE)
    for _ in range(spans.MOST_WAITING + 10):
        exporting.export.put(finished())
    assert exporting.counts["dropped"] == 10
    assert exporting.close() < spans.FLUSH + 1.0
    collector.open.set()
    exporting.export._working.join(PATIENCE)


async def test_requests_are_served_while_the_collector_hangs(proxies: Proxies, collector: Collector) -> None:
    collector.open.clear()
    proxy = await start(proxies, collector)
    export = proxy.server.tracing._export
    assert export is not None
    await serve(proxy, 5)
    await bounded(proxy.server.drain(5.0), spans.FLUSH + 5.0)
    assert export._working.is_alive()
    collector.open.set()
    export._working.join(PATIENCE)
    assert not export._working.is_alive()


async def test_a_reload_moves_the_spans_to_another_collector_without_losing_one(
    proxies: Proxies, collector: Collector
) -> None:
    other = Collector().start()
    try:
        proxy = await start(proxies, collector)
        await serve(proxy, 1)
        proxy.server.adopt(replace(proxy.server.snapshot, spans=to(other.url)))
        await proxy.ask(request("GET /nothing/here"))
        (before,), (after,) = collector.wait(1), await collected(proxy, other, 1)
        assert [before.span_id, after.span_id] == [record.span_id for record in proxy.records]
    finally:
        other.close()


async def test_a_stop_after_a_reload_waits_for_what_the_old_collector_is_still_owed(
    proxies: Proxies, collector: Collector
) -> None:
    other = Collector().start()
    try:
        collector.open.clear()
        proxy = await start(proxies, collector)
        await serve(proxy, 1)
        proxy.server.adopt(replace(proxy.server.snapshot, spans=to(other.url)))
        await asyncio.to_thread(collector.asked.acquire, timeout=PATIENCE)
        asyncio.get_running_loop().call_later(0.3, collector.open.set)
        await bounded(proxy.server.tracing.close())
        assert proxy.server.metrics.spans["exported"] == 1
    finally:
        other.close()


async def test_a_stop_waits_for_all_collectors_no_longer_than_for_one_and_says_what_each_did_not_take(
    proxies: Proxies, collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "GATHER", 0.0)
    others = [Collector().start() for _ in range(3)]
    proxy = await start(proxies, collector)
    try:
        exports = []
        for each in (collector, *others):
            each.open.clear()
            proxy.server.adopt(replace(proxy.server.snapshot, spans=to(each.url)))
            export = proxy.server.tracing._export
            assert export is not None
            exports.append(export)
            export.put(finished())
            await asyncio.to_thread(each.asked.acquire, timeout=PATIENCE)
            export.put(finished())
        begun = time.monotonic()
        with caplog.at_level(logging.WARNING, "proxy"):
            await bounded(proxy.server.tracing.close())
        assert time.monotonic() - begun < spans.FLUSH + 1.0
        said = [record.getMessage() for record in caplog.records if "1 spans were not exported" in record.getMessage()]
        assert [each.url in line for each, line in zip((collector, *others), said, strict=True)] == [True] * 4
    finally:
        for each in others:
            each.close()
        collector.open.set()
        for export in exports:
            export._working.join(PATIENCE)


@pytest.mark.parametrize("status", [300, 302, 304, 307, 308])
@pytest.mark.parametrize("leads", [True, False])
def test_a_collector_that_points_elsewhere_has_taken_nothing_and_nobody_follows(
    collector: Collector, status: int, leads: bool
) -> None:
    other = Collector().start()
    try:
        collector.status, collector.location = status, f"{other.url}/v1/traces" if leads else None
        exporting = Exporting(collector.url, headers=(("x-tenant", "seven"),))
        exporting.export.put(finished())
        exporting.close()
        assert exporting.counts == {"exported": 0, "failed": 1, "dropped": 0}
        assert not other.asked.acquire(blocking=False)
    finally:
        other.close()


def _until(true: Any) -> None:
    """Waits for a thread that says nothing when it is done."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)
