"""What the dashboard shows: rows of panels from top to bottom, and what it leaves out and why.

A metric that is neither shown nor left out on purpose is an error when the dashboard is made (``run.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import state
import traffic
from panel import Panel
from promql import Families

LEFT_OUT: Mapping[str, str] = {
    "process_virtual_memory_bytes": "address space, which is not memory in use",
    "python_gc_collections": "the collector is a matter of debugging; what it costs is in the CPU",
    "python_gc_objects_collected": "the same",
    "python_gc_objects_uncollectable": "the same",
    "python_info": "its version is a label of build_info, which is shown",
}
"""Metrics that are in no panel, each with the reason."""


def rows(of: Families) -> Iterator[tuple[str, list[Panel]]]:
    """The rows from top to bottom, by title."""
    yield "At a glance", state.glance(of)
    yield "Traffic", traffic.traffic(of)
    yield "Refusals", traffic.refusals(of)
    yield "Latency", traffic.latency(of)
    yield "Upstream", traffic.upstream(of)
    yield "WebSockets", traffic.tunnels(of)
    yield "Credentials", state.credentials(of)
    yield "Limits", state.limits(of)
    yield "Callers' connections", state.connections(of)
    yield "Configuration and process", state.process(of)
