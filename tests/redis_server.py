"""A real Redis server for one test: on a free port of this machine, in a folder of its own, ended by its process id."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.wires import PATIENCE, bounded


def missing(reason: str) -> None:
    """Skips, or fails where nothing has to be missing (CI=true)."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Unhurried:
    """How long the product waits for Redis: its own fraction of a second, or as long as a busy machine may take.

    Where Redis is well, a machine that is busy with something else must not make the product go on without it, which
    is what it is there for. Where Redis is gone, the product's own times are what is tested. The minute
    that is set here is the client's own five seconds in fact.
    """

    TIMES = ("leases.PATIENCE", "shared.PATIENCE", "shared.ROUND_TRIP", "shared.OPENING")

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def begin(self) -> None:
        for name in self.TIMES:
            self._patch.setattr(f"proxy.limits.{name}", 60.0)

    def end(self) -> None:
        self._patch.undo()


class RedisServer:
    """The process, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("redis-server is not installed (scripts/system-packages.sh)")
        try:
            import redis.asyncio  # noqa: F401
        except ImportError as error:
            missing(f"redis is not installed: {error}")
        self._program = str(program)
        self._folder = folder
        self._options: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self.socket = folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self, *options: str) -> RedisServer:
        """Starts it, with these options from now on, and returns when it answers."""
        self._options = [*options] or self._options
        port = [] if "--port" in self._options else ["--port", str(self.port)]
        self._process = await asyncio.create_subprocess_exec(
            self._program, *port, "--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--dir", str(self._folder),
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning", *self._options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        await bounded(self._until_it_answers(), 2 * PATIENCE)
        return self

    async def _until_it_answers(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.socket)
                writer.write(b"PING\r\n")
                line = await reader.readline()
                writer.close()
                await writer.wait_closed()
                if line.startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            # Another process tells nobody when it is ready; it is asked again until the bound above.
            await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """SIGKILL: connections are reset, and new ones refused."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.communicate()
        self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """SIGSTOP: it takes connections and never answers."""
        self._signal("SIGSTOP")

    def go_on(self) -> None:
        self._signal("SIGCONT")

    def _signal(self, name: str) -> None:
        import signal

        assert self._process is not None
        self._process.send_signal(getattr(signal, name))

    async def ask(self, *command: str) -> Any:
        """One command, over a connection of its own."""
        import redis.asyncio

        async with redis.asyncio.Redis(unix_socket_path=str(self.socket), decode_responses=True) as client:
            return await client.execute_command(*command)

    async def now(self) -> float:
        """Its clock."""
        seconds, micros = await self.ask("TIME")
        return float(seconds) + float(micros) / 1e6
