"""Where a target's time goes under the load of a test: `python -m bench --profile`. Tables, and no judgement.

Three runs of the same load, because each recorder would disturb the others: perf for whose code the processor is in,
strace for how often the kernel is asked, py-spy for which Python function it is for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bench import build, samples
from bench.measure import TLS, Figures, Options, Test
from bench.peers import Target
from bench.processes import find
from bench.recorders import Perf, Spy, Strace, find_py_spy, how_to_get, recorded
from bench.rig import Rig, Running
from bench.rounds import tell
from bench.samples import Sample
from bench.table import rows, span

SYMBOLS, FUNCTIONS = 15, 15
"""How many of each are shown."""

LEAST = 0.03
"""Calls for each operation that are shown: less often is what happens once, when connections are opened."""

COUNTED_STREAMS = 50
"""Streams while calls are counted: more would be more than it can serve while each call stops it, and come together."""

NOT_PYTHON = frozenset({"nginx", "haproxy", "envoy"})
"""Targets in which py-spy finds nothing."""


@dataclass
class Profile:
    """Of one target under one test. ``cpu`` is of each round; shares are of the whole, ``calls`` for each operation."""

    target: str
    test: str
    cpu: list[float] = field(default_factory=list)
    groups: dict[str, float] = field(default_factory=dict)
    symbols: dict[str, float] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)
    functions: dict[str, float] = field(default_factory=dict)
    samples: int = 0


def can_be_profiled(test: Test) -> bool:
    """Has it a window in which a process that goes on works?"""
    return any(metric.name == "cpu" for metric in test.metrics)


def profile_all(
    rig: Rig, targets: Sequence[Target], tests: Sequence[Test], rounds: int, options: Options
) -> tuple[list[Profile], list[str]]:
    """Each target under each test, in turn; and what went wrong."""
    faults = how_to_get()
    standing = _start(rig, targets, tests, faults)
    found = [(Profile(running.target.name, test.name), running, test) for running, test in standing]
    seen: dict[int, list[Sample]] = {at: [] for at in range(len(found))}
    sample = _sample if find("perf") else _sample_natively
    for number in range(rounds):
        for at, (profile, running, test) in enumerate(found):
            if find("perf") or find_py_spy():
                with _faults_of("samples", test, faults):
                    cpu, more = sample(rig, running, test, options)
                    profile.cpu.append(cpu)
                    seen[at] += more
        tell(f"round {number + 1} of {rounds} is done")
    for at, (profile, running, test) in enumerate(found):
        _attribute(profile, seen[at])
        if find("strace"):
            with _faults_of("strace", test, faults):
                profile.calls = _count(rig, running, test, options)
        if find_py_spy() and running.target.name not in NOT_PYTHON:
            with _faults_of("py-spy", test, faults):
                profile.functions = _spy(rig, running, test, options, rounds)
        tell(f"{profile.target} under {profile.test} is done")
    return [profile for profile, _, _ in found], list(dict.fromkeys(faults))


def _start(rig: Rig, targets: Sequence[Target], tests: Sequence[Test], faults: list[str]) -> list[tuple[Running, Test]]:
    standing = []
    for target in targets:
        started: dict[bool, Running] = {}
        for tls in sorted({test.name.endswith(TLS) for test in tests}):
            running, refused = rig.start(target, tls=tls)
            if refused:
                faults.append(f"{target.name} is refused: {'; '.join(refused)}")
            else:
                started[tls] = running
        standing += [(started[test.name.endswith(TLS)], test) for test in tests if test.name.endswith(TLS) in started]
    return standing


@contextlib.contextmanager
def _faults_of(name: str, test: Test, faults: list[str]) -> Iterator[None]:
    """What goes wrong in it is kept, and what else can be seen is seen."""
    try:
        yield
    except (OSError, TimeoutError, subprocess.TimeoutExpired) as exc:
        faults.append(f"{name} under {test.name}: {exc}")
        tell(faults[-1])


def _run(rig: Rig, running: Running, test: Test, options: Options, recorder: Perf | Spy | Strace) -> Figures:
    with recorded(recorder) as window:
        return test.run(rig, dataclasses.replace(running, watch=window), options)


def _sample(rig: Rig, running: Running, test: Test, options: Options) -> tuple[float, list[Sample]]:
    perf = Perf(rig, running)
    return _run(rig, running, test, options, perf).get("cpu", 0.0), perf.samples()


def _sample_natively(rig: Rig, running: Running, test: Test, options: Options) -> tuple[float, list[Sample]]:
    spy = Spy(rig, running, options.seconds, native=True)
    cpu = _run(rig, running, test, options, spy).get("cpu", 0.0)
    return cpu, [sample for sample, count in samples.read_py_spy(spy.said()) for _ in range(count)]


def _attribute(found: Profile, seen: list[Sample]) -> None:
    found.groups = samples.by_group(seen, str(build.libraries()))
    found.symbols = samples.by_symbol(seen, SYMBOLS)
    found.samples = len(seen)


def _count(rig: Rig, running: Running, test: Test, options: Options) -> dict[str, float]:
    fewer = Options(options.seconds, min(options.streams, COUNTED_STREAMS))
    strace = Strace(rig, running)
    operations = _run(rig, running, test, fewer, strace).get("operations", 0)
    return {name: count / operations for name, count in strace.counts().items()} if operations else {}


def _spy(rig: Rig, running: Running, test: Test, options: Options, rounds: int) -> dict[str, float]:
    as_long = Options(options.seconds * rounds, options.streams)
    spy = Spy(rig, running, as_long.seconds)
    _run(rig, running, test, as_long, spy)
    return samples.by_function(spy.said(), FUNCTIONS)


# -- the tables -------------------------------------------------------------------------------------------------------


def report(date: str, machine: str, found: Sequence[Profile], faults: Sequence[str]) -> str:
    """All of it in Markdown, a column for each test, ready for a README."""
    parts = [f"{date}, {machine}."]
    for target in dict.fromkeys(profile.target for profile in found):
        mine = [profile for profile in found if profile.target == target]
        names = [f"`{profile.test}`" for profile in mine]
        if len({profile.target for profile in found}) > 1:
            parts.append(f"**{target}**")
        parts += [
            "Whose code (CPU µs for each operation, and its share of the samples; the first row: over the rounds):",
            _groups(mine, names),
            "System calls for each operation:",
            _calls(mine, names),
            "Symbols with the most samples:",
            _ranking([profile.symbols for profile in mine], names),
        ]
        if any(profile.functions for profile in mine):
            parts += ["Python functions by their own time:", _ranking([each.functions for each in mine], names)]
    parts += [f"Missing: {fault}." for fault in faults]
    return "\n\n".join(part for part in parts if part) + "\n"


def _groups(profiles: Sequence[Profile], names: Sequence[str]) -> str:
    table = rows([" ", *names], head=True)
    table += rows(["CPU µs in all", *(span(profile.cpu, "{:.1f}") for profile in profiles)])
    cpu = [statistics.median(profile.cpu) if profile.cpu else 0.0 for profile in profiles]
    for group in samples.GROUPS:
        shares = [profile.groups.get(group, 0.0) for profile in profiles]
        if any(share >= 0.0005 for share in shares):
            cells = [
                f"{used * share:.1f} · {share:.1%}" if share else "–" for used, share in zip(cpu, shares, strict=True)
            ]
            table += rows([group, *cells])
    table += rows(["samples", *(f"{profile.samples:,}" for profile in profiles)])
    return "\n".join(table)


def _calls(profiles: Sequence[Profile], names: Sequence[str]) -> str:
    most = {
        call: max(profile.calls.get(call, 0.0) for profile in profiles)
        for call in _each(profile.calls for profile in profiles)
    }
    table = rows([" ", *names], head=True)
    for call in sorted((call for call in most if most[call] >= LEAST), key=lambda call: -most[call]):
        table += rows([f"`{call}`", *(_per_operation(profile.calls.get(call, 0.0)) for profile in profiles)])
    table += rows(["all of them", *(_per_operation(sum(profile.calls.values())) for profile in profiles)])
    return "\n".join(table)


def _per_operation(count: float) -> str:
    return f"{count:.2f}" if count >= LEAST else "–"


def _ranking(shares: Sequence[dict[str, float]], names: Sequence[str]) -> str:
    table = rows([" ", *names], head=True)
    for number in range(max(map(len, shares), default=0)):
        cells = []
        for each in shares:
            name, share = list(each.items())[number] if number < len(each) else ("", 0.0)
            cells.append(f"`{name}` {share:.1%}" if name else "–")
        table += rows([str(number + 1), *cells])
    return "\n".join(table)


def _each(several: Iterable[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for one in several for name in one))
