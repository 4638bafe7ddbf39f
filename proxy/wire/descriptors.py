"""How many descriptors this process may open, and how full its table is.

POSIX gives every new descriptor the lowest number that is free (open(2), dup(2), accept(2)). So the number that a new
one got says that all numbers below it are taken: exact, and at the price of a comparison.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys

LEAST_RESERVE = 32
"""Descriptors kept free of new callers, at least: for the upstream connections of those that are there, names that are
looked up, keys that are read, the operator's listener."""

RESERVE_SHARE = 4
"""One in so many is kept free where there are many. A caller that asks needs a second descriptor, for the upstream;
most callers are idle most of the time, and with a quarter kept free a third of them may begin to ask at once."""

logger = logging.getLogger("proxy")


def raise_limit() -> None:
    """Takes as many descriptors as this process may have: the soft limit is often 1024 for the sake of select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as exc:
        # macOS says "unlimited" and allows less.
        logger.debug("the limit of open files stays at %d of %d: %s", soft, hard, exc)
    else:
        logger.debug("the limit of open files was raised from %d to %d", soft, hard)


def read_limit() -> int:
    """How many descriptors this process may have now; prlimit(1) may change it while it runs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def reserve_of(limit: int) -> int:
    """How many of them are not for new callers. Never more than half: a tiny table must serve somebody, too."""
    return min(max(LEAST_RESERVE, limit // RESERVE_SHARE), limit // 2)


def are_free(count: int, below: int, like: int) -> bool:
    """Can this many more be opened with numbers below that one? Tries it, by duplicating ``like``."""
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken.append(os.dup(like))
            if taken[-1] >= below:
                return False
    except OSError:
        return False
    finally:
        for each in taken:
            with contextlib.suppress(OSError):
                os.close(each)
    return True
