"""The inspector: whether it is on, and how many requests it keeps. From the section to the number that is worked
with."""

from __future__ import annotations

from proxy.document import Fault
from proxy.settings.reading import Reading

MOST_KEPT = 5000
"""Requests. With heads of 4 KiB, the longest that are kept, they take 85 MB; with 200 bytes, as clients send, 9."""


def resolve_inspector(reading: Reading, faults: list[Fault]) -> int:
    """How many requests are kept to be looked at; 0: the inspector is off.

    Where nothing is said it is on exactly where nobody beyond this machine reaches the admin listener.
    """
    options = reading.options.settings
    settings = options.inspector
    enabled = options.admin.is_loopback if settings.enabled is None else settings.enabled
    if enabled and not options.admin.is_loopback and options.admin_token is None and reading.options.whole:
        found = f"the traffic, for everyone who reaches `{options.admin}`"
        remedy = "set `admin_token`, which it then asks for, or leave the inspector off"
        faults.append(reading.document.fault(("inspector", "enabled"), found, remedy))
    if settings.keep > MOST_KEPT:
        remedy = f"write {MOST_KEPT} at most: they are kept in memory"
        faults.append(reading.document.fault(("inspector", "keep"), f"{settings.keep} requests", remedy))
    return settings.keep if enabled else 0
