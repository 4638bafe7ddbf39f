"""The Helm chart: Helm renders it, Kubernetes' schemas accept what comes out, and the proxy accepts its configuration.

Helm's own engine renders (Helm 4, as a library). No cluster is asked: what an API server, an operator or an adapter
says to it is not tried, and a ServiceMonitor's schema is not among Kubernetes' own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings.load import load_settings
from tests.deploy.metrics import exported
from tests.deploy.tools import ROOT, missing_wheel, program, run
from tests.redis_server import missing

CHART = ROOT / "deploy" / "helm" / "inworld-proxy"
KUBERNETES = ("1.29", "1.37")
"""The versions whose schemas are used: an old one, and the newest that the validator brings."""

LEAST: dict[str, Any] = yaml.safe_load((CHART / "ci" / "values.yaml").read_text(encoding="utf-8"))
ALL: dict[str, Any] = yaml.safe_load((CHART / "ci" / "all-values.yaml").read_text(encoding="utf-8"))
KEY = "aWQ6c2VjcmV0"

Objects = dict[str, dict[str, Any]]
"""By kind, and for a second one of a kind by kind and name."""


def _ask(*values: dict[str, Any], release: str = "voice") -> list[dict[str, Any]]:
    try:
        import helm_python  # noqa: F401
    except ImportError:
        missing_wheel("helm-python-sdk is not installed (pip install -e '.[test]')")
    command = [sys.executable, str(Path(__file__).with_name("helm_engine.py")), str(CHART), release]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _objects(answer: dict[str, Any]) -> Objects:
    assert "failed" not in answer, answer
    found: Objects = {}
    for name, text in answer["files"].items():
        for each in yaml.safe_load_all(text) if name.endswith(".yaml") else ():
            if each is not None:
                key = each["kind"] if each["kind"] not in found else f"{each['kind']} {each['metadata']['name']}"
                found[key] = each
    return found


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    return _ask(LEAST, ALL)


@pytest.fixture(scope="module")
def least(answers: list[dict[str, Any]]) -> Objects:
    return _objects(answers[0])


@pytest.fixture(scope="module")
def everything(answers: list[dict[str, Any]]) -> Objects:
    return _objects(answers[1])


# -- as Helm and Kubernetes see it ------------------------------------------------------------------------------------


def test_helm_lint_finds_nothing(answers: list[dict[str, Any]]) -> None:
    assert [answer["lint"] for answer in answers] == [[], []]


def test_what_there_is_depends_on_the_values(least: Objects, everything: Objects) -> None:
    always = {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    assert least.keys() == always
    assert everything.keys() == always | {
        "HorizontalPodAutoscaler", "ServiceMonitor", "Service voice-inworld-proxy-metrics"
    }  # fmt: skip


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("which", [0, 1], ids=["least", "everything"])
def test_kubernetes_schemas_accept_every_object(answers: list[dict[str, Any]], which: int, version: str) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate is not installed (pip install -e '.[test]')")
    objects = _objects(answers[which])
    objects.pop("ServiceMonitor", None)
    for each in objects.values():
        kubernetes_validate.validate(each, version, strict=True)
    wrong = json.loads(json.dumps(objects["Deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"configuration": {"callers": {}}}, "configuration.callers: name at least one caller"),
        ({"apiKey": {"existingSecret": ""}}, "apiKey.existingSecret: name the Secret"),
        ({"replica": 3}, "replica"),
        ({"configuration": {**LEAST["configuration"], "listen": "127.0.0.1:1"}}, "configuration"),
        ({"redis": {"failure": "ajar"}}, "redis"),
        ({"drainSeconds": 0}, "drainSeconds"),
        ({"seccomp": {"type": "Localhost"}}, "seccomp.profile: name the file"),
        ({"image": {"digest": "latest"}}, "digest"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_values_that_cannot_work_are_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    (answer,) = _ask({**LEAST, **change})
    assert said in answer["failed"]


def test_the_callers_in_readme_are_values_that_it_takes() -> None:
    readme = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^<!-- callers\.yaml -->\n```yaml\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    (answer,) = _ask({**yaml.safe_load(block), "apiKey": {"existingSecret": "inworld"}})
    assert "assistant" in _objects(answer)["ConfigMap"]["data"]["config.yaml"]


def test_names_are_none_too_long_and_keys_that_look_like_numbers_are_text() -> None:
    numbers = {**ALL, "apiKey": {"existingSecret": "inworld", "key": "1"}}
    numbers["redis"] = {"existingSecret": "redis", "key": "2"}
    (answer,) = _ask(numbers, release="a" * 53)
    objects = _objects(answer)
    names = [each["metadata"]["name"] for each in objects.values()]
    assert sum(name.endswith("-metrics") for name in names) == 1
    assert max(map(len, names)) == 63  # RFC 1123 section 2.1
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    keys = {each["name"]: each["secret"]["items"][0]["key"] for each in volumes if "secret" in each}
    assert keys == {"api-key": "1", "redis": "2"}


# -- as the proxy sees it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["least", "everything"])
def test_the_proxy_accepts_its_configuration(answers: list[dict[str, Any]], which: int, tmp_path: Path) -> None:
    """With the files where the pod has them: what is mounted is what the configuration names."""
    objects = _objects(answers[which])
    mounted = _mounted(objects)
    text = objects["ConfigMap"]["data"]["config.yaml"]
    for path, content in {
        "/run/secrets/inworld/api-key": KEY,
        "/run/secrets/redis/url": "redis://redis:6379/0",
    }.items():
        if path in text:
            assert path in mounted
            file = tmp_path / path.removeprefix("/")
            file.parent.mkdir(parents=True)
            file.write_text(content)
            file.chmod(0o600)
    assert "/etc/inworld-proxy/config.yaml" in mounted
    configuration = tmp_path / "config.yaml"
    configuration.write_text(text.replace("file:/run", f"file:{tmp_path}/run"))
    snapshot = load_settings(configuration, {})
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": snapshot.listen.port, "metrics": snapshot.admin.port}
    assert [*snapshot.callers] == ["assistant"]
    said = run(sys.executable, "-m", "proxy", "check", "--config", str(configuration))
    assert "no faults" in said


def _mounted(objects: Objects) -> set[str]:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    at = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert at.keys() == {each["name"] for each in pod["volumes"]}
    files = set()
    for volume in pod["volumes"]:
        names = [item["path"] for item in volume.get("secret", {}).get("items", [])]
        if volume["name"] == "configuration":
            assert volume["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
            names = [*objects["ConfigMap"]["data"]]
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440
        files |= {f"{at[volume['name']]}/{name}" for name in names}
    return files


def test_a_pod_has_no_rights_and_no_secret_but_by_reference(least: Objects, everything: Objects) -> None:
    for objects in (least, everything):
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 65532)
        assert "USER 65532:65532" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert security["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
        assert pod["automountServiceAccountToken"] is False
        assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        }  # fmt: skip
        assert "Secret" not in objects


def test_a_pod_has_time_to_leave_to_drain_and_to_close(everything: Objects, least: Objects) -> None:
    for objects, drain, leaving in ((least, 25, 5), (everything, 40, 0)):
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        configuration = yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"])
        assert configuration["time"]["drain"] == f"{drain}s"
        assert pod["terminationGracePeriodSeconds"] == leaving + drain + 10
        assert ("lifecycle" in pod["containers"][0]) is bool(leaving)
    assert least["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_change_of_the_configuration_rolls_the_pods_unless_they_are_to_read_it_again(least: Objects) -> None:
    more = {**LEAST["configuration"], "mode": "audit"}
    changed, in_place = _ask({**LEAST, "configuration": more}, {**LEAST, "rollOnChange": False})
    before, after = (
        objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/configuration"]
        for objects in (least, _objects(changed))
    )
    assert before != after
    assert "annotations" not in _objects(in_place)["Deployment"]["spec"]["template"]["metadata"]


# -- what refers to one another ---------------------------------------------------------------------------------------


def test_everything_selects_the_pods_and_names_ports_that_they_have(everything: Objects) -> None:
    labels = everything["Deployment"]["spec"]["template"]["metadata"]["labels"]
    services = [each for kind, each in everything.items() if kind.startswith("Service ") or kind == "Service"]
    for selector in (
        everything["Deployment"]["spec"]["selector"]["matchLabels"],
        everything["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        everything["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for each in services),
    ):
        assert selector.items() <= labels.items()
    monitor = everything["ServiceMonitor"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert all(
        monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items() for each in services
    )
    assert services[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "inworld-proxy"
    (endpoint,) = monitor["spec"]["endpoints"]
    # A balancer that the world reaches has the port for callers, and only that.
    assert [[port["name"] for port in each["spec"]["ports"]] for each in services] == [["http"], [endpoint["port"]]]


def test_the_network_policy_opens_what_is_needed(least: Objects, everything: Objects) -> None:
    callers, scrapers = least["NetworkPolicy"]["spec"]["ingress"]
    assert (callers["ports"], scrapers["ports"]) == ([{"port": "http"}], [{"port": "metrics"}])
    assert callers["from"]
    assert scrapers["from"]
    ports = [[port["port"] for port in rule["ports"]] for rule in least["NetworkPolicy"]["spec"]["egress"]]
    assert ports == [[53, 53], [443]]
    more = [[port["port"] for port in rule["ports"]] for rule in everything["NetworkPolicy"]["spec"]["egress"]]
    assert more == [*ports, [6379], [3128]]
    (closed,) = _ask({**LEAST, "networkPolicy": {"callers": [], "scrapers": []}})
    # None at all: an empty list of peers in a rule would be everybody.
    assert "ingress" not in _objects(closed)["NetworkPolicy"]["spec"]


@pytest.mark.skipif(sys.platform != "linux", reason="the metrics of the process are there on Linux only")
def test_the_hpa_asks_for_a_metric_that_the_adapter_takes_from_one_that_there_is(everything: Objects) -> None:
    (metric,) = everything["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in exported()
    (rule,) = yaml.safe_load((CHART / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    # Without `name:` the adapter serves it under the name of its series.
    assert rule["seriesQuery"].partition("{")[0] == name
    assert "replicas" not in everything["Deployment"]["spec"]


def test_the_chart_is_of_this_version_and_its_yaml_is_tidy() -> None:
    from proxy import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__
    rules = "{extends: relaxed, rules: {line-length: {max: 160}}}"
    files = [str(path) for path in (ROOT / "deploy").rglob("*.y*ml") if "templates" not in path.parts]
    run(program("yamllint"), "--strict", "-d", rules, *files)
