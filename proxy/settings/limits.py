"""Limits: a caller's own, and those of the whole process. From the sections to the values that are worked with."""

from __future__ import annotations

import importlib.util

from proxy.core.model import CallerLimits, SharedLimits
from proxy.credentials.secret import SecretError
from proxy.credentials.sources import parse_source, read_source
from proxy.document import Document, Fault, KeyPath, UnusableError
from proxy.settings.addresses import check_redis_url
from proxy.settings.fields import FailOpen
from proxy.settings.model import LimitSettings
from proxy.settings.reading import Reading
from proxy.settings.resolve import Surroundings


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


def resolve_shared_limits(reading: Reading, around: Surroundings, faults: list[Fault]) -> SharedLimits | None:
    """The Redis server to count rates in; None where there is none."""
    settings = reading.options.settings.limits
    if settings.shared is None:
        if "shared_failure" in settings.model_fields_set and reading.options.whole:
            path = ("limits", "shared_failure")
            faults.append(reading.document.fault(path, "a choice about a Redis server without one", "add `shared:`"))
        return None
    if importlib.util.find_spec("redis") is None:
        remedy = "install it: `pip install 'inworld-proxy[redis]'`"
        faults.append(reading.document.fault(("limits", "shared"), "a Redis server, without the client for it", remedy))
    try:
        text = settings.shared
        if text.startswith(("env:", "file:")):
            text = read_source(parse_source(text), around.environ).reveal()
        return SharedLimits(check_redis_url(text), fail_open=settings.shared_failure is FailOpen.OPEN)
    except (SecretError, UnusableError) as exc:
        faults.append(reading.document.fault(("limits", "shared"), exc.found, exc.remedy))
        return None
