"""Where spans go: what is written, what becomes of it, and that the extra is asked for by name."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import pytest

from proxy.core.model import Snapshot, SpanSettings
from proxy.document import Fault, UnusableError
from proxy.settings.collector import parse_collector_url

Load = Callable[..., Snapshot]
FaultsOf = Callable[..., tuple[Fault, ...]]
KEY = {"INWORLD_API_KEY": "a2V5SWQ6czNjcjN0"}


def test_nothing_is_exported_unless_a_collector_is_named(load: Load) -> None:
    assert load("log: {format: json}").spans is None
    assert load("log: {format: json}", environ={**KEY, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}).spans is None


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://otel-collector:4318/", "http://otel-collector:4318/v1/traces"),
        ("https://otlp.example.com/otlp", "https://otlp.example.com/otlp/v1/traces"),
        ("HTTPS://[::1]:4318", "https://[::1]:4318/v1/traces"),
    ],
)
def test_the_path_of_spans_is_added_as_to_the_sdks_own_variable(load: Load, written: str, whole: str) -> None:
    assert load(f"otel: {{endpoint: '{written}'}}").spans == SpanSettings(whole)


def test_all_that_can_be_said(load: Load) -> None:
    text = (
        "otel:\n  endpoint: https://otlp.example.com\n  headers: {authorization: env:OTLP, x-tenant: env:TENANT}\n"
        "  service_name: studio voices\n  sample: 0.25\n  follow_callers: false\n"
    )
    spans = load(text, environ={**KEY, "OTLP": "Bearer hush", "TENANT": "seven"}).spans
    headers = (("authorization", "Bearer hush"), ("x-tenant", "seven"))
    assert spans == SpanSettings("https://otlp.example.com/v1/traces", headers, "studio voices", 0.25, False)
    assert "hush" not in repr(spans)


def test_a_value_that_would_be_two_headers_is_refused_and_not_shown(faults_of: FaultsOf) -> None:
    text = "otel: {endpoint: 'http://127.0.0.1:4318', headers: {authorization: env:OTLP}}"
    (fault,) = faults_of(text, environ={**KEY, "OTLP": "hush\r\nX-Other: 1"})
    assert "no header can have" in str(fault)
    assert "hush" not in str(fault)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_headers_that_the_sdk_would_take_from_the_environment_never_go_in_clear_either(
    load: Load, faults_of: FaultsOf, name: str
) -> None:
    environ = {**KEY, name: "authorization=hush"}
    (fault,) = faults_of("otel: {endpoint: 'http://collector:4318'}", environ=environ)
    assert (name in str(fault), "in clear" in str(fault), "hush" in str(fault)) == (True, True, False)
    assert load("otel: {endpoint: 'https://collector:4318'}", environ=environ).spans is not None
    assert load("otel: {endpoint: 'http://127.0.0.1:4318'}", environ=environ).spans is not None
    assert load("otel: {endpoint: 'http://collector:4318'}", environ={**KEY, name: ""}).spans is not None


def test_without_the_extra_the_fault_says_how_to_get_it(faults_of: FaultsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def absent(name: str, *arguments: Any) -> Any:
        return None if name.startswith("opentelemetry") else find(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    (fault,) = faults_of("otel: {endpoint: 'http://127.0.0.1:4318'}")
    assert "pip install 'inworld-proxy[otel]'" in str(fault)


@pytest.mark.parametrize(
    "url", ["https://host:999999/KEY-IN-PATH", "https://us\\er:pw-1/KEY-IN-PATH", "https://a b/KEY-IN-PATH"]
)
def test_no_part_of_an_address_that_cannot_be_used_is_quoted(url: str) -> None:
    with pytest.raises(UnusableError) as raised:
        parse_collector_url(url)
    assert not re.search("KEY-IN-PATH|pw-1|999999", f"{raised.value.found} {raised.value.remedy}")
