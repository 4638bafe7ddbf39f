"""A secret that follows its source: read again when its file changes, or when its command's period is over.

What belongs here: when to read again, and what happens when that fails. What does not: reading (``sources.py``) and
what a new secret means for what is shown to the upstream (each kind of credential).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from proxy.core.model import RunningTask, Spawn
from proxy.credentials.clock import Clock
from proxy.credentials.command import resolve_command
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.sources import EnvironmentSource, ExecSource, FileSource, Source, read_source

POLL = 1.0
"""Seconds between two looks at a file. Kubernetes itself takes up to a minute to bring a changed secret."""

ASKED_APART = 10.0
"""Seconds between two runs of a command because the upstream refused what it printed."""

RETRY = 10.0
"""Seconds until a command that failed is run again; doubled with every failure, up to its period."""

Fingerprint = tuple[int, ...] | None
Check = Callable[[Secret], None]

logger = logging.getLogger("proxy")


class LiveSecret:
    """The secret of one credential, as its source has it now. Raises ``SecretError`` for one that ``check`` refuses.

    A secret that cannot be read again, or does not look like one, changes nothing: the one before stays ``current``,
    and ``fault`` says what is wrong until it is right again.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        secret: Secret,
        *,
        check: Check,
        environ: Mapping[str, str],
        clock: Clock | None = None,
    ) -> None:
        check(secret)
        if isinstance(source, ExecSource):
            # Looked up once: what is put into a folder of PATH later is not run. One that is not there is said when it
            # is run, and is not in the way of a command that only explains a configuration.
            with contextlib.suppress(SecretError):
                source = replace(source, argv=(resolve_command(source.argv[0], environ), *source.argv[1:]))
        self.current = secret
        self.fault: str | None = None
        self.reads = {"changed": 0, "same": 0, "failed": 0}
        self._name = name
        self._source = source
        self._check = check
        self._environ = environ
        self._clock = clock or Clock()
        self.read_at = self._clock.wall()
        self._seen: Fingerprint = ()
        self._failures = 0
        self._last_run = self._clock.monotonic()
        self._asked = asyncio.Event()
        self._stop = threading.Event()
        self._task: RunningTask | None = None

    @property
    def kind(self) -> str:
        """``env``, ``file`` or ``exec``."""
        match self._source:
            case EnvironmentSource():
                return "env"
            case FileSource():
                return "file"
            case ExecSource():
                return "exec"
            case _:
                assert_never(self._source)

    @property
    def place(self) -> str:
        """Where the secret is, without the arguments of a command: ``env:NAME``, ``file:/path``, ``exec:command``."""
        return str(self._source)

    def inherit(self, old: LiveSecret) -> None:
        """Goes on with what another counted, if its secret comes from the same kind of source."""
        if old.kind == self.kind:
            self.reads = dict(old.reads)

    def start(self, spawn: Spawn, on_change: Callable[[], None]) -> None:
        """Follows the source from now on; ``on_change`` is called after ``current`` has become another."""
        if not isinstance(self._source, EnvironmentSource):
            self._task = spawn(self._follow(self._source, on_change))

    def ask(self) -> None:
        """What was read last is refused: reads again soon."""
        self._asked.set()

    def close(self) -> None:
        """Stops following, and ends a command that is running."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()

    async def _follow(self, source: FileSource | ExecSource, on_change: Callable[[], None]) -> None:
        while True:
            if isinstance(source, FileSource):
                await asyncio.sleep(POLL)
                seen = await asyncio.to_thread(fingerprint, source.path)
                if seen == self._seen:
                    continue
                self._seen = seen
            else:
                await self._until_due(source)
            if await self._read_again(source):
                on_change()

    async def _until_due(self, source: ExecSource) -> None:
        pause = min(source.every, RETRY * 2 ** min(self._failures - 1, 32)) if self._failures else source.every
        try:
            async with asyncio.timeout(pause):
                await self._asked.wait()
        except TimeoutError:
            return
        soonest = self._last_run + ASKED_APART - self._clock.monotonic()
        await asyncio.sleep(max(0.0, soonest))

    async def _read_again(self, source: Source) -> bool:
        """True when the secret has become another one."""
        self._asked.clear()
        try:
            secret = await asyncio.to_thread(read_source, source, self._environ, self._stop)
            self._check(secret)
        except SecretError as exc:
            self._failures += 1
            self.reads["failed"] += 1
            self.fault = exc.found
            logger.warning(
                "credential %s: %s; %s. The secret read before stays in use.", self._name, exc.found, exc.remedy
            )
            return False
        finally:
            self._last_run = self._clock.monotonic()
        self._failures = 0
        self.fault = None
        self.read_at = self._clock.wall()
        changed = secret != self.current
        self.reads["changed" if changed else "same"] += 1
        self.current = secret
        if changed:
            logger.info("credential %s: its secret was replaced", self._name)
        return changed


def fingerprint(path: Path) -> Fingerprint:
    """What changes when the file does: through links too, so a swapped directory link is noticed.

    None: it is not there. Empty: it is a pipe, which can be read once only.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return ()
    # ctime as well: a file rewritten in place within one tick of a coarse mtime, at the same size.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
