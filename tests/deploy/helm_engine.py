"""Helm's own engine, in a process of its own because Go's runtime takes over signals.

``python helm_engine.py CHART RELEASE`` reads a list of values (JSON), and prints for each what `helm template` would
write and `helm lint --strict` would say, or why the chart cannot be rendered with them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python

NAMESPACE = "speech"
WARNING = 2
"""A finding's severity, from which on `helm lint --strict` fails."""


def answer(folder: str, values: dict[str, Any], release: str) -> dict[str, Any]:
    """Texts by the name of their template under ``files`` and findings under ``lint``; or a reason under ``failed``."""
    with helm_python.Chart.load(folder) as chart:
        try:
            chart.validate_schema(values)
            files = chart.render(values, name=release, namespace=NAMESPACE, is_install=True)
        except helm_python.HelmError as error:
            return {"failed": str(error)}
    report = helm_python.lint(folder, values, strict=True, namespace=NAMESPACE)
    found = [each["error"] for each in report["messages"] if each["severity"] >= WARNING]
    return {"files": files, "lint": found + report["errors"]}


if __name__ == "__main__":
    print(json.dumps([answer(sys.argv[1], values, sys.argv[2]) for values in json.load(sys.stdin)]))
