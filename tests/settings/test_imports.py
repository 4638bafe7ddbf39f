"""What a start does not need is not imported, and what serving will need is imported before it begins.

An import on the loop that serves would keep every caller waiting for as long as it takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.settings.conftest import ENVIRON

ROOT = Path(__file__).parents[2]
HEAVY = {"aiohttp", "cryptography", "jwt", "redis"}

PROGRAM = f"""
import json, os, sys
from pathlib import Path
import proxy.cli.serve
from proxy.settings.load import load_settings
load_settings(Path(sys.argv[1]), os.environ)
print(json.dumps(sorted(set(sys.modules) & {HEAVY})))
"""
PLAIN = {"callers": {"studio": {"token": f"sha256:{'1' * 64}", "allow": "*"}}}
JWT = {"jwks": "https://id.example/keys", "issuer": "https://id.example", "audience": "proxy"}


@pytest.mark.parametrize(
    ("configuration", "needed"),
    [
        ({}, set()),
        (PLAIN, set()),
        ({"credentials": {"live": {"kind": "session-token", "secret": "env:INWORLD_API_KEY"}}}, HEAVY - {"redis"}),
        ({"callers": {"studio": {"jwt": JWT, "allow": "*"}}}, HEAVY - {"redis"}),
    ],
    ids=["nothing said", "callers with tokens", "minted tokens", "callers' JWTs"],
)
def test_a_configuration_imports_what_it_needs_when_it_is_read(
    tmp_path: Path, configuration: dict[str, object], needed: set[str]
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)],
        cwd=ROOT, env={**os.environ, **ENVIRON}, capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert set(json.loads(done.stdout)) == needed
