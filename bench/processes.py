"""Processes of the benchmark: started on a core, asked what they used, ended by id. What they do is not known here."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PATIENCE = 20.0
"""Seconds for a process to accept connections, however busy the machine is."""

ENDING = 4.0
"""Seconds for a process to end by itself before it is killed."""

MOST_FILES = 65536
"""Open files that are asked for: some 2,000 connections each way, where the machine allows that."""

_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Launch:
    """How to start a process. ``output`` is where both its outputs go, ``errors`` where the second goes if apart.

    ``passed`` are descriptors that it inherits.
    """

    words: list[str]
    output: Path
    environ: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    errors: Path | None = None
    passed: tuple[int, ...] = ()


Cores = int | frozenset[int]
"""Where a process may run: on one core, or on any of some."""


class Process:
    """A process of ours with all that it starts: a process group of its own."""

    def __init__(self, launch: Launch, cores: Cores) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        self._launch = launch
        with launch.output.open("wb") as output, (launch.errors or launch.output).open("ab") as errors:
            self._process = subprocess.Popen(
                launch.words,
                env=kept | launch.environ,
                cwd=launch.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                pass_fds=launch.passed,
                preexec_fn=functools.partial(_before_it_runs, cores),  # noqa: PLW1509 - no thread here holds a lock
            )
        self.pid = self._process.pid

    def wait_for(self, port: int) -> str:
        """Until it accepts connections there: "", or what happened instead."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._process.poll() is not None:
                return f"ended with status {self._process.returncode}: {self.said()}"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return ""
        return f"does not listen after {PATIENCE:g} s: {self.said()}"

    def wait_until_said(self, text: str) -> None:
        """Until that is in what it wrote, or for as long as any patience lasts."""
        file = self._launch.errors or self._launch.output
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self.ended() and text not in file.read_text(errors="replace"):
            time.sleep(0.01)

    def said(self) -> str:
        """The end of what it wrote."""
        file = self._launch.errors or self._launch.output
        return " ".join(file.read_text(encoding="utf-8", errors="replace")[-400:].split())

    def ended(self) -> bool:
        """Has it ended by itself?"""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> int:
        """Its exit status; raises ``subprocess.TimeoutExpired`` when it goes on."""
        return self._process.wait(seconds)

    def family(self) -> list[int]:
        """Its id and those of all its descendants."""
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended meanwhile
            children.setdefault(parent, []).append(int(folder.name))
        found, waiting = [], [self.pid]
        while waiting:
            found.append(waiting.pop())
            waiting += children.get(found[-1], [])
        return found

    def memory(self) -> int:
        """Bytes of its own that are resident. PSS would need ptrace rights, which a hardened process denies."""
        total = 0
        for pid in self.family():
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            total += sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))) * 1024
        return total

    def move_to(self, cores: Cores) -> None:
        """All its threads run there from now on."""
        for pid in self.family():
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), _several(cores))

    def stop(self) -> None:
        """Ends it and what it started; the id of a group cannot be another's while its first process is not reaped."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self.pid, number)
            try:
                self._process.wait(ENDING)
            except subprocess.TimeoutExpired:
                continue
            return


def _several(cores: Cores) -> frozenset[int]:
    return frozenset({cores}) if isinstance(cores, int) else cores


def _before_it_runs(cores: Cores) -> None:
    """In the new process: bound to its cores, and ended by the kernel should the benchmark be killed."""
    os.sched_setaffinity(0, _several(cores))
    _LIBC.prctl(_END_WITH_PARENT, signal.SIGTERM, 0, 0, 0)


class Usage(NamedTuple):
    """Nanoseconds for which the scheduler let processes run, and for which it let them wait for their core."""

    ran: int
    waited: int


def usage(family: list[int]) -> Usage:
    """Of all threads of these processes, so far."""
    ran = waited = 0
    for pid in family:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            continue  # the process has ended
        for task in tasks:
            try:
                fields = (task / "schedstat").read_text(encoding="ascii").split()
            except FileNotFoundError:
                ran += _ticks(task)
            except OSError:
                continue  # the thread has ended
            else:
                ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return Usage(ran, waited)


def _ticks(task: Path) -> int:
    """Of a kernel without schedstat: exact to 10 ms, and it does not tell what has waited."""
    try:
        fields = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nothing listens on. Somebody may take it before its user does; then that one says so."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def find(program: str) -> str | None:
    """Where a program is. Servers may lie where only root's PATH looks."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def allow_files() -> int:
    """As many open files as are needed, if that many are allowed; how many there are now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def cores() -> tuple[int, int]:
    """The core of the proxies, and that of upstream and load: the same one where there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[min(1, len(allowed) - 1)]
