"""The sandbox as a process of its own beside the proxy, so that its work never delays the data path."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import click

START_SECONDS = 20.0
"""A cold start of Python on a slow laptop takes two."""

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")
"""What the sandbox sees of our environment, with all of LC_* and PYTHON*: enough for the same Python to start again.
Not the key in ``INWORLD_API_KEY``, and not whatever else was put there for us."""


def reduced(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the sandbox: ours without its secrets."""
    return {name: value for name, value in environ.items() if name in PASSED_ON or name.startswith(("LC_", "PYTHON"))}


class SandboxProcess:
    """Starts the sandbox and stops it. ``url`` is where it is."""

    url: str

    def __enter__(self) -> Self:
        arguments = [sys.executable, "-m", "proxy", "sandbox", "--port", "0", "--announce-json", "--exit-with-parent"]
        # A session of its own: Ctrl-C is for the proxy, which drains first. The sandbox ends when its stdin does.
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=reduced(os.environ), start_new_session=True
        )
        try:
            announced = json.loads(self._first_line())
        except BaseException:
            self._stop()
            raise
        self.url = f"http://{announced['host']}:{announced['port']}"
        self._keys: dict[str, str] = {name: key["basic"] for name, key in announced["keys"].items()}
        return self

    def key_for(self, voices: str | None, router: str | None, key_type: str | None) -> str:
        """A key of the sandbox's that really may do what the command line declares."""
        if key_type == "realtime-only":
            return self._keys["realtime-only"]
        writes = (voices == "write", router == "write")
        names = {(True, True): "full", (True, False): "voices-write", (False, True): "router-write"}
        return self._keys[names.get(writes, "standard-read")]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _first_line(self) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - for the type checker; it was asked for above
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(START_SECONDS):
                raise click.ClickException(f"the sandbox did not start within {START_SECONDS:g} seconds")
        line = stdout.readline()
        if not line:
            raise click.ClickException("the sandbox ended before it was ready; its messages are above")
        return line

    def _stop(self) -> None:
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
