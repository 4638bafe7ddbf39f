"""How a process begins: callers are served first, the operator a moment later, and signals are heeded from then on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.processes.running import ROOT, START, key_of


class Starting:
    """A process on sockets that callers can connect to before it is there."""

    def __init__(self) -> None:
        self.data = socket.create_server(("127.0.0.1", 0))
        self.admin = socket.create_server(("127.0.0.1", 0))
        numbers = (self.data.fileno(), self.admin.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--fd", str(numbers[0]), "--admin-fd", str(numbers[1])],
            cwd=ROOT, env={**os.environ, "INWORLD_API_KEY": key_of("start")}, pass_fds=numbers,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, listener: socket.socket, path: str) -> bytes:
        """The first line of the answer, whenever it comes."""
        with socket.create_connection(listener.getsockname(), START) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return sock.makefile("rb").readline()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=START)
        assert "Traceback" not in said
        assert "metrics: " in said
        return self.process.returncode


@pytest.fixture
def starting() -> Iterator[Starting]:
    made = Starting()
    with made.data, made.admin:
        yield made
        made.process.kill()
        made.process.communicate()


def test_an_operator_who_asks_before_it_is_there_is_answered(starting: Starting) -> None:
    assert starting.ask(starting.admin, "/healthz") == b"HTTP/1.1 200 OK\r\n"
    assert starting.end() == 0


def test_a_signal_right_after_the_first_answer_ends_it_in_order(starting: Starting) -> None:
    assert starting.ask(starting.data, "/nowhere").startswith(b"HTTP/1.1 404 ")
    assert starting.end() == 0


def test_a_hangup_right_after_the_first_answer_does_not_end_it(starting: Starting) -> None:
    assert starting.ask(starting.data, "/nowhere").startswith(b"HTTP/1.1 404 ")
    starting.process.send_signal(signal.SIGHUP)
    assert starting.ask(starting.admin, "/healthz") == b"HTTP/1.1 200 OK\r\n"
    assert starting.ask(starting.data, "/nowhere").startswith(b"HTTP/1.1 404 ")
    assert starting.end() == 0
