"""The order of a run: who stands, who is refused, who is measured when. Figures come from measure.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.measure import IMPORT, TLS, Figures, Options, Test, time_import
from bench.peers import Target
from bench.rig import Rig, Running

Row = dict[str, Any]
"""One test of one target in one round: `test`, `round`, `target`, and the figures."""


@dataclass
class Result:
    """What a run has found so far. ``refused`` and ``faults`` are sentences."""

    rows: list[Row] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    interrupted: bool = False


def tell(text: str) -> None:
    """Progress goes to standard error: the table is the output."""
    print(text, file=sys.stderr, flush=True)


def measure_all(rig: Rig, targets: Sequence[Target], tests: Sequence[Test], count: int, options: Options) -> Result:
    """Starts and verifies all of them, then measures round by round. Ctrl-C ends it early, with what there is."""
    result = Result()
    try:
        standing = _start(rig, targets, tests, result)
        for number in range(count):
            for test in tests:
                if number < test.most_rounds:
                    _round(rig, standing[test.name.endswith(TLS)], test, number, options, result)
            tell(f"round {number + 1} of {count} is done")
    except KeyboardInterrupt:
        result.interrupted = True
        tell("interrupted: what follows is from the rounds so far")
    return result


def _start(rig: Rig, targets: Sequence[Target], tests: Sequence[Test], result: Result) -> dict[bool, list[Running]]:
    standing: dict[bool, list[Running]] = {False: [], True: []}
    for tls in sorted({test.name.endswith(TLS) for test in tests}):
        for target in targets:
            if tls and target.launch is None:
                continue  # nothing to compare: a caller of ours would not speak TLS
            running, faults = rig.start(target, tls=tls)
            name = f"{target.name} (TLS)" if tls else target.name
            if faults:
                result.refused[name] = faults
                tell(f"{name} is REFUSED: {'; '.join(faults)}")
            else:
                standing[tls].append(running)
                tell(f"{name} does the whole job ({target.version})")
    return standing


def _round(rig: Rig, standing: list[Running], test: Test, number: int, options: Options, result: Result) -> None:
    measured = {}
    in_turn = standing if number % 2 == 0 else list(reversed(standing))
    for running in in_turn:
        if test.direct or running.target.launch is not None:
            measured[running.target.name] = _measure(rig, running, test, options, result)
    if test.name == "start":
        measured[IMPORT] = time_import(rig)
    _add_added(measured)
    result.rows += [{"test": test.name, "round": number, "target": name, **row} for name, row in measured.items()]


def _measure(rig: Rig, running: Running, test: Test, options: Options, result: Result) -> Figures:
    try:
        return test.run(rig, running, options)
    except (OSError, TimeoutError, subprocess.TimeoutExpired) as exc:
        ended = running.process is not None and running.process.ended()
        why = f"{running.target.name} in {test.name}: {'has ended' if ended else ''} {type(exc).__name__}: {exc}"
        result.faults.append(why)
        tell(why)
        return {"errors": 1}


def _add_added(measured: dict[str, Figures]) -> None:
    """What a proxy adds to the median without one, of the same round."""
    direct = measured.get("direct", {}).get("p50")
    if direct is not None:
        for name, figures in measured.items():
            if name != "direct" and "p50" in figures:
                figures["added"] = figures["p50"] - direct


def select(names: str, known: Iterable[str], what: str) -> list[str]:
    """The names of a list with commas; exits with a sentence when one is not known."""
    chosen = [name for name in names.split(",") if name]
    unknown = [name for name in chosen if name not in set(known)]
    if unknown:
        tell(f"no {what} is called {', '.join(unknown)}; there are {', '.join(known)}")
        sys.exit(2)
    return list(dict.fromkeys(chosen))
