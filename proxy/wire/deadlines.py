"""Time limits for many connections at the price of one timer.

Each connection has a ``deadline``; moving it later is one assignment. A connection is looked at when its deadline may
have passed, a quarter of a second late at most, and put back when the deadline has moved in the meantime. It has one
place here at most, and gives it up when it ends: what lives for a moment is not kept for the minutes it might have had.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK = 0.25
"""Seconds between two looks: the precision of every limit here, far below the shortest of them."""

NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline. Both times are the loop's; ``NEVER`` for none.

    ``looked_at`` belongs to ``Deadlines``: it will next be looked at within a tick after this time. A deadline that is
    not before it needs no watching.
    """

    deadline: float
    looked_at: float

    def on_deadline(self) -> None:
        """The deadline has passed. May set a new one."""


class Deadlines:
    """Watches deadlines. One per loop."""

    __slots__ = ("_buckets", "_loop", "_next", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Timed]] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, timed: Timed) -> None:
        """Call it after a deadline was set. Does nothing when it will be looked at before that anyway."""
        deadline = timed.deadline
        if deadline >= timed.looked_at:
            return
        if timed.looked_at != NEVER:
            self._leave(timed)
        if self._timer is None:
            self._next = int(self._loop.time() / TICK) + 1
            self._timer = self._loop.call_later(TICK, self._tick)
        bucket = max(int(deadline / TICK) + 1, self._next)
        timed.looked_at = (bucket - 1) * TICK
        self._buckets.setdefault(bucket, set()).add(timed)

    def forget(self, timed: Timed) -> None:
        """It has ended, and has no deadline any more."""
        timed.deadline = NEVER
        if timed.looked_at != NEVER:
            self._leave(timed)
            timed.looked_at = NEVER

    def _leave(self, timed: Timed) -> None:
        bucket = int(timed.looked_at / TICK) + 1
        others = self._buckets.get(bucket)
        if others is not None:  # None: its bucket is being looked at just now
            others.discard(timed)
            if not others:
                del self._buckets[bucket]

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)  # first: a bug in one must not end the limits of all
        now = self._loop.time()
        current = int(now / TICK)
        while self._next <= current:
            bucket = self._next
            self._next += 1
            for timed in self._buckets.pop(bucket, ()):
                if timed.looked_at != (bucket - 1) * TICK:
                    continue  # one that was looked at before it gave this one another place, or none
                timed.looked_at = NEVER
                if timed.deadline <= now:
                    timed.deadline = NEVER
                    timed.on_deadline()
                self.watch(timed)
        if not self._buckets:
            self._timer.cancel()
            self._timer = None
