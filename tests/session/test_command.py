"""``inworld-proxy run``: what the command sees, what it may do, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.callers.token import digest_token, spell_digest
from proxy.sandbox.keys import DEMO_KEYS
from tests.privileges import without
from tests.session.beside import (
    PATIENCE,
    REAL_KEY,
    REAL_SECRET,
    ROOT,
    arguments,
    begun,
    environ,
    is_running,
    line_of,
    python,
    run,
    summary,
)

SHOW = python("import json, os; print(json.dumps(dict(os.environ)))")
ASK = """
import json, os, sys, urllib.error, urllib.request
def ask(path, body=None, token=os.environ["INWORLD_API_KEY"]):
    fields = {"Authorization": f"Basic {token}"} if token else {}
    request = urllib.request.Request(os.environ["INWORLD_BASE_URL"] + path, body, fields)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
"""
WAIT = "import signal, sys\nprint('ready', flush=True)\nsignal.pause()"


def seen(*options: str, **env: str) -> dict[str, str]:
    done = run(*options, command=SHOW, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


# -- the environment --------------------------------------------------------------------------------------------------


def test_the_command_finds_the_proxy_and_a_token_where_clients_look() -> None:
    found = seen()
    url, token = found["INWORLD_BASE_URL"], found["INWORLD_API_KEY"]
    assert url.startswith("http://127.0.0.1:")
    assert found["INWORLD_API_BASE"] == found["INWORLD_API_BASE_URL"] == found["ANTHROPIC_BASE_URL"] == url
    assert found["OPENAI_BASE_URL"] == f"{url}/v1"
    assert found["OPENAI_API_KEY"] == found["ANTHROPIC_API_KEY"] == token
    assert len(token) > 40


def test_without_a_key_the_sandbox_stands_in() -> None:
    with_nothing = [each for each in arguments(command=["true"]) if each not in ("--upstream", "http://127.0.0.1:9")]
    done = subprocess.run(
        with_nothing,
        env=environ(INWORLD_API_KEY=""),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "the built-in sandbox: nothing leaves this machine" in done.stderr
    assert "no requests" in done.stderr


def test_the_token_is_another_one_every_time() -> None:
    assert seen()["INWORLD_API_KEY"] != seen()["INWORLD_API_KEY"]


def test_the_real_key_is_nowhere_in_the_environment_of_the_command() -> None:
    source = "print(open('/proc/self/environ').read())" if sys.platform == "linux" else "import os; print(os.environ)"
    env = {
        "ANTHROPIC_AUTH_TOKEN": REAL_KEY,
        "OF_MY_OWN": f"Basic {REAL_KEY}",
        "THE_SECRET": REAL_SECRET,
        "PLAIN": "stays",
    }
    done = run(command=python(source), env=env)
    assert done.returncode == 0, done.stderr
    assert "PLAIN=stays" in done.stdout or "'PLAIN': 'stays'" in done.stdout
    assert not any(each in done.stdout for each in (REAL_KEY, REAL_SECRET, "OF_MY_OWN", "ANTHROPIC_AUTH_TOKEN"))


def test_the_real_key_is_taken_out_in_the_sandbox_too() -> None:
    assert REAL_KEY not in seen("--sandbox", COPY=REAL_KEY).values()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_the_command_cannot_read_the_key_from_the_proxy_that_runs_it() -> None:
    source = "import os\ntry:\n  open(f'/proc/{os.getppid()}/environ').read()\nexcept PermissionError:\n  print('no')"
    assert run(command=python(source), before=without("sys_ptrace", "perfmon", "sys_admin")).stdout == "no\n"


def test_every_variable_that_the_configuration_reads_a_secret_from_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(REAL_KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "proxy.yaml").write_text(
        """
        upstreams: {inworld: {url: "http://127.0.0.1:9", proxy: "env:WAY_OUT"}}
        credentials:
          file: {kind: api-key, secret: "file:%s"}
          variable: {kind: api-key, secret: "env:OTHER_KEY"}
          command: {kind: api-key, secret: {exec: [printenv, VAULT_KEY], environment: [VAULT_KEY]}}
        routes:
          - {operations: "voices.*", credential: file}
          - {operations: "tts.*", credential: command}
          - {operations: "*", credential: variable}
        """
        % (tmp_path / "key")
    )
    key = DEMO_KEYS[0].basic
    found = seen(
        "--config", str(tmp_path / "proxy.yaml"),
        OTHER_KEY=key, VAULT_KEY=key, WAY_OUT="http://user:a-long-password@127.0.0.1:9", IN_A_FILE=REAL_KEY, KEPT="yes",
    )  # fmt: skip
    assert found["KEPT"] == "yes"
    assert {"OTHER_KEY", "VAULT_KEY", "WAY_OUT", "IN_A_FILE"}.isdisjoint(found)
    assert {"PATH", "HOME"} <= set(found)


def test_an_http_proxy_is_not_asked_for_the_way_to_this_one() -> None:
    done = run(
        "--sandbox",
        command=python(ASK + "print(ask('/voices/v1/voices'))"),
        env={"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"},
    )
    assert done.stdout == "200\n", done.stderr
    found = seen(HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="example.org")
    assert found["NO_PROXY"] == found["no_proxy"] == "example.org,127.0.0.1,localhost,::1"
    assert "NO_PROXY" not in seen()


# -- what it may do ---------------------------------------------------------------------------------------------------


def test_an_unchanged_openai_script_runs_against_the_sandbox() -> None:
    pytest.importorskip("openai")
    script = """
from openai import OpenAI
with OpenAI() as client:
    answer = client.chat.completions.create(model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "Hi."}])
    print(bool(answer.choices[0].message.content))
"""
    done = run("--sandbox", "--summary", "json", command=python(script))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    (calls,) = summary(done)["operations"]
    assert (calls["operation"], calls["calls"], calls["ok"]) == ("llm.chat_completions", 1, 1)
    assert calls["response_bytes"] > 0
    assert calls["first_byte_p50_ms"] > 0


def test_an_unchanged_anthropic_script_runs_against_the_sandbox() -> None:
    pytest.importorskip("anthropic")
    script = """
import anthropic
with anthropic.Anthropic() as client:
    said = [{"role": "user", "content": "Hi."}]
    print(client.messages.create(model="anthropic/claude-sonnet-4-5", max_tokens=9, messages=said).role)
"""
    assert run("--sandbox", command=python(script)).stdout == "assistant\n"


def test_without_the_token_another_process_is_refused() -> None:
    with begun("--quiet", command=["sh", "-c", "echo $INWORLD_BASE_URL; read line"]) as process:
        address = line_of(process).removeprefix("http://")
        for fields in ({}, {"Authorization": "Bearer somebody-elses-token"}):
            connection = http.client.HTTPConnection(address, timeout=PATIENCE)
            connection.request("GET", "/voices/v1/voices", headers=fields)
            assert connection.getresponse().status == 401
            connection.close()
        process.communicate("over\n", timeout=PATIENCE)
        assert process.returncode == 0


def test_what_the_key_may_not_do_is_refused_and_said_at_the_end_with_what_to_change() -> None:
    done = run("--sandbox", command=python(ASK + "print(ask('/voices/v1/voices:clone', b'{}'), ask('/nothing/here'))"))
    assert done.stdout == "403 404\n"
    assert "refused: voices.clone write_not_permitted (403), once" in done.stderr
    assert "--voices write" in done.stderr
    assert "no_operation" in done.stderr
    done = run("--sandbox", "--voices", "write", command=python(ASK + "print(ask('/voices/v1/voices:clone', b'{}'))"))
    assert done.stdout != "403\n"
    assert "refused:" not in done.stderr


CONFIGURATION = """
credentials:
  workspace: {kind: api-key, secret: env:WORKSPACE_KEY}
callers:
  storefront: {token: "%s", allow: ["voices.*"], limits: {requests: 1/m}}
"""
STOREFRONT = "the-token-of-storefront-in-production"


def test_as_a_caller_the_command_has_that_callers_grants_and_not_its_token(tmp_path: Path) -> None:
    (tmp_path / "proxy.yaml").write_text(CONFIGURATION % spell_digest(digest_token(STOREFRONT.encode())))
    options = ("--config", str(tmp_path / "proxy.yaml"), "--upstream", "http://127.0.0.1:9", "--summary", "json")
    script = python(
        ASK
        + f"print(ask('/llm/v1alpha/models'), ask('/voices/v1/voices', token='{STOREFRONT}'), ask('/voices/v1/voices'),"
        "ask('/voices/v1/voices'))"
    )
    done = run(*options, "--as", "storefront", command=script, env={"WORKSPACE_KEY": REAL_KEY})
    assert done.stdout == "403 401 502 429\n", done.stderr
    troubles = {(each["operation"], each["code"]): each["message"] for each in summary(done)["troubles"]}
    assert "callers.storefront.allow" in troubles["models.list", "operation_not_granted"]
    assert "limits.requests" in troubles["voices.list", "rate_limited"]
    # Without a name all that the key may do; the upstream is not there.
    done = run(*options, command=python(ASK + "print(ask('/llm/v1alpha/models'))"), env={"WORKSPACE_KEY": REAL_KEY})
    assert done.stdout == "502\n"


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (CONFIGURATION, "storefron", "Did you mean storefront?"),
        ("credentials: {workspace: {kind: api-key, secret: env:WORKSPACE_KEY}}", "anyone", "leave out --as anyone"),
    ],
)
def test_a_caller_who_is_not_declared_is_a_fault_in_the_command_line(
    tmp_path: Path, text: str, name: str, says: str
) -> None:
    (tmp_path / "proxy.yaml").write_text(text.replace("%s", spell_digest(digest_token(STOREFRONT.encode()))))
    done = run(
        "--config", str(tmp_path / "proxy.yaml"), "--as", name, command=["true"], env={"WORKSPACE_KEY": REAL_KEY}
    )
    assert done.returncode == 2
    assert says in done.stderr


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_the_exit_code_is_the_commands(code: int) -> None:
    assert run(command=["sh", "-c", f"exit {code}"]).returncode == code


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_be_run_is_126(tmp_path: Path) -> None:
    missing = run(command=["no-such-command-anywhere"])
    assert (missing.returncode, "no-such-command-anywhere: command not found" in missing.stderr) == (127, True)
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    refused = run(command=[str(plain)])
    assert (refused.returncode, "not executable" in refused.stderr) == (126, True)
    plain.write_text("neither a script nor a program")
    plain.chmod(plain.stat().st_mode | stat.S_IXUSR)
    assert run(command=[str(plain)]).returncode == 126


def test_a_proxy_that_cannot_run_is_125_and_the_command_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "proxy.yaml").write_text("listne: 1\n")
    done = run("--config", str(tmp_path / "proxy.yaml"), command=["touch", str(tmp_path / "started")])
    assert (done.returncode, "listen" in done.stderr) == (125, True)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_how_the_command_ends_by_it_is_the_exit_code(number: signal.Signals) -> None:
    source = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n" + WAIT
    with begun(command=python(source)) as process:
        assert line_of(process) == "ready"
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + number
        assert "no requests" in said
        assert "Traceback" not in said


def test_a_command_that_goes_on_after_a_signal_is_waited_for() -> None:
    source = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"heard\\n"))  # print() must not be entered again
print("ready", flush=True)
sys.exit(len(sys.stdin.readline()))
"""
    with begun(command=python(source)) as process:
        assert line_of(process) == "ready"
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            assert line_of(process) == "heard"
        process.communicate("four\n", timeout=PATIENCE)
        assert process.returncode == 5


def test_what_was_ignored_at_the_start_is_ignored_by_the_command_too() -> None:
    source = "import signal; print(signal.getsignal(signal.SIGHUP).name, signal.getsignal(signal.SIGPIPE).name)"
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *arguments("--quiet", command=python(source))]
    done = subprocess.run(nohup, env=environ(), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split()[0] == "SIG_IGN"


def test_limits_are_passed_on_as_they_were() -> None:
    show = (
        "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    shell = ["sh", "-c", 'ulimit -S -n 512; exec "$@"', "sh"]

    def shown(command: list[str]) -> str:
        done = subprocess.run(
            [*shell, *command], env=environ(), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return done.stdout

    assert shown(arguments("--quiet", command=python(show))) == shown(python(show)) != ""


def test_standard_input_and_output_are_the_commands_own() -> None:
    done = run("--quiet", command=["tr", "a-z", "A-Z"], stdin="spoken\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "SPOKEN\n", "")


def test_what_the_command_left_running_keeps_nobody() -> None:
    source = """
import subprocess, sys
nowhere = subprocess.DEVNULL
left = subprocess.Popen(["sleep", "600"], stdin=nowhere, stdout=nowhere, stderr=nowhere)
print(left.pid)
"""
    began = time.monotonic()
    done = run("--quiet", command=python(source))
    assert time.monotonic() - began < PATIENCE
    left = int(done.stdout)
    try:
        assert (done.returncode, is_running(left)) == (0, True)
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_nothing_is_left_running_or_listening() -> None:
    with begun("--sandbox", command=["sh", "-c", "echo $INWORLD_BASE_URL; read line"]) as process:
        address = line_of(process).removeprefix("http://")
        group = Path("/proc").glob("[0-9]*/stat")
        session = str(process.pid)
        # The sandbox has a session of its own, so that Ctrl-C is not for it; its parent says whose it is.
        children = [each.parent.name for each in group if _parent(each) == session]
        assert len(children) == 2  # the sandbox and the command
        process.communicate("over\n", timeout=PATIENCE)
    assert not any(is_running(int(child)) for child in children)
    host, _, port = address.partition(":")
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(host, int(port), timeout=PATIENCE).connect()


def _parent(path: Path) -> str:
    try:
        return path.read_text().rpartition(")")[2].split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_a_websocket_that_is_open_at_the_end_is_closed(tmp_path: Path) -> None:
    pytest.importorskip("websockets")
    keeps = tmp_path / "keeps.py"
    keeps.write_text(
        """
import os, sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed
url = os.environ["INWORLD_BASE_URL"].replace("http", "ws") + "/tts/v1/voice:streamBidirectional"
fields = {"Authorization": "Bearer " + os.environ["INWORLD_API_KEY"]}
with connect(url, additional_headers=fields, proxy=None) as socket:
    print("open", flush=True)
    try:
        socket.recv()
    except ConnectionClosed as closed:
        open(sys.argv[1], "w").write(str(closed.rcvd.code))
"""
    )
    source = f"""
import subprocess, sys
left = subprocess.Popen([sys.executable, {str(keeps)!r}, {str(tmp_path / "code")!r}], stdout=subprocess.PIPE)
left.stdout.readline()
print(left.pid)
"""
    done = run("--sandbox", "--summary", "json", command=python(source))
    assert done.returncode == 0, done.stderr
    (calls,) = summary(done)["operations"]
    assert (calls["operation"], calls["calls"]) == ("tts.synthesize_ws", 1)
    deadline = time.monotonic() + PATIENCE
    while is_running(int(done.stdout)) and time.monotonic() < deadline:
        os.sched_yield()
    assert (tmp_path / "code").read_text() == "1001"


# -- what is said -----------------------------------------------------------------------------------------------------


def test_the_request_log_goes_to_a_file_and_the_summary_too(tmp_path: Path) -> None:
    log, calls = tmp_path / "requests.log", tmp_path / "calls.json"
    done = run(
        "--sandbox", "--quiet", "--log", str(log), "--summary", "json", "--summary-file", str(calls),
        command=python(ASK + "print(ask('/voices/v1/voices?x=1'))"),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("200\n", "")
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["operation"], line["caller"]) == ("voices.list", "session")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    whole = json.loads(calls.read_text())
    assert (whole["exit_code"], whole["operations"][0]["calls"], whole["troubles"]) == (0, 1, [])


def test_a_file_that_cannot_be_written_is_said_without_a_traceback(tmp_path: Path) -> None:
    assert run("--log", str(tmp_path / "no" / "log"), command=["true"]).returncode == 2
    done = run("--summary-file", str(tmp_path / "no" / "summary"), command=["sh", "-c", "exit 3"])
    assert (done.returncode, "cannot be written" in done.stderr) == (3, True)


def test_nobody_who_reads_standard_error_changes_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            arguments(command=["sh", "-c", "exit 9"]),
            env=environ(),
            cwd=ROOT,
            stderr=write,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write)
    assert done.returncode == 9


# -- at a terminal ----------------------------------------------------------------------------------------------------


def read_until(terminal: int, word: bytes) -> bytes:
    """What is said there up to this word, or to the end without one; it has to come."""
    said = b""
    deadline = time.monotonic() + PATIENCE
    while not word or word not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, said
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # on Linux the end of it, once nobody has the other side
            piece = b""
        assert piece or not word, said
        if not piece:
            break
        said += piece
    return said


def at_a_terminal(source: str) -> tuple[int, int]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        command = arguments(command=python(source))
        os.execve(command[0], command, environ())
    return pid, terminal


def test_ctrl_c_reaches_the_command_once() -> None:
    source = """
import signal, sys
count = 0
def heard(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, heard)
print("ready", flush=True)
sys.stdin.readline()
print(f"heard {count}.", flush=True)
"""
    pid, terminal = at_a_terminal(source)
    try:
        read_until(terminal, b"ready")
        os.write(terminal, b"\x03\n")
        said = read_until(terminal, b"")
        assert b"heard 1." in said
        assert b"no requests" in said
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_a_job_that_is_stopped_goes_on() -> None:
    """The kernel sends what is typed to the group; here the test does, as this group has no shell that would."""
    source = "import sys\nprint('ready', flush=True)\nprint('got', sys.stdin.readline().strip() + '.', flush=True)"
    pid, terminal = at_a_terminal(source)
    try:
        read_until(terminal, b"ready")
        os.killpg(pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        os.killpg(pid, signal.SIGCONT)
        os.write(terminal, b"on\n")
        said = read_until(terminal, b"")
        assert b"got on." in said
        assert b"no requests" in said
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
