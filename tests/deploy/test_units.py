"""The files under ``deploy/``: systemd accepts the units, and the proxy runs with no more than they leave it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.deploy import under_seccomp
from tests.processes.running import Processes, TellingUpstream, ask, key_of
from tests.wires import Wire, bounded, request

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
SERVICE = (UNITS / "inworld-proxy.service").read_text(encoding="utf-8")
PROFILE: dict[str, Any] = json.loads((ROOT / "deploy" / "seccomp.json").read_text(encoding="utf-8"))

MOST_EXPOSED = 1.5
"""Of ten, by `systemd-analyze security`; a service without any of this has 9.6."""

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
with_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not under_seccomp.HEADER.exists(),
    reason="needs Linux on x86-64 and its headers (linux-libc-dev), for the numbers of system calls",
)

NO_NEW_CODE = "import ctypes, os, sys\nctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: what MemoryDenyWriteExecute= does, where the kernel has it (Linux 6.3)."""


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with Processes() as made:
        yield made


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=100, check=False)


def _settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)


@with_systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = "/opt/inworld-proxy/bin/inworld-proxy"
    assert program in SERVICE
    # What is run has to be there to be verified.
    (tmp_path / "inworld-proxy.service").write_text(SERVICE.replace(program, "/bin/true"))
    shutil.copy(UNITS / "inworld-proxy.socket", tmp_path)
    done = _analyze("verify", str(tmp_path / "inworld-proxy.service"), str(tmp_path / "inworld-proxy.socket"))
    said = [line for line in (done.stdout + done.stderr).splitlines() if "inworld-proxy" in line]
    assert (done.returncode, said) == (0, [])


@with_systemd
def test_the_service_is_exposed_to_little(tmp_path: Path) -> None:
    done = _analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:g}", "--no-pager",
                    str(UNITS / "inworld-proxy.service"))  # fmt: skip
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_the_service_says_what_the_program_understands() -> None:
    assert _settings("Type") == ["notify"]
    assert _settings("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert (_settings("LimitCORE"), _settings("CapabilityBoundingSet")) == (["0"], [""])
    # One user for all: callers known by user would all be the same, or nobody.
    assert _settings("PrivateUsers") == []
    assert "FileDescriptorName=listen\n" in (UNITS / "inworld-proxy.socket").read_text(encoding="utf-8")


def test_the_profile_denies_what_it_does_not_name_and_names_each_call_once() -> None:
    assert (PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    names = [name for entry in PROFILE["syscalls"] for name in entry["names"]]
    assert len(names) == len(set(names))
    allowed = {name for entry in PROFILE["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" for name in entry["names"]}
    assert not allowed & {
        "bpf", "clone3", "init_module", "io_uring_setup", "kexec_load", "keyctl", "mount", "open_by_handle_at",
        "perf_event_open", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "setns", "unshare",
        "userfaultfd",
    }  # fmt: skip


@with_systemd
def test_the_profile_names_no_unknown_system_call() -> None:
    known = set(_analyze("syscall-filter", "@known").stdout.split())
    unknown = {name for entry in PROFILE["syscalls"] for name in entry["names"]} - known
    assert unknown <= {"futex_waitv"}, "misspelled, or newer than this systemd"


def _group(name: str) -> set[str]:
    """The system calls of a group of systemd's, and of the groups in it."""
    lines = (line.strip() for line in _analyze("syscall-filter", name).stdout.splitlines()[1:])
    members = {line for line in lines if line and not line.startswith("#")}
    return {each for member in members for each in (_group(member) if member.startswith("@") else {member})}


def _filter_of_the_unit() -> dict[str, Any]:
    # systemd adds these to every list of what is allowed.
    allowed = _group("@default") | {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn"}
    for line in _settings("SystemCallFilter"):
        named = set[str]().union(*(_group(name) for name in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    entry = {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [entry]}


def _is_filtered(pid: int) -> bool:
    return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")


@with_seccomp
@pytest.mark.parametrize("kind", ["the profile", pytest.param("the unit's filter", marks=with_systemd)])
async def test_the_proxy_does_all_that_it_does(processes: Processes, tmp_path: Path, kind: str) -> None:
    """A unix socket and TCP, TLS, a key from a command, a reload, metrics, a sandbox, the end; no executable memory."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(PROFILE if kind == "the profile" else _filter_of_the_unit()))
    certificates = Certificates(tmp_path)
    secure = TellingUpstream()
    await secure.start(certificates.good("localhost"))
    configuration = {
        "listen": f"unix:{tmp_path}/proxy.sock",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": f"https://localhost:{secure.port}", "ca": certificates.ca_file}},
        "credentials": {"one": {"kind": "api-key", "secret": {"exec": ["echo", key_of("filtered")]}}},
    }
    (tmp_path / "proxy.yaml").write_text(json.dumps(configuration))
    before = (sys.executable, "-c", NO_NEW_CODE, sys.executable, str(Path(under_seccomp.__file__)), str(profile))
    running = await processes.begin_with("filtered", "--config", str(tmp_path / "proxy.yaml"), before=before)
    await running.ready()
    assert _is_filtered(running.process.pid)
    caller = Wire(*await bounded(asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))))
    assert (await ask(caller)).content == b"filtered"
    await caller.cleanup()
    operator = await processes.wire(running.admin)
    await operator.send(request("POST /reload", "Content-Length: 0"))
    assert b'"reloaded"' in (await operator.message()).content
    assert (await running.metrics())["requests_accepted_total"] == 1
    assert await running.stop() == 0
    assert "WARNING" not in running.said
    await secure.cleanup()

    sandboxed = await processes.begin_with("two", "--sandbox", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                                           before=before)  # fmt: skip
    await sandboxed.ready()
    caller = await processes.wire(sandboxed.port)
    await caller.send(request("GET /voices/v1/voices"))
    assert (await caller.message()).head.status == 200
    await caller.cleanup()
    assert await sandboxed.stop() == 0


@with_seccomp
def test_what_the_profile_does_not_name_is_refused(tmp_path: Path) -> None:
    """The filter is in force, or the test above would prove nothing."""
    program = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.syscall(101, 0, 0, 0, 0), ctypes.get_errno())\n"  # ptrace
        "print(libc.unshare(0x10000000), ctypes.get_errno())\n"  # a user namespace
        "print(libc.syscall(56, 0x10000000, 0, 0, 0, 0), ctypes.get_errno())\n"  # the same by clone
        "print(libc.syscall(435, 0, 0), ctypes.get_errno())"  # clone3
    )
    done = subprocess.run(
        [sys.executable, under_seccomp.__file__, str(ROOT / "deploy" / "seccomp.json"), sys.executable, "-c", program],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["-1 1", "-1 1", "-1 1", "-1 38"]


async def test_a_socket_of_the_unit_is_what_the_configuration_says_it_is(processes: Processes, tmp_path: Path) -> None:
    """The comment in the socket unit: the same `listen` in the file, and the socket from systemd."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "proxy.sock"))
        sock.listen()
        configuration = {
            "listen": f"unix:{tmp_path}/proxy.sock",
            "admin": "127.0.0.1:0",
            "upstreams": {"inworld": {"url": f"http://127.0.0.1:{processes.upstream.port}"}},
            "callers": {"here": {"uid": os.getuid(), "allow": "*"}},
        }
        (tmp_path / "proxy.yaml").write_text(json.dumps(configuration))
        running = await processes.begin_with(
            "heir", "--config", str(tmp_path / "proxy.yaml"), "--fd", str(sock.fileno()), pass_fds=(sock.fileno(),)
        )
        await running.ready()
        caller = Wire(*await bounded(asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))))
        assert (await ask(caller)).content == b"heir"
        await caller.cleanup()
        assert await running.stop() == 0
        assert (tmp_path / "proxy.sock").exists()
