"""The life of a session: a proxy is listening, the command runs, both are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from proxy.core.model import Snapshot
from proxy.observe.log import RequestLog
from proxy.session.child import Child, SoftLimits
from proxy.session.tally import Tally
from proxy.wire.descriptors import raise_limit
from proxy.wire.server import DataServer

GRACE = 0.5
"""Seconds for what is in flight when the command has ended. Its own connections ended with it; those of what it left
running are cut then, their WebSockets with a Close frame."""


class Session(NamedTuple):
    """What came of it. ``seconds`` is how long the command ran."""

    code: int
    seconds: float
    tally: Tally


async def run_session(
    snapshot: Snapshot,
    command: Sequence[str],
    environment: Callable[[str], Mapping[str, str]],
    *,
    limits: SoftLimits,
    log: int,
) -> Session:
    """Runs the command beside a proxy. ``environment`` is told where that is; ``log`` is where its request log goes.

    Raises ``NotStartedError``, and ``OSError`` when no port can be had.
    """
    raise_limit()
    loop = asyncio.get_running_loop()

    def current() -> Snapshot:
        return server.snapshot

    def dropped(lines: int) -> None:
        tally.log_dropped += lines

    tally = Tally(current)
    server = DataServer(snapshot, tally, RequestLog(snapshot.log, loop, dropped, log), loop)
    try:
        host, port = await server.listen()
        child = Child()
        child.listen(loop)
        child.start(command, environment(f"http://{host}:{port}"), limits)
        began = loop.time()
        code = await child.ended()
        seconds = loop.time() - began
        await server.drain(GRACE)
    finally:
        await server.close()
    return Session(code, seconds, tally)
