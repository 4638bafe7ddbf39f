"""Several processes of ours on one inherited socket: `python -m bench --processes 1,2`.

Each is started with `serve --fd`, as systemd or any other parent would do it. They, the upstream and the load may run
on every core there is. What comes of it is no scaling: where the cores are two, the load side has its share of both.
"""

from __future__ import annotations

import dataclasses
import re
import resource
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import processes
from bench.measure import Figures, Options, wrk
from bench.peers import Place, Target
from bench.processes import Process
from bench.product import Configuration, product
from bench.rig import Rig, Running
from bench.rounds import tell
from bench.table import rows, span, wrapped
from bench.verify import verify

BACKLOG = 4096
"""As ours asks for when it opens a socket itself."""

LOADS = {
    "get": (wrk("get"), "64 connections that stay open"),
    "connect": (wrk("get", "Connection: close"), "a connection for each request"),
}

MOST = 16
"""Processes in a group: each is an interpreter with some 60 MB."""

_ADMIN = re.compile(r"^metrics: (http://\S+)/metrics$", re.MULTILINE)
_COUNTERS = {
    "connections": "inworld_proxy_caller_connections_opened_total",
    "requests": "inworld_proxy_requests_accepted_total",
}

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Processes that share a socket, and where each says what it has counted."""

    running: Running
    admins: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.admins)


def without_address(written: Configuration) -> None:
    """The socket is inherited, and says where it is."""
    del written["listen"]


def measure_scaling(rig: Rig, counts: Sequence[int], rounds: int, options: Options) -> tuple[list[Row], list[str]]:
    """A group of each size, in turn, round by round; and what is wrong with those that are not measured."""
    target = product(change=without_address)
    cores = frozenset({rig.core, rig.load_core})
    found: list[Row] = []
    faults: list[str] = []
    with rig.on_cores(cores):
        groups = []
        for count in counts:
            group = _start(rig, target, count, cores)
            wrong = verify(group.running.place.port, group.running.authorization, direct=False)
            faults += [f"{count} processes: {fault}" for fault in wrong]
            if not wrong:
                groups.append(group)
        for number in range(rounds):
            for load in LOADS:
                for group in groups if number % 2 == 0 else reversed(groups):
                    try:
                        found.append({"load": load, "round": number} | _measure(rig, group, load, options))
                    except (OSError, subprocess.TimeoutExpired) as exc:
                        faults.append(f"{group.size} processes, {load}: {exc}")
            tell(f"round {number + 1} of {rounds} is done")
    return found, faults


def _start(rig: Rig, target: Target, count: int, cores: frozenset[int]) -> Group:
    place = rig.place(target, tls=False)
    started, admins = [], []
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", place.port))
        sock.listen(BACKLOG)
        for number in range(count):
            own = dataclasses.replace(place, name=f"{place.name}-{number + 1}-of-{count}")
            assert target.launch is not None
            launch = target.launch(own)
            words = [*launch.words, "--fd", str(sock.fileno())]
            process = Process(dataclasses.replace(launch, words=words, passed=(sock.fileno(),)), cores)
            rig.callback(process.stop)
            started.append(process)
            admins.append(_await_admin(process, own))
    return Group(Running(target, place, started[0], tuple(started[1:])), tuple(admins))


def _await_admin(process: Process, place: Place) -> str:
    """Where its metrics are. The socket accepts from the beginning, so only this tells that the process does."""
    end = time.monotonic() + processes.PATIENCE
    while time.monotonic() < end and not process.ended():
        found = _ADMIN.search(_read(place.file(".errors")))
        if found is not None:
            return found[1]
        time.sleep(0.01)
    raise OSError(f"one of several processes serves nothing: {process.said()}")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _measure(rig: Rig, group: Group, load: str, options: Options) -> Row:
    assert rig.upstream is not None
    before, others = _counted(group), _used_beside(rig.upstream)
    figures: Figures = LOADS[load][0](rig, group.running, options)
    beside = (_used_beside(rig.upstream) - others) / figures["operations"] if figures.get("operations") else 0.0
    after = _counted(group)
    spread = {name: [late - early for early, late in zip(before[name], after[name], strict=True)] for name in before}
    return {"processes": group.size, "beside": beside, "figures": figures, **spread}


def _used_beside(upstream: Process) -> float:
    """Microseconds of CPU that the upstream has used, and every wrk that has ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return processes.usage(upstream.family()).ran / 1e3 + (ended.ru_utime + ended.ru_stime) * 1e6


def _counted(group: Group) -> dict[str, list[int]]:
    texts = []
    for admin in group.admins:
        with urllib.request.urlopen(f"{admin}/metrics", timeout=processes.PATIENCE) as answer:  # noqa: S310 - loopback
            texts.append(answer.read().decode())
    return {name: [counter(text, metric) for text in texts] for name, metric in _COUNTERS.items()}


def counter(text: str, name: str) -> int:
    """Of a counter without labels, in the text that Prometheus scrapes."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise OSError(f"no {name} at the admin address")
    return round(float(found[1]))


# -- the table --------------------------------------------------------------------------------------------------------

NOT_SHOWN = (
    "What cores that are shared cannot show: how requests/s grow with processes. Load and upstream take the rest of "
    "the same cores, so once these are busy another process can only take from them; that would need a core for each "
    "process and others for the load. What can be seen: whether a request becomes dearer when processes share a "
    "socket, and how evenly the kernel deals connections out."
)


def report(date: str, machine: str, found: Sequence[Row], faults: Sequence[str], cores: int) -> str:
    """The table in Markdown, with what it does not say."""
    head = ["load", "processes", "requests/s", "CPU µs/request", "beside it", "cores busy", "connections", "requests"]
    table = rows(head, head=True)
    for load, (_, words) in LOADS.items():
        for count in dict.fromkeys(row["processes"] for row in found):
            mine = [row for row in found if (row["load"], row["processes"]) == (load, count)]
            if mine:
                table += rows([f"`{load}`: {words}", str(count), *_cells(mine, found)])
    reading = (
        "Medians over the rounds, in brackets the lowest and the highest; after the dot the ratio to the first row of "
        "the same load inside a round. *Beside it* is what upstream and load used for each request. *Cores busy*: all "
        f"of them together, of {cores}. *Connections* and *requests*: the share of the process that got most."
    )
    notes = [reading, NOT_SHOWN, *(f"Fault: {fault}." for fault in faults)]
    errors = sum(row["figures"]["errors"] for row in found)
    notes.append(f"Errors: {errors:.0f}." if errors else "No errors.")
    return "\n\n".join([f"{date}, {machine}.", "\n".join(table), *map(wrapped, notes)]) + "\n"


def _cells(mine: Sequence[Row], found: Sequence[Row]) -> list[str]:
    first = {
        row["round"]: row["figures"]
        for row in reversed(found)
        if row["load"] == mine[0]["load"] and row["processes"] == found[0]["processes"]
    }
    cells = []
    for metric, form in (("rate", "{:,.0f}"), ("cpu", "{:.1f}")):
        text = span([row["figures"][metric] for row in mine if metric in row["figures"]], form)
        ratios = [
            row["figures"][metric] / first[row["round"]][metric]
            for row in mine
            if metric in row["figures"] and first.get(row["round"], {}).get(metric)
        ]
        if mine[0]["processes"] != found[0]["processes"] and ratios:
            text += f" · {span(ratios, '{:.2f}')}"
        cells.append(text)
    cells.append(span([row["beside"] for row in mine], "{:.1f}"))
    cells.append(span([busy(row) for row in mine], "{:.2f}"))
    cells += [span([largest_share(row[name]) for row in mine], "{:.0%}") for name in _COUNTERS]
    return cells


def busy(row: Row) -> float:
    """Cores that worked for these requests: the proxies', the upstream's and the load's time in a second."""
    figures = row["figures"]
    return float(figures.get("rate", 0.0) * (figures.get("cpu", 0.0) + row["beside"]) / 1e6)


def largest_share(counts: Sequence[int]) -> float:
    """Of the process that got most; 1 divided by their number is even."""
    return max(counts) / sum(counts) if sum(counts) else 0.0


def read_counts(text: str) -> list[int]:
    """The numbers of processes on the command line. Raises ``ValueError``."""
    counts = [int(part) for part in text.split(",")]
    if not counts or min(counts) < 1 or max(counts) > MOST:
        raise ValueError(text)
    return list(dict.fromkeys(counts))
