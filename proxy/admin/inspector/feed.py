"""What all who look are told, made once for all of them: rows five times a second, the state every second.

What belongs here: when something is told, and that a viewer who does not read costs no more than a bounded queue. What
does not: what is told (``rows.py``, ``state.py``, ``series.py``) and how it reaches a browser (``routes.py``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable

from proxy.admin.inspector.rows import rows_after
from proxy.admin.inspector.series import Series
from proxy.admin.inspector.state import describe_state
from proxy.wire.server import DataServer

ROWS_EVERY = 0.2
"""Seconds. Faster than that nobody reads; a browser draws what came in one piece."""

STATE_EVERY = 1.0
"""Seconds."""

MOST_VIEWERS = 16
"""A handful of people and a forgotten tab or two. More are refused: each costs up to ``MOST_QUEUED`` events."""

MOST_QUEUED = 24
"""Events that wait for a viewer: four seconds' worth. Then it is cut, and may come again."""

ENDS_WITHIN = 1.0
"""Seconds that a viewer has to read what it was told last. Then it is cut: the end of the process waits for it."""


class Viewer:
    """Somebody who looks: what is still to be sent to it. ``cut`` closes its connection at once."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self.events: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_QUEUED)
        self.cut = cut

    def tell(self, event: bytes | None) -> None:
        """One more event; None: there will be no other."""
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            self.cut()


class Feed:
    """Tells every viewer what happens, until ``close()``; and follows the charts for as long as anything is kept."""

    def __init__(self, server: DataServer) -> None:
        self._server = server
        self._begun = time.monotonic()
        self._viewers: set[Viewer] = set()
        self._series = Series(server)
        self._told = 0
        self._passed = 0
        self._rows: asyncio.TimerHandle | None = None
        self._state: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """Are there as many viewers as there may be?"""
        return len(self._viewers) >= MOST_VIEWERS

    def start(self) -> None:
        """Follows the charts from now on, if the inspector is on."""
        if self._state is None and self._server.trail.on:
            self._series = Series(self._server)
            self._state = self._server.loop.call_later(STATE_EVERY, self._tell_state)

    def join(self, viewer: Viewer) -> None:
        """Tells this one how everything is, and from now on what happens."""
        self.start()
        if self._viewers:
            self._tell_rows()  # so that all of them are equally far
        trail = self._server.trail
        self._told, self._passed = trail.count, trail.passed
        viewer.tell(_event("state", {**self._describe(), "series": self._series.whole()}))
        rows, skipped = rows_after(trail, 0)
        viewer.tell(_event("requests", {"rows": rows, "skipped": skipped + trail.passed}))
        self._viewers.add(viewer)
        if self._rows is None:
            self._rows = self._server.loop.call_later(ROWS_EVERY, self._tell_rows_again)

    def leave(self, viewer: Viewer) -> None:
        """This one does not look any more."""
        self._viewers.discard(viewer)

    def close(self) -> None:
        """Nobody is told anything any more: every viewer's stream ends now, of one who does not read soon."""
        for timer in (self._rows, self._state):
            if timer is not None:
                timer.cancel()
        self._rows = self._state = None
        for viewer in self._viewers:
            viewer.tell(None)
        if self._viewers:
            self._server.loop.call_later(ENDS_WITHIN, self._cut, [*self._viewers])

    def _cut(self, viewers: Iterable[Viewer]) -> None:
        for viewer in viewers:
            if viewer in self._viewers:
                viewer.cut()

    def _describe(self) -> dict[str, object]:
        return describe_state(self._server, self._begun)

    def _tell_rows_again(self) -> None:
        self._rows = None
        if self._viewers:
            self._tell_rows()
            self._rows = self._server.loop.call_later(ROWS_EVERY, self._tell_rows_again)

    def _tell_rows(self) -> None:
        trail = self._server.trail
        if trail.count > self._told:
            rows, skipped = rows_after(trail, self._told)
            skipped += trail.passed - self._passed
            self._told, self._passed = trail.count, trail.passed
            self._tell(_event("requests", {"rows": rows, "skipped": skipped}))

    def _tell_state(self) -> None:
        self._state = None
        if not self._server.trail.on:
            self.close()  # it was switched off by a reload
            return
        self._series.look(time.time())
        if self._viewers:
            self._tell(_event("state", {**self._describe(), "tail": self._series.tail()}))
        self._state = self._server.loop.call_later(STATE_EVERY, self._tell_state)

    def _tell(self, event: bytes) -> None:
        for viewer in self._viewers:
            viewer.tell(event)


def _event(name: str, data: object) -> bytes:
    """One event as the HTML standard writes it (section 9.2.6); JSON has no line ends of its own."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode("ascii")
