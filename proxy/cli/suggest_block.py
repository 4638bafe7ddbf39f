"""The ``callers:`` block for what was seen, as YAML to paste, with counts as comments.

What belongs here: who gets which lines, and what is said about the rest: nothing that was seen is left out silently.
What is granted is only what was let through; what was refused is listed below the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from proxy.cli.suggest_cover import Grant, cover, grantable
from proxy.cli.suggest_kept import INDENT, Kept
from proxy.cli.suggest_seen import Seen, Sighting
from proxy.core.model import Operation
from proxy.settings.routing import ANONYMOUS

MOST_SHOWN = 40
"""Refusals listed, the most frequent first; how many more there are is said."""

NAMELESS = "choose-a-name"
"""What the caller is called who was everyone, because none were declared."""


class Known(NamedTuple):
    """What is known besides what was seen. ``callers`` is None without a configuration; ``catalogue`` says whose
    ``operations`` these are."""

    operations: Mapping[str, Operation]
    catalogue: str
    callers: Kept | None


class Suggestion(NamedTuple):
    """The text, and whether it grants anything."""

    text: str
    grants: bool


def suggest(seen: Seen, known: Known, *, exact: bool = False) -> Suggestion:
    """The smallest block that lets through what was let through. ``exact``: without wildcards."""
    may = grantable(known.operations)
    by_caller: dict[str, dict[str, Sighting]] = {}
    strange: dict[str, Sighting] = {}
    for (caller, operation), sighting in sorted(seen.allowed.items()):
        if operation in may:
            by_caller.setdefault(caller, {})[operation] = sighting
        else:
            strange[f"{operation} of {caller}"] = sighting
    granted = {name: each for name, each in by_caller.items() if not known.callers or name in known.callers}
    lines = [*_head(seen, granted)]
    if granted:
        lines.append("callers:")
    order = [name for name in known.callers or () if name in granted] or sorted(granted)
    for name in order:
        lines += _caller(name, granted[name], known, exact=exact)
    lines += _left_out(seen, known, by_caller, strange, exact=exact)
    return Suggestion("\n".join(lines) + "\n", bool(granted))


def _head(seen: Seen, granted: Mapping[str, Mapping[str, Sighting]]) -> Iterator[str]:
    sightings = [each for of_caller in granted.values() for each in of_caller.values()]
    total = _sum(sightings)
    yield f"# What {_requests(total.count)} needed{_period(total)}."
    if total.audited:
        yield f"# {total.audited} of them were let through by `mode: audit` alone, and enforce would have refused them."
    yield from (f"# Note: {note}" for note in seen.notes)


def _caller(name: str, sightings: Mapping[str, Sighting], known: Known, *, exact: bool) -> Iterator[str]:
    total = _requests(_sum(sightings.values()).count)
    spelled = NAMELESS if name == ANONYMOUS else name
    kept = (known.callers or {}).get(name)
    yield f"  {spelled}:    # {total}{', of everyone: no callers were declared' if name == ANONYMOUS else ''}"
    if kept is None:
        yield f"{INDENT}# The token's digest, which `inworld-proxy token {spelled}` prints; or `jwt:`, or `uid:`."
        yield f"{INDENT}token: sha256:PUT-THE-DIGEST-HERE"
    for key, text in (kept or {}).items():
        if key != "allow":
            yield text
    yield f"{INDENT}allow:"
    for grant in cover(frozenset(sightings), known.operations, exact=exact):
        yield from _grant(grant, sightings)


def _grant(grant: Grant, sightings: Mapping[str, Sighting]) -> Iterator[str]:
    if len(grant.operations) == 1 and "*" not in grant.pattern:
        yield f"{INDENT}  - {grant.pattern}    # {_counted(sightings[grant.pattern])}"
        return
    yield f'{INDENT}  - "{grant.pattern}"'
    width = max(map(len, grant.operations))
    for name in sorted(grant.operations, key=lambda name: (-sightings[name].count, name)):
        yield f"{INDENT}    # {name:<{width}}  {_counted(sightings[name])}"


def _left_out(
    seen: Seen,
    known: Known,
    by_caller: Mapping[str, Mapping[str, Sighting]],
    strange: Mapping[str, Sighting],
    *,
    exact: bool,
) -> Iterator[str]:
    """Comments: everyone and everything that the block does not let in."""
    callers = known.callers or {}
    for name, kept in callers.items():
        if name not in by_caller:
            yield ""
            yield f"# {name}: nothing seen that can be granted, so it is left out, and its requests will be refused."
            yield "# To keep it as it was:"
            yield f"#  {name}:"
            yield from (f"#{line}" for text in kept.values() for line in text.split("\n"))
    for name, sightings in by_caller.items():
        if callers and name not in callers:
            yield ""
            total = _requests(_sum(sightings.values()).count)
            yield f"# {name}: {total}, and no such caller in the configuration. It would need:"
            allowed = cover(frozenset(sightings), known.operations, exact=exact)
            yield f"#     allow: [{', '.join(_spell(grant.pattern) for grant in allowed)}]"
    if strange:
        yield ""
        yield f"# Let through, but no operation of {known.catalogue} that can be granted:"
        yield from (f"#   {_counted(each)}  {what}" for what, each in strange.items())
    yield from _refused(seen)


def _refused(seen: Seen) -> Iterator[str]:
    if not seen.refused:
        return
    yield ""
    yield "# Refused, and not granted here (requests, code, caller, what was asked for):"
    rows = sorted(seen.refused.items(), key=lambda item: (-item[1], item[0]))
    for refusal, count in rows[:MOST_SHOWN]:
        yield f"#   {count:>7}  {refusal.code:<24}  {refusal.caller or '-'}  {refusal.what}"
    if len(rows) > MOST_SHOWN:
        more = sum(count for _, count in rows[MOST_SHOWN:])
        yield f"#   {more:>7}  in {len(rows) - MOST_SHOWN} more such lines"


def _spell(pattern: str) -> str:
    return f'"{pattern}"' if "*" in pattern else pattern


def _requests(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"


def _counted(sighting: Sighting) -> str:
    audited = f", {sighting.audited} would_refuse" if sighting.audited else ""
    return f"{sighting.count}{audited}{_period(sighting)}"


def _period(sighting: Sighting) -> str:
    if not sighting.first:
        return ""
    if sighting.first == sighting.last:
        return f", {sighting.first}Z"
    return f", {sighting.first}Z to {sighting.last}Z"


def _sum(sightings: Iterable[Sighting]) -> Sighting:
    total = Sighting()
    for each in sightings:
        total.count += each.count
        total.audited += each.audited
        total.first = min(filter(None, (total.first, each.first)), default="")
        total.last = max(total.last, each.last)
    return total
