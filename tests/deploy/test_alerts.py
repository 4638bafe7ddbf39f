"""deploy/alerts.yaml: Prometheus accepts the rules, every one fires when it should and not otherwise."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.core.errors import Code
from tests.deploy.metrics import Exported, exported
from tests.deploy.tools import ROOT, program, run

FILE = ROOT / "deploy" / "alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
AT = "40m"
JOB = 'job="inworld-proxy", instance="a"'
P = "inworld_proxy_"

Series = dict[str, str]
"""Samples a minute apart by series, as promtool writes them: `0x60`, `0+5x60`."""


def _buckets(name: str, labels: str, below: str, above: str) -> Series:
    """A histogram with two buckets, of which the upper one fills up as ``above`` says."""
    return {
        f'{P}{name}_bucket{{{JOB}{labels}, le="0.1"}}': below,
        f'{P}{name}_bucket{{{JOB}{labels}, le="5"}}': above,
        f'{P}{name}_bucket{{{JOB}{labels}, le="+Inf"}}': above,
    }


CREDENTIAL = f'{JOB}, credential="workspace"'
REFUSAL = f'{JOB}, operation="none", caller="batch"'
BUILD = {f"{P}build_info{{{JOB}}}": "1x60"}

CASES: dict[str, tuple[Series, Series]] = {
    "InworldProxyDown": ({f"up{{{JOB}}}": "0x60"}, {f"up{{{JOB}}}": "1x60", 'up{job="other"}': "0x60"}),
    "InworldProxyAbsent": ({f"up{{{JOB}}}": "1x60"}, BUILD),
    "InworldProxyFailing": (
        {f'{P}requests_ended_total{{{JOB}, ending="answered"}}': "0+90x60",
         f'{P}requests_ended_total{{{JOB}, ending="failed"}}': "0+10x60"},
        {f'{P}requests_ended_total{{{JOB}, ending="answered"}}': "0+99x60",
         f'{P}requests_ended_total{{{JOB}, ending="failed"}}': "0+1x60",
         f'{P}requests_ended_total{{{JOB}, ending="refused"}}': "0+50x60"},
    ),
    "InworldProxyUpstreamFailing": (
        # Nothing was ever reused, as nothing ever worked.
        {f'{P}upstream_errors_total{{{JOB}, upstream="inworld", code="upstream_connect_failed"}}': "0+5x60",
         f'{P}upstream_dials_total{{{JOB}, upstream="inworld"}}': "0+10x60"},
        {f'{P}upstream_errors_total{{{JOB}, upstream="inworld", code="upstream_closed"}}': "0+5x60",
         f'{P}upstream_dials_total{{{JOB}, upstream="inworld"}}': "0+10x60",
         f'{P}upstream_reuses_total{{{JOB}, upstream="inworld"}}': "0+90x60"},
    ),
    "InworldProxyUpstreamTlsFailing": (
        {f'{P}upstream_errors_total{{{JOB}, upstream="inworld", code="upstream_tls_failed"}}': "0+1x60"},
        {f'{P}upstream_errors_total{{{JOB}, upstream="inworld", code="upstream_closed"}}': "0+1x60",
         f'{P}upstream_errors_total{{{JOB}, upstream="inworld", code="upstream_tls_failed"}}': "7x60"},
    ),
    "InworldProxySlow": (
        _buckets("overhead_seconds", "", "0+50x60", "0+100x60"),
        _buckets("overhead_seconds", "", "0+100x60", "0+100x60"),
    ),
    "InworldProxyInFlightHigh": (
        {f"{P}requests_in_flight{{{JOB}}}": "900x60"}, {f"{P}requests_in_flight{{{JOB}}}": "700x60"}
    ),
    "InworldProxyCredentialNotReady": (
        {f"{P}credential_ready{{{CREDENTIAL}}}": "0x60"}, {f"{P}credential_ready{{{CREDENTIAL}}}": "1x60"}
    ),
    "InworldProxyCredentialRefused": (
        {f"{P}credential_refused{{{CREDENTIAL}}}": "1x60"}, {f"{P}credential_refused{{{CREDENTIAL}}}": "0x60"}
    ),
    # The clock of these tests begins at 0, and they look at 2400 s.
    "InworldProxyTokenExpiring": (
        {f"{P}credential_expiry_timestamp_seconds{{{CREDENTIAL}}}": "2500x60"},
        {f"{P}credential_expiry_timestamp_seconds{{{CREDENTIAL}}}": "3000+60x60"},
    ),
    "InworldProxyCertificateExpiring": (
        {f"{P}listener_certificate_expiry_timestamp_seconds{{{JOB}}}": "600000x60"},
        {f"{P}listener_certificate_expiry_timestamp_seconds{{{JOB}}}": "700000x60"},
    ),
    "InworldProxyMintsFailing": (
        {f'{P}credential_mints_total{{{CREDENTIAL}, result="unavailable"}}': "0+1x60"},
        {f'{P}credential_mints_total{{{CREDENTIAL}, result="success"}}': "0+1x60",
         f'{P}credential_mints_total{{{CREDENTIAL}, result="refused"}}': "2x60"},
    ),
    "InworldProxySecretUnreadable": (
        # Once: a file that does not change is not read again.
        {f'{P}credential_source_reads_total{{{CREDENTIAL}, source="file", result="failed"}}': "0x5 1x55"},
        {f'{P}credential_source_reads_total{{{CREDENTIAL}, source="file", result="same"}}': "0+1x60",
         f'{P}credential_source_reads_total{{{CREDENTIAL}, source="file", result="failed"}}': "2x60"},
    ),
    "InworldProxyClockWrong": (
        {f"{P}credential_clock_skew_seconds{{{CREDENTIAL}}}": "-90x60"},
        {f"{P}credential_clock_skew_seconds{{{CREDENTIAL}}}": "2x60"},
    ),
    "InworldProxyCredentialInAnswers": (
        # Once, and there was no sample before.
        {f"{P}credential_reflections_total{{{CREDENTIAL}}}": "_x35 1x25"},
        {f"{P}credential_reflections_total{{{CREDENTIAL}}}": "0x60"},
    ),
    "InworldProxyKeySetEmpty": (
        {f'{P}key_set_keys{{{JOB}, key_set="id"}}': "0x60"}, {f'{P}key_set_keys{{{JOB}, key_set="id"}}': "2x60"}
    ),
    "InworldProxyRefusalsHigh": (
        {f'{P}refusals_total{{{REFUSAL}, code="no_operation"}}': "0+30x60",
         f"{P}requests_accepted_total{{{JOB}}}": "0+100x60"},
        {f'{P}refusals_total{{{REFUSAL}, code="no_operation"}}': "0+10x60",
         f"{P}requests_accepted_total{{{JOB}}}": "0+100x60"},
    ),
    "InworldProxyStrangers": (
        {f'{P}refusals_total{{{REFUSAL}, code="unknown_caller"}}': "0+600x60"},
        {f'{P}refusals_total{{{REFUSAL}, code="unknown_caller"}}': "0+60x60",
         f'{P}refusals_total{{{REFUSAL}, code="no_operation"}}': "0+600x60"},
    ),
    "InworldProxyCallerLimited": (
        {f'{P}refusals_total{{{REFUSAL}, code="rate_limited"}}': "0+60x60"},
        {f'{P}refusals_total{{{REFUSAL}, code="operation_not_granted"}}': "0+60x60"},
    ),
    "InworldProxyQueueSlow": (
        _buckets("queue_wait_seconds", ', caller="batch"', "0+1x60", "0+100x60"),
        _buckets("queue_wait_seconds", ', caller="batch"', "0+100x60", "0+100x60"),
    ),
    "InworldProxyFull": (
        {f'{P}caller_connections_refused_total{{{JOB}, code="connections_limited"}}': "0+1x60"},
        {f'{P}caller_connections_refused_total{{{JOB}, code="address_limited"}}': "0+1x60",
         f'{P}refusals_total{{{REFUSAL}, code="rate_limited"}}': "0+1x60"},
    ),
    "InworldProxySharedLimitsDown": (
        {f"{P}shared_limits_up{{{JOB}}}": "0x60"}, {f"{P}shared_limits_up{{{JOB}}}": "1x60"}
    ),
    "InworldProxyReloadFailed": (
        {f"{P}configuration_reload_failed{{{JOB}}}": "1x60"}, {f"{P}configuration_reload_failed{{{JOB}}}": "0x60"}
    ),
    "InworldProxyListenerPaused": (
        {f"{P}listener_paused{{{JOB}}}": "1x60"}, {f"{P}listener_paused{{{JOB}}}": "0x60"}
    ),
    "InworldProxyDescriptorsShort": (
        {f"process_open_fds{{{JOB}}}": "80x60", f"process_max_fds{{{JOB}}}": "100x60", **BUILD},
        {f"process_open_fds{{{JOB}}}": "50x60", f"process_max_fds{{{JOB}}}": "100x60", **BUILD,
         'process_open_fds{job="other"}': "9x60", 'process_max_fds{job="other"}': "10x60"},
    ),
    "InworldProxyRestarting": (
        {f"process_start_time_seconds{{{JOB}}}": "0x15 900x5 1200x5 1500x5 1800x5", **BUILD},
        {f"process_start_time_seconds{{{JOB}}}": "0x15 900x50", **BUILD,
         'process_start_time_seconds{job="other"}': "0+60x60"},
    ),
    "InworldProxyLogLinesDropped": (
        {f"{P}log_lines_dropped_total{{{JOB}}}": "0+1x60"}, {f"{P}log_lines_dropped_total{{{JOB}}}": "9x60"}
    ),
}  # fmt: skip


def _case(alert: str, series: Series, *, fires: bool) -> dict[str, Any]:
    return {
        "name": f"{alert} {'fires' if fires else 'does not fire'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": AT,
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_there_is_a_case_for_every_rule() -> None:
    assert CASES.keys() == RULES.keys()


def test_promtool_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in run(program("promtool"), "check", "rules", str(FILE))


def test_every_rule_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    cases = [
        _case(alert, series, fires=fires)
        for alert, (firing, quiet) in CASES.items()
        for series, fires in ((firing, True), (quiet, False))
    ]
    file = tmp_path / "alerts.test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": cases}))
    run(program("promtool"), "test", "rules", str(file))


# -- what they name ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metrics() -> Exported:
    if sys.platform != "linux":
        pytest.skip("the metrics of the process are there on Linux only")
    return exported()


@pytest.mark.parametrize("alert", RULES)
def test_a_rule_names_metrics_labels_and_codes_that_there_are(alert: str, metrics: Exported) -> None:
    expression = RULES[alert]["expr"]
    named = re.findall(r"\b((?:inworld_proxy|process)_\w+|up)\b(?!\s*\()(?:\{(.*?)\})?", expression)
    assert named
    labels = {"job", "instance"}
    for name, matchers in named:
        assert name == "up" or name in metrics, name
        own = labels if name == "up" else labels | metrics[name]
        for label, value in re.findall(r'(\w+)[=!]~?"([^"]*)"', matchers):
            assert label in own, f"{name} has no label {label}"
            if label == "code":
                assert {Code(each) for each in value.split("|")}
    every = labels | {"le"}.union(*(metrics[name] for name, _ in named if name != "up"))
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= every


@pytest.mark.parametrize("alert", RULES)
def test_a_rule_says_what_is_wrong_and_what_to_do(alert: str, metrics: Exported) -> None:
    rule = RULES[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["runbook"]) > 60
    for named in re.findall(r"InworldProxy\w+", rule["annotations"]["runbook"]):
        assert named in RULES
    for named in re.findall(r"inworld_proxy_\w+", rule["annotations"]["runbook"]):
        assert named in metrics
