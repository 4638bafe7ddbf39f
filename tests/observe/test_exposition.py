"""A scrape says what the counters say, in both formats, and lets others have their turn while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from proxy.observe.exposition import AT_ONCE, expose
from proxy.observe.families import PREFIX, registry_of
from proxy.observe.metrics import Metrics
from proxy.observe.record import Ending, Record
from tests.snapshots import make_snapshot, upstream_at

SNAPSHOT = make_snapshot(upstream_at(1))


def _filled(callers: int) -> Metrics:
    metrics = Metrics(lambda: SNAPSHOT)
    for number in range(callers):
        for operation in ("tts.synthesize", "realtime.session", None):
            record = Record(1.0, 1.0, "POST", "/", "127.0.0.1")
            record.caller, record.operation = f"caller-{number}", operation
            record.status, record.ended, record.first_byte = 200 + number % 3, 1.0 + number / 7, 1.0 + number / 9
            record.request_bytes, record.response_bytes = number, number * 3
            if operation == "realtime.session":
                record.tunnel_opened, record.messages_in, record.messages_out = 1.0, number, 2
            if number % 5 == 0:
                record.ending = Ending.CALLER_GONE
            metrics.on_begin()
            metrics.on_end(record)
    return metrics


def _samples(families: Iterable[Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def _described(families: Iterable[Any]) -> dict[str, tuple[str, str]]:
    return {each.name: (each.type, each.documentation) for each in families if each.name.startswith(PREFIX)}


@pytest.mark.parametrize(
    ("accept", "write", "read"),
    [
        ("", generate_latest, read_plain),
        ("application/openmetrics-text; version=1.0.0", generate_openmetrics, read_openmetrics),
    ],
    ids=["text", "OpenMetrics"],
)
async def test_it_says_what_the_library_would_say(
    accept: str, write: Callable[..., bytes], read: Callable[[str], Iterable[Any]]
) -> None:
    metrics = _filled(30)
    body, content_type = await expose(metrics, accept)
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    ours, theirs = [*read(body.decode())], [*read(write(registry_of(metrics)).decode())]
    assert _samples(ours) == _samples(theirs)
    assert _described(ours) == _described(theirs)


async def test_others_have_their_turn_while_many_series_are_written() -> None:
    metrics = _filled(5 * AT_ONCE)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(take_turns())
    await expose(metrics, "")
    other.cancel()
    assert turns >= 3 * 5
