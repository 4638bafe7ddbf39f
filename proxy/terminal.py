"""The terminal that a process was started from. The kernel says with SIGHUP that it was closed, and people that they
want the configuration read again; which of the two it was shows in whether the terminal is still there."""

from __future__ import annotations

import os
import signal


class Terminal:
    """Made at the start of the process, before a handler for SIGHUP is set."""

    def __init__(self) -> None:
        # Under nohup SIGHUP is ignored from the beginning: such a process is meant to outlive its terminal.
        self._holds = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_there()

    def is_gone(self) -> bool:
        """The process had one, was not told to outlive it, and has it no more."""
        return self._holds and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
