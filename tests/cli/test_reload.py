"""A running ``inworld-proxy serve`` reads its configuration again: when told, and when it sees that a file changed."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.callers.token import digest_token
from tests.cli.test_serve import PATIENCE, ROOT, ask, end, serving
from tests.settings.test_examples import ENVIRON

ONE, TWO = "token-of-caller-one", "token-of-caller-two"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the standard library's name


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class Running(NamedTuple):
    """A process, and what it says."""

    process: subprocess.Popen[str]
    data: str
    admin: str

    def until(self, words: str) -> str:
        """Reads what it says up to the line with these words."""
        assert self.process.stderr is not None
        said = ""
        while words not in said.rpartition("\n")[0].rpartition("\n")[2]:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        return said

    def status_for(self, token: str) -> int:
        connection = http.client.HTTPConnection(self.data, timeout=PATIENCE)
        connection.request("GET", "/voices/v1/voices", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def served(self) -> tuple[int, int]:
        return self.status_for(ONE), self.status_for(TWO)

    def metric(self, name: str) -> float:
        connection = http.client.HTTPConnection(self.admin, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        (line,) = [each for each in text.splitlines() if each.startswith(f"inworld_proxy_{name} ")]
        return float(line.rpartition(" ")[2])

    def reloads(self) -> tuple[float, float]:
        return tuple(self.metric(f'configuration_reloads_total{{result="{each}"}}') for each in ("success", "failed"))

    def reload(self) -> dict[str, object]:
        _, body = ask(self.admin, "/readyz")
        found = body["reload"]
        assert isinstance(found, dict)
        return found


def configuration(upstream: int, **callers: str) -> str:
    lines = [f"upstreams: {{inworld: {{url: 'http://127.0.0.1:{upstream}'}}}}", "callers:"]
    for name, token in callers.items():
        digest = digest_token(token.encode())
        text = digest if isinstance(digest, str) else f"sha256:{digest.hex()}"
        lines.append(f"  {name}: {{token: '{text}', allow: '*'}}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def running(*arguments: str, environ: Mapping[str, str] = ENVIRON) -> Iterator[Running]:
    with serving(*arguments, environ=environ) as (process, data, admin):
        yield Running(process, data, admin)
        assert end(process) == 0


def test_on_sighup_and_by_post_the_file_is_read_again(upstream: int, tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(configuration(upstream, one=ONE))
    with running("--config", str(path)) as proxy:
        assert proxy.served() == (200, 401)
        assert (proxy.reload()["state"], proxy.reloads()) == ("loaded", (0, 0))
        began = proxy.metric("configuration_loaded_timestamp_seconds")
        path.write_text(configuration(upstream, two=TWO))
        proxy.process.send_signal(signal.SIGHUP)
        assert f"configuration reloaded from {path} (SIGHUP" in proxy.until("configuration reloaded")
        assert proxy.served() == (401, 200)
        assert proxy.metric("configuration_loaded_timestamp_seconds") > began
        connection = http.client.HTTPConnection(proxy.admin, timeout=PATIENCE)
        connection.request("POST", "/reload")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["status"]) == (200, "reloaded")
        connection.close()
        assert (proxy.reload()["state"], proxy.reloads()) == ("reloaded", (2, 0))


def test_a_change_of_the_file_is_noticed_and_a_faulty_one_leaves_everything_as_it_was(
    upstream: int, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(configuration(upstream, one=ONE))
    with running("--config", str(path)) as proxy:
        path.write_text(configuration(upstream, two=TWO) + "tyme: {}\n")
        said = proxy.until("tyme")
        assert "configuration not reloaded (its files changed): the one read before stays in force" in said
        assert f"{path}:4" in said
        assert proxy.served() == (200, 401)
        shown = proxy.reload()
        assert (shown["state"], shown["faults"], proxy.reloads()) == ("failed", 1, (0, 1))
        assert "tyme" in str(shown["found"])
        assert proxy.metric("configuration_reload_failed") == 1
        status, ready = ask(proxy.admin, "/readyz")
        assert (status, ready["status"]) == (200, "ready")
        path.write_text(configuration(upstream, two=TWO))
        proxy.until("configuration reloaded")
        assert proxy.served() == (401, 200)
        assert (proxy.reload()["state"], proxy.metric("configuration_reload_failed")) == ("reloaded", 0)
        path.unlink()
        assert f"{path} is gone; the configuration read before stays in force" in proxy.until("is gone")
        assert proxy.served() == (401, 200)
        path.write_text(configuration(upstream, one=ONE, two=TWO))
        proxy.until("configuration reloaded")
        assert proxy.served() == (200, 200)


def test_a_folder_that_is_swapped_by_its_link_is_noticed(upstream: int, tmp_path: Path) -> None:
    for name, text in (("v1", configuration(upstream, one=ONE)), ("v2", configuration(upstream, two=TWO))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "proxy.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "proxy.yaml").symlink_to("..data/proxy.yaml")
    with running("--config", str(tmp_path / "proxy.yaml")) as proxy:
        assert proxy.served() == (200, 401)
        (tmp_path / "..next").symlink_to("v2")
        (tmp_path / "..next").rename(tmp_path / "..data")
        proxy.until("configuration reloaded")
        assert proxy.served() == (401, 200)


def test_a_file_that_was_missing_is_waited_for(upstream: int, tmp_path: Path) -> None:
    path, catalogue = tmp_path / "proxy.yaml", tmp_path / "mine.yaml"
    text = configuration(upstream, one=ONE)
    path.write_text(text)
    with running("--config", str(path)) as proxy:
        path.write_text(text.replace("{url", "{catalogue: mine.yaml, url"))
        assert "which does not exist" in proxy.until("mine.yaml")
        catalogue.write_text((ROOT / "proxy" / "catalogue" / "inworld.yaml").read_text())
        proxy.until("configuration reloaded")
        assert proxy.served() == (200, 401)


def test_options_stay_in_force_and_without_a_file_sighup_does_no_harm() -> None:
    with running("--voices", "write", environ=ENVIRON) as proxy:
        proxy.process.send_signal(signal.SIGHUP)
        assert "configuration reloaded from environment (SIGHUP)" in proxy.until("configuration reloaded")
        status, ready = ask(proxy.admin, "/readyz")
        assert (status, ready["status"], proxy.reloads()) == (200, "ready", (1, 0))


@contextlib.contextmanager
def in_a_terminal(*prefix: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process as the first of a terminal, and the terminal's other end. Closing that closes the terminal."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    command = [*prefix, sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INWORLD_")} | ENVIRON
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=take_terminal,  # noqa: PLW1509 - nothing else has to be safe in a test's child
    ) as process:  # fmt: skip
        os.close(theirs)
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stderr is not None
            while "metrics: " not in process.stderr.readline():
                assert process.poll() is None
            yield process, ours
        finally:
            watchdog.cancel()
            process.kill()


def test_whoever_closes_the_terminal_ends_the_proxy_in_it() -> None:
    with in_a_terminal() as (process, ours):
        os.kill(process.pid, signal.SIGHUP)
        proxy = Running(process, "", "")
        proxy.until("configuration reloaded")
        os.close(ours)
        assert process.wait(timeout=PATIENCE) == 0


def test_under_nohup_it_outlives_the_terminal() -> None:
    with in_a_terminal("nohup") as (process, ours):
        os.close(ours)
        Running(process, "", "").until("configuration reloaded")
        assert end(process) == 0
