"""No secret in any byte of output: a pytest plugin that reads along with the whole test suite.

Read are: what every test writes to standard output and error, and what it logs (tracebacks of crashes included); what
a test reads back through ``capsys`` and ``capfd``; what commands print that are run in-process or as processes; and
what the processes of the fixtures write (``tests/clients/processes.py`` hands it over). A finding fails the test during
which it was made.

The stand-in API's own announcement of its made-up keys is the one thing left out: printing them is its purpose.
"""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.sandbox.keys import DEMO_KEYS
from tests import snapshots

_JWT = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}")
"""Every token that the sandbox mints, and every one that a caller shows as a JWT."""

_ANNOUNCED = re.compile(
    r'^\{"host": ".*"keys": \{.*\}\}$|^Keys, each to be used as it stands.*\n(?:  .*\n)+', re.MULTILINE
)

_CLIENTS = ("curl", "node")
"""They have the token that they show, and may print it."""

_SHORTEST = 16
"""Shorter texts are words that tests use for other things too."""


class Watch:
    """The secrets by name, and where one was found since somebody last asked."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._found: list[str] = []
        self.bytes = 0

    def add(self, name: str, secret: str) -> None:
        """One more secret; in its Base64 too, as it stands and with an id or name in front of it."""
        assert len(secret) >= _SHORTEST, f"{name} is too short to be looked for"
        self._secrets[secret] = name
        self._secrets[base64.b64encode(secret.encode()).decode()] = f"{name} in Base64"

    def names_in(self, text: str) -> list[str]:
        """The names of the secrets in this text."""
        text = _ANNOUNCED.sub("", text)
        found = [name for secret, name in self._secrets.items() if secret in text]
        return found + ["a token"] * bool(_JWT.search(text))

    def read(self, where: str, output: str | bytes | None) -> None:
        """Looks through what was written there."""
        text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
        self.bytes += len(text)
        self._found += [f"{where} shows {name}" for name in self.names_in(text)]

    def take(self) -> list[str]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found


WATCH = Watch()
for _key in DEMO_KEYS:
    WATCH.add(f"the key {_key.name}", _key.basic)
    WATCH.add(f"the secret of {_key.name}", _key.secret)
WATCH.add("the key of tests/snapshots.py", snapshots.KEY)
WATCH.add("its id and secret", "key-id:key-secret")
WATCH.add("the token of tests/snapshots.py", snapshots.TOKEN)


def _overhear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads what a test reads: of commands, and of its own captured output."""
    run, invoke, readouterr = subprocess.run, CliRunner.invoke, pytest.CaptureFixture.readouterr

    def watched_run(*arguments: Any, **options: Any) -> Any:
        done = run(*arguments, **options)
        command = arguments[0] if isinstance(arguments[0], str) else arguments[0][0]
        for output in () if Path(command).name in _CLIENTS else (done.stdout, done.stderr):
            WATCH.read("a command", output)
        return done

    def watched_invoke(self: CliRunner, *arguments: Any, **options: Any) -> Result:
        result = invoke(self, *arguments, **options)
        WATCH.read("a command", result.output)
        return result

    def watched_readouterr(self: pytest.CaptureFixture[Any]) -> Any:
        result = readouterr(self)
        for output in result:
            WATCH.read("captured output", output)
        return result

    monkeypatch.setattr(subprocess, "run", watched_run)
    monkeypatch.setattr(CliRunner, "invoke", watched_invoke)
    monkeypatch.setattr(pytest.CaptureFixture, "readouterr", watched_readouterr)


@pytest.fixture(scope="session", autouse=True)
def _read_along() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        _overhear(monkeypatch)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A phase of a test that wrote a secret has failed, whatever else came of it."""
    report = yield
    for title, content in report.sections:
        # Each phase's report has what the phases before it wrote, too.
        if title.endswith(call.when):
            WATCH.read(title, content)
    found = WATCH.take()
    if found and report.passed:
        report.outcome = "failed"
        report.longrepr = "\n".join(["a secret was written:", *sorted(set(found))])
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says that somebody looked."""
    terminalreporter.write_line(f"looked for secrets in {WATCH.bytes:,} characters of output")
