"""The life of the process: build, listen, run, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from proxy.admin.sockets import open_admin
from proxy.core.model import Snapshot
from proxy.inherited import NOTHING, Inherited
from proxy.notify import NOBODY, Notifier
from proxy.observe.log import RequestLog
from proxy.observe.metrics import Metrics
from proxy.reload import Load, Reloader
from proxy.terminal import Terminal
from proxy.wire.descriptors import raise_limit
from proxy.wire.server import DataServer

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

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

    sockets = admin = None
    try:
        sockets = await open_admin(snapshot.admin, inherited.admin)
        # Before callers are accepted: from then on no signal may end the process at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        if reloader is not None:
            _ask_on_hangup(reloader, on_signal, loop)
        data = await server.listen(inherited.listen)
        admin = await _answer_operator(server, sockets.sockets, reloader)
        if reloader is not None:
            reloader.start()
        # Everything made so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        if ready is not None:
            ready(Listening(data, sockets.place))
        notifier.ready()
        await stop.wait()
        notifier.stopping()
        if reloader is not None:
            reloader.close()
        await _drain_or_end(server, now)
    finally:
        await server.close()
        if sockets is not None:
            # First, while the socket is open: answers to the operator may take a minute to end, and by then the file
            # of that name may be another process's.
            sockets.close()
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


async def _answer_operator(
    server: DataServer, sockets: Sequence[socket.socket], reloader: Reloader | None
) -> AppRunner:
    # aiohttp's server was 29 % of a start (880 of 3,017 million instructions, callgrind, 2026-11-22), and callers do
    # not need it: they are served meanwhile, so it is imported in a thread. Nobody is told that the proxy is ready
    # before it is there, too.
    def load() -> Callable[..., Coroutine[Any, Any, AppRunner]]:
        from proxy.admin.application import start_admin  # noqa: PLC0415 - see above

        return start_admin

    start_admin = await asyncio.to_thread(load)
    return await start_admin(server, sockets, reloader)


def _ask_on_hangup(reloader: Reloader, end: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    terminal = Terminal()

    def on_hangup() -> None:
        if terminal.is_gone():
            end()  # somebody closed the window, and would not expect to find this running
        else:
            reloader.ask("SIGHUP")

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


async def _drain_or_end(server: DataServer, now: asyncio.Event) -> None:
    drain = asyncio.ensure_future(server.drain(server.snapshot.time.drain))
    end = asyncio.ensure_future(now.wait())
    await asyncio.wait({drain, end}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drain, end):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
