"""What stands while a run lasts: the upstream, every target on a port of its own, the two cores. No figures here."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import contract, processes
from bench.certificates import make_certificates
from bench.peers import Place, Target
from bench.processes import Cores, Launch, Process
from bench.verify import verify


@dataclass(frozen=True)
class Running:
    """A target that listens. ``others`` are its further processes on the same socket.

    ``watch`` is called where the window of a measurement begins and where it ends, by those who record a profile.
    """

    target: Target
    place: Place
    process: Process | None
    others: tuple[Process, ...] = ()
    watch: Callable[[], None] | None = None

    @property
    def authorization(self) -> str:
        """What a caller shows."""
        return contract.SHOWN if self.process else contract.INJECTED

    def family(self) -> list[int]:
        """The ids of all processes that work for it."""
        mine = [] if self.process is None else [self.process, *self.others]
        return [pid for process in mine for pid in process.family()]


class Rig(contextlib.ExitStack):
    """Ends everything that it started, in whatever way it is left."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.core, self.load_core = processes.cores()
        self.load: Cores = self.load_core
        self._ca = make_certificates(folder)
        self._port, self._tls_port = processes.free_port(), processes.free_port()
        self.upstream: Process | None = None

    def begin(self) -> None:
        """Starts the upstream, and moves this process to its core."""
        self.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {self.load_core})
        words = [sys.executable, "-m", "bench.upstream", str(self._port), str(self._tls_port)]
        launch = Launch([*words, str(self.folder / "server.pem")], self.folder / "upstream.log", {}, contract.ROOT)
        self.upstream = Process(launch, self.load_core)
        self.callback(self.upstream.stop)
        for port in (self._port, self._tls_port):
            if said := self.upstream.wait_for(port):
                raise OSError(f"the upstream {said}")

    def place(self, target: Target, *, tls: bool) -> Place:
        """A place for another process of this target's."""
        if target.launch is None:
            return Place(self._port, self._port, None, self.folder, target.name)
        upstream, ca = (self._tls_port, self._ca) if tls else (self._port, None)
        name = "".join(letter if letter.isalnum() else "-" for letter in target.name)
        return Place(processes.free_port(), upstream, ca, self.folder, name)

    def start(self, target: Target, *, tls: bool) -> tuple[Running, list[str]]:
        """Starts it for the whole run and verifies it: what is wrong with it."""
        place = self.place(target, tls=tls)
        process = None
        if target.launch is not None:
            try:
                process = Process(target.launch(place), self.core)
            except OSError as exc:
                return Running(target, place, None), [f"cannot be started: {exc}"]
            self.callback(process.stop)
            if said := process.wait_for(place.port):
                return Running(target, place, process), [said]
        running = Running(target, place, process)
        return running, verify(place.port, running.authorization, direct=process is None)

    @contextlib.contextmanager
    def fresh(self, like: Running) -> Iterator[Running]:
        """Another process of a target's, for as long as the block lasts."""
        if like.target.launch is None:
            yield like
            return
        place = self.place(like.target, tls=like.place.ca is not None)
        process = Process(like.target.launch(place), self.core)
        try:
            if said := process.wait_for(place.port):
                raise OSError(said)
            if like.target.says:
                process.wait_until_said(like.target.says)
            yield Running(like.target, place, process)
        finally:
            process.stop()

    @contextlib.contextmanager
    def on_one_core(self) -> Iterator[None]:
        """Upstream and load move to the proxies' core for as long as the block lasts."""
        with self.on_cores(frozenset({self.core})):
            yield

    @contextlib.contextmanager
    def on_cores(self, cores: frozenset[int]) -> Iterator[None]:
        """Upstream and load run there for as long as the block lasts."""
        assert self.upstream is not None
        try:
            self.load = cores
            self.upstream.move_to(cores)
            os.sched_setaffinity(0, cores)
            yield
        finally:
            self.load = self.load_core
            self.upstream.move_to(self.load_core)
            os.sched_setaffinity(0, {self.load_core})
