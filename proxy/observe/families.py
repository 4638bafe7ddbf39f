"""Every metric the proxy exports: its name, its text and its labels, made from the counters at scrape time."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.core.build import BUILD
from proxy.core.model import Snapshot
from proxy.observe.metrics import Metrics
from proxy.observe.record import Ending

PREFIX = "inworld_proxy_"


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """Everything in the client library's form. For tests and documentation: with many callers it is too slow."""
    registry = registry_of_few(metrics)
    registry.register(_FamiliesBySeries(metrics))
    return registry


def registry_of_few(metrics: Metrics) -> CollectorRegistry:
    """What does not grow with the callers; the rest is written by ``exposition.py``."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_Families(metrics))
    return registry


class Wide(NamedTuple):
    """A family with a row for each operation and caller: its name without the prefix, its text, and its labels."""

    name: str
    text: str
    labels: tuple[str, ...]


_PAIR = ("operation", "caller")
REQUESTS = Wide("requests", "Requests by operation, method, status and caller; 499: the caller left first.",
                ("operation", "method", "status", "caller"))  # fmt: skip
DURATION = Wide("request_duration_seconds", "From a request's head to its response's end.", _PAIR)
FIRST_BYTE = Wide("first_byte_seconds", "From a request's head to the first byte of the upstream's answer.", _PAIR)
BYTES_IN = Wide("request_bytes", "Body and frame bytes from callers.", _PAIR)
BYTES_OUT = Wide("response_bytes", "Body and frame bytes to callers.", _PAIR)
MESSAGES = Wide("tunnel_messages", "WebSocket messages of ended tunnels.", (*_PAIR, "direction"))
LIFETIME = Wide("tunnel_lifetime_seconds", "How long tunnels lived.", _PAIR)


class _FamiliesBySeries(Collector):
    """The families that grow with the callers, in the library's form: for tests and documentation, not for scraping."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        requests, into, out, messages = (
            _counter(wide.name, wide.text, list(wide.labels)) for wide in (REQUESTS, BYTES_IN, BYTES_OUT, MESSAGES)
        )
        duration, first, lifetime = (
            _histogram(wide.name, wide.text, list(wide.labels)) for wide in (DURATION, FIRST_BYTE, LIFETIME)
        )
        for labels, series in self._metrics.series.items():
            for (method, status), count in series.requests.items():
                requests.add_metric([labels[0], method, str(status), labels[1]], count)
            duration.add_metric(labels, series.duration.buckets(), series.duration.total)
            first.add_metric(labels, series.first_byte.buckets(), series.first_byte.total)
            into.add_metric(labels, series.bytes_in)
            out.add_metric(labels, series.bytes_out)
            if series.lifetime is not None:
                messages.add_metric([*labels, "in"], series.messages_in)
                messages.add_metric([*labels, "out"], series.messages_out)
                lifetime.add_metric(labels, series.lifetime.buckets(), series.lifetime.total)
        yield from (requests, duration, first, into, out, messages, lifetime)


class _Families(Collector):
    """Turns the counters that do not grow with the callers into Prometheus families, at scrape time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield self._overhead()
        yield from self._limits()
        yield from self._tunnels()
        yield from self._connections()
        yield from self._configuration()

    def _requests(self) -> Iterator[Metric]:
        m = self._metrics
        yield _simple_counter("requests_accepted", "Requests whose head was read, refused ones included.", m.accepted)
        family = _counter("requests_ended", "Requests that are over, by how they ended.", ["ending"])
        for ending in Ending:
            family.add_metric([ending.word], m.endings[ending])
        yield family
        yield _gauge("requests_in_flight", "Requests being served now, tunnels included.", m.in_flight)
        for name, text, counts in (
            ("refusals", "Requests refused here, by code.", m.refusals),
            ("aborts", "Requests and WebSockets cut here after they had begun to be answered, by code.", m.aborts),
            ("would_refuse", "Requests let through in audit mode that enforce mode would refuse.", m.would_refuse),
        ):
            family = _counter(name, text, ["code", "operation", "caller"])
            for labels, count in counts.items():
                family.add_metric(list(labels), count)
            yield family

    def _overhead(self) -> Metric:
        m = self._metrics
        overhead = _histogram(
            "overhead_seconds", "From a request's head to its leaving for the upstream; a dial and the queue count.", []
        )
        overhead.add_metric([], m.overhead.buckets(), m.overhead.total)
        return overhead

    def _limits(self) -> Iterator[Metric]:
        m = self._metrics
        waiting = _gauges("queue_waiting", "Requests waiting in line for their caller's limits now.", ["caller"])
        now = m.callers_waiting()
        for name, caller in m.snapshot.callers.items():
            if caller.limits is not None:
                waiting.add_metric([name], now.get(name, 0))
        yield waiting
        waits = _histogram(
            "queue_wait_seconds", "How long requests stood in line, of those that had to; refused ones too.", ["caller"]
        )
        for name, wait in m.waits.items():
            waits.add_metric([name], wait.buckets(), wait.total)
        yield waits
        up = _gauges("shared_limits_up", "1 while the callers' rates are counted in Redis.", [])
        leases = _counter("shared_limits_leases", "Leases of a rate asked for in Redis, by result.", ["result"])
        fallback = _counter(
            "shared_limits_fallback_requests",
            "Requests while Redis could not be asked, let through (open) or refused (closed).",
            ["choice"],
        )
        shared = m.shared_limits()
        if shared is not None:
            up.add_metric([], shared.up)
            for result, count in shared.leases.items():
                leases.add_metric([result], count)
            for choice, count in shared.fallback.items():
                fallback.add_metric([choice], count)
        yield from (up, leases, fallback)

    def _tunnels(self) -> Iterator[Metric]:
        m = self._metrics
        tunnels = _gauges("tunnels_open", "WebSockets open now.", ["operation"])
        for operation, count in m.tunnels.items():
            tunnels.add_metric([operation], count)
        yield tunnels

    def _connections(self) -> Iterator[Metric]:
        m = self._metrics
        yield _gauge("caller_connections", "Callers' connections open now.", m.connections)
        yield _simple_counter("caller_connections_opened", "Callers' connections ever opened.", m.connections_total)
        refused = _counter("caller_connections_refused", "Callers' connections that were one too many.", ["code"])
        for code, count in m.connections_refused.items():
            refused.add_metric([code], count)
        yield refused
        handshakes = _counter("caller_tls_handshakes", "TLS handshakes with callers, by result.", ["result"])
        for result, count in m.handshakes.items():
            handshakes.add_metric([result], count)
        yield handshakes
        yield _gauge("listener_paused", "1 while new connections wait for free descriptors.", m.listener_paused)
        yield _simple_counter(
            "listener_pauses", "Times that accepting paused for want of descriptors.", m.listener_pauses
        )
        family = _gauges("upstream_connections", "Upstream connections by state.", ["upstream", "state"])
        for labels, count in m.upstream_connections().items():
            family.add_metric(list(labels), count)
        yield family
        dials = _counter("upstream_dials", "Connections dialled to the upstream.", ["upstream"])
        reused = _counter("upstream_reuses", "Requests served over a pooled upstream connection.", ["upstream"])
        errors = _counter(
            "upstream_errors", "Failures of the upstream or on the way to it, by kind.", ["upstream", "code"]
        )
        for name, count in m.upstream_dials.items():
            dials.add_metric([name], count)
        for name, count in m.upstream_reused.items():
            reused.add_metric([name], count)
        for labels, count in m.upstream_errors.items():
            errors.add_metric(list(labels), count)
        yield from (dials, reused, errors)
        yield _simple_counter(
            "log_lines_dropped", "Log lines dropped because nobody read them fast enough.", m.log_dropped
        )
        spans = _counter("otel_spans", "Requests exported as spans, by result: exported, failed, or dropped unsent.",
                         ["result"])  # fmt: skip
        for result, count in m.spans.items():
            spans.add_metric([result], count)
        yield spans
        yield _gauge("tasks", "Tasks of the event loop now.", _count_tasks())

    def _configuration(self) -> Iterator[Metric]:
        snapshot = self._metrics.snapshot
        build = _gauges("build_info", "Version of the proxy and of Python; build: pure or compiled.",
                        ["version", "python", "build"])  # fmt: skip
        build.add_metric([__version__, platform.python_version(), BUILD], 1)
        yield build
        yield from _credentials(snapshot)
        reflections = _counter("credential_reflections", "Answers that repeated a credential, made unreadable.",
                               ["credential"])  # fmt: skip
        for name, count in self._metrics.reflections.items():
            reflections.add_metric([name], count)
        yield reflections
        yield from _key_sets(snapshot)
        settings = _gauges("configuration_info", "The configuration in force.", ["source", "mode"])
        settings.add_metric([snapshot.source, snapshot.policy.mode.value], 1)
        yield settings
        reloads = _counter("configuration_reloads", "Times the configuration was read again, by result.", ["result"])
        for result, count in self._metrics.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield _gauge(
            "configuration_reload_failed",
            "1 while the configuration in force is an older one, because the last reload failed.",
            self._metrics.reload_failed,
        )
        yield _gauge(
            "configuration_loaded_timestamp_seconds",
            "When the configuration in force was read.",
            self._metrics.loaded_at,
        )
        expiry = _gauges("listener_certificate_expiry_timestamp_seconds", "When the certificate of `tls` expires.", [])
        if snapshot.tls is not None:
            expiry.add_metric([], snapshot.tls.expires)
        yield expiry
        yield _gauge("configured_callers", "Callers declared in the configuration.", len(snapshot.callers))


def _count_tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0  # asked from outside of a loop


def _credentials(snapshot: Snapshot) -> Iterator[Metric]:
    one = ["credential"]
    ready = _gauges(
        "credential_ready", "1 when a request can be authenticated at once.", ["credential", "kind", "type"]
    )
    refused = _gauges("credential_refused", "1 while the upstream refuses what is shown to it.", one)
    refusals = _counter("credential_refusals", "Times the upstream or its token endpoint refused it.", one)
    success = _gauges(
        "credential_last_success_timestamp_seconds", "When its secret was last read or a token minted.", one
    )
    reads = _counter("credential_source_reads", "Times its secret was read again.", ["credential", "source", "result"])
    expiry = _gauges("credential_expiry_timestamp_seconds", "When the token at hand expires.", one)
    mints = _counter("credential_mints", "Tokens asked for, by result.", ["credential", "result"])
    seconds = SummaryMetricFamily(PREFIX + "credential_mint_seconds", "Time spent on minting tokens.", labels=one)
    skew = _gauges("credential_clock_skew_seconds", "How far the token endpoint's clock is ahead of ours.", one)
    for name, credential in snapshot.credentials.items():
        state = credential.state()
        ready.add_metric([name, credential.kind, credential.power.type.value], state.ready)
        refused.add_metric([name], state.refused)
        refusals.add_metric([name], state.refusals)
        success.add_metric([name], state.succeeded_at)
        for result, count in state.source_reads.items():
            reads.add_metric([name, state.source, result], count)
        if state.expires_at is not None:
            expiry.add_metric([name], state.expires_at)
        for result, count in state.mints.items():
            mints.add_metric([name, result], count)
        if state.mints:
            seconds.add_metric([name], sum(state.mints.values()), state.mint_seconds)
        if state.skew is not None:
            skew.add_metric([name], state.skew)
    yield from (ready, refused, refusals, success, reads, expiry, mints, seconds, skew)


def _key_sets(snapshot: Snapshot) -> Iterator[Metric]:
    keys = _gauges("key_set_keys", "Usable keys in the key set of callers with JWTs.", ["key_set"])
    fetches = _counter("key_set_fetches", "Fetches of a key set, by result.", ["key_set", "result"])
    for name, source in snapshot.key_sets.items():
        state = source.state()
        keys.add_metric([name], state.keys)
        for result, count in state.fetches.items():
            fetches.add_metric([name, result], count)
    yield from (keys, fetches)


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=labels)


def _gauges(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


def _histogram(name: str, text: str, labels: list[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(PREFIX + name, text, labels=labels)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _simple_counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)
