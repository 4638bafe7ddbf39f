"""The command of a source runs without a shell, sees little, and has limits; with real child processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.credentials.command import LARGEST_OUTPUT, reduced, resolve_command, run_command
from proxy.credentials.secret import SecretError
from tests.credentials.conftest import gone, put

PYTHON = sys.executable

SLEEP = 60.0
"""Seconds that a command sleeps which nobody may wait for; half of them are enough for a busy machine."""


def run(
    *argv: str, environ: Mapping[str, str] | None = None, named: tuple[str, ...] = (), limit: float = SLEEP
) -> bytes:
    return run_command(argv, environ or {}, named, threading.Event(), time_limit=limit)


def test_arguments_arrive_as_they_are_written() -> None:
    arguments = ["$HOME", "`id`", "$(id)", "; id", "a b", "*", "", "'", '"', "|", "> /dev/null", "~", "\n"]
    out = run(PYTHON, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *arguments, environ=os.environ)
    assert json.loads(out) == arguments


def test_its_environment_is_a_stated_few_and_what_the_configuration_names() -> None:
    environ = {
        "PATH": "/usr/bin", "HOME": "/somewhere", "LANG": "C.UTF-8", "XDG_CONFIG_HOME": "/somewhere/.config",
        "VAULT_ADDR": "v", "INWORLD_API_KEY": "hidden",
        "LD_PRELOAD": "hidden.so", "HTTP_PROXY": "hidden", "PYTHONPATH": "/hidden",
    }  # fmt: skip
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(run(PYTHON, "-I", "-c", code, environ=environ, named=("VAULT_ADDR", "NOT_SET")))
    seen.pop("LC_CTYPE", None)  # Python's own doing
    assert seen == {name: environ[name] for name in ("PATH", "HOME", "LANG", "XDG_CONFIG_HOME", "VAULT_ADDR")}
    assert reduced({"INWORLD_API_KEY": "k"}, ()) == {}


def test_it_has_no_input_no_terminal_and_none_of_our_files() -> None:
    held, other = os.pipe()
    os.set_inheritable(held, True)
    code = f"""
import os, sys
assert sys.stdin.read() == ""
assert os.getsid(0) == os.getpid()
try:
    os.fstat({held})
except OSError:
    print("ok")
"""
    try:
        assert run(PYTHON, "-c", code) == b"ok\n"
    finally:
        os.close(held)
        os.close(other)


def test_its_standard_error_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PYTHON, "-c", "import sys; print('secret-on-stderr', file=sys.stderr); print('x')") == b"x\n"
    with pytest.raises(SecretError) as raised:
        run(PYTHON, "-c", "import sys; print('secret-on-stdout'); sys.exit('secret-on-stderr')")
    assert "status 1" in raised.value.found
    assert "secret-on" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_one_that_never_ends_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    # A shell, which starts so fast that the second is enough on a busy machine too.
    code = f"/bin/sleep 60 & echo $! > '{tmp_path}/pids'; wait"
    began = time.monotonic()
    with pytest.raises(SecretError, match="took too long"):
        run("/bin/sh", "-c", code, limit=1.0)
    assert time.monotonic() - began < SLEEP / 2
    assert gone(int((tmp_path / "pids").read_text()))


def test_one_that_closes_its_output_and_stays_is_killed_too() -> None:
    with pytest.raises(SecretError, match="took too long"):
        run(PYTHON, "-c", "import os, time; print('x', flush=True); os.close(1); time.sleep(60)", limit=0.5)


def test_one_that_prints_without_end_is_killed() -> None:
    with pytest.raises(SecretError, match="printed more than any secret"):  # and not: took too long
        run(PYTHON, "-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)")
    assert len(run(PYTHON, "-c", f"print('x' * {LARGEST_OUTPUT - 1})")) == LARGEST_OUTPUT


def test_an_agent_that_it_leaves_behind_does_not_keep_us() -> None:
    code = f"""
import os, time
agent = os.fork()
if agent == 0:
    time.sleep({SLEEP})
    os._exit(0)
print(agent, flush=True)
"""
    began = time.monotonic()
    agent = int(run(PYTHON, "-c", code))
    assert time.monotonic() - began < SLEEP / 2
    os.kill(agent, signal.SIGKILL)  # it was still there


def test_it_ends_when_we_are_told_to_stop() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(SecretError):
        run_command((PYTHON, "-c", "import time; time.sleep(60)"), {}, (), stop)
    assert time.monotonic() - began < SLEEP / 2


def test_one_that_is_killed_by_somebody_else_is_a_fault() -> None:
    with pytest.raises(SecretError, match="status -9"):
        run(PYTHON, "-c", "import os; print('x', flush=True); os.kill(os.getpid(), 9)")


def test_a_name_is_looked_up_in_the_absolute_folders_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "give-key", "#!/bin/sh\necho x\n", 0o700)
    (tmp_path / "other").mkdir()
    put(tmp_path / "other" / "give-key", "not a program", 0o600)
    assert resolve_command("give-key", {"PATH": f"{tmp_path}/other:{tmp_path}"}) == str(tmp_path / "give-key")
    assert run("give-key", environ={"PATH": str(tmp_path)}) == b"x\n"
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", ":", "other:.", "./"):
        with pytest.raises(SecretError, match="not there"):
            resolve_command("give-key", {"PATH": path})


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/command", "/etc/passwd", "/"])
def test_a_command_that_is_not_there_is_a_fault(name: str) -> None:
    with pytest.raises(SecretError) as raised:
        run(name, "argument-with-a-secret", environ=os.environ)
    assert name in raised.value.found
    assert "argument-with-a-secret" not in str(raised.value)


def test_a_program_that_cannot_be_run_is_a_fault(tmp_path: Path) -> None:
    put(tmp_path / "broken", "#!/no/such/interpreter\n", 0o700)
    with pytest.raises(SecretError, match="cannot be run"):
        run(str(tmp_path / "broken"))
