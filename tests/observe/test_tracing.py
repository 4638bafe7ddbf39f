"""Ids are made of random bytes, each once; and which requests are recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from proxy.core.model import SpanSettings
from proxy.core.trace import NOTHING_SAID, TraceContext
from proxy.observe.record import Record
from proxy.observe.tracing import Tracing
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import PATIENCE

SNAPSHOT = make_snapshot(upstream_at(1))
SPANS = SpanSettings("http://127.0.0.1:9/v1/traces")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LOW, HIGH = "f" * 16 + "0" * 15 + "1", "0" * 16 + "f" * 16
"""Trace ids that the smallest share takes, and that only the largest does."""


def begin(made: Tracing, context: TraceContext = NOTHING_SAID) -> Record:
    record = Record(1.0, 2.0, "GET", "/things", "peer")
    made.begin(record, context)
    return record


def without(random: Callable[[int], bytes] = os.urandom) -> Tracing:
    return Tracing(SNAPSHOT, {}, random)


@pytest.fixture
def exporting() -> Iterator[Callable[[SpanSettings], Tracing]]:
    made: list[Tracing] = []

    def make(settings: SpanSettings) -> Tracing:
        made.append(Tracing(replace(SNAPSHOT, spans=settings), {}))
        return made[-1]

    yield make
    for each in made:
        each.configure(SNAPSHOT)


def test_every_request_has_ids_of_its_own_across_blocks() -> None:
    made = without()
    records = [begin(made) for _ in range(1000)]
    assert len({record.trace_id for record in records}) == len({record.span_id for record in records}) == 1000
    assert all((len(record.trace_id), len(record.span_id)) == (32, 16) for record in records)
    assert all(record.request_id == record.trace_id for record in records)


def test_no_random_byte_is_used_twice() -> None:
    given: list[bytes] = []

    def random(count: int) -> bytes:
        given.append(os.urandom(count))
        return given[-1]

    made = without(random)
    told = "".join(record.trace_id + record.span_id for record in (begin(made) for _ in range(512)))
    assert told == b"".join(given).hex()


def test_what_the_caller_said_is_kept() -> None:
    record = begin(without(), TraceContext("mine", TRACE, PARENT, 1))
    assert (record.request_id, record.trace_id, record.span_id, record.parent_id) == ("mine", TRACE, PARENT, PARENT)
    assert begin(without(), TraceContext("", TRACE, PARENT)).request_id == TRACE
    alone = begin(without(), TraceContext("mine"))
    assert (alone.request_id, alone.parent_id, len(alone.trace_id)) == ("mine", "", 32)


def test_without_a_collector_nothing_is_recorded() -> None:
    assert not begin(without()).recorded
    assert not begin(without(), TraceContext("", TRACE, PARENT, 1)).recorded


def test_a_recorded_request_is_the_child_of_the_callers_span(exporting: Callable[[SpanSettings], Tracing]) -> None:
    record = begin(exporting(SPANS), TraceContext("", TRACE, PARENT, 1))
    assert (record.recorded, record.trace_id, record.parent_id) == (True, TRACE, PARENT)
    assert len(record.span_id) == 16
    assert record.span_id != PARENT


def test_the_callers_flag_decides_in_its_trace(exporting: Callable[[SpanSettings], Tracing]) -> None:
    for sample in (0.0, 1.0):
        made = exporting(replace(SPANS, sample=sample))
        assert begin(made, TraceContext("", TRACE, PARENT, 1)).recorded
        passed = begin(made, TraceContext("", TRACE, PARENT, 0))
        assert (passed.recorded, passed.span_id) == (False, PARENT), "no span of ours: the parent stays"


def test_the_share_decides_where_callers_are_not_followed(exporting: Callable[[SpanSettings], Tracing]) -> None:
    for flag in (0, 1):
        none, all_ = (exporting(replace(SPANS, sample=sample, follow_callers=False)) for sample in (0.0, 1.0))
        assert not begin(none, TraceContext("", LOW, PARENT, flag)).recorded
        assert begin(all_, TraceContext("", HIGH, PARENT, flag)).recorded
        half = exporting(replace(SPANS, sample=0.5, follow_callers=False))
        assert begin(half, TraceContext("", LOW, PARENT, flag)).recorded
        assert not begin(half, TraceContext("", HIGH, PARENT, flag)).recorded


def test_of_the_traces_that_begin_here_the_share_is_recorded(exporting: Callable[[SpanSettings], Tracing]) -> None:
    made = exporting(replace(SPANS, sample=0.25))
    assert 150 < sum(begin(made).recorded for _ in range(1000)) < 350
    assert not any(begin(exporting(replace(SPANS, sample=0.0))).recorded for _ in range(100))
    assert all(begin(exporting(SPANS)).recorded for _ in range(100))


def test_a_reload_ends_an_export_only_when_something_of_it_changed(
    exporting: Callable[[SpanSettings], Tracing],
) -> None:
    made = exporting(SPANS)
    first = made._export
    assert first is not None
    made.configure(replace(SNAPSHOT, spans=replace(SPANS)))
    assert made._export is first
    made.configure(replace(SNAPSHOT, spans=replace(SPANS, service_name="other")))
    assert made._export is not first
    first._working.join(PATIENCE)
    assert not first._working.is_alive()
    made.configure(SNAPSHOT)
    assert not begin(made).recorded
