"""The table of `--inside`: what each feature adds to a request. `inside.py` measures, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import build
from bench.processes import Launch, Process, cores
from bench.product import ALL_ON
from bench.rounds import tell
from bench.table import rows, span, wrapped

PATIENCE = 5.0
"""Seconds for a round, of which it takes about one."""

STARTS = 60.0
"""Seconds for the process to start and to end."""

WORDS = {
    "decision": "who calls and what that one may do; of a repeated head, that it is the same",
    "record": "what is known about a request, written down for the next two",
    "ids": "the request's id and its place in a trace, made and told to both sides",
    "metrics": "counters and histograms",
    "log": "one JSON line, and the thread that writes it to a file",
    "inspector": "the last requests, kept with their heads to be looked at",
    "limits": "a rate that is never reached",
}
"""By the names that ``inside.py`` has for them."""

Inside = dict[str, dict[str, dict[str, list[float]]]]
"""``whole`` and ``pieces``, each by what was timed and by kind of head: microseconds, one for each round."""


def measure_inside(rounds: int) -> Inside:
    """Starts the process on one core, waits for it, and reads what it found. Raises ``OSError``."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file, errors = Path(folder) / "inside.json", Path(folder) / "errors"
        words = [sys.executable, "-m", "bench.inside", str(file), str(rounds)]
        # Its standard output is the request log, and a file as it would be in earnest.
        process = Process(Launch(words, Path(folder) / "log", {}, build.folder(), errors), cores()[0])
        tell(f"{rounds} rounds inside one process, about a second each")
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STARTS + rounds * PATIENCE)
        finally:
            process.stop()
        if not file.exists():
            raise OSError(f"the process that measures ended without figures: {process.said()}")
        found: Inside = json.loads(file.read_text(encoding="utf-8"))
        return found


def sums(pieces: dict[str, dict[str, list[float]]], kind: str) -> list[float]:
    """All features together, in each round."""
    return [sum(values) for values in zip(*(pieces[name][kind] for name in pieces), strict=True)]


def taken_out(whole: dict[str, dict[str, list[float]]], name: str, kind: str) -> list[float]:
    """What whole exchanges differ by, in each round: limits are put in, the others are taken out."""
    sign = 1 if name == "limits" else -1
    return [sign * (other - base) for other, base in zip(whole[name][kind], whole[ALL_ON][kind], strict=True)]


def report(date: str, machine: str, rounds: int, found: Inside) -> str:
    """The table in Markdown."""
    whole, pieces = found["whole"], found["pieces"]
    kinds = list(whole[ALL_ON])
    table = rows(["CPU µs/request", "what is done for it", *(f"head {kind}" for kind in kinds)], head=True)
    for name, each in pieces.items():
        table += rows([f"`{name}`", WORDS[name], *(span(each[kind], "{:.2f}") for kind in kinds)])
    table += rows(["**together**", "the rows above", *(span(sums(pieces, kind), "{:.2f}") for kind in kinds)])
    table += rows(["whole exchange", "all but limits, without a kernel", *(_whole(whole, kind) for kind in kinds)])
    for name in whole:
        if name != ALL_ON:
            how = "with it" if name == "limits" else "without it"
            cells = (span(taken_out(whole, name, kind), "{:+.1f}") for kind in kinds)
            table += rows([f"check: `{name}`", f"what an exchange differs by {how}", *cells])
    note = (
        "Medians over the rounds, in brackets the lowest and the highest. Each feature's own calls are timed in a "
        "loop, warm; the checks are differences of whole exchanges, and have the noise of two of them."
    )
    return (
        "\n\n".join([f"{date}, {machine}; {rounds} rounds inside one process.", "\n".join(table), wrapped(note)]) + "\n"
    )


def _whole(whole: dict[str, dict[str, list[float]]], kind: str) -> str:
    return span(whole[ALL_ON][kind], "{:.1f}")
