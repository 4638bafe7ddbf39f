"""Running the command of an ``exec:`` source: a list of arguments, no shell, little of our environment, and limits.

What belongs here: the child process. What does not: what it prints (``sources.py``) and when it is run (``live.py``).
It blocks, so it is called at load, before the event loop, or in a thread.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping

from proxy.credentials.secret import SecretError

TIME_LIMIT = 10.0
"""Seconds: a command that asks a vault over the network takes one or two; one that asks a person never ends."""

LARGEST_OUTPUT = 65_536
"""Bytes, for a secret of a hundred."""

PASSED_ON = ("PATH", "HOME", "LANG")
"""What a command sees of our environment, with all of XDG_*: enough to find itself and its own configuration."""

_SLICE = 0.05
"""Seconds between two looks at whether the command ended or we were told to stop."""


def run_command(
    argv: tuple[str, ...],
    environ: Mapping[str, str],
    named: tuple[str, ...],
    stop: threading.Event,
    *,
    time_limit: float = TIME_LIMIT,
) -> bytes:
    """What the command writes to its standard output. Its standard error goes nowhere: it may hold anything.

    Raises ``SecretError`` when it cannot be run, fails, takes too long or prints too much; it is killed then, with all
    that it started in its process group.
    """
    path = resolve_command(argv[0], environ)
    try:
        child = subprocess.Popen(  # noqa: S603 - the operator's own command, as a list
            [path, *argv[1:]],
            executable=path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=reduced(environ, named),
            start_new_session=True,
        )
    except OSError as exc:
        raise SecretError(f"the command {path}, which cannot be run", "correct the path, or who may run it") from exc
    try:
        output = _collect(child, path, stop, time.monotonic() + time_limit)
    except BaseException:
        # The whole group: a shell script's own children hold the pipe, or hang, just as well.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    finally:
        child.stdout.close()  # type: ignore[union-attr]  # it is a pipe, see above
    if child.returncode != 0:
        found = f"the command {path}, which failed with status {child.returncode}"
        raise SecretError(found, "run it by hand: it has to print the secret and end with status 0")
    return output


def resolve_command(name: str, environ: Mapping[str, str]) -> str:
    """The absolute path of a command. Raises ``SecretError``. A PATH's relative folders are not looked into."""
    folders = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder.startswith("/")]
    path = shutil.which(name, path=os.pathsep.join(folders)) if name.startswith("/") or folders else None
    if path is None or not path.startswith("/"):
        raise SecretError(
            f"the command {name}, which is not there or cannot be run", "install it, or write its absolute path"
        )
    return path


def reduced(environ: Mapping[str, str], named: tuple[str, ...]) -> dict[str, str]:
    """What a command gets of our environment. The key in ``INWORLD_API_KEY``, say, is no business of its children."""
    return {
        name: value for name, value in environ.items() if name in PASSED_ON or name in named or name.startswith("XDG_")
    }


def _collect(child: subprocess.Popen[bytes], path: str, stop: threading.Event, deadline: float) -> bytes:
    """Reads until the command has ended. One that leaves an agent behind with its output open does not keep us."""
    output = bytearray()
    is_open = True
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]  # it is a pipe
        while True:
            # Looked at before the pipe: all that it wrote is in there once it has ended.
            ended = child.poll() is not None
            if is_open and selector.select(0 if ended else _SLICE):
                piece = os.read(child.stdout.fileno(), LARGEST_OUTPUT)  # type: ignore[union-attr]  # it is a pipe
                is_open = bool(piece)
                output += piece
            elif ended:
                return bytes(output)
            elif not is_open:
                stop.wait(_SLICE)
            if len(output) > LARGEST_OUTPUT:
                raise SecretError(
                    f"the command {path}, which printed more than any secret", "let it print the secret only"
                )
            if stop.is_set() or time.monotonic() >= deadline:
                found = f"the command {path}, which took too long"
                raise SecretError(found, "let it end by itself, without asking a person for anything")
