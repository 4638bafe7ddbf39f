"""What is installed is what is here: the wheel, the environment that make makes, and what the image is made of."""

from __future__ import annotations

import http.server
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import ModuleType

import click
import pytest

from proxy.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
MAKES_WHEELS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "proxy")
MAKES_IMAGES = (*MAKES_WHEELS, "deploy/constraints.txt", "deploy/constraints-build.txt", "scripts/sbom.py")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves a folder whose old modules would be in the next one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in MAKES_WHEELS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--wheel-dir", str(folder)] + (["--no-build-isolation"] if _has_setuptools() else [])
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", *options, str(source)])
    (made,) = folder.glob("*.whl")
    return made


def _has_setuptools() -> bool:
    """Is the setuptools that pyproject.toml asks for here already? Then nothing has to be fetched."""
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= 83
    except importlib.metadata.PackageNotFoundError:
        return False


def _run(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _try_wheel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("try_wheel", ROOT / "scripts" / "try_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the wheel --------------------------------------------------------------------------------------------------------


def test_the_wheel_has_every_module_and_every_file_that_the_program_reads(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("proxy/")}
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "proxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == here
    assert {"proxy/catalogue/inworld.yaml", "proxy/settings/schema.json", "proxy/py.typed"} <= names


def test_the_wheel_is_one_package_under_its_license_with_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    top = {name.partition("/")[0] for name in archive.namelist()}
    (described,) = top - {"proxy"}
    metadata = archive.read(f"{described}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "inworld-proxy = proxy.__main__:main" in archive.read(f"{described}/entry_points.txt").decode()
    assert f"{described}/licenses/LICENSE" in archive.namelist()


def test_the_wheel_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """What `make wheel` does, with the wheel that is here already, and without what takes long and proves nothing."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")])
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--no-compile", str(wheel)])
    _try_wheel().try_serve(python, str(tmp_path))


# -- make -------------------------------------------------------------------------------------------------------------


def _python(folder: Path, script: str) -> Path:
    stub = folder / "python-stub"
    stub.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return stub


def _make_run(folder: Path, python: Path | str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--no-print-directory", "run", f"PYTHON={python}", f"VENV={folder / 'made'}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_run_with_a_python_without_its_venv_module_says_what_to_install(tmp_path: Path) -> None:
    script = f'case "$2" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"'
    done = _make_run(tmp_path, _python(tmp_path, script))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode != 0
    assert "This Python has no venv module." in done.stderr
    assert f"apt-get install python{version}-venv" in done.stderr
    assert not (tmp_path / "made").exists()


def test_make_run_with_an_old_python_says_which_it_needs(tmp_path: Path) -> None:
    done = _make_run(tmp_path, _python(tmp_path, 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac'))
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr


def test_make_run_without_any_python_says_how_to_get_one(tmp_path: Path) -> None:
    done = _make_run(tmp_path, "python-that-is-not-here")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer, and there is no 'python-that-is-not-here' here" in done.stderr


def test_ci_runs_what_readme_says_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make lint", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "`.ci/run` calls `make lint` (format, lint, types) and `make test`, and nothing else." in readme


# -- the image --------------------------------------------------------------------------------------------------------


def _instructions(name: str) -> list[str]:
    return re.findall(rf"^ *{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def _last_stage() -> str:
    return DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_the_image_copies_what_it_is_made_of_and_the_ignore_file_lets_it_in() -> None:
    copied = [name for line in _instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert sorted(copied) == sorted(MAKES_IMAGES)
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert [line[1:] for line in ignored if line.startswith("!")] == list(MAKES_IMAGES)


def test_the_image_installs_nothing_but_by_hash_and_the_wheel_that_it_built() -> None:
    """Every pip command either names hashes or asks no index; nothing may be built that comes from one."""
    commands = [command for line in _instructions("RUN") for command in line.split(" && ") if " -m pip " in command]
    installing = [command.split() for command in commands if not command.rstrip().endswith(" check")]
    assert len(installing) == 4
    for words in installing:
        assert ("--require-hashes" in words) is not ("--no-index" in words), words
        assert "--no-index" not in words or "--no-deps" in words, words
    assert "PIP_ONLY_BINARY=:all:" in " ".join(_instructions("ENV"))


def test_the_image_says_what_it_consists_of() -> None:
    (line,) = [line for line in _instructions("RUN") if "sbom" in line]
    written = line.rpartition(" ")[2]
    kept = [words[1] for words in map(str.split, _instructions("COPY")) if words[0] == "--from=build"]
    assert any(written.startswith(f"{folder}/") for folder in kept), "the last stage would not have it"


def test_the_image_runs_as_a_numbered_user_and_its_last_stage_installs_nothing() -> None:
    assert [user.partition(":")[0] for user in _instructions("USER")] == ["65532"]
    assert "USER" in _last_stage()
    assert "RUN" not in _last_stage()
    assert _instructions("FROM") == ["${BASE} AS build", "${BASE}"]
    assert _instructions("ARG") == ["BASE=python:3.12-slim", "COMPILE=1"]
    assert "gcc" not in _last_stage()


def test_the_image_starts_with_a_command_that_exists() -> None:
    (entry,) = _instructions("ENTRYPOINT")
    (arguments,) = _instructions("CMD")
    assert json.loads(entry) == ["/opt/inworld-proxy/bin/inworld-proxy"]
    name, *rest = json.loads(arguments)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, rest).params["config"] == Path("/etc/inworld-proxy/config.yaml")


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_the_admin_listener_whatever_proxy_the_environment_names(
    status: int, healthy: bool
) -> None:
    (line,) = _instructions("HEALTHCHECK")
    _, option, code = json.loads(line[line.index("CMD") + 3 :])
    assert option == "-c"
    asked: list[str] = []

    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        here = code.replace("127.0.0.1:9464", f"127.0.0.1:{server.server_port}")
        environ = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        done = subprocess.run([sys.executable, "-c", here], capture_output=True, check=False, env=environ)
        thread.join()
    assert here != code
    assert asked == ["/healthz"]
    assert (done.returncode == 0) is healthy
