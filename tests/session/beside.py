"""``inworld-proxy run`` as a process, and small programs for it to run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.secrets_watch import WATCH

ROOT = Path(__file__).parents[2]
PATIENCE = 100
"""Seconds for all that one process does; two, when nothing else runs."""

REAL_SECRET = "9f3b7c1e5a8d4206b1c7e9f0a2d4c6e8"
REAL_KEY = "cmVhbC1rZXk6OWYzYjdjMWU1YThkNDIwNmIxYzdlOWYwYTJkNGM2ZTg="
WATCH.add("the key in the environment", REAL_KEY)
WATCH.add("the secret of the key in the environment", REAL_SECRET)


UPSTREAMS = {"--sandbox", "--config", "--upstream"}


def environ(**more: str) -> dict[str, str]:
    """An environment with a key, and without an HTTP proxy."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "INWORLD_API_KEY": REAL_KEY, **more}


def arguments(*options: str, command: Sequence[str]) -> list[str]:
    """The command line; in front of nothing, unless the options say what: that starts in half the time."""
    if UPSTREAMS.isdisjoint(options):
        options = ("--upstream", "http://127.0.0.1:9", *options)
    return [sys.executable, "-m", "proxy", "run", *options, "--", *command]


def run(
    *options: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path = ROOT,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, in a session of its own: without a terminal. ``before``: what starts all of it."""
    done = subprocess.run(
        [*before, *arguments(*options, command=command)], env=environ(**(env or {})), input=stdin, cwd=cwd,
        capture_output=True, text=True, timeout=PATIENCE, check=False, start_new_session=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The summary of a run with ``--summary json``."""
    whole: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return whole


@contextlib.contextmanager
def begun(*options: str, command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[str]]:
    """A run that goes on; killed after the test."""
    with subprocess.Popen(
        arguments(*options, command=command), env=environ(**more), cwd=ROOT, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of the command's standard output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_running(pid: int) -> bool:
    """Is there such a process, and is it more than an entry that nobody has asked about?"""
    try:
        state = re.search(r"^State:\s+(\S)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return False
    return state is not None and state[1] != "Z"
