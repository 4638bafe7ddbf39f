"""What a run was measured on, in words for the line above a table."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

MACHINES_OWN = " hypervisor"
"""The flag of a processor that is not the machine's own."""


def shape(*, one_core: bool = False) -> str:
    """How many cores of which kind, and what else they did. ``one_core``: of several only one may be used."""
    said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.*)$", said, re.MULTILINE)
    model = re.sub(r"\s+", " ", found[1]) if found else platform.machine()
    words = f"{os.cpu_count()} cores ({model}{', virtual' if MACHINES_OWN in said else ''})"
    if one_core:
        words += ", of which ONE could be used: proxies, upstream and load share it"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{words}, load {load} at the end"
