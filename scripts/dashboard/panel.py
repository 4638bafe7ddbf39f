"""A panel as a value: what is asked, in which unit it is shown, and how wide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promql import Query


@dataclass(frozen=True)
class Panel:
    """One panel. ``asks`` are legends with expressions; a legend is Grafana's, with labels as ``{{label}}``."""

    title: str
    unit: str
    asks: Mapping[str, Query]
    text: str
    kind: str = "timeseries"
    width: int = 8
    """Of 24."""
    good: float | None = None
    """For a panel of kind ``stat``: the one value that is well; others are red."""
    signed: bool = False
    """Values below zero mean something, and the axis does not begin there."""
