"""The life of a sandbox process: listen, say where, run until told to stop.

What belongs here: sockets and signals. What does not: what is answered (``app.py``), what is printed (the command
line).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from aiohttp import web

from proxy.sandbox.app import make_application
from proxy.sandbox.options import SandboxOptions

GRACE_SECONDS = 1.0
"""How long open requests may go on after the signal. There is nothing here worth waiting for."""


async def serve(
    options: SandboxOptions, host: str, port: int, *, ready: Callable[[str, int], None] | None = None
) -> None:
    """Runs a sandbox until SIGTERM, SIGINT or cancellation. Port 0 takes a free one; ``ready`` is told which.

    Raises ``OSError`` if the address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    handled = []
    for number in signals:
        # Not on Windows, and not off the main thread; there, cancellation is the way to stop.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            handled.append(number)
    runner = web.AppRunner(
        make_application(options), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS
    )
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        if ready is not None:
            bound = runner.addresses[0]
            ready(host, int(bound[1]))
        await stop.wait()
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
        await runner.cleanup()
