"""From rounds to figures that can be read: medians, ratios taken inside a round, Markdown. Nothing is measured here."""

from __future__ import annotations

import statistics
from typing import Any

from bench.measure import IMPORT, TESTS, Metric, Test
from bench.product import ALL_ON, FEATURES
from bench.rounds import Row

FULL = 0.9
"""A proxy that ran or waited to run for less of the time waited for the load side: it could have done more."""

_NOTHING = "–"

Spread = dict[str, float]
"""`median`, `min` and `max`."""

Summary = dict[str, dict[str, dict[str, Any]]]
"""By test, target and metric: a spread, with `ratio` (another spread) where the first target was measured too."""


def _spread(values: list[float]) -> Spread:
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
    table = _rows([" ", *targets], head=True)
    for name in summary:
        for metric in TESTS[name].metrics:
            cells = [_cell(summary[name].get(target, {}), TESTS[name], metric) for target in targets]
            if any(cell != _NOTHING for cell in cells):
                table += _rows([f"`{name}` {metric.unit}", *cells])
    notes = [_reading(results["first"])]
    if any("°" in row for row in table):
        notes.append(
            f"° The proxy wanted less than {FULL:.0%} of its core: here the load side set the pace, not the proxy."
        )
    notes += _start_notes(summary)
    notes += [f"Left out: {name}, {why}." for name, why in results["left_out"].items()]
    notes += _refusals(results)
    notes += _error_notes(summary)
    return "\n\n".join([_heading(results), "\n".join(table), *notes]) + "\n"


def _heading(results: dict[str, Any]) -> str:
    machine, rounds = results["machine"], results["options"]["rounds"]
    return f"{results['date']}, {machine['shape']}; {rounds} rounds of {results['options']['seconds']:g} s."


def _reading(first: str) -> str:
    return (
        f"Medians over the rounds; after the dot the median ratio to {first} inside a round, in brackets the lowest "
        "and the highest. CPU and memory are the proxy's alone."
    )


def _refusals(results: dict[str, Any]) -> list[str]:
    return [f"REFUSED: {name}: {'; '.join(faults)}." for name, faults in results["refused"].items()]


def _rows(cells: list[str], *, head: bool = False) -> list[str]:
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
    if ratio := found.get("ratio"):
        text += f" · {ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"
    return text


def number(value: float, digits: int) -> str:
    """As it is read: no more digits than mean something."""
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def _start_notes(summary: Summary) -> list[str]:
    started = summary.get("start", {})
    if IMPORT not in started:
        return []
    return [f"In the same rounds `python -c '{IMPORT}'` takes {number(started[IMPORT]['time']['median'], 0)} ms."]


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
    table = _rows(["CPU µs/request", "what is done for it", *(f"`{test}`" for test in tests)], head=True)
    whole = [[value for (test, target, _), value in used.items() if (test, target) == (name, ALL_ON)] for name in tests]
    table += _rows([ALL_ON, "everything but limits", *(_range(values, "{:.1f}") for values in whole)])
    for feature, (_, words, sign) in FEATURES.items():
        costs = [
            [
                sign * (value - used[name, ALL_ON, number])
                for (test, target, number), value in used.items()
                if (test, target) == (name, feature) and (name, ALL_ON, number) in used
            ]
            for name in tests
        ]
        table += _rows([f"`{feature}`", words, *(_range(values, "{:+.1f}") for values in costs)])
    text = (
        "The first row is the whole, the others are the differences that a feature makes inside a round: medians over "
        "the rounds, in brackets the lowest and the highest. Metrics cannot be switched off, so no row has them."
    )
    return "\n\n".join([_heading(results), "\n".join(table), text, *_refusals(results)]) + "\n"


def _range(values: list[float], form: str) -> str:
    if not values:
        return _NOTHING
    median, low, high = (form.format(value) for value in _spread(values).values())
    return f"{median} ({low} to {high})"
