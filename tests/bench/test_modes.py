"""What `python -m bench` does instead of the comparison: each mode for a moment, its tables, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import features, profile, recorders, scaling
from bench.measure import TESTS
from bench.product import ALL_ON
from bench.profile import Profile

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs Linux: affinity, /proc, memfd")


def _bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "--pure", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)


# -- the features -----------------------------------------------------------------------------------------------------


def test_features_are_timed_inside_one_process(tmp_path: Path) -> None:
    done = _bench("--inside", "--rounds", "1", "--output", str(tmp_path / "inside.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "inside.json").read_text(encoding="utf-8"))
    assert set(found["pieces"]) == set(features.WORDS)
    assert all(len(kind) == 1 and kind[0] > 0 for each in found["pieces"].values() for kind in each.values())
    assert all(kind[0] > 0 for each in found["whole"].values() for kind in each.values())
    assert "| **together** |" in done.stdout


INSIDE: features.Inside = {
    "whole": {
        ALL_ON: {"repeated": [50.0, 60.0], "varied": [70.0, 70.0]},
        "log": {"repeated": [45.0, 53.0], "varied": [60.0, 60.0]},
        "limits": {"repeated": [51.0, 63.0], "varied": [71.0, 69.0]},
    },
    "pieces": {
        "decision": {"repeated": [0.5, 0.5], "varied": [9.0, 11.0]},
        "log": {"repeated": [4.0, 6.0], "varied": [4.0, 6.0]},
    },
}


def test_features_are_added_up_inside_a_round_and_checked_by_what_exchanges_differ_by() -> None:
    assert features.sums(INSIDE["pieces"], "varied") == [13.0, 17.0]
    assert features.taken_out(INSIDE["whole"], "log", "repeated") == [5.0, 7.0]
    assert features.taken_out(INSIDE["whole"], "limits", "varied") == [1.0, -1.0]
    text = features.report("2026-01-02", "2 cores", 2, INSIDE)
    assert "| **together** | the rows above | 5.50 (4.50 to 6.50) | 15.00 (13.00 to 17.00) |" in text
    assert "| whole exchange | all but limits, without a kernel | 55.0 (50.0 to 60.0) | 70.0 (70.0 to 70.0) |" in text
    assert "| +6.0 (+5.0 to +7.0) |" in text


# -- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("wrk") is None, reason="there is no wrk")
def test_processes_on_one_socket_are_measured_together(tmp_path: Path) -> None:
    done = _bench("--processes", "2", "--rounds", "1", "--output", str(tmp_path / "processes.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "processes.json").read_text(encoding="utf-8"))["rows"]
    assert {row["load"] for row in found} == set(scaling.LOADS)
    for row in found:
        assert row["processes"] == len(row["requests"]) == len(row["connections"]) == 2
        assert sum(row["requests"]) >= row["figures"]["operations"] > 0
        assert row["figures"]["cpu"] > 0
        assert row["beside"] > 0
    assert "| `get`: 64 connections that stay open | 2 |" in done.stdout
    assert scaling.NOT_SHOWN in " ".join(done.stdout.split())


def _row(count: int, number: int, rate: float, cpu: float, connections: Sequence[int]) -> scaling.Row:
    figures = {"errors": 0, "rate": rate, "cpu": cpu, "operations": rate}
    spread = {"connections": list(connections), "requests": list(connections)}
    return {"load": "get", "processes": count, "round": number, "beside": 50.0, "figures": figures, **spread}


def test_processes_are_compared_inside_a_round_and_their_shares_are_of_the_one_that_got_most() -> None:
    rows = [
        _row(1, 0, 8000.0, 100.0, [64]), _row(2, 0, 12000.0, 110.0, [48, 16]),
        _row(2, 1, 9000.0, 90.0, [32, 32]), _row(1, 1, 9000.0, 90.0, [64]),
    ]  # fmt: skip
    text = scaling.report("2026-01-02", "2 cores", rows, [], 2)
    assert "| 1 | 8,500 (8,000 to 9,000) | 95.0 (90.0 to 100.0) |" in text
    assert (
        "| 2 | 10,500 (9,000 to 12,000) · 1.25 (1.00 to 1.50) | 100.0 (90.0 to 110.0) · 1.05 (1.00 to 1.10) |" in text
    )
    assert "| 62% (50% to 75%) |" in text
    assert scaling.busy(rows[0]) == pytest.approx(1.2)
    assert scaling.largest_share([0, 0]) == 0.0


def test_a_counter_is_read_where_it_stands_without_labels() -> None:
    text = '# TYPE some_total counter\nsome_total{ending="answered"} 4.0\nsome_total 12.0\n'
    assert scaling.counter(text, "some_total") == 12
    with pytest.raises(OSError, match="no other_total"):
        scaling.counter(text, "other_total")


# -- the profile ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("perf") is None, reason="there is no perf")
@pytest.mark.skipif(os.geteuid() != 0, reason="a hardened process can be looked into by root only")
def test_a_profile_says_whose_code_it_was_and_what_the_kernel_was_asked(tmp_path: Path) -> None:
    options = ["--tests", "ws20", "--seconds", "0.5", "--rounds", "1", "--output", str(tmp_path / "profile.json")]
    done = _bench("--profile", *options)
    if "samples under ws20" in done.stderr:
        pytest.skip("perf may not look into processes here")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))["profiles"]
    assert found["samples"] > 0
    assert sum(found["groups"].values()) == pytest.approx(1.0)
    assert any(group.startswith("kernel: ") for group in found["groups"])
    if shutil.which("strace") is not None and "strace under ws20" not in done.stderr:
        assert 1.0 < found["calls"]["write"] < 3.0  # one each way for an echo
    assert "| the interpreter |" in done.stdout


def test_the_tables_of_a_profile_have_a_column_for_each_test() -> None:
    get = Profile(
        "product", "get", [90.0, 100.0, 110.0], {"uvloop": 0.25}, {"f": 0.5, "g": 0.25}, {"read": 2.0, "bind": 0.001}
    )
    ws20 = Profile("product", "ws20", [40.0], {"the interpreter": 1.0}, {"f": 0.125}, {"write": 1.5}, {"h (a.py)": 1.0})
    text = profile.report("2026-01-02", "2 cores", [get, ws20], ["no strace"])
    assert "| CPU µs in all | 100.0 (90.0 to 110.0) | 40.0 (40.0 to 40.0) |" in text
    assert "| uvloop | 25.0 · 25.0% | – |" in text
    assert "| the interpreter | – | 40.0 · 100.0% |" in text
    assert "| `read` | 2.00 | – |" in text
    assert "bind" not in text
    assert "| 2 | `g` 25.0% | – |" in text
    assert "| 1 | – | `h (a.py)` 100.0% |" in text
    assert text.endswith("Missing: no strace.\n")


def test_what_is_missing_is_said_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recorders, "find", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    said = "\n".join(recorders.how_to_get())
    for word in ("linux-perf", "apt-get install strace", "pip install py-spy", "no profile"):
        assert word in said


def test_a_test_without_a_window_cannot_be_profiled() -> None:
    refused = {name for name, test in TESTS.items() if not profile.can_be_profiled(test)}
    assert {re.sub("-tls$", "", name) for name in refused} == {"idle-ws", "idle-keepalive", "start"}


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "--tests", "get,start"], "nothing goes on long enough to be seen in start"),
        (["--profile", "--tests", "nothing"], "no test is called nothing"),
        (["--processes", "1,many"], "say numbers from 1 to 16"),
        (["--processes", "0"], "say numbers from 1 to 16"),
        (["--inside", "--profile"], "not allowed with argument"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_done_is_said_at_once(options: list[str], said: str) -> None:
    done = _bench(*options)
    assert done.returncode == 2
    assert said in done.stderr
