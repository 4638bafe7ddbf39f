"""`make bench`, or python -m bench: reads the command line, has everything measured, prints the table."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from bench import build, contract, machine, modes, processes, table
from bench.measure import TESTS, TLS, Options, Test
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
    add("--rounds", type=int, help="how often each target is measured in each test "
        f"(default: {modes.ROUNDS}; {modes.PROFILED_ROUNDS} for --profile)")  # fmt: skip
    add("--seconds", type=float, help=f"for how long each time (default: 1; {modes.PROFILED_FOR:g} for --profile)")
    add("--tests", help=f"which, with commas (all: {', '.join(plain)}, and NAME{TLS})")
    add("--tls", action="store_true", help=f"get{TLS} and post{TLS} as well: the upstream speaks TLS 1.3")
    add("--targets", help="which, with commas (default: direct, nginx, haproxy, envoy, naive, product, pure)")
    add("--product", action="append", default=[], metavar="NAME=FOLDER",
        help="another build as a target: `python -m proxy` in that folder, or NAME=COMMAND")  # fmt: skip
    add("--pure", action="store_true", help="our proxy as it stands: nothing is compiled")
    add("--streams", type=int, default=200, help="how many streams at once (default: 200)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--features", action="store_true", help="instead: the product without one feature at a time")
    instead.add_argument("--inside", action="store_true", help="instead: what each feature adds, without a kernel")
    instead.add_argument("--processes", metavar="N,N", help="instead: so many processes on one inherited socket")
    instead.add_argument("--profile", action="store_true", help="instead: where the time goes, and system calls")
    add("--output", type=Path, metavar="FILE", help="writes everything as JSON")
    add("--plot", type=Path, metavar="FILE", help="draws it as SVG")
    chosen = parser.parse_args()
    if why := build.choose(pure=chosen.pure):
        tell(f"our proxy is not compiled: {why}")
    if chosen.tests is None:
        chosen.tests = modes.PROFILED if chosen.profile else ",".join(plain)
    return chosen


def _targets(chosen: str | None, builds: list[str]) -> tuple[list[Target], dict[str, str]]:
    known, missing = find_peers()
    known["product"] = product()
    if build.compiled():
        known["pure"] = product("pure", str(contract.ROOT))
    for other in builds:
        name, given, what = other.partition("=")
        if not given or not name or not what or name in known:
            tell(f"--product {other}: say NAME=FOLDER with a name of its own")
            sys.exit(2)
        known[name] = product(name, what)
    if chosen is None:
        return list(known.values()), missing
    names = select(chosen, [*known, *missing], "target")
    left_out = {name: why for name, why in missing.items() if name in names}
    return [known[name] for name in names if name in known], left_out


def _machine(rig: Rig) -> dict[str, Any]:
    return {
        "shape": machine.shape(one_core=rig.core == rig.load_core),
        "cores": len({rig.core, rig.load_core}),
        "kernel": platform.release(),
    }


def _tests(arguments: argparse.Namespace) -> list[Test]:
    names = select(arguments.tests + (f",get{TLS},post{TLS}" if arguments.tls else ""), TESTS, "test")
    return [TESTS[name] for name in names]


def _instead(arguments: argparse.Namespace) -> modes.Done | None:
    """The mode that was chosen, done; None: the comparison, or the features beside each other."""
    if arguments.profile:
        ours = ["product", *(other.partition("=")[0] for other in arguments.product)]
        targets, left_out = _targets(arguments.targets or ",".join(ours), arguments.product)
        for name, why in left_out.items():
            tell(f"left out: {name}, {why}")
        return modes.run_profile(arguments, [target for target in targets if target.launch], _tests(arguments))
    if arguments.processes:
        return modes.run_processes(arguments)
    return modes.run_inside(arguments) if arguments.inside else None


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    tests = _tests(arguments)
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
    arguments.rounds = modes.ROUNDS if arguments.rounds is None else arguments.rounds
    arguments.seconds = 1.0 if arguments.seconds is None else arguments.seconds
    with modes.standing() as rig:
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
        "date": modes.today(),
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


def _write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    """All of it. Status 1: a target was refused, or something went wrong in a round; 2: the command line."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _end)
    try:
        instead = _instead(arguments)
    except OSError as exc:  # what is measured does not start, or ends
        tell(f"nothing was measured: {exc}")
        sys.exit(1)
    if instead is not None:
        text, data, well = instead
        print(text)
        if arguments.output:
            _write(arguments.output, data)
        sys.exit(0 if well else 1)
    results = _run(arguments)
    print(table.features(results) if arguments.features else table.comparison(results))
    if arguments.output:
        _write(arguments.output, results)
    if arguments.plot and not arguments.features:
        arguments.plot.write_text(plot(results), encoding="utf-8")
    if results["interrupted"]:
        sys.exit(128 + signal.SIGINT)
    if results["refused"] or results["faults"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
