"""A few seconds of `make soak`: tokens of two seconds, failing mints and replaced keys under load. Every bar holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_request_is_lost_and_no_dead_token_is_sent_while_tokens_and_keys_are_replaced_under_load() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--seconds", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok    ") == 11
