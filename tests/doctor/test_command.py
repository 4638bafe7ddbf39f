"""``inworld-proxy doctor`` as people run it: what is printed, in both forms, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.sandbox.keys import DEMO_KEYS
from tests.clients.processes import ROOT, environment

PATIENCE = 100
DOCTOR = (sys.executable, "-m", "proxy", "doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
KEY = "cmVhbC1rZXk6OWYzYjdjMWU1YThkNDIwNmIxYzdlOWYwYTJkNGM2ZTg="


def doctor(*options: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*DOCTOR, *options],
        cwd=ROOT, env=environment(**(environ or {})), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_in_front_of_the_sandbox_all_is_well_and_no_secret_is_shown() -> None:
    done = doctor("--sandbox", "--voices", "write")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line[:4].strip() for line in lines] == [
        "ok", "ok", "ok", "ok", "ok", "ok", "ok", "skip", "ok", "ok", "ok", "ok",
    ]  # fmt: skip
    assert lines[6].split()[1:3] == ["read", "default"]
    assert not any(key.basic in done.stdout or key.secret in done.stdout for key in DEMO_KEYS)


def test_what_is_wrong_has_its_remedy_in_the_next_line() -> None:
    done = doctor("--upstream", "http://127.0.0.1:9", environ={"INWORLD_API_KEY": KEY})
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("fail")]
    assert lines[at].split()[1:3] == ["tcp", "inworld"]
    assert lines[at + 1].startswith(" ")
    assert "-> let this machine out" in lines[at + 1]
    assert KEY not in done.stdout


def test_without_a_key_the_first_thing_to_do_is_said() -> None:
    done = doctor("--upstream", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "INWORLD_API_KEY is not set" in done.stdout


def test_as_json_it_is_one_object() -> None:
    done = doctor("--json", "--upstream", "http://127.0.0.1:9", environ={"INWORLD_API_KEY": KEY})
    whole: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 2
    assert (set(whole), whole["overall"]) == ({"version", "overall", "checks"}, "fail")
    checks: Sequence[dict[str, Any]] = whole["checks"]
    assert all(set(each) == {"name", "state", "detail", "remedy", "ms"} for each in checks)
    by_name = {each["name"]: each for each in checks}
    assert by_name["configuration"]["remedy"] is None
    assert (by_name["tcp inworld"]["state"], by_name["read default"]["state"]) == ("fail", "skip")
    assert by_name["tcp inworld"]["remedy"]


def test_warnings_alone_are_exit_code_1() -> None:
    shell = ["sh", "-c", 'ulimit -n 512; exec "$@"', "sh"]
    done = subprocess.run(
        [*shell, *DOCTOR, "--sandbox"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "warn  descriptors" in done.stdout
    assert "-> raise the hard limit" in done.stdout


def test_a_fault_in_the_configuration_is_exit_code_2_with_every_fault(tmp_path: Path) -> None:
    (tmp_path / "proxy.yaml").write_text("listne: 1\nadmni: 2\n")
    done = doctor("--config", str(tmp_path / "proxy.yaml"))
    assert done.returncode == 2
    assert done.stdout.count("fail  configuration") == 2


def test_the_sandbox_and_a_configuration_are_not_one_thing() -> None:
    done = doctor("--sandbox", "--upstream", "http://127.0.0.1:9")
    assert (done.returncode, "leave out" in done.stderr) == (2, True)
