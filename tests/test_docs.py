"""What the documents say is true: references come from the code, links lead somewhere, examples run as they stand."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import click
import pytest
import trustme
import yaml
from click.testing import CliRunner

from proxy import __version__
from proxy.__main__ import COMMANDS, main
from proxy.core.build import BUILD
from proxy.core.errors import Code
from proxy.core.target import _SECRET_PARAMETERS
from proxy.settings.load import load_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(ROOT.glob("*.md"))
DATA, ADMIN = "127.0.0.1:8080", "127.0.0.1:9464"
"""Where the documents say that the proxy is. Here it is somewhere else, so that a proxy at work is left alone."""

START_SECONDS, RUN_SECONDS = 100, 100
KEY = base64.b64encode(b"id:secret").decode()


class Block(NamedTuple):
    """A fenced block: its language, the comment above it ("" without one) and its lines."""

    language: str
    note: str
    text: str


def _blocks(text: str) -> list[Block]:
    pattern = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [Block(language, note, body) for note, language, body in pattern.findall(text)]


BLOCKS = _blocks(README)
SHELL = [block for block in BLOCKS if block.language == "sh"]
RUNNABLE = [block for block in SHELL if block.note.startswith("runs")]
PYTHON = [block for block in BLOCKS if block.language == "python"]
CONFIGURATIONS = [block for block in BLOCKS if block.language == "yaml" and not block.note]


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
    current = reference.with_reference(README) == README
    assert current, f"README.md is not what the code says; run: {reference.COMMAND}"


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


def test_a_readme_without_a_part_is_refused_by_name(reference: ModuleType) -> None:
    with pytest.raises(ValueError, match="<!-- reference:log -->"):
        reference.with_reference(README.replace("<!-- reference:log -->", ""))


def test_readme_names_every_query_parameter_that_is_taken_out() -> None:
    (sentence,) = re.findall(r"and the query parameters (.*?) in any spelling", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == _SECRET_PARAMETERS


# -- links and paths --------------------------------------------------------------------------------------------------


def _slugs(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        if anchor:
            assert anchor in _slugs(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_here(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:proxy|tests|config|scripts|\.ci)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


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
    for document in DOCUMENTS:
        for block in _blocks(document.read_text(encoding="utf-8")):
            for line in block.text.splitlines() if block.language == "sh" else ():
                if "inworld-proxy " in line and not line.startswith(("docker", "python3", "curl", " ")):
                    words = shlex.split(re.sub(r"\$\(.*?\)", "X", line), comments=True)
                    yield words[words.index("inworld-proxy") + 1 :]


@pytest.mark.parametrize("words", [*_commands()], ids=" ".join)
def test_every_command_line_in_a_document_is_understood(words: list[str]) -> None:
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


# -- examples ---------------------------------------------------------------------------------------------------------


class Served(NamedTuple):
    """A proxy in front of its sandbox: where it is, and what it printed at start."""

    data: str
    admin: str
    printed: str


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """`serve` without a key, on free ports."""
    command = [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    environ = {name: value for name, value in os.environ.items() if name != "INWORLD_API_KEY"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            # The last thing printed at start is the look at the metrics.
            while not lines or "grep" not in lines[-1]:
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
            printed = "".join(lines)
            data, admin = re.findall(r"http://(127\.0\.0\.1:\d+)", printed)[:2]
            yield Served(data, admin, printed)
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


def _run(command: list[str], folder: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("INWORLD_", "OPENAI_"))}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    (folder / "config").symlink_to(ROOT / "config")
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=RUN_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _here(text: str, served: Served) -> str:
    return text.replace(DATA, served.data).replace(ADMIN, served.admin)


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.text.split("\n", maxsplit=1)[0][:60])
def test_a_command_marked_as_runnable_runs_and_prints_what_is_said(
    block: Block, served: Served, tmp_path: Path
) -> None:
    if "curl" in block.text and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    printed = _run(["sh", "-e", "-c", _here(block.text, served)], tmp_path)
    assert block.note.partition(": ")[2] in printed
    for audio in tmp_path.glob("*.wav"):
        assert audio.read_bytes()[:4] == b"RIFF"
    assert ("hello.wav" in block.text) is (tmp_path / "hello.wav").exists()


def test_the_commands_printed_at_start_are_those_of_readme(served: Served) -> None:
    printed = [shlex.split(part, comments=True) for part in served.printed.split("\n\n") if part.startswith("  curl")]
    written = [shlex.split(_here(block.text, served)) for block in RUNNABLE if block.text.startswith("curl")]
    assert printed == written
    assert len(written) == 3


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.text.split("\n", maxsplit=1)[0][:60])
def test_a_script_in_readme_runs_against_the_sandbox(block: Block, served: Served, tmp_path: Path) -> None:
    printed = _run([sys.executable, "-W", "error", "-c", _here(block.text, served)], tmp_path)
    assert printed.count("Hello from the sandbox.") == 2
    assert (tmp_path / "script.wav").read_bytes()[:4] == b"RIFF"


def test_there_is_a_script_and_configurations_to_try() -> None:
    assert len(PYTHON) == 1
    assert len(CONFIGURATIONS) >= 7


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.text.split("\n", maxsplit=1)[0])
def test_a_configuration_in_readme_has_no_fault(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(block.text, encoding="utf-8")
    trustme.CA().cert_pem.write_to_path(tmp_path / "corp-ca.pem")
    environ = {"EGRESS_PROXY_URL": "http://user:password@egress.example:3128"}
    environ |= dict.fromkeys(re.findall(r"env:(INWORLD_\w*KEY)", block.text), KEY) | {"INWORLD_API_KEY": KEY}
    assert load_settings(file, environ).routes


def test_other_yaml_in_readme_is_yaml() -> None:
    for block in BLOCKS:
        if block.language == "yaml" and block.note:
            assert block.note == "prometheus.yml"
            assert yaml.safe_load(block.text)["scrape_configs"][0]["static_configs"] == [{"targets": [ADMIN]}]
