"""docker-compose.yml and what it mounts: a linter accepts it, everything it names is here, and nothing is open.

No engine is asked: that the images of others start is not tried.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.sandbox.keys import DEMO_KEYS
from proxy.settings.load import load_settings
from tests.deploy.tools import NODE, ROOT, program, run
from tests.processes.running import Processes
from tests.redis_server import missing
from tests.wires import Wire, request

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FOLDER = ROOT / "deploy" / "compose"
TOKEN = "compose-demo-token"

STYLE = ("no-build-and-image", "require-quotes-in-ports", "service-keys-order", "services-alphabetical-order",
         "top-level-properties-order")  # fmt: skip
"""Rules of the linter about order and quotes, and one against naming what is built; the others are about faults."""


def _default(text: str) -> str:
    """With the variables as they are when nobody sets them."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


def _mounts(service: str) -> dict[str, str]:
    """Path in the container by path in the checkout; named volumes are left out."""
    words = [_default(each).split(":") for each in SERVICES[service].get("volumes", [])]
    assert all(each[2:] == ["ro"] for each in words if each[0].startswith("."))
    return {each[0]: each[1] for each in words if each[0].startswith(".")}


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_linter_accepts_it(tmp_path: Path) -> None:
    linter = NODE / ".bin" / "dclint"
    if not linter.exists() or shutil.which("node") is None:
        missing("dclint is not installed (scripts/node-packages.sh)")
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"rules": dict.fromkeys(STYLE, 0)}))
    run(str(linter), "--config", str(rules), "--max-warnings", "0", str(FILE))
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(FILE.read_text(encoding="utf-8").replace("pids_limit", "pid_limit"))
    with pytest.raises(AssertionError, match="invalid-schema"):
        run(str(linter), "--config", str(rules), str(wrong))


def test_its_yaml_is_tidy() -> None:
    run(program("yamllint"), "--strict", "-d", "{extends: relaxed, rules: {line-length: {max: 160}}}", str(FILE))


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not [service for service in SERVICES.values() if service.get("network_mode") == "host"]


def test_the_proxy_has_no_rights_and_its_key_from_a_file() -> None:
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")
    for name in ("proxy", "sandbox"):
        assert SERVICES[name]["read_only"] is True
        assert f"USER {SERVICES[name]['user']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert "environment" not in SERVICES[name]
        (profile,) = [each for each in SERVICES[name]["security_opt"] if each.startswith("seccomp:")]
        assert (ROOT / profile.removeprefix("seccomp:")).is_file()
    key = _default(COMPOSE["secrets"]["inworld-api-key"]["file"])
    assert (ROOT / key).read_text(encoding="utf-8").strip() == DEMO_KEYS[0].basic
    assert SERVICES["sandbox"]["network_mode"] == "service:proxy"


def test_everything_that_is_mounted_is_here_and_every_image_has_a_version() -> None:
    for name, service in SERVICES.items():
        for source in _mounts(name):
            assert (ROOT / source).exists(), source
        assert re.fullmatch(r"[a-z./-]+:(?!latest)[\w.-]+", service["image"])


# -- the proxy --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with Processes() as made:
        yield made


def _here(folder: Path, port: int) -> Path:
    """The configuration with what is mounted where it is here, and on free ports."""
    (target,) = [each["target"] for each in SERVICES["proxy"]["secrets"]]
    text = (FOLDER / "proxy.yaml").read_text(encoding="utf-8")
    assert f"file:{target}" in text
    changed = text.replace(f"file:{target}", f"file:{FOLDER / 'sandbox-key'}").replace("0.0.0.0:9464", "127.0.0.1:0")
    file = folder / "proxy.yaml"
    file.write_text(changed.replace("0.0.0.0:8080", "127.0.0.1:0").replace("127.0.0.1:9000", f"127.0.0.1:{port}"))
    return file


async def test_the_proxy_as_it_is_configured_there_serves_from_the_sandbox(
    processes: Processes, tmp_path: Path
) -> None:
    (mounted,) = _mounts("proxy").values()
    assert f'"{mounted}"' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert SERVICES["sandbox"]["command"] == ["sandbox"]
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "sandbox", "--port", "0", cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert sandbox.stdout is not None
        while (found := re.search(rb"http://127\.0\.0\.1:(\d+)", await sandbox.stdout.readline())) is None:
            pass
        running = await processes.begin_with("compose", "--config", str(_here(tmp_path, int(found[1]))))
        await running.ready()
        wire = await processes.wire(running.port)
        assert await _status(wire, f"Authorization: Bearer {TOKEN}") == 200
        assert await _status(wire) == 401
        assert await running.stop() == 0
    finally:
        sandbox.kill()
        await sandbox.communicate()


async def _status(wire: Wire, *fields: str) -> int:
    await wire.send(request("GET /voices/v1/voices", *fields))
    return (await wire.message()).head.status


def test_the_configuration_listens_where_the_ports_lead(tmp_path: Path) -> None:
    text = (FOLDER / "proxy.yaml").read_text(encoding="utf-8")
    file = tmp_path / "proxy.yaml"
    file.write_text(text.replace("file:/run/secrets/inworld/api-key", f"file:{FOLDER / 'sandbox-key'}"))
    snapshot = load_settings(file, {})
    assert [port.rpartition(":")[2] for port in SERVICES["proxy"]["ports"]] == [str(snapshot.listen.port)]
    (scrape,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"proxy:{snapshot.admin.port}"]}]


# -- Prometheus and Grafana -------------------------------------------------------------------------------------------


def test_promtool_accepts_prometheus_configuration_and_finds_the_rules_where_they_are_mounted(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    mounts = _mounts("prometheus")
    assert mounts["./deploy/alerts.yaml"] in text
    assert f"--config.file={mounts['./deploy/compose/prometheus.yml']}" in SERVICES["prometheus"]["command"]
    (tmp_path / "prometheus.yml").write_text(
        text.replace(mounts["./deploy/alerts.yaml"], str(ROOT / "deploy" / "alerts.yaml"))
    )
    assert "1 rule files found" in run(program("promtool"), "check", "config", str(tmp_path / "prometheus.yml"))


def test_grafana_finds_its_source_and_the_dashboard_and_lets_nobody_change_them() -> None:
    mounts = _mounts("grafana")
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((folder / "dashboards" / "inworld-proxy.yaml").read_text(encoding="utf-8"))[
        "providers"
    ]
    dashboard = mounts["./deploy/grafana/dashboard.json"]
    assert Path(dashboard).parent == Path(provider["options"]["path"])
    environ = SERVICES["grafana"]["environment"]
    assert environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    assert environ["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environ["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
