"""The names under which Prometheus knows what the proxy exports, each with its labels: what rules may speak of."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from proxy.observe.families import PREFIX
from tests.deploy.tools import ROOT

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}

Exported = dict[str, frozenset[str]]
"""Labels by the name of a sample."""


def dashboard_script(name: str) -> Any:
    """A module of scripts/dashboard, which is a program and no package."""
    folder = ROOT / "scripts" / "dashboard"
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
    assert module.__file__ == str(folder / f"{name}.py"), "another module has this name"
    return module


def exported() -> Exported:
    """Every sample that a scrape can have, by name."""
    families = dashboard_script("promql").Families().by_name
    assert any(name.startswith(PREFIX) for name in families)
    return {
        f"{family.name}{suffix}": frozenset(family.labels) | ({"le"} if suffix == "_bucket" else frozenset())
        for family in families.values()
        for suffix in SUFFIXES.get(family.type, ("",))
    }
