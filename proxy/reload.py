"""Another configuration while requests are served: read and checked as a whole, then put in force, or not at all.

What belongs here: when it is read again, one at a time, and what is said about it. What does not: what a configuration
means (``settings/``), and what happens to requests and connections when it changes (``DataServer.adopt()``).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from proxy.core.model import RunningTask, Snapshot
from proxy.credentials.key_set import FetchedKeys
from proxy.credentials.kinds import look_again
from proxy.credentials.live import POLL, Fingerprint, fingerprint
from proxy.notify import NOBODY, Notifier
from proxy.settings.load import SettingsError
from proxy.wire.pool import Pool
from proxy.wire.server import DataServer

Load = Callable[[Snapshot, threading.Event], Snapshot]
"""Reads the configuration again, to take the place of this one, and blocks: it is called in a thread, and gives up when
the event is set. Raises ``SettingsError``, ``OSError`` or ``ssl.SSLError``."""

CHANGED = "its files changed"

logger = logging.getLogger("proxy.reload")


class State(Enum):
    """What is in force: what was read at the start, what was read since, or what was there before a failure."""

    LOADED = "loaded"
    RELOADED = "reloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of reading the configuration the last time, and when (Unix seconds). A fault never has a secret."""

    state: State
    when: float
    faults: tuple[str, ...] = ()


class Reloader:
    """Reads the configuration again when asked, and when its files change; between ``start()`` and ``close()``."""

    def __init__(self, server: DataServer, load: Load, *, notifier: Notifier = NOBODY, poll: float = POLL) -> None:
        self.last = Outcome(State.LOADED, time.time())
        self._server = server
        self._load = load
        self._notifier = notifier
        self._poll = poll
        self._files = WatchedFiles(server.snapshot.files)
        self._asked = asyncio.Event()
        self._reasons: list[str] = []
        self._next: asyncio.Future[Outcome] | None = None
        self._stop = threading.Event()
        self._task: RunningTask | None = None

    def start(self) -> None:
        """Begins to watch the files, and to do what it is asked."""
        self._task = self._server.spawn(self._work())

    def close(self) -> None:
        """Reads nothing any more: a reading that has begun ends without effect."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
        self._tell(self._next)

    def ask(self, reason: str) -> asyncio.Future[Outcome]:
        """Reads it again, as soon as a reading that has begun is over: that one may have missed what this is about.

        However many ask until then, it is read once for all of them. The future is for all of them too.
        """
        if self._next is None:
            self._next = self._server.loop.create_future()
        if reason not in self._reasons:
            self._reasons.append(reason)
        self._asked.set()
        asked = self._next
        if self._stop.is_set():
            self._tell(asked)
        return asked

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._poll if self._files.names else None):
                    await self._asked.wait()
            except TimeoutError:
                if not await asyncio.to_thread(self._files.look):
                    continue
                self.ask(CHANGED)
            self._asked.clear()
            asked, self._next = self._next, None
            reason, self._reasons = ", ".join(self._reasons), []
            try:
                outcome = await self._read(reason)
                if asked is not None:
                    asked.set_result(outcome)
            finally:
                self._tell(asked)

    def _tell(self, asked: asyncio.Future[Outcome] | None) -> None:
        """Nobody is left waiting, whatever happened."""
        if asked is not None and not asked.done():
            asked.set_result(Outcome(State.FAILED, time.time(), ("the proxy is stopping",)))

    async def _read(self, reason: str) -> Outcome:
        self._notifier.reloading()
        try:
            files = await self._replace()
            faults: tuple[str, ...] = ()
        except SettingsError as exc:
            faults, files = tuple(map(str, exc.faults)), exc.files
        except OSError as exc:  # ssl.SSLError is one
            # It was readable a moment ago, when the settings were checked.
            faults, files = (f"{self._server.snapshot.source}: a file it names: {exc.strerror or 'unusable'}",), ()
        except Exception:
            # A defect must not end the reloads to come, nor be told in words that nobody has looked at.
            logger.exception("the configuration was not read again")
            faults, files = ("a defect of the proxy, which its standard error describes; please report it",), ()
        finally:
            self._notifier.ready()
        now = self._server.snapshot
        await asyncio.to_thread(self._files.follow, dict.fromkeys([*now.files, *files]))
        self.last = Outcome(State.FAILED if faults else State.RELOADED, time.time(), faults)
        self._server.metrics.on_reload(failed=bool(faults), when=self.last.when)
        if faults:
            logger.warning("configuration not reloaded (%s): the one read before stays in force", reason)
            for fault in faults:
                logger.warning("%s", fault)
        else:
            logger.info("configuration reloaded from %s (%s)", now.source, reason)
        return self.last

    async def _replace(self) -> tuple[str, ...]:
        """Reads, checks and puts in force, or raises having changed nothing. Returns the files that were read."""
        old = self._server.snapshot
        snapshot, pools = await asyncio.to_thread(self._prepare, old)
        sources = [each for each in snapshot.key_sets.values() if isinstance(each, FetchedKeys)]
        # Callers whose key set is another from now on are known from the first request on, if it can be fetched at all.
        await asyncio.gather(*(each.fetch_first() for each in sources))
        self._server.adopt(snapshot, pools)
        for name, credential in snapshot.credentials.items():
            if old.credentials.get(name) is credential:
                look_again(credential)
        return snapshot.files

    def _prepare(self, old: Snapshot) -> tuple[Snapshot, Mapping[str, Pool]]:
        """All that blocks."""
        self._files.note()
        snapshot = self._load(old, self._stop)
        return snapshot, self._server.make_pools(snapshot)


class WatchedFiles:
    """Says when files are not as they were when they were last read. Its methods block for as long as a disk does."""

    def __init__(self, names: Collection[str]) -> None:
        self._read = _fingerprints(names)
        self._seen = self._read
        self._gone: set[str] = set()

    @property
    def names(self) -> Collection[str]:
        """The files that are watched."""
        return self._read

    def note(self) -> None:
        """They are about to be read."""
        self._read = self._seen = _fingerprints(self._read)

    def follow(self, names: Collection[str]) -> None:
        """These are the files from now on: they were read since ``note()``."""
        self._read = self._seen = {
            name: self._read[name] if name in self._read else fingerprint(Path(name)) for name in names
        }

    def look(self) -> bool:
        """Is there a change, and is it as it was at the last look? A file that is being written is left alone.

        One that is gone is no change: there is nothing to read, and whoever replaces a file may take it away first.
        """
        now = _fingerprints(self._read)
        gone = {name for name, found in now.items() if found is None and self._read[name] is not None}
        for name in sorted(gone - self._gone):
            logger.warning("%s is gone; the configuration read before stays in force", name)
        self._gone = gone
        now.update((name, self._read[name]) for name in gone)
        settled, self._seen = now == self._seen, now
        return settled and now != self._read


def _fingerprints(names: Collection[str]) -> dict[str, Fingerprint]:
    return {name: fingerprint(Path(name)) for name in names}
