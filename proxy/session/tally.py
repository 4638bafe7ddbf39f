"""What the command asked for, counted by operation: the metrics, and what a summary needs besides.

A histogram knows between which bounds a median lies; of one session all times are kept, up to a bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from proxy.core.errors import Code
from proxy.core.model import Snapshot
from proxy.observe.metrics import Metrics
from proxy.observe.record import Ending, Record

MOST_TIMES = 10_000
"""Times to the first byte that are kept of one operation, the last ones."""

UNKNOWN = "(no operation)"
"""Stands for requests to paths that are in no catalogue, and for those of strangers."""


@dataclass(slots=True)
class Trouble:
    """One way in which requests did not succeed, how often, and the first such request.

    ``code`` is ours; without one the upstream's own ``status`` says it.
    """

    operation: str
    refused: bool
    code: Code | None
    status: int
    method: str
    path: str
    caller: str | None
    count: int = 0


@dataclass(slots=True)
class Calls:
    """The requests of one operation. Bytes are of bodies and frames, ``times`` seconds to the first byte."""

    calls: int = 0
    succeeded: int = 0
    refused: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))

    @property
    def median(self) -> float | None:
        """Seconds to the first byte of the upstream's answer that half of the requests did not exceed."""
        return median(self.times) if self.times else None


class Tally(Metrics):
    """The metrics of one session."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        super().__init__(snapshot)
        self.by_operation: dict[str, Calls] = {}
        self.troubles: dict[tuple[str, bool, Code | None, int], Trouble] = {}

    def on_end(self, record: Record) -> None:
        """See ``Metrics``."""
        super().on_end(record)
        name = record.operation or UNKNOWN
        calls = self.by_operation.setdefault(name, Calls())
        calls.calls += 1
        calls.bytes_in += record.request_bytes
        calls.bytes_out += record.response_bytes
        if record.first_byte:
            calls.times.append(record.first_byte - record.received)
        refused = record.ending is Ending.REFUSED
        if record.ending is Ending.ANSWERED and record.status < 400:
            calls.succeeded += 1
            return
        calls.refused += refused
        calls.failed += not refused
        key = (name, refused, record.code, 0 if record.code is not None else record.status)
        trouble = self.troubles.get(key)
        if trouble is None:
            trouble = self.troubles[key] = Trouble(
                name, refused, record.code, record.status, record.method, record.path, record.caller
            )
        trouble.count += 1
