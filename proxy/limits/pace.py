"""How often: a rate with a burst, as one number that moves (the generic cell rate algorithm). Pure."""

from __future__ import annotations

CLOCK_TICK = 0.001
"""Seconds by which a timer may fire early: uvloop counts in milliseconds. Only the moment moves, never the rate."""


class Pace:
    """Lets ``burst`` through at once and ``rate`` a second in the long run. Without a rate it never holds back.

    ``ready_at`` is the moment from which the next one may go; ``interval`` the seconds between two in the long run.
    """

    __slots__ = ("_slack", "_spent_until", "interval", "ready_at")

    def __init__(self, rate: float | None, burst: int) -> None:
        self.interval = 0.0 if rate is None else 1.0 / rate
        self._slack = (burst - 1) * self.interval + min(CLOCK_TICK, self.interval / 2)
        self._spent_until = float("-inf")
        self.ready_at = float("-inf")

    def take(self, now: float) -> None:
        """One goes now."""
        begin = self._spent_until
        self._spent_until = until = (begin if begin > now else now) + self.interval  # noqa: FURB136 - max() is slower
        self.ready_at = until - self._slack
