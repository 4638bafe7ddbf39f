"""What the documents say is true: references come from the code, links lead somewhere, names are those of the code.

That their commands run is in ``test_docs_run.py``.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import trustme
import yaml
from click.testing import CliRunner

from proxy import __version__
from proxy.__main__ import COMMANDS, main
from proxy.core.build import BUILD
from proxy.core.errors import OUTCOMES, Code
from proxy.core.target import _SECRET_PARAMETERS
from proxy.settings.load import load_settings
from tests.documents import (
    BLOCKS,
    DOCUMENTS,
    REFERENCE,
    ROOT,
    Block,
    anchors_of,
    blocks_of,
    make_targets,
    name_of,
    prose_of,
)

KEY = base64.b64encode(b"id:secret").decode()
CONFIGURATIONS = [block for block in BLOCKS if block.language == "yaml" and block.kind in {"", "file"}]
"""Blocks that are configurations; all others say what they are."""


# -- the reference ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_parts_are_what_the_code_says(reference: ModuleType) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    current = reference.with_reference(text) == text
    assert current, f"docs/reference.md is not what the code says; run: {reference.COMMAND}"


def test_the_reference_names_every_code_and_no_setting_twice(reference: ModuleType) -> None:
    sections = reference.sections()
    for code in Code:
        assert f"| `{code.value}` |" in sections["refusals"]
    keys = re.findall(r"^\| `([^`]+)`", sections["settings"], re.MULTILINE)
    assert len(keys) == len(set(keys)) > 30
    assert {"listen", "upstreams.NAME.url", "routes[].operations", "callers.NAME.allow", "time.drain"} <= set(keys)


def test_a_new_code_without_a_sentence_is_named(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {code: text for code, text in reference.MEANINGS.items() if code is not Code.DRAINING}
    monkeypatch.setattr(reference, "MEANINGS", known)
    with pytest.raises(ValueError, match=r"write a sentence for \['draining'\]"):
        reference.sections()


def test_a_reference_without_a_part_is_refused_by_name(reference: ModuleType) -> None:
    with pytest.raises(ValueError, match="<!-- reference:log -->"):
        reference.with_reference(REFERENCE.read_text(encoding="utf-8").replace("<!-- reference:log -->", ""))


def test_every_query_parameter_that_is_taken_out_is_named() -> None:
    text = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"and the query parameters (.*?) in any spelling", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == _SECRET_PARAMETERS


# -- links and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(document)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_file_that_is_named_is_here(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:proxy|tests|config|deploy|docs|examples|scripts|bench|\.ci)/[\w./-]*)`", text):
        # Their environment is made by `make bench`.
        assert name.startswith("bench/.venv") or (ROOT / name).exists(), name


def test_every_page_is_in_the_index_and_every_page_of_the_index_is_short() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
        assert page == REFERENCE or len(page.read_text(encoding="utf-8").splitlines()) <= 260, page.name


# -- what is forbidden ------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.-]+"),
    "the host of a package registry": re.compile(r"pypi\.or[g]|pythonhosted\.or[g]|registry\.npmjs|crates\.i[o]\b"),
}
"""A path that works on one machine only, or an address that pip and npm have from their own settings."""


def _kept_files() -> list[Path]:
    """All files under version control or about to be; outside of a checkout all but caches."""
    if (ROOT / ".git").exists() and shutil.which("git") is not None:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not {"node_modules", "__pycache__", "build"} & set(path.parts)]


def test_no_file_mentions_a_machine_or_a_registry() -> None:
    found = []
    for path in _kept_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {what}" for what, pattern in FORBIDDEN.items() if pattern.search(text)]
    assert found == []


# -- commands ---------------------------------------------------------------------------------------------------------


def _commands() -> Iterator[list[str]]:
    """Those that no reader of ours runs: at least the program knows what they say."""
    for block in BLOCKS:
        for line in block.text.splitlines() if block.language == "sh" and block.kind == "not run" else ():
            if line.startswith("inworld-proxy "):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("words", [*_commands()], ids=" ".join)
def test_every_command_line_that_is_not_run_is_understood(words: list[str]) -> None:
    if words == ["--version"]:
        said = CliRunner().invoke(main, words)
        assert (said.exit_code, said.output) == (0, f"inworld-proxy, version {__version__} ({BUILD})\n")
        return
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, words
    command.make_context(words[0], words[1:])


def test_every_command_that_a_document_names_exists() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"`inworld-proxy (\w+)", document.read_text(encoding="utf-8")):
            assert name in COMMANDS, f"{document.name}: {name}"
            assert (ROOT / "proxy" / "cli" / f"{name}.py").is_file(), f"{document.name}: {name}"


def test_everything_that_make_is_asked_for_in_a_document_exists() -> None:
    for document in DOCUMENTS:
        asked = re.findall(r"(?:`|^    )make ([a-z]+)", prose_of(document), re.MULTILINE)
        for block in blocks_of(document):
            asked += re.findall(r"^make ([a-z]+)", block.text, re.MULTILINE) if block.language == "sh" else []
        assert set(asked) <= make_targets(), document.name


# -- names ------------------------------------------------------------------------------------------------------------


def test_every_metric_and_setting_that_a_document_names_exists(reference: ModuleType) -> None:
    sections = reference.sections()
    metrics = re.findall(r"^\| `(inworld_proxy_\w+)`", sections["metrics"], re.MULTILINE)
    keys = set(re.findall(r"^\| `([^`]+)`", sections["settings"], re.MULTILINE))
    groups = "|".join(sorted({key.partition(".")[0] for key in keys if re.fullmatch(r"[a-z_]+\.[a-z_]+", key)}))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"\binworld_proxy_[a-z_]+", text):
            known = any(metric.startswith(name) or name.startswith(f"{metric}_") for metric in metrics)
            assert known, f"{document.name}: {name}"
        for name in re.findall(rf"`((?:{groups})\.[a-z_]+)`", text):
            # `limits.requests` is that of a caller where the text is about callers.
            assert name in keys or any(key.endswith(f".{name}") for key in keys), f"{document.name}: {name}"


def test_troubleshooting_names_every_code_with_its_status() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    named: dict[str, int] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        for code, status in re.findall(r"^- `([a-z_]+)` \((\d{3})\)", section, re.MULTILINE):
            assert code not in named, f"{code} has two places"
            named[code] = int(status)
    assert named == {code.value: OUTCOMES[code].status for code in Code}


def test_figures_of_the_page_on_performance_stand_in_the_benchmark() -> None:
    measured = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    page = prose_of(ROOT / "docs" / "performance.md")
    rows = re.findall(r"^\| .* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+ \(.*\)) \|$", page, re.MULTILINE)
    assert len(rows) == 7
    for ours, nginx, ratio in rows:
        (row,) = (line for line in measured.splitlines() if f"{ours} · {ratio} |" in line)
        assert re.search(rf"\| {nginx}°? \|", row), row
    for figure in re.findall(r"\b\d+\.\d+\b", page):
        assert figure in measured, figure


def test_the_manifest_for_kubernetes_agrees_with_its_configuration_and_the_image() -> None:
    (block,) = (block for block in BLOCKS if block.kind == "manifest")
    deployment, service = yaml.safe_load_all(block.text)
    configuration = yaml.safe_load((ROOT / "config" / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    command, *words = container["args"]
    assert command in COMMANDS
    file = Path(main.get_command(click.Context(main), command).make_context(command, words).params["config"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    assert (file.name, volumes[mounts[str(file.parent)]]["configMap"]["name"]) == ("config.yaml", "inworld-proxy")
    key = Path(configuration["credentials"]["workspace"]["secret"].removeprefix("file:"))
    secret = volumes[mounts[str(key.parent)]]["secret"]
    assert (key.name, secret["secretName"], secret["defaultMode"]) == ("api-key", "inworld", 0o440)

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert configuration["listen"] == f"0.0.0.0:{ports['http']}"
    assert configuration["admin"] == f"0.0.0.0:{ports['metrics']}"
    paths = [container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")]
    assert paths == ["/readyz", "/healthz"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()

    drain = int(configuration["time"]["drain"].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] > drain + 2
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{pod['securityContext']['fsGroup']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_migrating_calls_a_configuration_of_nginx_is_one(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    (block,) = (block for block in BLOCKS if block.language == "nginx")
    # Names are resolved when a configuration is read, and there is no network here.
    text = block.text.replace("https://api.inworld.ai", "https://127.0.0.1")
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{text}}}\n", encoding="utf-8")
    command = [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(file)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr


# -- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_a_configuration_in_a_document_has_no_fault(block: Block, tmp_path: Path) -> None:
    key = tmp_path / "api-key"
    key.write_text(KEY, encoding="utf-8")
    key.chmod(0o600)
    file = tmp_path / "proxy.yaml"
    file.write_text(re.sub(r"file:/[\w./-]+", f"file:{key}", block.text), encoding="utf-8")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "corp-ca.pem")
    shown = authority.issue_cert("localhost")
    (tmp_path / "key.pem").touch(mode=0o600)
    shown.private_key_pem.write_to_path(tmp_path / "key.pem")
    shown.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    environ = {"EGRESS_PROXY_URL": "http://user:password@egress.example:3128"}
    environ |= dict.fromkeys(re.findall(r"env:(INWORLD_\w*KEY)", block.text), KEY) | {"INWORLD_API_KEY": KEY}
    assert load_settings(file, environ).routes


def test_there_are_configurations_to_try_and_other_yaml_says_what_it_is() -> None:
    assert len(CONFIGURATIONS) >= 12
    others = {block.kind for block in BLOCKS if block.language == "yaml"} - {"", "file"}
    assert others == {"prometheus.yml", "manifest", "callers.yaml"}


def test_json_in_a_document_is_json() -> None:
    shown = [json.loads(block.text) for block in BLOCKS if block.language == "json"]
    assert shown


def test_prometheus_is_told_where_the_metrics_are() -> None:
    (block,) = (block for block in BLOCKS if block.kind == "prometheus.yml")
    assert yaml.safe_load(block.text)["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:9464"]}]
