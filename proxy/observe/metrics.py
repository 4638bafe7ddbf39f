"""The counters behind every metric. The names under which they are exported are in ``families.py``.

The data path adds to plain Python numbers; they become Prometheus families only when somebody scrapes. That costs
about a microsecond a request, where the client library's own children cost six (locks and a linear bucket search).
Labels come from configuration and catalogue only, so no caller can add a series.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from math import inf

from proxy.core.compiling import mypyc_attr
from proxy.core.model import METHODS, SharedLimitsState, Snapshot
from proxy.observe.record import Ending, Record

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

    __slots__ = ("_above", "_last", "_upto", "bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        # The bucket that was counted into last, which is the next one's too more often than not.
        self._last = 0
        self._above = -inf
        self._upto = bounds[0]

    def add(self, value: float) -> None:
        """Counts one value."""
        if not self._above < value <= self._upto:
            bounds = self.bounds
            self._last = last = bisect_left(bounds, value)
            self._above = bounds[last - 1] if last else -inf
            self._upto = bounds[last] if last < len(bounds) else inf
        self.counts[self._last] += 1
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


@mypyc_attr(allow_interpreted_subclasses=True)  # tests watch them
class Metrics:
    """All counters of one process. The data path calls the ``on_…`` methods."""

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
        self.handshakes: dict[str, int] = {}
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
        self.spans = {"exported": 0, "failed": 0, "dropped": 0}
        """Spans by what became of them: ``spans.py`` counts here."""
        self.loaded_at = time.time()
        self.reloads = {"success": 0, "failed": 0}
        self.reload_failed = False

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

    def on_handshake(self, result: str) -> None:
        """A caller's TLS handshake is over: ``ok``, or why it failed."""
        self.handshakes[result] = self.handshakes.get(result, 0) + 1

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
