"""What is counted, under labels that only the configuration can add to."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.errors import Code
from proxy.core.model import METHODS, Caller, Deny, Mode
from proxy.core.policy import decide
from proxy.observe.families import PREFIX, registry_of
from proxy.observe.metrics import Metrics
from proxy.observe.record import Ending, Record
from proxy.wire.head import read_request
from tests.proxies import Proxies, Proxy
from tests.snapshots import OPERATIONS, SOCKET, make_snapshot, upstream_at, with_policy
from tests.wires import OK, request, response

SNAPSHOT = make_snapshot(upstream_at(1))


def _samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(registry_of(metrics)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return _samples(metrics).get((PREFIX + name, frozenset(labels.items())))


def _names(metrics: Metrics) -> set[str]:
    return {name for name, _ in _samples(metrics)}


async def _one_of_each(proxies: Proxies) -> Proxy:
    proxy = await proxies.start()
    await proxy.pass_on(
        request("POST /tts/v1/voice", body=b"12345"), response("200 OK", "Connection: close", body=b"123")
    )
    await proxy.pass_on(request("GET /things"), response("503 Service Unavailable"))
    await proxy.ask(request("POST /voices/v1/voices:clone"))
    await proxy.ask(request("BREW /coffee"))
    await proxy.ask(b"nonsense\r\n\r\n")
    return proxy


async def test_requests_are_counted_by_operation_method_status_and_caller(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    for operation, method, status, caller in (
        ("tts.synthesize", "POST", "200", "anonymous"),
        ("things.any", "GET", "503", "anonymous"),
        ("voices.clone", "POST", "403", "anonymous"),
        ("none", "OTHER", "405", "none"),
        ("none", "OTHER", "400", "none"),
    ):
        labels = {"operation": operation, "method": method, "status": status, "caller": caller}
        assert _value(metrics, "requests_total", **labels) == 1, labels


async def test_refusals_are_counted_by_code(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    labels = {"code": "write_not_permitted", "operation": "voices.clone", "caller": "anonymous"}
    assert _value(metrics, "refusals_total", **labels) == 1
    assert _value(metrics, "refusals_total", code="bad_request", operation="none", caller="none") == 1


async def test_every_request_ends_in_exactly_one_way(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    endings = {ending.word: _value(metrics, "requests_ended_total", ending=ending.word) for ending in Ending}
    assert endings == {"answered": 2, "refused": 3, "failed": 0, "caller_gone": 0, "aborted": 0}
    assert _value(metrics, "requests_accepted_total") == 5
    assert _value(metrics, "requests_in_flight") == 0


async def test_bytes_and_times_are_counted_by_operation_and_caller(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    labels = {"operation": "tts.synthesize", "caller": "anonymous"}
    assert _value(metrics, "request_bytes_total", **labels) == 5
    assert _value(metrics, "response_bytes_total", **labels) == 3
    for name in ("request_duration_seconds", "first_byte_seconds"):
        assert _value(metrics, f"{name}_count", **labels) == 1
        assert 0 < (_value(metrics, f"{name}_sum", **labels) or 0) < 5
        assert _value(metrics, f"{name}_bucket", **labels, le="+Inf") == 1
    assert _value(metrics, "overhead_seconds_count") == 2


async def test_the_buckets_suit_five_milliseconds_and_five_minutes(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    bounds = sorted(
        float(value)
        for name, labels in _samples(metrics)
        if name == PREFIX + "request_duration_seconds_bucket" and ("operation", "tts.synthesize") in labels
        for key, value in labels
        if key == "le"
    )
    assert bounds[0] <= 0.005 / 2
    assert {0.005, 300.0} <= set(bounds)
    assert bounds == sorted(set(bounds))


async def test_upstream_connections_are_counted(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    assert _value(metrics, "upstream_dials_total", upstream="inworld") == 2
    assert _value(metrics, "upstream_connections", upstream="inworld", state="active") == 0


async def test_tunnels_are_counted_with_messages_and_lifetime(proxies: Proxies) -> None:
    proxy = await proxies.start()
    caller = await proxy.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x01a")
    await caller.head()
    await caller.exactly(3)
    assert _value(proxy.metrics, "tunnels_open", operation="realtime.session") == 1
    assert _value(proxy.metrics, "requests_in_flight") == 1
    caller.close()
    wire.close()
    await proxy.metrics.until(lambda m: m.in_flight == 0)
    labels = {"operation": "realtime.session", "caller": "anonymous"}
    assert _value(proxy.metrics, "tunnels_open", operation="realtime.session") == 0
    assert _value(proxy.metrics, "tunnel_messages_total", **labels, direction="out") == 1
    assert _value(proxy.metrics, "tunnel_messages_total", **labels, direction="in") == 0
    assert _value(proxy.metrics, "tunnel_lifetime_seconds_count", **labels) == 1
    assert _value(proxy.metrics, "request_duration_seconds_count", **labels) == 0


async def test_audit_mode_counts_what_it_would_refuse(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    everyone = snapshot.policy.anonymous
    assert everyone is not None
    narrow = Caller("anonymous", everyone.routes, frozenset({"tts.synthesize"}))
    proxy = await proxies.start(with_policy(snapshot, anonymous=narrow, mode=Mode.AUDIT), upstream)
    assert (await proxy.pass_on(request("GET /things"))).got.head.status == 200
    labels = {"code": "operation_not_granted", "operation": "things.any", "caller": "anonymous"}
    assert _value(proxy.metrics, "would_refuse_total", **labels) == 1


def test_what_the_configuration_is_can_be_seen() -> None:
    metrics = Metrics(lambda: SNAPSHOT)
    assert _value(metrics, "credential_ready", credential="workspace", kind="api-key", type="standard") == 1
    assert _value(metrics, "configuration_info", source="tests", mode="enforce") == 1
    assert _value(metrics, "configured_callers") == 0
    assert PREFIX + "build_info" in _names(metrics)


async def test_the_exposition_is_valid_in_both_formats(proxies: Proxies) -> None:
    metrics = (await _one_of_each(proxies)).metrics
    plain = [*text_string_to_metric_families(generate_latest(registry_of(metrics)).decode())]
    open_metrics = [*read_openmetrics(generate_openmetrics(registry_of(metrics)).decode())]
    assert {each.name for each in plain if each.name.startswith(PREFIX)} >= {
        PREFIX + name
        for name in (
            "requests",
            "refusals",
            "request_duration_seconds",
            "overhead_seconds",
            "tunnels_open",
            "build_info",
        )
    }
    assert len(open_metrics) >= len(plain) - 5
    assert all(each.documentation for each in plain)
    for family in plain:
        seen = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(seen) == len(set(seen)), family.name


def _random_requests() -> Iterator[bytes]:
    pick = random.Random(7)
    letters = string.ascii_letters + string.digits + "-._~%/:;?#&=+"
    while True:
        method = pick.choice(["GET", "POST", "".join(pick.choices(string.ascii_uppercase, k=pick.randint(1, 8)))])
        path = pick.choice(["/", "/tts/v1/voice", "/voices/v1/voices/", "/lro/v1alpha/"])
        path += "".join(pick.choices(letters, k=pick.randint(0, 20)))
        yield f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-{method}: {path}\r\n\r\n".encode()


def _count(metrics: Metrics, raw: bytes) -> None:
    """What the data path does with a head, without its socket."""
    metrics.on_begin()
    read = read_request(raw)
    record = Record(1.0, 1.0, "OTHER", "", "")
    if not isinstance(read, Deny):
        record.method = read.head.method
        decision = decide(SNAPSHOT.policy, read.head, 1.0)
        record.operation = None if decision.operation is None else decision.operation.name
        record.caller = None if decision.caller is None else decision.caller.name
        read = decision if isinstance(decision, Deny) else read
    record.status, record.ended = 200, 2.0
    if isinstance(read, Deny):
        record.code, record.ending = read.code, Ending.REFUSED
        record.status = 400
    metrics.on_end(record)


def test_a_hundred_thousand_random_paths_and_methods_add_no_series() -> None:
    metrics = Metrics(lambda: SNAPSHOT)
    for method in (*METHODS, "BREW"):
        for target in ("/nothing", "//", *(operation.template for operation in OPERATIONS)):
            _count(metrics, request(f"{method} {target.replace('{name=**}', 'x').replace('{voice_id}', 'x')}"))
    for raw in islice(_random_requests(), 2_000):
        _count(metrics, raw)
    before = set(_samples(metrics))
    for raw in islice(_random_requests(), 100_000):
        _count(metrics, raw)
    assert set(_samples(metrics)) == before
    assert metrics.accepted > 102_000


async def test_random_paths_and_methods_on_the_wire_add_no_series_either(proxies: Proxies) -> None:
    proxy = await proxies.start()
    proxy.upstream.always(OK)
    caller = await proxy.caller()
    for raw in (request(f"{verb} /{word}") for verb in ("BREW", "GET", "X") for word in ("a", "b", "c")):
        await caller.send(raw)
        assert (await caller.message()).head.status in (404, 405)
    labels = {name for name in _samples(proxy.metrics) if name[0] == PREFIX + "requests_total"}
    assert len(labels) == 2


@pytest.mark.parametrize("code", list(Code))
def test_labels_of_refusals_are_codes(code: Code) -> None:
    metrics = Metrics(lambda: replace(SNAPSHOT, source="x"))
    record = Record(1.0, 1.0, "GET", "/" + "x" * 100, "")
    record.code, record.ending, record.status = code, Ending.REFUSED, 400
    metrics.on_begin()
    metrics.on_end(record)
    assert _value(metrics, "refusals_total", code=code.value, operation="none", caller="none") == 1
