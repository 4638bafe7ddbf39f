"""A few seconds of `make chaos`: faults, callers who leave, reloads and replaced keys all at once. Every bar holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_nothing_is_lost_leaked_or_given_to_another_while_upstreams_callers_and_configuration_misbehave() -> None:
    # Fewer callers than by hand: tests run beside one another, and no bar may depend on how busy the machine is.
    command = [sys.executable, str(ROOT / "scripts" / "chaos" / "run.py"), "--seconds", "8", "--callers", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok    ") == 34
