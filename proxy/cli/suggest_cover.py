"""The shortest list of names and wildcards that grants exactly some operations.

What belongs here: choosing among what ``allow`` accepts. A wildcard is chosen only when everything that it means in the
catalogue was seen; it has one ``*``, in place of whole words, so that a person would have written it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proxy.core.model import Operation, Permission
from proxy.settings.routing import match_glob

MOST_STEPS = 20_000
"""Choices that are tried before the best one found is good enough: a fifth of a second."""

Names = frozenset[str]


class Grant(NamedTuple):
    """A line of ``allow`` and the operations that it is there for."""

    pattern: str
    operations: Names


def grantable(operations: Mapping[str, Operation]) -> Names:
    """The operations that a grant makes a difference for: mints are refused to every caller, whatever it is granted."""
    return frozenset(name for name, each in operations.items() if each.permission is not Permission.MINT)


def cover(seen: Names, operations: Mapping[str, Operation], *, exact: bool = False) -> list[Grant]:
    """The fewest lines that let through ``seen`` and nothing else of the catalogue, in the catalogue's order.

    ``seen`` are names of ``grantable(operations)``. ``exact`` asks for names alone.
    """
    singles = [Grant(name, frozenset({name})) for name in operations if name in seen]
    if exact:
        return singles
    chosen = _apart(_fewest(seen, _widest([*_wildcards(seen, operations), *singles])))
    order = {name: place for place, name in enumerate(operations)}
    return sorted(chosen, key=lambda grant: min(order[name] for name in grant.operations))


def _wildcards(seen: Names, operations: Mapping[str, Operation]) -> Iterator[Grant]:
    unseen = grantable(operations) - seen
    found: dict[Names, str] = {}
    for pattern in {pattern for name in seen for pattern in _spellings(name)}:
        start, _, end = pattern.partition("*")
        if any(_may_match(name, start, end) for name in unseen):
            continue
        matched = match_glob(pattern, operations) & seen
        # One operation is better named: whatever joins it in a later catalogue was not seen.
        if len(matched) > 1 and all(_is_whole(name, start, end) for name in matched):
            found[matched] = min(found.get(matched, pattern), pattern, key=_plainness)
    yield from (Grant(pattern, matched) for matched, pattern in found.items())


def _may_match(name: str, start: str, end: str) -> bool:
    return len(name) >= len(start) + len(end) and name.startswith(start) and name.endswith(end)


def _is_whole(name: str, start: str, end: str) -> bool:
    """Does ``*`` stand for whole words of this name? ``tts.synth*`` would be an accident of its letters."""
    left, right = len(start), len(name) - len(end)
    return _is_edge(name[:left], name[left:]) and _is_edge(name[:right], name[right:])


def _is_edge(left: str, right: str) -> bool:
    return not left or not right or left[-1] in "._" or right[0] in "._"


def _spellings(name: str) -> Iterator[str]:
    """All ways of writing ``*`` for some whole words of a name: a word ends at a dot, an underscore, or the end."""
    cuts = [0, *(place + after for place, letter in enumerate(name) if letter in "._" for after in (0, 1)), len(name)]
    for left in cuts:
        yield from (f"{name[:left]}*{name[right:]}" for right in cuts if right > left or left == len(name))


def _plainness(pattern: str) -> tuple[bool, bool, int, str]:
    """What people read best first: the end of a name left open behind a word (`tts.*`), then what is shorter."""
    return not pattern.endswith("*"), not pattern.endswith((".*", "_*")), len(pattern), pattern


def _widest(grants: list[Grant]) -> list[Grant]:
    """Without those that another one contains; the largest first."""
    kept: list[Grant] = []
    for grant in sorted(grants, key=lambda grant: (-len(grant.operations), _plainness(grant.pattern))):
        if not any(grant.operations <= wider.operations for wider in kept):
            kept.append(grant)
    return kept


def _fewest(needed: Names, grants: list[Grant]) -> list[Grant]:
    """The fewest of these that contain all that is needed: set cover, by branch and bound.

    The first branch is the greedy choice, so stopping early still gives what greed would.
    """
    forced = [only for name in sorted(needed) for only in [_choices(name, grants)] if len(only) == 1]
    taken = list(dict.fromkeys(only for (only,) in forced))
    needed = needed.difference(*(grant.operations for grant in taken))
    best: list[Grant] | None = None
    largest = max((len(grant.operations) for grant in grants), default=1)
    steps = 0

    def search(left: Names, chosen: list[Grant]) -> None:
        nonlocal best, steps
        steps += 1
        if not left:
            if best is None or len(chosen) < len(best):
                best = chosen
            return
        least = len(chosen) + -(-len(left) // largest)
        if best is not None and (least >= len(best) or steps > MOST_STEPS):
            return
        # The operation with the fewest choices: whatever is chosen, one of these has to be.
        by_name = {name: _choices(name, grants) for name in sorted(left)}
        scarcest = min(by_name, key=lambda name: len(by_name[name]))
        for grant in sorted(by_name[scarcest], key=lambda grant: -len(grant.operations & left)):
            search(left - grant.operations, [*chosen, grant])

    search(needed, [])
    return taken + (best or [])


def _apart(grants: list[Grant]) -> list[Grant]:
    """Each operation with one line only. A wildcard that is left with one of them is its name instead."""
    done: Names = frozenset()
    apart: list[Grant] = []
    for grant in sorted(grants, key=lambda grant: -len(grant.operations)):
        rest = grant.operations - done
        if rest:
            apart.append(Grant(grant.pattern if len(rest) > 1 else min(rest), rest))
        done |= rest
    return apart


def _choices(name: str, grants: list[Grant]) -> list[Grant]:
    return [grant for grant in grants if name in grant.operations]
