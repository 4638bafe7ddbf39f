"""A few seconds of `make chaos`: faults, callers who leave, reloads and replaced keys all at once. Every bar holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Fewer callers than by hand, and longer for whatever takes its time: tests run beside one another, and no bar may
# depend on how busy the machine is. What would never come does not come in so long either.
RUN = """
import sys
sys.path.insert(0, "scripts/chaos")
import processes
processes.PATIENCE = 90.0
import callers
callers.ANSWER_LIMIT = 120.0
import bars, run, tunnels
bars.SLOWEST_SCRAPE = bars.CLOSED_WITHIN = tunnels.ECHO_LIMIT = 30.0
sys.exit(run.main())
"""


@pytest.mark.timeout(300)
def test_nothing_is_lost_leaked_or_given_to_another_while_upstreams_callers_and_configuration_misbehave() -> None:
    command = [sys.executable, "-c", RUN, "--seconds", "8", "--callers", "15"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok    ") == 34
