"""``inworld-proxy serve``: every example starts, says where it is, answers, and ends when it is told to."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.settings.test_examples import ENVIRON, EXAMPLES, KEY

ROOT = Path(__file__).parents[2]
PATIENCE = 100
"""Seconds for all that one process does; a few, when nothing else runs."""


@contextmanager
def serving(*arguments: str, environ: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, and the addresses of its two listeners as it said them."""
    command = [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INWORLD_")}
    with subprocess.Popen(
        command, cwd=ROOT, env={**clean, **environ}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stderr is not None
            said = ""
            while "metrics: " not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            data = re.search(r" on https?://([0-9.:]+) ->", said)
            admin = re.search(r"metrics: http://([0-9.:]+)", said)
            assert data is not None
            assert admin is not None
            yield process, data[1], admin[1]
        finally:
            watchdog.cancel()
            process.kill()


def ask(address: str, path: str, *, host: str | None = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=PATIENCE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_starts_and_ends(path: Path, tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    (tmp_path / "api-key").chmod(0o600)
    text = path.read_text(encoding="utf-8").replace("/run/secrets/inworld/", f"{tmp_path}/")
    # An identity provider that refuses the connection: nothing of a test leaves this machine.
    text = text.replace("https://id.example.com/keys", "http://127.0.0.1:9/keys")
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    with serving("--config", str(tmp_path / path.name), environ=ENVIRON) as (process, data, admin):
        status, ready = ask(admin, "/readyz")
        assert (status, ready["status"]) == (200, "ready")
        status, refused = ask(data, "/nothing/here", host="localhost")
        wants_token = "callers:" in text
        assert status == (401 if wants_token else 404)
        assert refused["details"]
        assert end(process) == 0


def test_without_a_key_the_sandbox_stands_in_and_three_commands_are_shown() -> None:
    with serving(environ={}) as (process, data, admin):
        assert process.stderr is not None
        assert process.stderr.readline() == f"inspector: http://{admin}/inspector\n"
        shown: list[str] = []
        while len(shown) < 3:
            line = process.stderr.readline()
            assert line, shown
            if line.startswith("  curl"):
                shown.append(line)
        assert all(data in line for line in shown[:2])
        status, voices = ask(data, "/voices/v1/voices")
        assert (status, bool(voices["voices"])) == (200, True)
        assert end(process) == 0


def test_an_inspector_that_is_switched_off_is_not_spoken_of(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("inspector: {enabled: false}\n", encoding="utf-8")
    with serving("--config", str(file), environ=ENVIRON) as (process, _, _):
        assert end(process) == 0
        assert process.stderr is not None
        assert "inspector" not in process.stderr.read()


def test_an_address_in_use_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [sys.executable, "-m", "proxy", "serve", "--listen", address, "--admin", "127.0.0.1:0"],
            cwd=ROOT, env={**os.environ, **ENVIRON}, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert "--listen" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_key_that_cannot_be_one_is_a_sentence_and_no_traceback() -> None:
    environ = {**os.environ, "INWORLD_API_KEY": "Basic abc"}
    result = subprocess.run(
        [sys.executable, "-m", "proxy", "serve"],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "remove the prefix" in result.stderr
    assert "Traceback" not in result.stderr
