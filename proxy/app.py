"""The life of the process: build, listen, run, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from proxy.admin.application import start_admin
from proxy.core.model import Snapshot
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.wire.server import DataServer

_Result = TypeVar("_Result")


class Listening(NamedTuple):
    """Where the two listeners really are (a configured port 0 has become a number)."""

    data: tuple[str, int]
    admin: tuple[str, int]


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine on uvloop where there is one, else on asyncio's own loop: slower, and the same in all else."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve(snapshot: Snapshot, *, ready: Callable[[Listening], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends it now.

    Raises ``OSError`` when one of the two addresses cannot be had.
    """
    loop = asyncio.get_running_loop()
    server = build(snapshot, loop)
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    admin = None
    try:
        data = await server.listen()
        admin, host, port = await start_admin(server)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        # Everything made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        if ready is not None:
            ready(Listening(data, (host, port)))
        await stop.wait()
        await _drain_or_end(server, now)
    finally:
        await server.close()
        if admin is not None:
            await admin.cleanup()


def build(snapshot: Snapshot, loop: asyncio.AbstractEventLoop) -> DataServer:
    """A data server for this configuration, not yet listening."""

    def current() -> Snapshot:
        return server.snapshot

    def dropped(lines: int) -> None:
        metrics.log_dropped += lines

    metrics = Metrics(current)
    server = DataServer(snapshot, metrics, RequestLog(snapshot.log, loop, dropped), loop)
    return server


async def _drain_or_end(server: DataServer, now: asyncio.Event) -> None:
    drain = asyncio.ensure_future(server.drain(server.snapshot.time.drain))
    end = asyncio.ensure_future(now.wait())
    await asyncio.wait({drain, end}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drain, end):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
