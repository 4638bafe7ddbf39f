"""A caller's ``limits``: from the section to the value that the gates work with."""

from __future__ import annotations

from proxy.core.model import CallerLimits
from proxy.document import Document, Fault, KeyPath
from proxy.settings.model import LimitSettings


def resolve_limits(
    settings: LimitSettings, document: Document, path: KeyPath, faults: list[Fault]
) -> CallerLimits | None:
    """The limits of the caller at this path; None where there are none. A queue needs something to wait for."""
    here = (*path, "limits")
    if settings.requests is not None or settings.concurrent is not None:
        return CallerLimits(settings.requests, settings.concurrent, settings.queue or 0.0)
    if (*here, "requests") in document.places or (*here, "concurrent") in document.places:
        return None  # one that could not be read, which has its own fault
    if (*here, "queue") in document.places:
        remedy = "add `requests: 50/s` or `concurrent: 20`, or remove it"
        faults.append(document.fault((*here, "queue"), "a queue without a limit to wait for", remedy))
    elif here in document.places:
        faults.append(document.fault(here, "no limit", "add `requests: 50/s` or `concurrent: 20`, or remove the key"))
    return None
