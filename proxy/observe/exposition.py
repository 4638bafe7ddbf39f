"""What a scraper gets: the families that grow with the callers written here, the others by the client library.

A hundred callers that use twenty operations have 119,000 lines. The library took seconds for them, in which nobody else
was served; here they are written from the counters, a few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from prometheus_client.exposition import choose_encoder

from proxy.observe.families import (
    BYTES_IN,
    BYTES_OUT,
    DURATION,
    FIRST_BYTE,
    LIFETIME,
    MESSAGES,
    PREFIX,
    REQUESTS,
    Wide,
    registry_of_few,
)
from proxy.observe.metrics import Histogram, Metrics, Series

AT_ONCE = 64
"""Series written before others get their turn: about five milliseconds."""

Labels = tuple[str, str]
Write = Callable[[str, Labels, Series], Iterator[str]]


async def expose(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """Everything, and its content type, in the format that the scraper's ``Accept`` prefers."""
    encode, content_type = choose_encoder(accept)
    ending = "" if content_type.startswith("application/openmetrics-text") else "_total"
    families: list[tuple[str, Write, list[str]]] = []
    for wide, write in _WRITERS.items():
        name = PREFIX + wide.name
        kind = "histogram" if write in _HISTOGRAMS else "counter"
        head = name if kind == "histogram" else name + ending
        families.append((name, write, [f"# HELP {head} {wide.text}\n# TYPE {head} {kind}\n"]))
    for index, (labels, series) in enumerate([*metrics.series.items()], 1):
        for name, write, lines in families:
            lines.extend(write(name, labels, series))
        if index % AT_ONCE == 0:
            await asyncio.sleep(0)
    # The library's part last: OpenMetrics ends with a line of its own.
    return "".join(line for _, _, lines in families for line in lines).encode("utf-8") + encode(
        registry_of_few(metrics)
    ), content_type


# Nothing in the names of operations and callers would have to be escaped: they are checked when they are read.
def _requests(name: str, labels: Labels, series: Series) -> Iterator[str]:
    operation, caller = labels
    for (method, status), count in series.requests.items():
        shown = f'operation="{operation}",method="{method}",status="{status}",caller="{caller}"'
        yield f"{name}_total{{{shown}}} {count}.0\n"


def _bytes_in(name: str, labels: Labels, series: Series) -> Iterator[str]:
    yield f"{name}_total{{{_pair(labels)}}} {series.bytes_in}.0\n"


def _bytes_out(name: str, labels: Labels, series: Series) -> Iterator[str]:
    yield f"{name}_total{{{_pair(labels)}}} {series.bytes_out}.0\n"


def _messages(name: str, labels: Labels, series: Series) -> Iterator[str]:
    if series.lifetime is not None:
        for direction, count in (("in", series.messages_in), ("out", series.messages_out)):
            yield f'{name}_total{{{_pair(labels)},direction="{direction}"}} {count}.0\n'


def _duration(name: str, labels: Labels, series: Series) -> Iterator[str]:
    return _buckets(name, labels, series.duration)


def _first_byte(name: str, labels: Labels, series: Series) -> Iterator[str]:
    return _buckets(name, labels, series.first_byte)


def _lifetime(name: str, labels: Labels, series: Series) -> Iterator[str]:
    if series.lifetime is not None:
        yield from _buckets(name, labels, series.lifetime)


def _buckets(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    pair = _pair(labels)
    before = f"{name}_bucket{{{pair}"
    running = 0
    for le, count in zip(_spell(histogram.bounds), histogram.counts, strict=True):
        running += count
        yield f"{before}{le}{running}.0\n"
    yield f"{name}_count{{{pair}}} {running}.0\n{name}_sum{{{pair}}} {histogram.total!r}\n"


@lru_cache(maxsize=8)
def _spell(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f',le="{bound}"}} ' for bound in [*map(repr, bounds), "+Inf"])


def _pair(labels: Labels) -> str:
    return f'operation="{labels[0]}",caller="{labels[1]}"'


_HISTOGRAMS = frozenset({_duration, _first_byte, _lifetime})
_WRITERS: Mapping[Wide, Write] = {
    REQUESTS: _requests,
    DURATION: _duration,
    FIRST_BYTE: _first_byte,
    BYTES_IN: _bytes_in,
    BYTES_OUT: _bytes_out,
    MESSAGES: _messages,
    LIFETIME: _lifetime,
}
