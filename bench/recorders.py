"""perf, strace and py-spy: each attached to a target for as long as the window of a measurement is open.

What belongs here: where they are, how they are told to begin and to end, and what they then say. What does not: what
it means (``samples.py``), and which load runs meanwhile (``profile.py``).
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bench import samples
from bench.processes import Launch, Process, find
from bench.rig import Rig, Running

PATIENCE = 10.0
"""Seconds for a recorder to begin, and to write what it has seen."""

FREQUENCY = 1999
"""Samples a second; no divisor of what timers tick in, so that nothing periodic is met each time."""

SPY_FREQUENCY = 199
"""The same for py-spy, which stops the process for each: at 500 a second ours was a third slower."""


class RecordingError(OSError):
    """A recorder could not do its work; the text says why."""


class Recorder(Protocol):
    """Begins and ends with a window."""

    def begin(self) -> None:
        """The window opens: everything from now on counts."""

    def end(self) -> None:
        """The window is closed."""


class Window:
    """What a meter calls twice: where a window begins, and where it ends."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open = False

    def __call__(self) -> None:
        """Begins, or ends."""
        self._open = not self._open
        if self._open:
            self._recorder.begin()
        else:
            self._recorder.end()


def find_py_spy() -> str | None:
    """On the PATH, or beside the interpreter that runs this."""
    beside = Path(sys.executable).parent / "py-spy"
    return find("py-spy") or (str(beside) if beside.is_file() else None)


def how_to_get() -> list[str]:
    """What is missing here, and where it comes from."""
    said = []
    if find("perf") is None:
        instead = "py-spy --native is used instead, which does not see the kernel" if find_py_spy() else "no profile"
        said.append(f"no perf: {instead} (Debian: `apt-get install linux-perf`)")
    if find("strace") is None:
        said.append("no strace: system calls are not counted (Debian: `apt-get install strace`)")
    if find_py_spy() is None:
        said.append("no py-spy: no table of Python functions (`pip install py-spy` into an environment on the PATH)")
    return said


class Perf:
    """Where the processor is, with the kernel's part. Attached before the window and switched on and off with it."""

    def __init__(self, rig: Rig, running: Running) -> None:
        self._file = rig.folder / "perf.data"
        self._log = rig.folder / "perf.log"
        self._told, self._tell = os.pipe()
        self._answers, self._answer = os.pipe()
        pids = ",".join(map(str, running.family()))
        # cpu-clock: a virtual machine has no counter of its own. Call chains, for what the kernel was called with.
        words = [find("perf") or "perf", "record", "-e", "cpu-clock", "-F", str(FREQUENCY), "-g", "-N", "-p", pids]
        words += ["-o", str(self._file), "-D", "-1", f"--control=fd:{self._told},{self._answer}"]
        launch = Launch(words, self._log, passed=(self._told, self._answer))
        self._process = Process(launch, rig.load)

    def begin(self) -> None:
        """Events are counted from now on."""
        self._say(b"enable\n")

    def end(self) -> None:
        """And no longer."""
        self._say(b"disable\n")

    def _say(self, word: bytes) -> None:
        os.write(self._tell, word)
        if not select.select([self._answers], [], [], PATIENCE)[0]:
            raise RecordingError(f"perf does not answer: {self._process.said()}")
        os.read(self._answers, 100)

    def close(self) -> None:
        """Ends it."""
        self._process.stop()
        for descriptor in (self._told, self._tell, self._answers, self._answer):
            os.close(descriptor)

    def samples(self) -> list[samples.Sample]:
        """What it saw; after ``close()``."""
        words = [find("perf") or "perf", "script", "--no-inline", "-i", str(self._file), "-F", "ip,sym,dso"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, errors="replace")
        found = list(samples.read_perf(done.stdout))
        if not found:
            raise RecordingError(f"perf saw nothing: {done.stderr.strip()[-300:]} {self._process.said()}")
        return found


class Spy:
    """Python's functions, or with ``native`` those of C as well. It says nothing about the kernel."""

    def __init__(self, rig: Rig, running: Running, seconds: float, *, native: bool = False) -> None:
        assert running.process is not None
        self._rig = rig
        self._file = rig.folder / "py-spy.raw"
        self._file.unlink(missing_ok=True)
        self._seconds = max(1, round(seconds))
        words = [find_py_spy() or "py-spy", "record", "--pid", str(running.process.pid), "--rate", str(SPY_FREQUENCY)]
        words += ["--duration", str(self._seconds), "--format", "raw", "-o", str(self._file)]
        self._launch = Launch(words + (["--native"] if native else []), rig.folder / "py-spy.log")
        self._process: Process | None = None

    def begin(self) -> None:
        """It starts, and ends by itself: it has no way of being told."""
        self._process = Process(self._launch, self._rig.load)

    def end(self) -> None:
        """What it sees after the window is the same load going on, or nothing."""

    def close(self) -> None:
        """Lets it write what it saw, and ends it if it does not."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._seconds + PATIENCE)
            self._process.stop()

    def said(self) -> str:
        """Its output, after ``close()``."""
        if not self._file.is_file():
            why = "it was never started" if self._process is None else self._process.said()
            raise RecordingError(f"py-spy saw nothing: {why}")
        return self._file.read_text(encoding="utf-8")


class Strace:
    """Every system call is counted. It stops the process twice for each, so nothing else that is measured counts."""

    def __init__(self, rig: Rig, running: Running) -> None:
        self._rig = rig
        self._file, self._log = rig.folder / "strace.counts", rig.folder / "strace.log"
        attached = [word for pid in running.family() for word in ("-p", str(pid))]
        words = [find("strace") or "strace", "-c", "-f", *attached, "-o", str(self._file)]
        self._launch = Launch(words, self._log)
        self._process: Process | None = None

    def begin(self) -> None:
        """Waits until it is attached."""
        self._process = Process(self._launch, self._rig.load)
        until = time.monotonic() + PATIENCE
        while "attached" not in (said := self._process.said()):
            if self._process.ended() or time.monotonic() > until:
                raise RecordingError(f"strace cannot attach: {said}")
            time.sleep(0.005)

    def end(self) -> None:
        """It lets go of the process, and writes its counts."""
        if self._process is not None:
            self._process.stop()

    close = end

    def counts(self) -> dict[str, int]:
        """How often each call was made."""
        return samples.read_strace(self._file.read_text(encoding="utf-8"))


@contextlib.contextmanager
def recorded(recorder: Perf | Spy | Strace) -> Iterator[Window]:
    """The recorder's window; the recorder is closed with the block."""
    try:
        yield Window(recorder)
    finally:
        recorder.close()
