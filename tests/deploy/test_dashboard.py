"""deploy/grafana/dashboard.json is what the metric list says, and Prometheus answers all that it asks."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.metrics import dashboard_script
from tests.deploy.tools import ROOT, program, run
from tests.processes.running import ROOT as HERE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the metrics of the process are there on Linux only")

FILE = ROOT / "deploy" / "grafana" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PATIENCE = 60.0
"""Seconds for what takes three when nothing else runs."""

QUIET = {
    "Cut after the head, and would-be refusals", "Errors", "Open WebSockets", "Messages", "Lifetime", "Token left",
    "Time of a mint", "Mints", "Clock skew", "Reads of sources", "Key sets", "Credentials in answers",
    "Waiting in line", "Time in line", "Limited", "Shared limits", "Leases", "Requests while Redis is gone",
    "TLS handshakes", "Certificate left", "Spans",
}  # fmt: skip
"""Panels that are empty while nothing goes wrong and nobody has limits, session tokens, WebSockets, TLS or a
collector."""


@pytest.fixture(scope="module")
def promql() -> Any:
    return dashboard_script("promql")


# -- made from the metrics --------------------------------------------------------------------------------------------


def test_it_is_what_the_metrics_say() -> None:
    made = dashboard_script("run").dashboard()
    assert made == DASHBOARD, "run: python scripts/dashboard/run.py"


def test_a_metric_label_code_or_use_that_does_not_exist_is_an_error(promql: Any) -> None:
    of = promql.Families()
    for wrong, why in (
        (lambda: of.rate("requests_total"), "exports no requests_total"),
        (lambda: of.rate("requests", "upstream"), "has no label upstream"),
        (lambda: of.now("requests_in_flight", upstream="x"), "has no label upstream"),
        (lambda: of.rate("refusals", code="rate_limited|unheard_of"), "no code unheard_of"),
        (lambda: of.rate("requests_in_flight"), "is a gauge, and counter is needed"),
        (lambda: of.quantile(0.5, "credential_mint_seconds"), "is a summary, and histogram is needed"),
    ):
        with pytest.raises(promql.UnknownError, match=why):
            wrong()


def test_a_metric_in_no_panel_is_an_error(monkeypatch: pytest.MonkeyPatch, promql: Any) -> None:
    script = dashboard_script("run")
    left_out = dict(script.LEFT_OUT)
    monkeypatch.setattr(script, "LEFT_OUT", {name: left_out[name] for name in [*left_out][1:]})
    with pytest.raises(promql.UnknownError, match=f"in no panel: {next(iter(left_out))}"):
        script.dashboard()
    monkeypatch.setattr(script, "LEFT_OUT", {**left_out, "inworld_proxy_requests": "shown"})
    with pytest.raises(promql.UnknownError, match="shown or unknown: inworld_proxy_requests"):
        script.dashboard()


# -- as Grafana reads it ----------------------------------------------------------------------------------------------


def test_panels_have_numbers_of_their_own_and_none_lies_on_another() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert numbers == [*range(1, len(numbers) + 1)]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']} {panel['title']}")
def test_a_panel_says_what_it_shows_and_names_what_its_answers_have(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
    assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGH"[: len(panel["targets"])]]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    for target in panel["targets"]:
        by = re.search(r"by \(([^)]*)\)", target["expr"])
        labels = set() if by is None else set(by[1].split(", ")) - {"le"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables


# -- as Prometheus answers it -----------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _get(url: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=PATIENCE) as answer:
        return json.load(answer)["data"]


class Watched:
    """A proxy with its sandbox, and a Prometheus that asks it every second."""

    def __init__(self, data: str, prometheus: str) -> None:
        self.data = data
        self._prometheus = prometheus

    def ask(self, expression: str) -> list[Any]:
        """What Prometheus answers now. An expression with a fault raises."""
        for name, value in {"$__rate_interval": "20s", "$instance": ".*", "$operation": ".*", "$caller": ".*"}.items():
            expression = expression.replace(name, value)
        return list(_get(f"{self._prometheus}/api/v1/query", query=expression)["result"])

    def rules(self) -> list[Any]:
        groups = _get(f"{self._prometheus}/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def request(self, path: str, body: bytes | None = None) -> int:
        asked = urllib.request.Request(self.data + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    prometheus = program("prometheus")
    serve = [sys.executable, "-m", "proxy", "serve", "--sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with subprocess.Popen(serve, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stderr is not None
            data, admin = (
                re.findall(r"http://(127\.0\.0\.1:\d+)", proxy.stderr.readline())[0] for _ in range(2)
            )  # the first two lines say where callers connect, and the operator
            scrape = {"job_name": "inworld-proxy", "static_configs": [{"targets": [admin]}]}
            configuration = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "scrape_configs": [scrape],
                "rule_files": [str(ROOT / "deploy" / "alerts.yaml")],
            }
            (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
            run(program("promtool"), "check", "config", str(folder / "prometheus.yml"))
            port = _free_port()
            command = [prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                       f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
            with subprocess.Popen(command, cwd=folder) as server:
                try:
                    yield Watched(f"http://{data}", f"http://127.0.0.1:{port}")
                finally:
                    server.terminate()
                    server.wait(timeout=PATIENCE)
        finally:
            proxy.terminate()
            proxy.wait(timeout=PATIENCE)


def test_prometheus_answers_every_question_of_the_dashboard(watched: Watched) -> None:
    speech = json.dumps({"text": "Hello", "voiceId": "Ashley", "modelId": "inworld-tts-1.5-max"}).encode()
    moving = 'rate(inworld_proxy_first_byte_seconds_count{operation="voices.list"}[20s]) > 0'
    begun = time.monotonic()
    found: list[Any] = []
    while not found:
        assert time.monotonic() - begun < PATIENCE, "Prometheus has seen no traffic"
        asked = [watched.request("/tts/v1/voice", speech), watched.request("/voices/v1/voices"),
                 watched.request("/voices/v1/voices:clone", b"{}")]  # fmt: skip
        assert asked == [200, 200, 403]
        try:
            found = watched.ask(moving)
        except OSError:  # Prometheus has not begun to listen
            continue
    answered = {panel["title"]: [watched.ask(each["expr"]) for each in panel["targets"]] for panel in PANELS}
    assert {title for title, answers in answered.items() if not any(answers)} <= QUIET
    assert {rule["health"] for rule in watched.rules()} <= {"ok", "unknown"}
    assert not [rule for rule in watched.rules() if rule.get("lastError")]
    assert not [rule["name"] for rule in watched.rules() if rule["state"] == "firing"]
