"""How often: a rate with a burst, as one number that moves (the generic cell rate algorithm). Pure."""

from __future__ import annotations

from math import inf

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

    def charge(self, now: float, count: int) -> None:
        """So many went in the time before now, on somebody else's account."""
        if count:
            begin = self._spent_until
            until = (begin if begin > now else now) + count * self.interval  # noqa: FURB136 - as in ``take()``
            # No further ahead than a full burst taken at once: what was counted elsewhere must not hold this one back.
            self._spent_until = min(until, now + self._slack + self.interval)
            self.ready_at = self._spent_until - self._slack

    def turn(self, now: float, ahead: int) -> float | None:  # noqa: ARG002 - a leased pace needs it
        """When one with so many ahead of it may go, by the rate alone. None: not known yet, and known soon."""
        return self.ready_at + ahead * self.interval

    def left(self, now: float) -> int:
        """How many may go now, one after the other."""
        ready, interval = self.ready_at, self.interval
        if ready > now or not interval:
            return 0
        return int(min(now - ready, self._slack) / interval) + 1

    def look(self) -> None:
        """Somebody is in line for the rate. Here time alone helps."""

    @property
    def gives_up_at(self) -> float:
        """Until when an answer from elsewhere is waited for. Here there is none to come."""
        return inf

    def give_up(self) -> bool:
        """Has an answer from elsewhere taken too long, so that everything is different now?"""
        return False

    def refuses(self) -> bool:
        """Is a request to be refused because nobody can be asked? Here nobody has to be."""
        return False

    def close(self) -> None:
        """It is not asked any more."""


def spell_rate(rate: float) -> str:
    """Requests per second, in words."""
    if rate >= 1:
        return f"{rate:g} requests a second"
    return f"{rate * 60:g} requests a minute" if rate * 60 >= 1 else f"{rate * 3600:g} requests an hour"
