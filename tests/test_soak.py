"""A few seconds of `make soak`: short-lived tokens, failing mints and replaced keys under load. Every bar holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Less at once than by hand, with tokens of twice the life: tests run beside one another, and no bar may depend on how
# busy the machine is.
RUN = """
import sys
sys.path.insert(0, "scripts")
import soak
soak.REQUESTS, soak.TUNNELS, soak.TOKEN_SECONDS, soak.PATIENCE = 20, 8, 4, 90.0
sys.exit(soak.main())
"""


@pytest.mark.timeout(300)
def test_no_request_is_lost_and_no_dead_token_is_sent_while_tokens_and_keys_are_replaced_under_load() -> None:
    command = [sys.executable, "-c", RUN, "--seconds", "9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok    ") == 11
