"""A picture of a run: python -m bench.plot RESULTS.json PLOT.svg. One panel of bars for each test, light and dark."""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import Any

from bench.measure import TESTS, Metric
from bench.table import PEERS, number

WIDTH, COLUMNS, EDGE, GAP = 1000, 2, 24, 36
TOP, BAR, STEP, HEAD = 112, 13, 19, 46
NAMES, VALUES = 84, 104
"""Room for the targets' names before the bars, and for the figures behind them."""

_STYLE = """
svg { color: #1f2328; font: 12px system-ui, sans-serif; }
.ground { fill: #ffffff; }
text { fill: currentColor; }
.title { font-size: 20px; font-weight: 600; }
.test { font-size: 13px; font-weight: 600; }
.quiet { opacity: .65; }
.peer { fill: #8c959f; }
.ours { fill: #0969da; }
.end { text-anchor: end; }
.spread { stroke: currentColor; stroke-width: 1; opacity: .7; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; }
  .ground { fill: #0d1117; }
  .peer { fill: #6e7681; }
  .ours { fill: #58a6ff; }
}
"""


def plot(results: dict[str, Any]) -> str:
    """The SVG. A panel shows the first metric of its test that was measured; its whiskers are the rounds' extremes."""
    panels = [panel for name in results["summary"] if (panel := _panel_of(results, name)) is not None]
    width = (WIDTH - 2 * EDGE - (COLUMNS - 1) * GAP) / COLUMNS
    drawn, top = [], float(TOP)
    for at in range(0, len(panels), COLUMNS):
        row = panels[at : at + COLUMNS]
        for column, (name, metric, values) in enumerate(row):
            drawn += _panel(name, metric, values, EDGE + column * (width + GAP), top, width)
        top += HEAD + STEP * max(len(values) for _, _, values in row) + 22
    versions = ", ".join(f"{name} {version}" for name, version in results["targets"].items() if name != "direct")
    machine, rounds, first = results["machine"], results["options"]["rounds"], results["first"]
    conditions = f"{results['date']} · {machine['shape']} · Linux {machine['kernel']}"
    label = html.escape(f"Benchmark of {', '.join(results['targets'])}")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{label}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{top:.0f}"/>',
        _text(EDGE, 34, "An authenticating proxy on one core", "title"),
        _text(EDGE, 54, conditions, "quiet"),
        _text(EDGE, 72, versions, "quiet"),
        _text(EDGE, 90, f"Medians of {rounds} rounds; ×: ratio to {first} inside a round; lines: extremes", "quiet"),
        *drawn,
        "</svg>",
    ]) + "\n"  # fmt: skip


_Values = dict[str, dict[str, Any]]


def _panel_of(results: dict[str, Any], name: str) -> tuple[str, Metric, _Values] | None:
    figures = results["summary"][name]
    for metric in TESTS[name].metrics:
        values = {
            target: figures[target][metric.name]
            for target in results["targets"]
            if target in figures and metric.name in figures[target]
        }
        if values.keys() - {"direct"}:
            return name, metric, values
    return None


def _panel(name: str, metric: Metric, values: _Values, left: float, top: float, width: float) -> list[str]:
    way = "more is better" if metric.name == "rate" else "less is better"
    # What there is without a proxy is no bar: it would make those of the proxies short.
    alone = values.pop("direct", None)
    ceiling = "" if alone is None else f"; without a proxy {number(alone['median'], metric.digits)}"
    drawn = [
        _text(left, top + 14, TESTS[name].words, "test"),
        _text(left, top + 30, f"{name}: {metric.unit}, {way}{ceiling}", "quiet"),
    ]
    room = width - NAMES - VALUES
    # Added delays can be below zero where noise is larger than they are.
    scale = room / max(1e-9, *(max(found["max"], found["median"]) for found in values.values()))
    for at, (target, found) in enumerate(values.items()):
        y = top + HEAD - 6 + at * STEP
        start, middle = left + NAMES, y + BAR / 2
        long = max(found["median"], 0.0) * scale
        low, high = (start + max(found[key], 0.0) * scale for key in ("min", "max"))
        kind = "peer" if target in PEERS else "ours"
        ratio = f" · {found['ratio']['median']:.2f}×" if "ratio" in found else ""
        drawn += [
            _text(start - 6, middle + 4, target, "end"),
            f'<rect class="{kind}" x="{start:.1f}" y="{y:.1f}" width="{max(long, 1):.1f}" height="{BAR}" rx="2"/>',
            f'<line class="spread" x1="{low:.1f}" y1="{middle:.1f}" x2="{high:.1f}" y2="{middle:.1f}"/>',
            _text(max(start + long, high) + 6, middle + 4, number(found["median"], metric.digits) + ratio),
        ]
    return drawn


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{mark}>{html.escape(text)}</text>'


def main() -> None:
    """From a file to a file."""
    source, target = map(Path, sys.argv[1:3])
    target.write_text(plot(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
