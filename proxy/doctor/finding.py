"""What a check found. Values only, and the clock and the time limit that every check has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import NamedTuple


class State(Enum):
    """How it is. ``SKIP``: not looked at, because of something else that is said."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Finding(NamedTuple):
    """One line: what was looked at, how it is, what was found, and, unless it is ok, what to do. Nothing is secret.

    ``seconds`` is how long looking took.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    seconds: float = 0.0


def exit_code(findings: Sequence[Finding]) -> int:
    """2 for a failure, 1 for warnings only, else 0."""
    states = {finding.state for finding in findings}
    return 2 if State.FAIL in states else 1 if State.WARN in states else 0


async def within(limit: float, name: str, check: Awaitable[Finding]) -> Finding:
    """What the check finds, or that it is not over within so many seconds, or that it failed itself."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit):
            found = await check
    except TimeoutError:
        remedy = "see what is slow or silent on the way; --timeout waits longer"
        found = Finding(name, State.FAIL, f"not over within {limit:g} s", remedy)
    except Exception as exc:  # noqa: BLE001 - one check must not keep the others from being made
        # Not its text: nobody foresaw it, so nobody knows what is in it.
        remedy = "report this, with the line before it"
        found = Finding(name, State.FAIL, f"the check itself failed ({type(exc).__name__})", remedy)
    return found._replace(seconds=time.monotonic() - began)
