"""``curl`` as a program: one request, and its answer taken apart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.clients.processes import PATIENCE, environment, needed_program

CURL = needed_program("curl")


@dataclass(frozen=True)
class Shown:
    """What curl printed with ``-i``."""

    status: int
    fields: dict[str, str]
    """By lower-case name."""
    body: str

    @property
    def code(self) -> str | None:
        """The proxy's own code in the body, whichever shape it has; None in an answer of the upstream's."""
        try:
            told = json.loads(self.body)
        except ValueError:
            return None
        inner = told.get("error", told)
        details = inner.get("details") or [{}]
        return str(details[0]["reason"]) if "reason" in details[0] else inner.get("code")

    @property
    def message(self) -> str:
        """The sentence in the body, whichever shape it has."""
        told = json.loads(self.body)
        return str(told.get("error", told)["message"])


def curl(url: str, *options: str, method: str = "GET", body: Any = None) -> Shown:
    """Runs ``curl -i``."""
    command = [CURL, "-q", "-sS", "-i", "--max-time", str(PATIENCE), "-X", method, *options]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    output = run([*command, url])
    head, _, content = output.partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return Shown(int(line.split()[1]), named, content)


def run(command: Sequence[str]) -> str:
    """Runs a program that must end well, and returns what it printed."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=2 * PATIENCE, env=environment())
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")
    return done.stdout.decode()
