"""What `python -m bench` does instead of the comparison: a profile, several processes, the features from inside.

Each mode returns its text, what goes into a file as JSON, and whether all went well.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import features, machine, processes, profile, scaling
from bench.measure import Options, Test
from bench.peers import Target
from bench.processes import find
from bench.rig import Rig
from bench.rounds import tell

PROFILED = "get,post,get-tls,stream,ws20"
"""The tests that a profile is made of, if none are named: each has another part of the product in it."""

PROFILED_ROUNDS, PROFILED_FOR = 5, 2.0
"""Rounds, and seconds of each: 20,000 samples, so that 1 % is known to a tenth of itself."""

ROUNDS = 8
"""Of everything else."""

Done = tuple[str, dict[str, Any], bool]


def today() -> str:
    """The date above every table."""
    return dt.datetime.now(dt.UTC).date().isoformat()


@contextlib.contextmanager
def standing() -> Iterator[Rig]:
    """The rig, ready."""
    processes.allow_files()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Rig(Path(folder)) as rig:
        rig.begin()
        yield rig


def run_profile(arguments: argparse.Namespace, targets: Sequence[Target], tests: Sequence[Test]) -> Done:
    """`--profile`: where the time of each target goes under each test."""
    wrong = [test.name for test in tests if not profile.can_be_profiled(test)]
    if wrong:
        tell(f"--profile: nothing goes on long enough to be seen in {', '.join(wrong)}")
        sys.exit(2)
    here = [test for test in tests if not test.needs or find(test.needs)]
    with standing() as rig:
        options = Options(PROFILED_FOR if arguments.seconds is None else arguments.seconds, arguments.streams)
        rounds = PROFILED_ROUNDS if arguments.rounds is None else arguments.rounds
        found, faults = profile.profile_all(rig, targets, here, rounds, options)
    faults += [f"{test.name}: no {test.needs} on this machine" for test in tests if test not in here]
    shape = machine.shape(one_core=rig.core == rig.load_core)
    text = profile.report(today(), shape, found, faults)
    return text, {"profiles": [dataclasses.asdict(each) for each in found], "faults": faults}, bool(found)


def run_processes(arguments: argparse.Namespace) -> Done:
    """`--processes 1,2`: groups of processes on one socket each."""
    try:
        counts = scaling.read_counts(arguments.processes)
    except ValueError:
        tell(f"--processes {arguments.processes}: say numbers from 1 to {scaling.MOST} with commas, 1,2 for example")
        sys.exit(2)
    if find("wrk") is None:
        tell("--processes needs wrk for its load (Debian: apt-get install wrk)")
        sys.exit(1)
    with standing() as rig:
        cores = len({rig.core, rig.load_core})
        options = Options(1.0 if arguments.seconds is None else arguments.seconds, arguments.streams)
        found, faults = scaling.measure_scaling(rig, counts, arguments.rounds or ROUNDS, options)
    text = scaling.report(today(), machine.shape(one_core=cores == 1), found, faults, cores)
    errors = sum(row["figures"]["errors"] for row in found)
    return text, {"rows": found, "faults": faults}, not faults and not errors


def run_inside(arguments: argparse.Namespace) -> Done:
    """`--inside`: what each feature adds to a request."""
    rounds = arguments.rounds or ROUNDS
    found = features.measure_inside(rounds)
    return features.report(today(), machine.shape(), rounds, found), dict(found), True
