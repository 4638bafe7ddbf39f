"""Programs of other people that the files under ``deploy/`` are checked with: where they are, and what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_server import missing

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin"
"""Where scripts/system-packages.sh puts Prometheus, without installing its service."""

NODE = ROOT / "tests" / "clients" / "node" / "node_modules"


def program(name: str) -> str:
    """The path of one; without it the test is skipped (with CI=true it fails)."""
    beside_python = Path(sys.executable).parent / name
    found = shutil.which(name) or shutil.which(str(UNPACKED / name)) or shutil.which(str(beside_python))
    if found is None:
        reason = f"{name} is not here (scripts/system-packages.sh, pip install -e '.[test]')"
        (missing_wheel if name == "hadolint" else missing)(reason)
    return str(found)


def missing_wheel(reason: str) -> None:
    """For what pyproject.toml asks for on one kind of machine only: elsewhere it cannot be installed."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(reason)
    missing(reason)


def run(*words: str, folder: Path = ROOT) -> str:
    """What a program says, on both its outputs; it has to succeed."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
