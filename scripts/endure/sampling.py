"""The samples of `make endure`, the table of them, and what must be true of them: every bar, and in words.

What belongs here: what growth is and what is noise. What does not: load, processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from processes import Scrape
from script import Accounts

EARLY, LATE = (0.1, 0.4), (0.8, 1.01)
"""Which samples are compared, as shares of the time: the median of the second to the fourth tenth, and of the last
fifth. In the first tenth the allocator still finds out how much there is to do at once."""

MEMORY_GROWN, OBJECTS_GROWN = 1.02, 1.02
OBJECTS_MORE, BLOCKS_MORE = 1000, 4000
"""How much the medians of a steady load may differ by chance: what is in flight when a sample is taken, connections
that a list of deadlines still names, and garbage that no collection has found yet. A collection of everything comes
every few minutes here, so what waits for it shows; what is never collected shows at rest, where the bars are sharp."""

REST_MORE, REST_BLOCKS_MORE = 50, 3000
"""At rest: a status that an operation has for the first time has a few objects. Blocks are more because every counter
and every bucket has one of its own as soon as it is above 256; there are some 40 to each operation and caller."""

SHORTEST = 60.0
"""Seconds of load below which growth says nothing, and has no bar."""

MIB = 2**20


@dataclass(frozen=True)
class Look:
    """The proxy at one moment: ``inside`` is what its own thread counted, ``scrape`` its metrics."""

    at: float
    asked: int
    inside: dict[str, Any]
    scrape: Scrape

    @property
    def open(self) -> dict[str, float]:
        """What there is none of when nothing goes on."""
        names = ("caller_connections", "tunnels_open", "requests_in_flight", "queue_waiting")
        return {name: self.scrape[name] for name in names} | {"upstream_connections active": self.scrape.active}


_COLUMNS: tuple[tuple[str, Callable[[Look], str]], ...] = (
    ("s", lambda look: f"{look.at:.0f}"),
    ("asked", lambda look: f"{look.asked}"),
    ("RSS MiB", lambda look: f"{look.inside['rss'] / MIB:.2f}"),
    ("PSS", lambda look: f"{look.inside['pss'] / MIB:.2f}"),
    ("USS", lambda look: f"{look.inside['uss'] / MIB:.2f}"),
    ("objects", lambda look: f"{look.inside['objects']}"),
    ("blocks", lambda look: f"{look.inside['blocks']}"),
    ("fds", lambda look: f"{look.inside['descriptors']}"),
    ("threads", lambda look: f"{look.inside['threads']}"),
    ("tasks", lambda look: f"{look.scrape['tasks']:g}"),
    ("callers", lambda look: f"{look.scrape['caller_connections']:g}"),
    ("tunnels", lambda look: f"{look.scrape['tunnels_open']:g}"),
    ("active", lambda look: f"{look.scrape.active:g}"),
    ("idle", lambda look: f"{look.scrape.idle:g}"),
    ("CPU s", lambda look: f"{look.inside['cpu']:.1f}"),
)
WIDTHS = [max(len(name), 7) for name, _ in _COLUMNS]


def heading() -> str:
    """The first line of the table."""
    return " ".join(name.rjust(width) for (name, _), width in zip(_COLUMNS, WIDTHS, strict=True))


def row(look: Look) -> str:
    """One of the others."""
    return " ".join(spell(look).rjust(width) for (_, spell), width in zip(_COLUMNS, WIDTHS, strict=True))


@dataclass(frozen=True)
class Report:
    """All that was counted. ``first`` and ``last`` were taken at rest, before and after the load."""

    seconds: float
    first: Look
    looks: list[Look]
    last: Look
    accounts: Accounts
    code: int
    errors: str

    def bars(self) -> Iterator[tuple[bool, str]]:
        """Each bar: whether it holds, and in words."""
        yield from self._answers()
        if self.seconds >= SHORTEST:
            yield from self._growth()
            yield from self._growth_at_rest()
        yield from self._rest()

    def _answers(self) -> Iterator[tuple[bool, str]]:
        seen, last = self.accounts, self.last.scrape
        words = f"{seen.kinds.total()} requests, {seen.tunnels.total()} tunnels, {seen.messages} messages"
        wrong = f"{seen.wrongs} were not, such as {seen.wrong[:5]}"
        yield (
            not seen.wrongs,
            f"every answer, echo and ending was right: {words}" + (f"; {wrong}" if seen.wrong else ""),
        )
        accepted, ended = last["requests_accepted_total"], last["requests_ended_total"]
        yield accepted == ended, f"accepted == ended: {accepted:g}, {ended:g}"
        yield accepted == seen.asked, f"accepted == asked: {accepted:g}, {seen.asked}"

    def _growth(self) -> Iterator[tuple[bool, str]]:
        early, late = self._medians("rss")
        words = f"{early / MIB:.2f} MiB, then {late / MIB:.2f} ({_percent(early, late)})"
        yield late <= early * MEMORY_GROWN, f"resident memory grew by 2 % at most: {words}"
        # What is there for the load alone may be more by as much as the load is: a busy machine's is not steady.
        rates = [(span[-1].asked - span[0].asked) / (span[-1].at - span[0].at) for span in self._spans()]
        heavier = max(1.0, rates[1] / rates[0]) if rates[0] else 1.0
        for name, more in (("objects", OBJECTS_MORE), ("blocks", BLOCKS_MORE)):
            early, late = self._medians(name)
            most = (early + (early - self.first.inside[name]) * (heavier - 1)) * OBJECTS_GROWN + more
            words = f"{early:g} at {rates[0]:.0f} requests a second, then {late:g} at {rates[1]:.0f}"
            words += "" if late <= most else self._grown_types()
            yield late <= most, f"{name} under load are {most:.0f} at most: {words}"

    def _growth_at_rest(self) -> Iterator[tuple[bool, str]]:
        for name, more in (("objects", REST_MORE), ("blocks", REST_BLOCKS_MORE)):
            before, after = self.first.inside[name], self.last.inside[name]
            grown = Counter(self.last.inside["types"]) - Counter(self.first.inside["types"])
            words = f"{before}, then {after}; types that grew: {dict(grown.most_common(8)) or 'none'}"
            yield after <= before + more, f"{name} at rest are {more} more at most: {words}"

    def _rest(self) -> Iterator[tuple[bool, str]]:
        first, last = self.first, self.last
        left = ", ".join(f"{name} {value:g}" for name, value in last.open.items())
        yield not any(last.open.values()), f"nothing is open at rest: {left}"
        tasks = first.scrape["tasks"], last.scrape["tasks"]
        yield 0 < tasks[1] <= tasks[0], f"no task more at rest: {tasks[0]:g}, then {tasks[1]:g}"
        # Counted by the thread: the metric is not to be had everywhere.
        counts = [look.inside["descriptors"] - int(look.scrape.idle) for look in (first, last)]
        yield counts[1] <= counts[0], f"no descriptor more at rest, idle ones aside: {counts[0]}, then {counts[1]}"
        threads = first.inside["threads"], last.inside["threads"]
        yield threads[1] <= threads[0], f"no thread more at rest: {threads[0]}, then {threads[1]}"
        yield self.code == 0, f"the proxy's exit code is 0: {self.code}"
        yield "Traceback" not in self.errors, "no traceback is in its standard error"

    def _spans(self) -> list[list[Look]]:
        return [[look for look in self.looks if a <= look.at / self.seconds < b] for a, b in (EARLY, LATE)]

    def _medians(self, name: str) -> tuple[float, float]:
        early, late = (median(look.inside[name] for look in span) for span in self._spans())
        return early, late

    def _grown_types(self) -> str:
        """By the samples in the middle of the two spans: which types there were more of."""
        early, late = (Counter(span[len(span) // 2].inside["types"]) for span in self._spans())
        return f"; types that grew: {dict((late - early).most_common(8))}"


def _percent(early: float, late: float) -> str:
    return f"{(late / early - 1) * 100:+.2f} %" if early else "not measured here"
