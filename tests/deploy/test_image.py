"""The Dockerfile's steps, done outside a container, make an environment that serves, is healthy and small.

What is not tried here is said in docs/container.md: the pull of a base image, and an engine that does the steps.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import ROOT, program, run
from tests.redis_server import missing

HEAVIEST = 80e6
"""Bytes beside the base; 68 MB (2026-11-22), of which cryptography, uvloop and aiohttp have more than half."""

NOBODY = 65532


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("try_dockerfile", ROOT / "scripts" / "try_dockerfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module of their annotations
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


SCRIPT = _script()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a user without rights gets to; pytest's own folders are their maker's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def image(folder: Path) -> Any:
    """All steps, without the compiler's: `tests/test_compiled.py` has that."""
    try:
        return SCRIPT.build(folder, {"COMPILE": "0"})
    except SystemExit as failed:
        if "No matching distribution" in str(failed) or "Connection" in str(failed):
            missing(f"pip has no index that it reaches from here: {failed}")
        raise


def test_the_linter_accepts_the_dockerfile() -> None:
    run(program("hadolint"), str(ROOT / "Dockerfile"))


@pytest.mark.timeout(600)
def test_the_last_stage_has_the_program_and_nothing_that_installs_or_compiles(image: Any) -> None:
    environment = image.root / "opt" / "inworld-proxy"
    assert [each.name for each in image.root.iterdir()] == ["opt"]
    assert [each.name for each in (image.root / "opt").iterdir()] == ["inworld-proxy"]
    names = {path.name for path in environment.rglob("*")}
    assert not names & {"pip", "setuptools", "wheel", "mypy", "mypyc", "gcc", "cc"}
    bill = json.loads((environment / "share" / "sbom" / "inworld-proxy.cdx.json").read_text(encoding="utf-8"))
    installed = {path.name.split("-")[0].lower() for path in environment.rglob("*.dist-info")}
    assert installed == {each["name"].replace("-", "_") for each in bill["components"]} | {"inworld_proxy"}
    assert all(each.get("licenses") for each in bill["components"])


@pytest.mark.timeout(600)
def test_it_is_small(image: Any) -> None:
    weights = SCRIPT.weigh(image.root / "opt")
    assert sum(weights.values()) < HEAVIEST, weights.most_common(5)


@pytest.fixture
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _is_for_all() -> bool:
    """May every user run this Python? One below somebody's home is that user's alone."""
    python = Path(sys.base_prefix).resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (python, *python.parents))


@pytest.fixture
def served(image: Any, port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """ENTRYPOINT and CMD, by the user of the image where this one may do that, with a configuration of its own."""
    configuration = folder / "config.yaml"
    configuration.write_text(json.dumps({"listen": "127.0.0.1:0", "admin": f"127.0.0.1:{port}"}))
    command = [*image.entrypoint, *image.command]
    command[command.index("/etc/inworld-proxy/config.yaml")] = str(configuration)
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 and _is_for_all() else {}
    environ = {"PATH": os.environ["PATH"], "INWORLD_API_KEY": "aWQ6c2VjcmV0"}
    with subprocess.Popen(
        command, cwd="/", env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **user
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _health(image: Any, port: int) -> int:
    command = [word.replace("127.0.0.1:9464", f"127.0.0.1:{port}") for word in image.health]
    assert command != image.health
    return subprocess.run(command, cwd="/", capture_output=True, check=False, timeout=60).returncode


@pytest.mark.timeout(600)
def test_what_the_image_runs_serves_and_is_healthy_until_it_ends(
    image: Any, served: subprocess.Popen[str], port: int
) -> None:
    assert image.user == f"{NOBODY}:{NOBODY}"
    assert served.stderr is not None
    said = [served.stderr.readline() for _ in range(2)]
    assert "https://api.inworld.ai" in said[0], said
    assert f":{port}/metrics" in said[1]
    assert _health(image, port) == 0
    served.terminate()
    assert served.wait(timeout=60) == 0
    assert _health(image, port) != 0
