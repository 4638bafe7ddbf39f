"""Half a gigabyte up and a gigabyte down pass in flat memory, measured on a proxy in a process of its own."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.certificates import Certificates
from tests.snapshots import HANDSHAKE, SWITCH
from tests.wires import OK, request

ROOT = Path(__file__).parents[2]
UPLOAD = 512 * 2**20
DOWNLOAD = 2**30
MOST_GROWTH = 32 * 2**20
PIECE = b"x" * 2**20
PATIENCE = 60.0

PROXY = """
import asyncio, re, resource, sys
from dataclasses import replace
from pathlib import Path
from proxy.app import build, run
from proxy.core.model import ListenerTls
from proxy.tls import listener_context
from tests.snapshots import make_snapshot, upstream_at

def peak():
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+([0-9]+) kB", status.read_text()).group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes

async def main():
    loop = asyncio.get_running_loop()
    port, ca_file, shown = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    upstream = upstream_at(port)
    if ca_file:
        upstream = replace(upstream_at(port, scheme="https", host="localhost"), ca_file=ca_file)
    snapshot = make_snapshot(upstream)
    if shown:
        pem = Path(shown).read_bytes()
        snapshot = replace(snapshot, tls=ListenerTls(listener_context(pem, pem), "", 0.0))
    server = build(snapshot, loop)
    _, port = await server.listen()
    print(port, flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(peak(), flush=True)
    await server.close()

run(main())
"""


class Accepting(Protocol):
    """A listener."""

    def accept(self) -> tuple[socket.socket, object]: ...


class Child:
    """The proxy's process."""

    def __init__(
        self, upstream_port: int, ca_file: str = "", shown: str = "", trust: ssl.SSLContext | None = None
    ) -> None:
        """``shown``: a file with a certificate and its key, for callers; they connect with ``trust``."""
        self._trust = trust
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROXY, str(upstream_port), ca_file, shown],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.port = int(self._line())

    def connect(self) -> socket.socket:
        """A new connection of a caller."""
        end = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        return end if self._trust is None else self._trust.wrap_socket(end, server_hostname="localhost")

    def peak(self) -> int:
        """The most memory that the process ever had resident, in bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> None:
        _, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the proxy's process ended"
        return line


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(PATIENCE)
        yield made


@pytest.fixture
def child(listener: socket.socket) -> Iterator[Child]:
    made = Child(listener.getsockname()[1])
    yield made
    made.end()


def _read_head(end: socket.socket) -> bytes:
    """A head and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += end.recv(65536)
    return data.partition(b"\r\n\r\n")[2]


def _drain(end: socket.socket, count: int) -> None:
    buffer = bytearray(2**20)
    while count > 0:
        received = end.recv_into(buffer)
        assert received, "cut off"
        count -= received


def _pour(end: socket.socket, count: int) -> None:
    for _ in range(count // len(PIECE)):
        end.sendall(PIECE)


def _with_upstream(listener: Accepting, serve: Callable[[socket.socket], None], call: Callable[[], None]) -> None:
    """Runs the upstream's side in a thread beside the caller's."""
    failures: list[BaseException] = []

    def upstream() -> None:
        try:
            end, _ = listener.accept()
            with end:
                end.settimeout(PATIENCE)
                serve(end)
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            failures.append(exc)

    thread = threading.Thread(target=upstream)
    thread.start()
    call()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert failures == []


def _warm(listener: Accepting, child: Child, *, fields: str) -> int:
    """One small request first, so that what is loaded once is not counted; returns the memory after it."""

    def serve(end: socket.socket) -> None:
        _read_head(end)
        end.sendall(OK)

    def call() -> None:
        with child.connect() as end:
            end.sendall(request("GET /things", fields))
            assert b"200 OK" in end.recv(65536)

    _with_upstream(listener, serve, call)
    return child.peak()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_512_megabytes_passes_in_flat_memory(listener: socket.socket, child: Child, framing: str) -> None:
    before = _warm(listener, child, fields="Connection: close")
    size = UPLOAD if framing == "length" else UPLOAD // 4

    def serve(end: socket.socket) -> None:
        early = _read_head(end)
        chunked = b"%x\r\n" % len(PIECE)
        total = size if framing == "length" else size // len(PIECE) * (len(PIECE) + len(chunked) + 2) + 5
        _drain(end, total - len(early))
        end.sendall(OK)

    def call() -> None:
        with child.connect() as end:
            if framing == "length":
                end.sendall(request("POST /things", f"Content-Length: {size}"))
                _pour(end, size)
            else:
                end.sendall(request("POST /things", "Transfer-Encoding: chunked"))
                for _ in range(size // len(PIECE)):
                    end.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                end.sendall(b"0\r\n\r\n")
            assert b"200 OK" in end.recv(65536)

    started = time.monotonic()
    _with_upstream(listener, serve, call)
    assert child.peak() - before < MOST_GROWTH, f"after {time.monotonic() - started:.1f} s"


@pytest.mark.parametrize("framing", ["length", "close"])
def test_a_download_of_a_gigabyte_passes_in_flat_memory(listener: socket.socket, child: Child, framing: str) -> None:
    before = _warm(listener, child, fields="Connection: close")
    size = DOWNLOAD if framing == "length" else DOWNLOAD // 4

    def serve(end: socket.socket) -> None:
        _read_head(end)
        length = b"Content-Length: %d\r\n" % size if framing == "length" else b""
        end.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        _pour(end, size)

    def call() -> None:
        with child.connect() as end:
            end.sendall(request("GET /things HTTP/1.0"))
            _drain(end, size - len(_read_head(end)))
            assert end.recv(1) == b""

    _with_upstream(listener, serve, call)
    assert child.peak() - before < MOST_GROWTH


STALLED = 20
MOST_PER_STALLED = 256 * 1024
MOST_WITH_TWO = 320 * 1024
"""The same with TLS on both sides: each has buffers of its own."""
HUNDRED_MB = 100 * 2**20


def _frame(size: int) -> bytes:
    """The header of an unmasked binary frame; what follows is its payload."""
    return b"\x82\x7f" + size.to_bytes(8, "big")


class Secure:
    """A listener whose connections speak TLS."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._context = context

    def accept(self) -> tuple[ssl.SSLSocket, object]:
        end, address = self._listener.accept()
        end.settimeout(PATIENCE)
        return self._context.wrap_socket(end, server_side=True), address


@pytest.mark.parametrize(
    "secure", ["", "upstreams", "callers", "both"], ids=["plain", "TLS upstream", "TLS callers", "TLS"]
)
@pytest.mark.parametrize(
    "who", ["callers of a body", "callers of a socket", "upstreams of a body", "upstreams of a socket"]
)
def test_a_peer_that_stalls_costs_at_most_256_kib(
    listener: socket.socket, tmp_path: Path, who: str, secure: str
) -> None:
    """Twenty at once, 100 MB for each: the sender is stopped, and nothing is kept but what fits the buffers."""
    certificates = Certificates(tmp_path)
    port = listener.getsockname()[1]
    ca_file = certificates.ca_file if secure in {"upstreams", "both"} else ""
    accepting = Secure(listener, certificates.good("localhost")) if ca_file else listener
    if secure in {"callers", "both"}:
        child = Child(port, ca_file, certificates.file("localhost"), certificates.trusting())
    else:
        child = Child(port, ca_file)
    before = _warm(accepting, child, fields="Connection: close")
    ends: list[socket.socket] = []
    side, _, what = who.partition(" of a ")
    for _ in range(STALLED):
        caller = child.connect()
        if what == "socket":
            caller.sendall(HANDSHAKE)
        else:
            upload = f"Content-Length: {HUNDRED_MB}"
            caller.sendall(request("GET /things") if side == "callers" else request("POST /things", upload))
        upstream, _ = accepting.accept()
        _read_head(upstream)
        if what == "socket":
            upstream.sendall(SWITCH)
            _read_head(caller)
        elif side == "callers":
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUNDRED_MB)
        ends += (caller, upstream)
    for sender in ends[1::2] if side == "callers" else ends[::2]:
        sender.settimeout(0.1)
        if what == "socket":
            sender.sendall(_frame(HUNDRED_MB))
        with pytest.raises(TimeoutError):
            _pour(sender, HUNDRED_MB)
    grown = child.peak() - before
    for end in ends:
        end.close()
    child.end()
    assert grown / STALLED < (MOST_WITH_TWO if secure == "both" else MOST_PER_STALLED)
