"""What a process gives up before it reads a secret, and how little it needs: no rights, no folder to write to."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes.running import Processes, ask, key_of
from tests.wires import Wire

NOBODY = "65532"
"""The user of the image; nothing on this machine belongs to it."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")),
    reason="takes root on Linux, unshare and setpriv: makes the whole file system read-only for one process",
)

ALONE = """
set -e
hidden=$1 interpreter=$2 spare=$3 user=$4
shift 4
if [ -n "$hidden" ]; then  # the interpreter is in somebody's home: shown to everybody, and nothing else of it
    mount --bind "$interpreter" "$spare"
    mount -t tmpfs -o mode=755 none "$hidden"
    mkdir -p "$interpreter"
    mount --bind "$spare" "$interpreter"
fi
while read -r _ where kind _; do
    case $kind in ext4|tmpfs|overlay|xfs|btrfs|devtmpfs) mount -o remount,bind,ro "$where";; esac
done < /proc/self/mounts
cd /
exec setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
"""A mount namespace of its own in which nothing can be written, and then no rights at all."""


def _alone(folder: Path) -> tuple[str, ...]:
    interpreter = Path(sys.base_prefix)
    closed = [str(each) for each in reversed(interpreter.parents) if not each.stat().st_mode & 0o001]
    spare = folder / "spare"
    spare.mkdir()
    return ("unshare", "-m", "sh", "-c", ALONE, "sh", closed[0] if closed else "", str(interpreter), str(spare), NOBODY)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100, check=False)


def _of_proc(pid: int, file: str) -> dict[str, list[str]]:
    """The lines of a file of /proc by their first words, which end where the values begin."""
    found = {}
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines():
        name, values = (line[:26], line[26:]) if file == "limits" else line.split(":", 1)
        found[name.strip()] = values.split()
    return found


@linux
async def test_there_are_no_core_files_whatever_the_limit_was(processes: Processes) -> None:
    unlimited = ("sh", "-c", 'ulimit -c unlimited 2>/dev/null; exec "$@"', "sh")
    running = await processes.start(before=unlimited)
    assert _of_proc(running.process.pid, "limits")["Max core file size"][:2] == ["0", "0"]
    assert running.said.count("WARNING") == 0


@linux
async def test_that_is_so_before_the_first_secret_is_read(processes: Processes, tmp_path: Path) -> None:
    """The command that prints the key looks at who runs it."""
    (tmp_path / "key").write_text(
        f"#!/bin/sh\ngrep 'core file' /proc/$PPID/limits > {tmp_path}/limits\n"
        f"stat -c %u /proc/$PPID/environ > {tmp_path}/owner\necho {key_of('one')}\n"
    )
    (tmp_path / "key").chmod(0o700)
    (tmp_path / "proxy.yaml").write_text(
        json.dumps(
            {
                "upstreams": {"inworld": {"url": f"http://127.0.0.1:{processes.upstream.port}"}},
                "credentials": {"one": {"kind": "api-key", "secret": {"exec": [str(tmp_path / "key")]}}},
            }
        )
    )
    running = await processes.start("one", "--config", str(tmp_path / "proxy.yaml"))
    assert (tmp_path / "limits").read_text().split()[4:6] == ["0", "0"]
    assert (tmp_path / "owner").read_text().strip() == "0"  # of root, as what is not dumpable
    assert (await ask(await processes.wire(running.port))).content == b"one"


@linux
def test_a_process_that_is_not_dumpable_says_so() -> None:
    program = (
        "import ctypes; from proxy.hardening import harden; prctl = ctypes.CDLL(None).prctl\n"
        "print(prctl(3, 0, 0, 0, 0)); harden(); print(prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["1", "0"]


@linux
def test_what_cannot_be_had_is_a_warning_and_no_reason_not_to_start() -> None:
    program = (
        "import ctypes, logging, resource; from proxy.hardening import harden; logging.basicConfig()\n"
        "def refuse(*given): raise OSError(1, 'not permitted')\n"
        "def none(*given): raise MemoryError\n"
        "resource.setrlimit, ctypes.CDLL = refuse, none\n"
        "harden(); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "goes on"
    assert "core files could not be switched off" in done.stderr
    assert "can read this process's memory" in done.stderr


@as_root
async def test_it_serves_as_a_user_without_rights_in_a_file_system_that_cannot_be_written(
    processes: Processes, tmp_path: Path
) -> None:
    before = _alone(tmp_path)
    tried = _run(
        [*before, "sh", "-c", "for each in / /tmp /var/tmp /dev/shm /run /work; do touch $each/x-$$; done; id -u"]
    )
    assert tried.stdout.split() == [NOBODY], "something could be written, or it could not be tried"
    assert tried.stderr.count("cannot touch") == 6

    environ = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    running = await processes.start("alone", before=before, environ=environ)
    pid = running.process.pid
    status = _of_proc(pid, "status")
    assert status["Uid"] == [NOBODY] * 4
    assert {status[name][0].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {""}
    assert (await ask(await processes.wire(running.port))).content == b"alone"
    assert (await running.ask_admin("/readyz")).head.status == 200
    # What the process says about itself is read by itself, which being undumpable does not stop.
    assert b"\nprocess_open_fds " in (await running.ask_admin("/metrics")).content
    assert "WARNING" not in running.said
    # Its user's other programs see that it is there and nothing that is in it.
    for file, seen in (("stat", True), ("environ", False), ("mem", False), ("maps", False), ("fd", False)):
        looked = _run(
            ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "sh", "-c",
             'if [ -d "$0" ]; then ls "$0"; else head -c 1 "$0"; fi', f"/proc/{pid}/{file}"]
        )  # fmt: skip
        assert (looked.returncode == 0 and bool(looked.stdout)) is seen, (file, looked)
    assert await running.stop() == 0


@as_root
async def test_callers_who_are_users_need_no_token_of_a_real_process(processes: Processes, tmp_path: Path) -> None:
    folder = Path("/tmp") / f"proxy-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        (tmp_path / "proxy.yaml").write_text(
            json.dumps(
                {
                    "listen": f"unix:{folder}/proxy.sock",
                    "listen_mode": "0666",
                    "admin": "127.0.0.1:0",
                    "upstreams": {"inworld": {"url": f"http://127.0.0.1:{processes.upstream.port}"}},
                    "callers": {"batch": {"uid": int(NOBODY), "allow": "*"}},
                }
            )
        )
        running = await processes.begin_with("users", "--config", str(tmp_path / "proxy.yaml"))
        await running.ready()
        statuses = []
        for user in (int(NOBODY), 0):
            sock = socket.socket(socket.AF_UNIX)
            os.seteuid(user)
            try:
                sock.connect(str(folder / "proxy.sock"))
            finally:
                os.seteuid(0)
            caller = Wire(*await asyncio.open_unix_connection(sock=sock))
            statuses.append((await ask(caller)).head.status)
            await caller.cleanup()
        assert statuses == [200, 401]
        assert await running.stop() == 0
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)
