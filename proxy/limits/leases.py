"""A rate that is counted elsewhere for several processes: used up here in small leases, without waiting or asking.

What belongs here: how many to lease and when, what a lease lets through, and what holds while nobody can be asked. What
does not: asking (``shared.py``) and the count itself (``redis_store.py``). Pure but for the clock and the timer given.

A request within what was leased costs one subtraction. What is leased ahead is what this process used in the last
tenth of a second, and never more than a tenth of a second's worth of the rate. So replicas together hold about that
tenth, however many there are; one that is hardly used holds nothing, and each of its requests waits for one answer. A
fixed lease of at least one would let ten idle replicas hold what an eleventh is refused: at six a minute, the budget of
a hundred seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf
from typing import Protocol

from proxy.core.model import CallerLimits
from proxy.limits.pace import CLOCK_TICK, Pace
from proxy.limits.store import Answer, Ask

LEAD = 0.1
"""Seconds' worth of recent use that is leased ahead; renewed when half is used, so a busy caller is asked for 20 times
a second. An answer takes a hundredth of it in one data centre."""

LAPSE = 1.0
"""Seconds after which what was leased and not used is given back."""

PATIENCE = 0.25
"""Seconds that a request may stand in line only to learn what was counted elsewhere; then the rule for failures holds.
A person does not notice a quarter of a second, once."""

GAP = 0.01
"""Seconds at least until an exhausted caller is asked for again. Every ten milliseconds all that has come together is
leased at once; without it a caller over a rate of thousands would ask as often as the network can carry."""


class Counts:
    """What became of leases by result, and of requests while nobody could be asked, by choice. For metrics."""

    __slots__ = ("fallback", "leases")

    def __init__(self) -> None:
        self.leases = {"granted": 0, "exhausted": 0, "failed": 0}
        self.fallback = {"open": 0, "closed": 0}


class Timer(Protocol):
    """What ``call_at`` returns."""

    def cancel(self) -> None:
        """It is not called any more."""


Clock = Callable[[], float]
CallAt = Callable[[float, Callable[[], None]], Timer]


class Lessor(Protocol):
    """Who asks for the leases of all callers of this process."""

    @property
    def answers(self) -> bool:
        """False: it is known that nobody answers now."""

    @property
    def fail_open(self) -> bool:
        """While nobody answers: count here alone, or refuse?"""

    @property
    def counts(self) -> Counts:
        """Where it is counted."""

    @property
    def clock(self) -> Clock:
        """The time, as the gates know it."""

    @property
    def call_at(self) -> CallAt:
        """Sets a timer."""

    def ask(self, pace: LeasedPace) -> None:
        """Calls its ``request()`` soon, and then its ``on_answer()`` or ``fall_back()``."""

    def forget(self, pace: LeasedPace) -> None:
        """It is not used any more."""


class LeasedPace:
    """One caller's rate. For the gate it is as a ``Pace``: ``ready_at``, ``take()`` and ``interval``.

    ``wanted()`` says how many stand in line for the rate now; ``wake()`` is called when that may be about to change.
    """

    __slots__ = ("_asked", "_asked_at", "_back", "_burst", "_due", "_empty_until", "_falls_back", "_lapses_at",
                 "_lessor", "_level", "_local", "_low", "_marked_at", "_most_ahead", "_name", "_recent", "_timer",
                 "_tokens", "_unavailable", "_wake", "_wanted", "interval", "ready_at")  # fmt: skip

    def __init__(
        self, name: str, limits: CallerLimits, lessor: Lessor, wanted: Callable[[], int], wake: Callable[[], None]
    ) -> None:
        rate = limits.rate or inf
        self.interval = 1.0 / rate
        self.ready_at = inf
        self._unavailable = False
        self._name = name
        self._burst = limits.burst
        self._lessor = lessor
        self._wanted = wanted
        self._wake = wake
        self._local = Pace(limits.rate, limits.burst)
        self._most_ahead = rate * LEAD
        self._tokens = self._level = self._low = self._back = 0
        self._recent = 0.0
        self._marked_at = lessor.clock() - LAPSE
        self._asked = self._falls_back = False
        self._asked_at = self._empty_until = -inf
        self._lapses_at = inf
        self._timer: Timer | None = None
        self._due = inf
        if not lessor.answers:
            self.fall_back()

    # -- for the gate -------------------------------------------------------------------------------------------------

    def take(self, now: float) -> None:
        """One goes now."""
        tokens = self._tokens = self._tokens - 1
        if tokens <= self._low:
            self._on_low(now)

    def turn(self, now: float, ahead: int) -> float | None:
        """When one with so many ahead of it may go, by the rate alone. None: not known yet, and known soon."""
        if self._falls_back:
            return inf if self._unavailable else self._local.turn(now, ahead)
        if ahead < self._tokens:
            return now
        return self._empty_until + ahead * self.interval if now < self._empty_until else None

    def left(self, now: float) -> int:
        """How many may go now without another lease; where nobody can be asked, by this process's own count."""
        if self._falls_back:
            return 0 if self._unavailable else self._local.left(now)
        return self._tokens

    def look(self) -> None:
        """Somebody is in line for the rate: asks for as many, as soon as that makes sense."""
        if self._asked or self._falls_back or self._wanted() <= self._tokens:
            return
        if self._lessor.clock() < self._empty_until:
            self._set_timer(self._empty_until)
        else:
            self._ask()

    @property
    def gives_up_at(self) -> float:
        """Until when an answer that was asked for is waited for."""
        return self._asked_at + PATIENCE if self._asked and not self._falls_back else inf

    def give_up(self) -> bool:
        """Has an answer taken too long? Then what holds without one holds now, until it comes."""
        if self._lessor.clock() < self.gives_up_at - CLOCK_TICK:
            return False
        self.fall_back()
        return True

    def refuses(self) -> bool:
        """Is a request, this one, to be refused because nobody can be asked?"""
        if self._unavailable:
            self._lessor.counts.fallback["closed"] += 1
        return self._unavailable

    def close(self) -> None:
        """It is not used any more."""
        self._falls_back = True  # an answer that is still on its way changes nothing
        self._cancel_timer()
        self._lessor.forget(self)

    # -- for the lessor -----------------------------------------------------------------------------------------------

    def request(self) -> Ask | None:
        """What to ask for now; None when that is nothing any more."""
        now = self._lessor.clock()
        self._mark(now)
        wanted, back, self._back = 0, self._back, 0
        if self._falls_back:
            wanted = 1  # it gave up before it was asked for: the answer, whatever it says, ends that
        elif now >= self._empty_until:
            wanted = max(0, self._wanted() + self._ahead - self._tokens)
        if not wanted and not back:
            self._asked = False
            return None
        return Ask(self._name, self.interval, self._burst, wanted, back)

    def on_answer(self, ask: Ask, answer: Answer) -> None:
        """So many may go. Nothing is called from here but the timer: whoever waits goes when it fires."""
        now = self._lessor.clock()
        self._asked = False
        if self._falls_back:
            self._resume()
        self._tokens += answer.granted
        self._level += answer.granted
        if answer.granted:
            self._lapses_at = now + LAPSE
        if self._tokens:
            self.ready_at = -inf
            self._low = max(0, self._tokens - self._wanted()) // 2
        self._empty_until = now + max(answer.ready_in, GAP) if answer.granted < ask.wanted else -inf
        self._set_timer(now if self._wanted() else self._lapses_at if self._tokens else inf)

    def fall_back(self) -> None:
        """Nobody answers: the rule for failures holds."""
        now = self._lessor.clock()
        self._mark(now)
        self._falls_back, self._asked = True, False
        self._tokens = self._level = self._low = self._back = 0
        self._empty_until, self._lapses_at = -inf, inf
        self._unavailable = not self._lessor.fail_open
        self.ready_at = inf if self._unavailable else self._local.ready_at
        self._set_timer(now)

    def resume(self) -> None:
        """Somebody answers again."""
        if self._falls_back:
            self._resume()
            self._set_timer(self._lessor.clock())

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _ahead(self) -> int:
        # Less a half, so that one request alone is no reason to expect another.
        return int(min(self._recent - 0.5, self._most_ahead))

    def _resume(self) -> None:
        self._falls_back = self._unavailable = False
        self._tokens = self._level = self._low = 0
        self.ready_at = inf

    def _on_low(self, now: float) -> None:
        """Half of what was leased is used, or all of it, or nothing is leased because nobody answers."""
        if self._falls_back:
            self._tokens = 0
            self._local.take(now)
            self.ready_at = self._local.ready_at
            self._lessor.counts.fallback["open"] += 1
            return
        if self._tokens <= 0:
            self.ready_at = inf
        if not self._asked and now >= self._empty_until:
            self._mark(now)
            if self._ahead > self._tokens:
                self._ask()

    def _ask(self) -> None:
        self._asked, self._asked_at = True, self._lessor.clock()
        self._lessor.ask(self)

    def _mark(self, now: float) -> None:
        """Brings up to date what was used in the last moment: a count that fades with time, as if evenly spread."""
        used, passed = self._level - self._tokens, now - self._marked_at
        fade = exp(-passed / LEAD) if passed > 0 else 1.0
        spread = (1.0 - fade) * LEAD / passed if passed > CLOCK_TICK / 1000 else 1.0
        self._recent = self._recent * fade + used * spread
        self._level, self._marked_at = self._tokens, now
        # If nobody answers next, what went through just now counts here: an outage is no second burst.
        self._local.charge(now, used)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._lessor.clock()
        if self._tokens and now >= self._lapses_at - CLOCK_TICK and not self._falls_back:
            self._back += self._tokens
            self._level -= self._tokens
            self._tokens = self._low = 0
            self.ready_at = inf
            if not self._asked:
                self._ask()
        self._wake()
        if self._tokens and not self._falls_back:
            self._set_timer(self._lapses_at)

    def _set_timer(self, due: float) -> None:
        """One timer for all: to let the line go, to ask again, to lapse. It may fire once too often."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due < inf:
            self._due = due
            self._timer = self._lessor.call_at(due, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
