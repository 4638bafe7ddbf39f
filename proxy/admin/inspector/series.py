"""The last two minutes second by second, for the small charts.

Made from counters and from the records that are kept anyway, so that a request costs nothing for it. Of a second with
more requests than are kept, the percentiles are those of the kept.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from proxy.admin.inspector.rows import milliseconds, percentile
from proxy.observe.record import Ending
from proxy.wire.server import DataServer

SECONDS = 120
"""How far back the charts go."""


class Second(NamedTuple):
    """What happened in one second (``second`` is Unix time). ``refused`` are failed ones, too; of nothing no
    percentile."""

    second: int
    requests: int
    refused: int
    p50_ms: float | None
    p99_ms: float | None
    tunnels: int


class Series:
    """Looked at once a second."""

    def __init__(self, server: DataServer) -> None:
        self._server = server
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._count = server.trail.count
        self._passed = server.trail.passed
        self._refused = self._count_refused()

    def look(self, now: float) -> None:
        """A second is over. ``now`` is Unix time."""
        server = self._server
        count, passed, refused = server.trail.count, server.trail.passed, self._count_refused()
        first_bytes = [
            record.first_byte - record.received for record in server.trail.after(self._count) if record.first_byte
        ]
        p50, p99 = percentile(first_bytes, 0.5), percentile(first_bytes, 0.99)
        self._seconds.append(
            Second(
                int(now),
                count - self._count + passed - self._passed,
                refused - self._refused,
                None if p50 is None else milliseconds(p50),
                None if p99 is None else milliseconds(p99),
                sum(server.metrics.tunnels.values()),
            )
        )
        self._count, self._passed, self._refused = count, passed, refused

    def whole(self) -> dict[str, object]:
        """All of them, as one list for each thing that is drawn."""
        columns = zip(*self._seconds, strict=True) if self._seconds else ([] for _ in Second._fields)
        named = dict(zip(Second._fields, map(list, columns), strict=True))
        return {"step_s": 1, "seconds": named.pop("second"), **named}

    def tail(self) -> dict[str, object] | None:
        """The newest second."""
        return self._seconds[-1]._asdict() if self._seconds else None

    def _count_refused(self) -> int:
        endings = self._server.metrics.endings
        return endings[Ending.REFUSED] + endings[Ending.FAILED]
