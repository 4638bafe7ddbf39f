"""`make bench`, or python -m bench: reads the command line, has everything measured, prints the table."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from bench import processes, table
from bench.measure import TESTS, TLS, Options
from bench.peers import Target, find_peers
from bench.plot import plot
from bench.product import feature_targets, product
from bench.rig import Rig
from bench.rounds import Result, measure_all, select, tell

FIRST = "nginx"
"""What ratios are to, where it is there."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition(": ")[2])
    plain = [name for name in TESTS if not name.endswith(TLS)]
    add = parser.add_argument
    add("--rounds", type=int, default=8, help="how often each target is measured in each test (default: 8)")
    add("--seconds", type=float, default=1.0, help="for how long each time (default: 1)")
    add("--tests", default=",".join(plain), help=f"which, with commas (all: {', '.join(plain)}, and NAME{TLS})")
    add("--tls", action="store_true", help=f"get{TLS} and post{TLS} as well: the upstream speaks TLS 1.3")
    add("--targets", help="which, with commas (default: direct, nginx, haproxy, envoy, naive, product)")
    add("--product", action="append", default=[], metavar="NAME=FOLDER",
        help="another build as a target: `python -m proxy` in that folder, or NAME=COMMAND")  # fmt: skip
    add("--streams", type=int, default=200, help="how many streams at once (default: 200)")
    add("--features", action="store_true", help="instead: what each feature of the product costs")
    add("--output", type=Path, metavar="FILE", help="writes everything as JSON")
    add("--plot", type=Path, metavar="FILE", help="draws it as SVG")
    return parser.parse_args()


def _targets(chosen: str | None, builds: list[str]) -> tuple[list[Target], dict[str, str]]:
    known, missing = find_peers()
    known["product"] = product()
    for build in builds:
        name, given, what = build.partition("=")
        if not given or not name or not what or name in known:
            tell(f"--product {build}: say NAME=FOLDER with a name of its own")
            sys.exit(2)
        known[name] = product(name, what)
    if chosen is None:
        return list(known.values()), missing
    names = select(chosen, [*known, *missing], "target")
    left_out = {name: why for name, why in missing.items() if name in names}
    return [known[name] for name in names if name in known], left_out


def _machine(rig: Rig) -> dict[str, Any]:
    said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.*)$", said, re.MULTILINE)
    model = re.sub(r"\s+", " ", found[1]) if found else platform.machine()
    shape = f"{os.cpu_count()} cores ({model}{', virtual' if ' hypervisor' in said else ''})"
    if rig.core == rig.load_core:
        shape += ", of which ONE could be used: proxies, upstream and load share it"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "shape": f"{shape}, load {load} at the end",
        "cores": len({rig.core, rig.load_core}),
        "kernel": platform.release(),
    }


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    names = select(arguments.tests + (f",get{TLS},post{TLS}" if arguments.tls else ""), TESTS, "test")
    tests = [TESTS[name] for name in names]
    if arguments.features:
        targets, left_out = feature_targets(), dict[str, str]()
        tests = [TESTS["get"], TESTS["get-varied"]]
    else:
        targets, left_out = _targets(arguments.targets, arguments.product)
    absent = sorted({test.needs for test in tests if test.needs and not processes.find(test.needs)})
    for program in absent:
        without = [test.name for test in tests if test.needs == program]
        left_out[", ".join(without)] = f"no {program} on this machine"
        tests = [test for test in tests if test.needs != program]
    for name, why in left_out.items():
        tell(f"left out: {name}, {why}")
    processes.allow_files()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Rig(Path(folder)) as rig:
        rig.begin()
        options = Options(arguments.seconds, arguments.streams)
        result = measure_all(rig, targets, tests, arguments.rounds, options)
        return _results(arguments, rig, targets, left_out, result)


def _results(
    arguments: argparse.Namespace, rig: Rig, targets: list[Target], left_out: dict[str, str], result: Result
) -> dict[str, Any]:
    measured = {
        target.name: target.version for target in targets if any(r["target"] == target.name for r in result.rows)
    }
    proxies = [name for name in measured if name != "direct"]
    first = FIRST if FIRST in proxies else next(iter(proxies), "")
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": _machine(rig),
        "options": {name: getattr(arguments, name) for name in ("rounds", "seconds", "streams")},
        "targets": measured,
        "first": first,
        "left_out": left_out,
        "refused": result.refused,
        "faults": result.faults,
        "interrupted": result.interrupted,
        "summary": table.summarise(result.rows, first),
        "rows": result.rows,
    }


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    """All of it. Status 1: a target was refused, or something went wrong in a round; 2: the command line."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _end)
    results = _run(arguments)
    print(table.features(results) if arguments.features else table.comparison(results))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.plot and not arguments.features:
        arguments.plot.write_text(plot(results), encoding="utf-8")
    if results["interrupted"]:
        sys.exit(128 + signal.SIGINT)
    if results["refused"] or results["faults"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
