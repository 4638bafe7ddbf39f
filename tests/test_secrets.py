"""Secrets stay where they are needed: not in output, crashes included, nor in arguments or a child's environment.

Real processes, because what counts is what an operator's terminal, log collector and process list show. The rest of
the suite's output is read by ``tests/secrets_watch.py``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from proxy.__main__ import main
from proxy.callers.token import digest_token, spell_digest
from proxy.cli.sandbox_process import reduced
from proxy.sandbox.keys import DEMO_KEYS
from proxy.settings.load import load_settings
from tests.clients.processes import Process, Sandbox, environment
from tests.secrets_watch import WATCH, Watch

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
CRASHED = 1.0
"""Seconds for an answer after a crash. Some leave a caller without one, and that is not what is asked here."""

SECRET = "f5a1c07d9b3e4826a0e7d4c15b92f863"
KEY = base64.b64encode(f"a-key-id:{SECRET}".encode()).decode()
CALLER = "caller-token-7d19e4ab02c3f586"
STRANGE = "strangers-token-41bb07e6c92d8f30"
PASSWORD = "a-password-of-the-egress-proxy-93"
for _name, _secret in {
    "the secret of the key in the environment": SECRET,
    "the key in the environment": KEY,
    "a caller's token": CALLER,
    "a stranger's token": STRANGE,
    "a password": PASSWORD,
}.items():
    WATCH.add(_name, _secret)

CRASHES = (
    "proxy.wire.caller:decide",
    "proxy.wire.caller:CallerConnection._serve",
    "proxy.credentials.api_key:ApiKey.authorization",
    "proxy.credentials.session_token:SessionToken.authorization",
    "proxy.credentials.mint:SessionTokenMint.__call__",
    "proxy.wire.exchange:prepare",
    "proxy.wire.exchange:Exchange._send",
    "proxy.wire.exchange:Exchange.on_response",
    "proxy.wire.tunnel:Tunnel.open",
    "proxy.wire.server:DataServer.finish",
)
"""Functions that crash, with everything that they were given in the exception's text."""

CRASHING = """
import importlib, logging, sys
module, _, path = sys.argv.pop(1).partition(":")
owner = importlib.import_module(module)
*parts, last = path.split(".")
for part in parts:
    owner = getattr(owner, part)
def crash(*given):
    # Raw bytes are what goes over the wire; everything else has a text that somebody may ask for.
    shown = [repr(each) for each in given if not isinstance(each, bytes)]
    try:
        raise ValueError("forced, with " + " ".join(shown))
    except ValueError:
        logging.getLogger("proxy").exception("forced: %s", shown)
        raise
setattr(owner, last, crash)
from proxy.__main__ import main
main()
"""


def _clean(what: str, *outputs: str | bytes) -> None:
    for output in outputs:
        WATCH.read(what, output)
    assert WATCH.take() == []


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    process = Process("sandbox", "--port", "0", "--announce-json", "--exit-with-parent", environ=environment())
    yield Sandbox.at(process.announced(process.out, r"^\{.*\}$")[0])
    process.end()


@pytest.fixture
def configuration(sandbox: Sandbox, tmp_path: Path) -> Path:
    file = tmp_path / "proxy.yaml"
    settings = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": sandbox.url}},
        "credentials": {
            "workspace": {"kind": "session-token", "secret": "env:WORKSPACE_KEY"},
            "speech": {"kind": "api-key", "secret": "env:WORKSPACE_KEY"},
            "wrong": {"kind": "api-key", "secret": "env:INWORLD_API_KEY"},
        },
        "routes": [
            {"operations": "tts.*", "credential": "speech"},
            {"operations": "models.*", "credential": "wrong"},
            {"operations": "*", "credential": "workspace"},
        ],
        "callers": {"app": {"token": spell_digest(digest_token(CALLER.encode())), "allow": "*"}},
        "log": {"format": "json"},
        "time": {"drain": "100ms"},
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


@dataclass
class Served:
    """A proxy at work."""

    process: subprocess.Popen[bytes]
    data: str
    admin: str


@contextlib.contextmanager
def serving(output: Path, *arguments: str, crash: str | None = None, **environ: str) -> Iterator[Served]:
    """A proxy; what it wrote is in ``output`` afterwards."""
    program = ("-m", "proxy") if crash is None else ("-c", CRASHING, crash)
    command = [sys.executable, *program, "serve", *arguments]
    with (
        output.open("wb") as written,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(**environ), stdout=written, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stderr is not None
        told = b""
        try:
            while not (found := re.search(rb"on (http://\S+) ->.*\n(?:.*\n)*?metrics: (http://[^/]+)/metrics\n", told)):
                line = process.stderr.readline()
                assert line, told.decode()
                told += line
            yield Served(process, found[1].decode(), found[2].decode())
        finally:
            process.terminate()
            told += process.stderr.read()
            written.write(told)


def ask(
    patience: float, base: str, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """All that came back; nothing when the connection broke."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=patience)
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers or {})
        response = connection.getresponse()
        head = f"{response.status}\n{response.headers}".encode()
        return head if response.status == 101 else head + response.read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def exercise(served: Served, patience: float = PATIENCE) -> bytes:
    """Every way of carrying a secret: allowed, refused here, refused upstream, and as a tunnel. What came back."""
    token = {"Authorization": f"Bearer {CALLER}"}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    speech = {"model": "m", "voice": "Ashley", "input": "Hello.", "response_format": "wav"}
    requests: list[tuple[str, str, str, Any, dict[str, str]]] = [
        (served.data, "POST", "/v1/audio/speech", speech, token),
        (served.data, "GET", "/voices/v1/voices", None, {"x-api-key": CALLER}),
        (served.data, "GET", "/llm/v1alpha/models", None, token),
        (
            served.data,
            "GET",
            f"/voices/v1/voices?token={CALLER}&key={KEY}",
            None,
            {"Authorization": f"Basic {STRANGE}"},
        ),
        (served.data, "GET", f"/nowhere?api_key={KEY}", None, {**token, "x-api-key": STRANGE}),
        (served.data, "POST", "/v1/sessionTokens/token:generate", {}, {"Authorization": f"Basic {KEY}"}),
        (served.data, "GET", f"/voices/v1/voices?a=%&key={STRANGE}", None, token),
        (served.data, "GET", "/stt/v1/transcribe:streamBidirectional", None, {**token, **upgrade}),
    ]
    # At the same time: some crashes leave a caller without an answer until it gives up.
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda request: ask(patience, *request), requests))
    answers += [ask(patience, served.admin, "GET", path) for path in ("/metrics", "/readyz", f"/healthz?key={KEY}")]
    return b"\n".join(answers)


# -- what is written --------------------------------------------------------------------------------------------------


def test_answers_metrics_health_log_and_standard_error_show_no_secret(
    sandbox: Sandbox, configuration: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    keys = {"WORKSPACE_KEY": sandbox.keys["full"], "INWORLD_API_KEY": KEY}
    with serving(output, "--config", str(configuration), **keys) as served:
        answered = exercise(served)
    _clean("the proxy", answered, output.read_bytes())
    assert b'"operation":"tts.openai_speech"' in output.read_bytes().replace(b" ", b"")
    assert b"inworld_proxy_credential_refusals_total" in answered


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_shows_no_secret(crash: str, sandbox: Sandbox, configuration: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    keys = {"WORKSPACE_KEY": sandbox.keys["full"], "INWORLD_API_KEY": KEY}
    with serving(output, "--config", str(configuration), crash=crash, **keys) as served:
        answered = exercise(served, CRASHED)
    written = output.read_bytes()
    assert b"ValueError: forced, with" in written
    _clean(f"a crash in {crash}", answered, written)


FAULTY: Mapping[str, Any] = {
    "a key in place of its source": {"credentials": {"main": {"kind": "api-key", "secret": KEY}}},
    "a secret in place of its source": {"credentials": {"main": {"kind": "api-key", "secret": SECRET}}},
    "a key after env": {"credentials": {"main": {"kind": "api-key", "secret": f"env:{KEY}"}}},
    "a key after exec": {"credentials": {"main": {"kind": "api-key", "secret": f"exec:{KEY}"}}},
    "a key as a credential": {"credentials": {"main": KEY}},
    "a key as the credentials": {"credentials": KEY},
    "a list of keys": {"credentials": [KEY]},
    "a key with Basic": {"credentials": {"main": {"kind": "api-key", "secret": f"Basic {KEY}"}}},
    "a token in place of its digest": {"callers": {"app": {"token": CALLER, "allow": "*"}}},
    "a token after sha256": {"callers": {"app": {"token": f"sha256:{CALLER}", "allow": "*"}}},
    "a key in the URL": {"upstreams": {"inworld": {"url": f"https://key:{SECRET}@api.inworld.ai"}}},
    "a token in the query of the URL": {"upstreams": {"inworld": {"url": f"https://api.inworld.ai/?key={KEY}"}}},
    "a key as a kind": {"credentials": {"main": {"kind": KEY, "secret": "env:INWORLD_API_KEY"}}},
    "a key as a type": {"credentials": {"main": {"kind": "api-key", "type": KEY, "secret": "env:INWORLD_API_KEY"}}},
    "a key as a name": {"credentials": {KEY: {"kind": "api-key", "secret": "env:INWORLD_API_KEY"}}},
    "a key as a setting": {"credentials": {"main": {"kind": "api-key", KEY: "env:INWORLD_API_KEY"}}},
    "a key as a file": {"credentials": {"main": {"kind": "api-key", "secret": f"file:/{KEY}"}}},
    "a key as a command": {"credentials": {"main": {"kind": "api-key", "secret": {"exec": [KEY]}}}},
    "a key as an address": {"listen": KEY},
    "a token as a host": {"hosts": [f"eyJhbGciOiJSUzI1NiJ9.{KEY.rstrip('=')}.c2lnbmF0dXJlLW9mLWEtdG9rZW4"]},
    "a password in a wrong proxy": {"upstreams": {"inworld": {"proxy": f"socks://user:{PASSWORD}@proxy.example:1"}}},
    "a password in a proxy with a path": {"upstreams": {"inworld": {"proxy": f"http://user:{PASSWORD}@host:1/path"}}},
}
"""Secrets where none belongs."""


@pytest.mark.parametrize("faulty", FAULTY.values(), ids=FAULTY.keys())
def test_a_secret_in_the_wrong_place_of_a_configuration_is_not_quoted(faulty: Any, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump(faulty), encoding="utf-8")
    done = CliRunner().invoke(main, ["check", "--config", str(file)])
    assert done.exit_code == 1, done.output
    _clean("check", done.output)


@pytest.mark.parametrize(
    "key", [SECRET, f"Basic {KEY}", base64.b64encode(KEY.encode()).decode(), f"{KEY}\n{KEY}", f"a-key-id:{SECRET}"]
)
def test_a_malformed_key_in_the_environment_is_not_quoted(key: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        cwd=ROOT, env=environment(INWORLD_API_KEY=key), capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    _clean("serve", done.stdout, done.stderr)


def test_check_and_explain_show_no_secret(sandbox: Sandbox, configuration: Path) -> None:
    environ = environment(WORKSPACE_KEY=sandbox.keys["full"], INWORLD_API_KEY=KEY)
    target = f"/voices/v1/voices?token={CALLER}"
    for command in (
        ["check"],
        ["explain", "GET", target, "--as", "app", "--json"],
        ["explain", "GET", target, "--as", "app"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *command, "--config", str(configuration)],
            cwd=ROOT, env=environ, capture_output=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.stdout, done.stderr
        _clean(command[0], done.stdout, done.stderr)


def test_no_part_of_a_configuration_in_use_has_a_text_that_shows_a_secret(
    sandbox: Sandbox, configuration: Path
) -> None:
    environ = {"WORKSPACE_KEY": sandbox.keys["full"], "INWORLD_API_KEY": KEY}
    snapshot = load_settings(configuration, environ)
    states = [each.state() for each in snapshot.credentials.values()]
    _clean("a snapshot", repr(snapshot), repr(snapshot.credentials), repr(snapshot.policy), repr(states))


# -- what others on the machine can look at ---------------------------------------------------------------------------


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
def test_neither_arguments_nor_the_sandboxs_environment_hold_a_secret(tmp_path: Path) -> None:
    arguments = ("--sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with serving(tmp_path / "output", *arguments, INWORLD_API_KEY=KEY, SOME_TOKEN=CALLER) as served:
        pid = served.process.pid
        (child,) = _children(pid)
        for each in (pid, child):
            _clean("an argument list", Path(f"/proc/{each}/cmdline").read_bytes())
        inherited = Path(f"/proc/{child}/environ").read_bytes()
    _clean("the environment of the sandbox", inherited)
    names = {variable.partition(b"=")[0] for variable in inherited.split(b"\0")}
    assert b"PATH" in names
    assert not names & {b"INWORLD_API_KEY", b"SOME_TOKEN"}


def test_the_sandbox_gets_what_python_needs_and_nothing_else() -> None:
    environ = {"PATH": "/bin", "HOME": "/", "PYTHONPATH": "x", "LC_ALL": "C", "INWORLD_API_KEY": KEY, "AWS_TOKEN": "y"}
    assert set(reduced(environ)) == {"PATH", "HOME", "PYTHONPATH", "LC_ALL"}


def test_a_command_that_prints_a_key_sees_neither_another_key_nor_a_token(tmp_path: Path) -> None:
    seen, command, file = tmp_path / "seen", tmp_path / "print-key", tmp_path / "proxy.yaml"
    command.write_text(f'#!/bin/sh\nenv > "{seen}"\necho {DEMO_KEYS[0].basic}\n', encoding="utf-8")
    command.chmod(0o700)
    credential = {"kind": "api-key", "secret": f"exec:{json.dumps([str(command)])}"}
    file.write_text(yaml.safe_dump({"credentials": {"main": credential}}), encoding="utf-8")
    load_settings(file, {"PATH": os.environ["PATH"], "INWORLD_API_KEY": KEY, "SOME_TOKEN": CALLER})
    environ = seen.read_text(encoding="utf-8")
    _clean("the environment of the command", environ)
    assert "PATH=" in environ
    assert "INWORLD_API_KEY" not in environ


# -- the watch itself -------------------------------------------------------------------------------------------------


def test_the_watch_finds_a_secret_its_base64_and_any_token() -> None:
    watch = Watch()
    watch.add("a password", PASSWORD)
    token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJzYW5kYm94In0.c2lnbmF0dXJlLW9mLWEtdG9rZW4"
    for text in (f"found {PASSWORD}!", base64.b64encode(PASSWORD.encode()).decode(), f"Bearer {token}"):
        watch.read("a log", text.encode())
        assert len(watch.take()) == 1
    watch.read("a log", f"{PASSWORD[:8]} and nothing else")
    assert watch.take() == []


def test_a_test_that_prints_logs_or_reads_back_a_secret_fails(tmp_path: Path) -> None:
    planted = tmp_path / "test_planted.py"
    planted.write_text(
        """
import logging
import sys
from tests.snapshots import KEY
def test_print(): print(KEY)
def test_log(): logging.getLogger("proxy").warning("a line with %s", KEY)
def test_read_back(capsys): print(KEY, file=sys.stderr); capsys.readouterr()
def test_nothing(): print("nothing")
""",
        encoding="utf-8",
    )
    options = ("-q", "-p", "tests.secrets_watch", "-p", "no:cacheprovider", "--import-mode=importlib", "--tb=line")
    command = [sys.executable, "-m", "pytest", *options, str(planted)]
    # Not subprocess.run(): this output does show a secret.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert "3 failed, 1 passed" in output
