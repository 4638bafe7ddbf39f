"""From the section ``otel`` to what is worked with, or its faults."""

from __future__ import annotations

import importlib.util
import re

from proxy.core.model import SpanSettings
from proxy.credentials.secret import SecretError
from proxy.credentials.sources import read_source
from proxy.document import Fault
from proxy.settings.collector import Headers
from proxy.settings.reading import Reading
from proxy.settings.resolve import Surroundings

_NEEDS = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
"""Variables from which the SDK takes headers, whatever is configured."""
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def resolve_spans(reading: Reading, around: Surroundings, faults: list[Fault]) -> SpanSettings | None:
    """Where finished requests are told as spans; None where nowhere."""
    settings = reading.options.settings.otel
    here = ("otel",)
    if settings.endpoint is None:
        if settings.model_fields_set and reading.options.whole:
            remedy = "add `endpoint: http://127.0.0.1:4318`, or remove the section"
            faults.append(reading.document.fault(here, "a section without `endpoint`", remedy))
        return None
    path = (*here, "endpoint")
    if not _is_installed():
        remedy = "install it: `pip install 'inworld-proxy[otel]'`"
        faults.append(reading.document.fault(path, "a collector of spans, without OpenTelemetry's SDK", remedy))
    if settings.headers and not settings.endpoint.private:
        found = "a URL that would send the headers in clear over the network"
        faults.append(reading.document.fault(path, found, "write `https://…`, or remove `headers`"))
    for name in _HEADERS:
        if around.environ.get(name) and not settings.endpoint.private:
            found = f"a URL that would send the headers of {name} in clear over the network"
            faults.append(reading.document.fault(path, found, f"write `https://…`, or unset {name}"))
    headers = _read(settings.headers, reading, around, faults)
    return SpanSettings(settings.endpoint.url, headers, settings.service_name, settings.sample, settings.follow_callers)


def _is_installed() -> bool:
    try:
        return all(importlib.util.find_spec(name) is not None for name in _NEEDS)
    except ModuleNotFoundError:  # a package around them
        return False


def _read(headers: Headers, reading: Reading, around: Surroundings, faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    values = []
    for name, source in headers:
        try:
            value = read_source(source, around.environ).reveal()
        except SecretError as exc:
            faults.append(reading.document.fault(("otel", "headers", name), exc.found, exc.remedy))
            continue
        if _VALUE.fullmatch(value) is None:
            found = "a value that no header can have (not shown)"
            faults.append(reading.document.fault(("otel", "headers", name), found, "use one line of printable ASCII"))
        values.append((name, value))
    return tuple(values)
