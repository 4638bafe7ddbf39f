"""One row of the fault matrix: what goes wrong, and everything that must be true of it afterwards.

What belongs here: the words that rows are written in. What does not: the rows (one file per theme), how a fault is made
(``scene.py``) and how an expectation is checked (``runner.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.observe.record import GONE, Ending
from tests.wires import request

if TYPE_CHECKING:
    from tests.faults.scene import Scene

MARK = "row"
"""The query of every request that a row is about: by it the upstream's bytes are searched for a second delivery."""

GET = request(f"GET /things?{MARK}")
POST = request(f"POST /things?{MARK}", body=b"written once")
HEAD = request(f"HEAD /things?{MARK}")

Step = Callable[["Scene"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller gets, and what is logged and counted of it. ``shown`` None: not one byte of an answer."""

    ending: Ending
    logged: int
    shown: int | None
    code: str | None = None
    content: bytes | None = None
    whole: bool = True
    again_after: bool = False


def refused(status: int, code: str, *, again_after: bool = False) -> Expected:
    """An answer of the proxy's own. ``again_after``: it says when to come again."""
    ending = Ending.FAILED if status >= 500 else Ending.REFUSED
    return Expected(ending, status, status, code, None, True, again_after)


def whole(content: bytes | None = b"ok", status: int = 200) -> Expected:
    """The upstream's answer, and nothing is missing."""
    return Expected(Ending.ANSWERED, status, status, None, content)


def broken(code: str, content: bytes | None = None, status: int = 200) -> Expected:
    """The upstream's answer, of which the end is missing, and that shows."""
    return Expected(Ending.ABORTED, status, status, code, content, False)


def cut(code: str | None, logged: int = 101) -> Expected:
    """A tunnel that the proxy ends."""
    return Expected(Ending.ABORTED, logged, 101, code, None, False)


def left(logged: int = GONE, shown: int | None = None, ending: Ending = Ending.CALLER_GONE) -> Expected:
    """The caller is gone; ``logged`` is the status of what it had been sent by then, if anything."""
    return Expected(ending, logged, shown, None, None, False)


async def plain(scene: Scene) -> None:
    """An upstream without TLS, and a proxy in front of it."""
    await scene.start()


async def primed(scene: Scene) -> None:
    """The same, and one connection waits in the pool."""
    await scene.start()
    await scene.prime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault and its consequences.

    ``arrived``: how often the request itself must be seen by the upstream. ``dials``: connections that were asked for,
    those of ``stage`` included. ``idle``: connections in the pool afterwards; none is ever active. ``kept``: the
    caller's connection serves another request. ``counted`` are the upstream's errors by code, which follow from the
    code unless a row says otherwise. ``healed`` mends what the fault broke, where the next request would meet it too.
    """

    name: str
    fault: Step
    expected: Expected
    sends: bytes = GET
    stage: Step = plain
    arrived: int = 1
    dials: int = 1
    idle: int = 0
    kept: bool = True
    retried: bool = False
    counted: Mapping[str, int] | None = None
    healed: Step | None = None

    @property
    def upstream_errors(self) -> Mapping[str, int]:
        """What must be counted against the upstream, by code."""
        if self.counted is not None:
            return self.counted
        code = self.expected.code
        is_ours = code is None or self.expected.ending is Ending.REFUSED
        return {} if code is None or is_ours else {code: 1}
