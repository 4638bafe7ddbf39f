"""The command as a process beside the proxy: started, sent what is sent to us, waited for.

It is in our process group and has our standard input, output and error: the terminal treats the two as one job, so
Ctrl-C, Ctrl-Z and a closed window reach it from there. What is sent to this process alone is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from proxy.terminal import Terminal

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that would end this process and are meant for the command. SIGTSTP and SIGCONT do to both what they do."""

OF_THE_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes as shells have them."""

BY_SIGNAL = 128
"""Added to the number of the signal that ended the command, as shells do."""

_LIMITS = (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)

SoftLimits = Mapping[int, int]


class NotStartedError(Exception):
    """The command could not be started. ``code`` is what a shell would end with; the text is for a person."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def read_soft_limits() -> SoftLimits:
    """Those limits that this process changes for itself, as they are now."""
    return {kind: resource.getrlimit(kind)[0] for kind in _LIMITS}


class Child:
    """The command, from before it runs to its end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._held: list[signal.Signals] = []
        self._terminal = Terminal()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Passes signals on from now on; those that come before the command runs, once it does."""
        for number in PASSED_ON:
            # What this process was started to ignore (nohup), the command ignores too: it inherits that.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, partial(self._pass_on, number))

    def start(self, command: Sequence[str], environ: Mapping[str, str], limits: SoftLimits) -> None:
        """Starts it with these soft limits. Raises ``NotStartedError``."""
        name = command[0]
        try:
            with _soft(limits):
                # Other descriptors are inherited as well: all of ours are closed on exec.
                process = subprocess.Popen(list(command), env=dict(environ), close_fds=False)  # noqa: S603 - a list
        except FileNotFoundError as exc:
            raise NotStartedError(f"{name}: command not found", NOT_FOUND) from exc
        except PermissionError as exc:
            raise NotStartedError(f"{name}: not executable: permission denied", NOT_EXECUTABLE) from exc
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "its name or an argument has a NUL"
            raise NotStartedError(f"{name}: cannot be run: {reason}", NOT_EXECUTABLE) from exc
        self._process = process
        for number in self._held:
            self._pass_on(number)

    async def ended(self) -> int:
        """Waits until it has ended and says its exit code. What it left running does not count."""
        assert self._process is not None  # noqa: S101 - for the type checker; it was started
        code = await asyncio.to_thread(self._process.wait)
        return BY_SIGNAL - code if code < 0 else code

    def _pass_on(self, number: signal.Signals) -> None:
        if self._process is None:
            self._held.append(number)
            return
        if number in OF_THE_KEYBOARD and _is_in_foreground():
            return  # pressed at the terminal, which sends it to the whole job
        if number is signal.SIGHUP and self._terminal.is_gone():
            return  # the same of a window that was closed
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._process.send_signal(number)


@contextlib.contextmanager
def _soft(limits: SoftLimits) -> Iterator[None]:
    """These soft limits, for the moment in which a process is started."""
    ours = read_soft_limits()
    _set(limits)
    try:
        yield
    finally:
        _set(ours)


def _set(limits: SoftLimits) -> None:
    for kind, soft in limits.items():
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))


def _is_in_foreground() -> bool:
    """Has this process a terminal, and is it the one who is typed to?"""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
