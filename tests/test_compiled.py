"""The compiled build does what the source does: the tests of the data path, run against it; and its wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.redis_server import missing

ROOT = Path(__file__).parents[1]
NOT_COMPILED = {
    "proxy/wire/__init__.py",
    "proxy/wire/descriptors.py",  # once in a while, and mostly the kernel's work
    "proxy/wire/dial.py",  # once a connection
    "proxy/wire/leaving.py",
    "proxy/wire/listener.py",
    "proxy/wire/peer.py",
    "proxy/wire/socket_file.py",
    "proxy/wire/token.py",  # waits for a mint
}
FOLDERS = ("core", "credentials", "wire", "observe", "limits", "flows", "faults", "security")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/compiled.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)


@pytest.fixture(scope="module")
def _compiled() -> None:
    if shutil.which(os.environ.get("CC", "cc")) is None:
        missing("there is no C compiler (scripts/system-packages.sh)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing("there are no headers of this Python (scripts/system-packages.sh)")
    try:
        import mypyc  # noqa: F401
    except ImportError:
        missing("mypy is not installed (pip install -e '.[test]')")
    done = run(
        "python",
        "-c",
        "from proxy.core.build import BUILD; from proxy.wire import caller; print(BUILD, caller.__file__)",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    build, _, file = done.stdout.strip().partition(" ")
    assert (build, Path(file).suffix) == ("compiled", ".so")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.usefixtures("_compiled")
def test_what_holds_of_the_source_holds_of_the_compiled_build(folder: str) -> None:
    done = run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=5", f"tests/{folder}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_compiled")
def test_its_wheel_installs_and_serves_and_says_what_it_is() -> None:
    environ = {**os.environ, "INWORLD_PROXY_COMPILE": "1", "INWORLD_PROXY_COMPILE_LEVEL": "0"}
    command = [sys.executable, "scripts/try_wheel.py"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("serves; compiled")
    assert "linux" in done.stdout  # it is for machines like this one only, and says so


def test_what_is_compiled_exists_and_is_what_a_request_goes_through() -> None:
    listed = set(
        re.findall(r'^    "(proxy/[a-z_/]+\.py)",$', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert all((ROOT / path).is_file() for path in listed)
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "proxy" / "wire").glob("*.py")}
    assert here - listed == NOT_COMPILED


def test_the_translator_is_the_same_for_pip_and_for_make() -> None:
    said = re.search(r'^TRANSLATOR = "(.*)"', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert said is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert said[1] in extras["compile"]
    assert said[1] in extras["test"]
