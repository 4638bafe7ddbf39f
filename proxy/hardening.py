"""What the process gives up before it reads a secret: core dumps, and being looked into by its user's other programs.

What belongs here: what is of no use to anyone who runs the proxy, so that it needs no setting. What does not: limits
that the operator sets (deploy/systemd, deploy/seccomp.json). Root can still do everything.
"""

from __future__ import annotations

import logging
import resource
import sys

_PR_SET_DUMPABLE = 4
"""prctl(2). It ends with the program: commands and the sandbox, which are started with exec, are what they were."""

logger = logging.getLogger("proxy")


def harden(*, hard_limit: bool = True) -> None:
    """No core file, whatever the limits were; on Linux no debugger, and no ``/proc/PID/mem`` or ``environ`` for others.

    Without ``hard_limit`` the limit of core files can be raised again, for a process that is started from this one.
    What cannot be had is logged and not required: nothing else depends on it.
    """
    if not _drop_core_files(hard_limit=hard_limit):
        logger.warning("core files could not be switched off: a crash may write secrets to a disk")
    if sys.platform == "linux" and not _become_undumpable():
        logger.warning("other programs of this user can read this process's memory: prctl is not to be had here")


def _drop_core_files(*, hard_limit: bool) -> bool:
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0 if hard_limit else hard))
    except (OSError, ValueError):
        return False
    return True


def _become_undumpable() -> bool:
    """Not being dumpable stops core dumps that go to a program, too, for which the limit above counts for nothing."""
    try:
        # Here and not above: where memory may not become executable, older versions of ctypes fail on import.
        import ctypes  # noqa: PLC0415

        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (ImportError, MemoryError, OSError, AttributeError):
        return False
