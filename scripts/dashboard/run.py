"""Writes deploy/grafana/dashboard.json from the metrics that the proxy exports.

    python scripts/dashboard/run.py          writes it
    python scripts/dashboard/run.py --check  says whether it is what would be written (exit 1: no)

No panel can name a metric or a label that does not exist (``promql.py``), and no metric can be forgotten: each is in a
panel or in ``LEFT_OUT`` with a reason (``panels.py``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panel import Panel
from panels import LEFT_OUT, rows
from promql import Families, UnknownError

FILE = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboard.json"
COMMAND = "python scripts/dashboard/run.py"
SOURCE = {"type": "prometheus", "uid": "${source}"}
HEIGHT = {"timeseries": 8, "stat": 4}
"""Of a panel, in Grafana's units."""

SCHEMA = 39
"""Grafana 10.4 and newer read it as it is; older ones are said to try."""


def main() -> None:
    """Writes the file, or compares it."""
    made = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(made, encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != made:
        sys.exit(f"{FILE.name} is not what the metrics say; run: {COMMAND}")


def dashboard() -> dict[str, Any]:
    """The whole dashboard. Raises ``UnknownError`` for a metric that is nowhere, or left out and shown."""
    families = Families()
    drawn = [*rows(families)]
    shown = {name for _, panels in drawn for panel in panels for query in panel.asks.values() for name in query.shows}
    if forgotten := families.by_name.keys() - shown - LEFT_OUT.keys():
        raise UnknownError(f"in no panel: {', '.join(sorted(forgotten))}; add them to panels.py, or to LEFT_OUT there")
    if needless := LEFT_OUT.keys() - (families.by_name.keys() - shown):
        raise UnknownError(f"in LEFT_OUT, and shown or unknown: {', '.join(sorted(needless))}")
    return {
        "uid": "inworld-proxy",
        "title": "inworld-proxy",
        "description": f"Made by {COMMAND}; what is changed here is lost.",
        "tags": ["inworld-proxy"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [*_variables(families)]},
        "annotations": {"list": []},
        "panels": [*_laid_out(drawn)],
    }


def _variables(families: Families) -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    for label, family in (("instance", "build_info"), ("operation", "requests"), ("caller", "requests")):
        asked = families[family]
        asked.check([label])
        name = f"{asked.name}_total" if asked.type == "counter" else asked.name
        yield {
            "name": label,
            "label": label.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f"label_values({name}, {label})", "refId": label},
            "definition": f"label_values({name}, {label})",
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            # An instance of another program may have metrics of the same name (process_…): these are the proxies only.
            **({} if label == "instance" else {"allValue": ".*"}),
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


def _laid_out(drawn: list[tuple[str, list[Panel]]]) -> Iterator[dict[str, Any]]:
    number = y = 0
    for title, panels in drawn:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}  # fmt: skip
        y += 1
        x = 0
        for panel in panels:
            number += 1
            height = HEIGHT[panel.kind]
            if x + panel.width > 24:
                x, y = 0, y + height
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += HEIGHT[panels[-1].kind]


def _panel(panel: Panel, number: int, where: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, **({} if panel.signed else {"min": 0})}
    if panel.good is not None:
        steps = [{"value": None, "color": "green" if panel.good == 0 else "red"},
                 {"value": 1, "color": "red" if panel.good == 0 else "green"}]  # fmt: skip
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.kind == "stat":
        options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    else:
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": where,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query.text, "legendFormat": legend,
             "editorMode": "code", "range": True}
            for index, (legend, query) in enumerate(panel.asks.items())
        ],
    }  # fmt: skip


if __name__ == "__main__":
    main()
