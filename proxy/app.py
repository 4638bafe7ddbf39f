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
from proxy.inherited import NOTHING, Inherited
from proxy.notify import NOBODY, Notifier
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.reload import Load, Reloader
from proxy.terminal import Terminal
from proxy.wire.descriptors import raise_limit
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


async def serve(
    snapshot: Snapshot,
    *,
    ready: Callable[[Listening], None] | None = None,
    inherited: Inherited = NOTHING,
    notifier: Notifier = NOBODY,
    load: Load | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends it now.

    With ``load``, the configuration is read again on SIGHUP, when its files change, and when an operator asks.

    Raises ``OSError`` when one of the two addresses cannot be had.
    """
    raise_limit()
    loop = asyncio.get_running_loop()
    server = build(snapshot, loop)
    reloader = Reloader(server, load, notifier=notifier) if load is not None else None
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    admin = None
    try:
        data = await server.listen(inherited.listen)
        admin, host, port = await start_admin(server, inherited.admin, reloader)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        if reloader is not None:
            _reload_on_hangup(reloader, on_signal, loop)
        # Everything made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        if ready is not None:
            ready(Listening(data, (host, port)))
        notifier.ready()
        await stop.wait()
        notifier.stopping()
        if reloader is not None:
            reloader.close()
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


def _reload_on_hangup(reloader: Reloader, end: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    terminal = Terminal()

    def on_hangup() -> None:
        if terminal.is_gone():
            end()  # somebody closed the window, and would not expect to find this running
        else:
            reloader.ask("SIGHUP")

    reloader.start()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)


async def _drain_or_end(server: DataServer, now: asyncio.Event) -> None:
    drain = asyncio.ensure_future(server.drain(server.snapshot.time.drain))
    end = asyncio.ensure_future(now.wait())
    await asyncio.wait({drain, end}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drain, end):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
