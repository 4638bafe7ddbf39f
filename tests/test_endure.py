"""A few seconds of `make endure`: every answer is right and nothing is left; and its bars for growth, tried by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Less than by hand, and longer for whatever takes its time: tests run beside one another, and no bar may depend on how
# busy the machine is.
RUN = """
import sys
sys.path[:0] = ["scripts/endure", "scripts/chaos"]
import processes
processes.PATIENCE = 90.0
import run
run.OF_EACH = 5
run.main()
"""


@pytest.mark.timeout(300)
def test_every_answer_is_right_and_nothing_is_left_of_requests_streams_and_tunnels_that_come_and_go() -> None:
    command = [sys.executable, "-c", RUN, "--seconds", "6", "--rate", "60", "--tunnels", "6", "--every", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok    ") == 9


def test_growth_is_seen_where_there_is_some() -> None:
    command = [sys.executable, "-c", BARS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


# Samples of ten minutes: of a proxy that keeps one object of each request, and of one that does not.
BARS = """
import sys
sys.path[:0] = ["scripts/endure", "scripts/chaos"]
from collections import Counter
from processes import Scrape
from sampling import MIB, Look, Report
from script import Accounts

def look(second, kept):
    sums = {"tasks": 4, "requests_accepted_total": 0, "requests_ended_total": 0}
    scrape = Scrape(Counter({f"inworld_proxy_{name}": value for name, value in sums.items()}), {}, 0.1)
    inside = {"rss": 70 * MIB + 500 * kept, "objects": 9000 + kept, "blocks": 300_000 + 4 * kept, "descriptors": 19,
              "threads": 4, "types": {"a.Kept": kept + 1}}
    return Look(second, 400 * second, inside, scrape)

def faults(keeps):
    looks = [look(second, keeps * second * 400) for second in range(10, 601, 10)]
    report = Report(600.0, look(0, 0), looks, look(630, keeps * 240_000), Accounts(), 0, "")
    return [words for holds, words in report.bars() if not holds]

assert faults(0) == []
grown = faults(1)
assert len(grown) == 5, grown
assert all("'a.Kept'" in words for words in grown if "resident" not in words), grown
"""
