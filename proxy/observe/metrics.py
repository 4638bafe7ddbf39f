"""Every metric the proxy exports, and the counters behind them.

The data path adds to plain Python numbers; they become Prometheus families only when somebody scrapes. That costs
about a microsecond a request, where the client library's own children cost six (locks and a linear bucket search).
Labels come from configuration and catalogue only, so no caller can add a series.
"""

from __future__ import annotations

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.core.model import METHODS, SharedLimitsState, Snapshot
from proxy.observe.record import Ending, Record

PREFIX = "inworld_proxy_"
NONE = "none"
"""The label of what was not known: no operation, no caller."""

DURATION_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0,
)  # fmt: skip
"""Seconds. Dense where a person hears a delay (5 ms to 1 s), and up to the five minutes of a long stream."""

OVERHEAD_BOUNDS = (0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
"""Seconds between a head's arrival and its leaving for the upstream: tens of microseconds unless a dial was needed."""

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds in line for a caller's limits: a wait of seconds is already one that people notice."""

LIFETIME_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds a tunnel lived: from a failed hello to a day."""


class Histogram:
    """Counts per bucket and a sum; added to on the data path."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as the exposition format wants them."""
        out: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip([*map(repr, self.bounds), "+Inf"], self.counts, strict=True):
            running += count
            out.append((bound, running))
        return out


class Series:
    """What is counted per operation and caller."""

    __slots__ = (
        "bytes_in", "bytes_out", "duration", "first_byte", "lifetime", "messages_in", "messages_out", "requests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.duration = Histogram(DURATION_BOUNDS)
        self.first_byte = Histogram(DURATION_BOUNDS)
        self.lifetime: Histogram | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages_in = 0
        self.messages_out = 0


class Metrics:
    """All counters of one process. The data path calls the ``on_…`` methods; ``registry`` is what is scraped."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self.endings = [0] * len(Ending)
        self.refusals: dict[tuple[str, str, str], int] = {}
        self.aborts: dict[tuple[str, str, str], int] = {}
        self.would_refuse: dict[tuple[str, str, str], int] = {}
        self.series: dict[tuple[str, str], Series] = {}
        self.overhead = Histogram(OVERHEAD_BOUNDS)
        self.in_flight = 0
        self.accepted = 0
        self.tunnels: dict[str, int] = {}
        self.connections = 0
        self.connections_total = 0
        self.connections_refused: dict[str, int] = {}
        self.listener_paused = 0
        self.listener_pauses = 0
        self.upstream_connections: Callable[[], dict[tuple[str, str], int]] = dict
        """Asked at scrape time: connections by upstream and state. The data server puts its pools' answer here."""
        self.callers_waiting: Callable[[], dict[str, int]] = dict
        """Asked at scrape time: requests in line, by caller. The data server puts its gates' answer here."""
        self.shared_limits: Callable[[], SharedLimitsState | None] = lambda: None
        """Asked at scrape time: how counting rates together goes. The data server puts its gates' answer here."""
        self.waits: dict[str, Histogram] = {}
        self.upstream_dials: dict[str, int] = {}
        self.upstream_reused: dict[str, int] = {}
        self.upstream_errors: dict[tuple[str, str], int] = {}
        self.reflections: dict[str, int] = {}
        self.log_dropped = 0
        self.loaded_at = time.time()
        self.reloads = {"success": 0, "failed": 0}
        self.reload_failed = False
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_Families(self))
        self.registry.register(_FamiliesBySeries(self))
        self.few = CollectorRegistry(auto_describe=False)
        """What does not grow with the callers; the rest is written by ``exposition.py``."""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.few)
        self.few.register(_Families(self))

    def on_begin(self) -> None:
        """A request's head was accepted for judgement."""
        self.accepted += 1
        self.in_flight += 1

    def on_end(self, record: Record) -> None:
        """A request is over, whatever way it went."""
        self.in_flight -= 1
        self.endings[record.ending] += 1
        operation = record.operation or NONE
        caller = record.caller or NONE
        method = record.method if record.method in METHODS else "OTHER"
        if record.code is not None:
            reason = (record.code.value, operation, caller)
            if record.ending is Ending.REFUSED:
                self.refusals[reason] = self.refusals.get(reason, 0) + 1
            elif record.ending is Ending.ABORTED:
                self.aborts[reason] = self.aborts.get(reason, 0) + 1
        if record.would_refuse is not None:
            refusal = (record.would_refuse.value, operation, caller)
            self.would_refuse[refusal] = self.would_refuse.get(refusal, 0) + 1
        series = self.series.get((operation, caller))
        if series is None:
            series = self.series[(operation, caller)] = Series()
        requests = series.requests
        key = (method, record.status)
        requests[key] = requests.get(key, 0) + 1
        series.bytes_in += record.request_bytes
        series.bytes_out += record.response_bytes
        if record.tunnel_opened:
            series.messages_in += record.messages_in
            series.messages_out += record.messages_out
            if series.lifetime is None:
                series.lifetime = Histogram(LIFETIME_BOUNDS)
            series.lifetime.add(record.ended - record.tunnel_opened)
        else:
            series.duration.add(record.ended - record.received)
        if record.first_byte:
            series.first_byte.add(record.first_byte - record.received)

    def on_sent(self, seconds: float) -> None:
        """A request's head left for the upstream this long after it had arrived."""
        self.overhead.add(seconds)

    def on_waited(self, caller: str, seconds: float) -> None:
        """A request stood in line for its caller's limits, and was then served, refused or given up."""
        wait = self.waits.get(caller)
        if wait is None:
            wait = self.waits[caller] = Histogram(WAIT_BOUNDS)
        wait.add(seconds)

    def on_tunnel(self, operation: str, change: int) -> None:
        """A tunnel opened (1) or ended (-1)."""
        self.tunnels[operation] = self.tunnels.get(operation, 0) + change

    def on_caller_connection(self, change: int) -> None:
        """A caller's connection opened (1) or closed (-1)."""
        self.connections += change
        self.connections_total += change > 0

    def on_connection_refused(self, code: str) -> None:
        """A caller's connection was one too many."""
        self.connections_refused[code] = self.connections_refused.get(code, 0) + 1

    def on_dial(self, upstream: str) -> None:
        """A new upstream connection was asked for."""
        self.upstream_dials[upstream] = self.upstream_dials.get(upstream, 0) + 1

    def on_reuse(self, upstream: str) -> None:
        """A pooled upstream connection serves another request."""
        self.upstream_reused[upstream] = self.upstream_reused.get(upstream, 0) + 1

    def on_upstream_error(self, upstream: str, code: str) -> None:
        """An exchange with the upstream failed, or broke off after its head."""
        key = (upstream, code)
        self.upstream_errors[key] = self.upstream_errors.get(key, 0) + 1

    def on_reload(self, *, failed: bool, when: float) -> None:
        """The configuration was read again, and put in force unless that failed."""
        self.reloads["failed" if failed else "success"] += 1
        self.reload_failed = failed
        if not failed:
            self.loaded_at = when

    def on_reflection(self, credential: str) -> None:
        """An answer of the upstream had the credential in it."""
        self.reflections[credential] = self.reflections.get(credential, 0) + 1

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force, for the gauges that describe it."""
        return self._snapshot()


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
        yield _gauge("tasks", "Tasks of the event loop now.", _count_tasks())

    def _configuration(self) -> Iterator[Metric]:
        snapshot = self._metrics.snapshot
        build = _gauges("build_info", "Version of the proxy and of Python.", ["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
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
