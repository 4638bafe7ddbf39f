"""Every command has examples in its ``--help``, they are right, and nobody waits for it."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from proxy.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]
OFFLINE = {"check", "completion", "explain", "routes", "schema", "suggest", "token"}
"""Commands that do what they do at once, with nothing but files."""

ELSEWHERE = "--live"
"""What asks a process that runs."""

HEAVY = {"pydantic", "aiohttp", "uvloop", "prometheus_client", "cryptography"}
"""Each takes longer to import than all that ``--help`` needs."""

LINE = (
    '{"time":"2026-05-28T20:26:40.123Z","method":"POST","path":"/tts/v1/voice","operation":"tts.synthesize",'
    '"caller":"storefront","status":200,"ending":"answered","duration_ms":1.0,"request_bytes":1,"response_bytes":1,'
    '"peer":"127.0.0.1"}\n'
)


class Example(NamedTuple):
    """A command line of an epilog."""

    command: str
    words: tuple[str, ...]


def _command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def _examples() -> Iterator[Example]:
    for epilog in (main.epilog, *(_command(name).epilog for name in COMMANDS)):
        for line in (epilog or "").splitlines():
            match = re.match(r"  (?:\S.*\| )?inworld-proxy (.*)", line)
            if match and "COMMAND" not in line:
                spoken = re.split(r" {2,}| [|>] ", match[1])[0]  # the command, without what is said beside it
                command, *words = shlex.split(spoken)
                yield Example(command, tuple(words))


EXAMPLES = [*dict.fromkeys(_examples())]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name, and the keys of the configuration."""
    shutil.copy(ROOT / "config" / "egress.yaml", tmp_path)
    (tmp_path / "proxy.log").write_text(LINE)
    key = base64.b64encode(b"id:secret").decode()
    monkeypatch.setenv("INWORLD_API_KEY", key)
    monkeypatch.setenv("INWORLD_REALTIME_KEY", key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_command_has_examples_that_stay_as_they_are_written(name: str) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    command = _command(name) if name else main
    assert command.epilog is not None, f"{name} has no examples"
    assert "\nExamples:\n" in result.output or "\n  Examples:\n" in result.output
    shown = {line.strip() for line in result.output.splitlines()}
    for line in command.epilog.splitlines():
        assert line.strip("\b ") in shown | {""}
    assert f"inworld-proxy {name}".strip() in command.epilog


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: " ".join([example.command, *example.words]))
def test_an_example_is_understood(example: Example, folder: Path) -> None:
    context = _command(example.command).make_context(example.command, [*example.words])
    context.close()


@pytest.mark.parametrize(
    "example",
    [each for each in EXAMPLES if each.command in OFFLINE and ELSEWHERE not in each.words],
    ids=lambda example: " ".join([example.command, *example.words]),
)
def test_an_example_that_needs_nobody_does_what_it_says(example: Example, folder: Path) -> None:
    result = CliRunner().invoke(main, [example.command, *example.words], input=LINE, prog_name="inworld-proxy")
    assert result.exit_code == 0, result.output
    assert result.output.strip()


def test_help_and_completion_import_nothing_heavy() -> None:
    # In a process of its own: here everything has been imported by somebody.
    program = f"""
import sys
from proxy.__main__ import COMMANDS, main
for name in ["", *COMMANDS]:
    main([*name.split(), "--help"], prog_name="inworld-proxy", standalone_mode=False)
    print("!", name, sorted({HEAVY} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    assert said == [f"! {name} []" for name in ["", *COMMANDS]]
