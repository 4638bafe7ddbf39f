"""What the sandbox saw: the last requests, for tests to ask about afterwards (or to wait for).

What belongs here: the records. What does not: the endpoints that show them (``inspection.py``). The records are held in
memory and shown on request, never written to a log: a header may well be a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.sandbox.shapes import JsonObject

RUNNING = "running"
FINISHED = "finished"
ABORTED = "aborted"
"""The client went away, or the sandbox broke off because it was asked to."""


@dataclass(slots=True)
class Record:
    """One request as it arrived and what became of it; filled in while it is answered."""

    number: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    operation: str | None = None
    credential: str | None = None
    """The name of the key behind the credential that authenticated."""
    credential_kind: str | None = None
    status: int | None = None
    outcome: str = RUNNING
    body_bytes: int = 0
    messages: int = 0
    """Messages received, on a socket."""
    close_code: int | None = None
    """With which a socket was closed, by either side."""
    upload: JsonObject | None = None
    """What a streamed upload consisted of."""
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def took(self, chunk: bytes) -> None:
        """Counts body bytes as they are read."""
        self.body_bytes += len(chunk)
        self._digest.update(chunk)

    def as_json(self) -> JsonObject:
        """The record as ``GET /_sandbox/seen`` shows it."""
        return {
            "number": self.number,
            "method": self.method,
            "target": self.target,
            "headers": [list(pair) for pair in self.headers],
            "operation": self.operation,
            "credential": self.credential,
            "credentialKind": self.credential_kind,
            "status": self.status,
            "outcome": self.outcome,
            "bodyBytes": self.body_bytes,
            "bodySha256": self._digest.hexdigest(),
            "messages": self.messages,
            "closeCode": self.close_code,
            "upload": self.upload,
        }


class SeenLog:
    """The last records, oldest first."""

    def __init__(self, limit: int) -> None:
        self._records: deque[Record] = deque(maxlen=limit)
        self._count = 0
        self._running = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def open(self, method: str, target: str, headers: tuple[tuple[str, str], ...]) -> Record:
        """A new record, visible at once and marked as running."""
        self._count += 1
        record = Record(self._count, method, target, headers)
        self._records.append(record)
        self._running += 1
        self._settled.clear()
        return record

    def close(self, record: Record, outcome: str) -> None:
        """Says what became of a request. Called exactly once for every one that was opened."""
        record.outcome = outcome
        self._running -= 1
        if not self._running:
            self._settled.set()

    def records(self) -> list[Record]:
        """The records, oldest first."""
        return list(self._records)

    def clear(self) -> None:
        """Forgets them; numbering goes on."""
        self._records.clear()

    async def settled(self, seconds: float) -> bool:
        """Waits until no request is running; False if that took longer than this."""
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True
