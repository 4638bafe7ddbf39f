"""From rounds to figures that can be read: medians, ratios taken inside a round, Markdown. Nothing is measured here."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

from bench.measure import IMPORT, TESTS, Metric, Test
from bench.product import ALL_ON, FEATURES
from bench.rounds import Row

FULL = 0.9
"""A proxy that ran or waited to run for less of the time waited for the load side: it could have done more."""

PEERS = ("nginx", "haproxy", "envoy", "naive")
"""What ours is compared with; every other target but the upstream itself is a build of ours."""

WIDTH = 128
"""Letters in a line of a paragraph."""

_NOTHING = "–"

Spread = dict[str, float]
"""`median`, `min` and `max`."""

Summary = dict[str, dict[str, dict[str, Any]]]
"""By test, target and metric: a spread, with `ratio` (another spread) where the first target was measured too."""


def _spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarise(rows: list[Row], first: str) -> Summary:
    """Medians over rounds, and the ratios to ``first`` of each round. Rounds with errors count as well."""
    summary: Summary = {}
    cells: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        for metric, value in row.items():
            if metric not in {"test", "target", "round"}:
                cells.setdefault((row["test"], row["target"], metric), {})[row["round"]] = value
    for (test, target, metric), values in cells.items():
        found: dict[str, Any] = dict(_spread(list(values.values())))
        if metric == "errors":
            found["sum"] = sum(values.values())
        beside = cells.get((test, first, metric), {})
        ratios = [value / beside[number] for number, value in values.items() if beside.get(number, 0) > 0]
        if ratios and target != first:
            found["ratio"] = _spread(ratios)
        summary.setdefault(test, {}).setdefault(target, {})[metric] = found
    return summary


# -- the comparison ---------------------------------------------------------------------------------------------------


def comparison(results: dict[str, Any]) -> str:
    """The table in Markdown, with what has to be known to read it."""
    summary, targets = results["summary"], list(results["targets"])
    if not targets:
        return "\n\n".join(["Nothing was measured.", *_refusals(results)]) + "\n"
    table = rows([" ", *targets], head=True)
    for name in summary:
        for metric in TESTS[name].metrics:
            cells = [_cell(summary[name].get(target, {}), TESTS[name], metric) for target in targets]
            if any(cell != _NOTHING for cell in cells):
                table += rows([f"`{name}` {metric.unit}", *cells])
    beside = _beside_peers(results)
    notes = [_reading(results["first"], second=bool(beside))]
    if any("°" in row for row in table):
        notes.append(
            f"° The proxy wanted less than {FULL:.0%} of its core: here the load side set the pace, not the proxy."
        )
    notes += _start_notes(results)
    notes += [f"Left out: {name}, {why}." for name, why in results["left_out"].items()]
    notes += _refusals(results)
    notes += _error_notes(summary)
    return "\n\n".join([_heading(results), "\n".join(table), *beside, *notes]) + "\n"


def _beside_peers(results: dict[str, Any]) -> list[str]:
    """A table for each build of ours, with its ratios to every peer."""
    peers = [name for name in results["targets"] if name in PEERS]
    parts = []
    for build in (name for name in results["targets"] if name not in {*PEERS, "direct"}):
        lines = []
        for test in results["summary"]:
            for metric in TESTS[test].metrics:
                found = [ratio(results["rows"], test, metric.name, (build, peer)) for peer in peers]
                if any(found):
                    lines += rows([f"`{test}` {metric.unit}", *map(_ratio_text, found)])
        if lines:
            head = rows([f"{build} to", *peers], head=True)
            parts += ["\n".join([*head, *lines])]
    return parts


def ratio(rounds: list[Row], test: str, metric: str, pair: tuple[str, str]) -> Spread | None:
    """Of the first target to the second inside a round; None where they were never measured together."""
    ours, theirs = (
        {row["round"]: row[metric] for row in rounds if (row["test"], row["target"]) == (test, name) and metric in row}
        for name in pair
    )
    values = [value / theirs[number] for number, value in ours.items() if theirs.get(number, 0) > 0]
    return _spread(values) if values else None


def _ratio_text(found: Spread | None) -> str:
    return _NOTHING if found is None else f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"


def wrapped(text: str) -> str:
    """A paragraph that is pasted into a README is as wide as those around it."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _heading(results: dict[str, Any]) -> str:
    machine, rounds = results["machine"], results["options"]["rounds"]
    return f"{results['date']}, {machine['shape']}; {rounds} rounds of {results['options']['seconds']:g} s."


def _reading(first: str, *, second: bool) -> str:
    more = " The second table has the ratios of ours to each of the others." if second else ""
    return (
        f"Medians over the rounds; after the dot the median ratio to {first} inside a round, in brackets the lowest "
        f"and the highest.{more} CPU and memory are the proxy's alone."
    )


def _refusals(results: dict[str, Any]) -> list[str]:
    return [f"REFUSED: {name}: {'; '.join(faults)}." for name, faults in results["refused"].items()]


def rows(cells: list[str], *, head: bool = False) -> list[str]:
    """A row of a table in Markdown; ``head``: with the line under it."""
    row = f"| {' | '.join(cells)} |"
    return [row, f"| --- |{' ---: |' * (len(cells) - 1)}"] if head else [row]


def _cell(figures: dict[str, Any], test: Test, metric: Metric) -> str:
    found = figures.get(metric.name)
    if found is None:
        return _NOTHING
    text = number(found["median"], metric.digits)
    closed = metric.name == "rate" and not test.name.startswith(("delay", "stream"))
    if closed and "wanted" in figures and figures["wanted"]["median"] < FULL:
        text += "°"
    if beside := found.get("ratio"):
        text += f" · {_ratio_text(beside)}"
    return text


def number(value: float, digits: int) -> str:
    """As it is read: no more digits than mean something."""
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def _start_notes(results: dict[str, Any]) -> list[str]:
    started = results["summary"].get("start", {})
    if IMPORT not in started:
        return []
    text = f"In the same rounds `python -c '{IMPORT}'` takes {number(started[IMPORT]['time']['median'], 0)} ms"
    for build in results["targets"]:
        found = ratio(results["rows"], "start", "time", (build, IMPORT))
        if found is not None and build not in PEERS:
            text += f"; the start of {build} is {_ratio_text(found)} times that"
    return [f"{text}."]


def _error_notes(summary: Summary) -> list[str]:
    notes = [
        f"Errors: {figures['errors']['sum']:.0f} of {target} in {test}."
        for test, targets in summary.items()
        for target, figures in targets.items()
        if figures["errors"]["sum"]
    ]
    return notes or ["No errors."]


# -- the features -----------------------------------------------------------------------------------------------------


def features(results: dict[str, Any]) -> str:
    """What each feature of ours costs, for heads that are the same and for heads that vary."""
    used = {(row["test"], row["target"], row["round"]): row["cpu"] for row in results["rows"] if "cpu" in row}
    tests = list(dict.fromkeys(test for test, _, _ in used))
    table = rows(["CPU µs/request", "what is done for it", *(f"`{test}`" for test in tests)], head=True)
    whole = [[value for (test, target, _), value in used.items() if (test, target) == (name, ALL_ON)] for name in tests]
    table += rows([ALL_ON, "everything but limits", *(span(values, "{:.1f}") for values in whole)])
    for feature, (_, words, sign) in FEATURES.items():
        costs = [
            [
                sign * (value - used[name, ALL_ON, number])
                for (test, target, number), value in used.items()
                if (test, target) == (name, feature) and (name, ALL_ON, number) in used
            ]
            for name in tests
        ]
        table += rows([f"`{feature}`", words, *(span(values, "{:+.1f}") for values in costs)])
    text = (
        "The first row is the whole, the others are the differences that a feature makes inside a round: medians over "
        "the rounds, in brackets the lowest and the highest. Metrics cannot be switched off, so no row has them."
    )
    return "\n\n".join([_heading(results), "\n".join(table), text, *_refusals(results)]) + "\n"


def span(values: Sequence[float], form: str) -> str:
    """The median, with the lowest and the highest."""
    if not values:
        return _NOTHING
    median, low, high = (form.format(value) for value in _spread(values).values())
    return f"{median} ({low} to {high})"
