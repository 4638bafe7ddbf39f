"""One request as a row of the table: what its record says, in the units that people read."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from proxy.observe.record import Record
from proxy.observe.trail import Trail

Row = dict[str, object]

MOST_ROWS = 300
"""Rows in one event: some 100 KB, which a browser draws between two frames."""


def rows_after(trail: Trail, number: int, most: int = MOST_ROWS) -> tuple[list[Row], int]:
    """The requests after this number as rows, oldest first, at most so many; and how many there were besides."""
    records = trail.after(number, most)
    first = trail.count - len(records) + 1
    return [make_row(each, record) for each, record in enumerate(records, first)], trail.count - number - len(records)


def make_row(number: int, record: Record) -> Row:
    """The row of this request. Times are Unix seconds or milliseconds, sizes bytes; the path has no query."""
    received = record.received
    return {
        "id": number,
        "time": round(record.moment, 3),
        "method": record.method,
        "path": record.path,
        "operation": record.operation,
        "caller": record.caller,
        "status": record.status,
        "code": None if record.code is None else record.code.value,
        "would_refuse": None if record.would_refuse is None else record.would_refuse.value,
        "ending": record.ending.word,
        "first_byte_ms": milliseconds(record.first_byte - received) if record.first_byte else None,
        "duration_ms": milliseconds(record.ended - received),
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "websocket": record.websocket,
        "upstream": record.upstream,
        "credential": record.credential,
        "reused": record.reused,
        "retried": record.retried,
        "request_id": record.request_id or None,
        "inworld_request_id": record.inworld_request_id,
    }


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that this share of them does not exceed (nearest rank); None of nothing."""
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[max(0, ceil(share * len(ranked)) - 1)]
