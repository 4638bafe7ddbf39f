"""What the parent process hands over: sockets by number or from systemd, and whom to tell how the process is."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.callers.token import digest_token, spell_digest
from tests.processes.running import START, Processes, Running, ask, listening
from tests.wires import PATIENCE, Wire, bounded, request


async def _refused(processes: Processes, *options: str, pass_fds: Sequence[int] = (), **environ: str) -> str:
    """What a process says that must not start."""
    running = await processes.begin("one", *options, pass_fds=pass_fds, environ=environ)
    assert await running.ended() == 1
    assert "Traceback" not in running.said
    return running.said


async def test_both_listeners_are_inherited_by_number(processes: Processes) -> None:
    with listening() as data, listening() as admin:
        options = ("--fd", str(data.fileno()), "--admin-fd", str(admin.fileno()))
        running = await processes.start("heir", *options, pass_fds=(data.fileno(), admin.fileno()))
        assert running.port == data.getsockname()[1]
        assert running.admin == admin.getsockname()[1]
        assert (await ask(await processes.wire(running.port))).content == b"heir"
        assert (await running.ask_admin("/readyz")).head.status == 200


async def test_a_number_that_is_not_open_is_said_in_a_sentence(processes: Processes) -> None:
    said = await _refused(processes, "--fd", "77")
    assert said.startswith("inworld-proxy: --fd 77 is not open in this process: give the number of a socket")
    assert said.count("\n") == 1


async def test_what_is_no_listening_socket_is_said_in_a_sentence(processes: Processes, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        number = file.fileno()
        said = await _refused(processes, "--fd", str(number), pass_fds=(number,))
        assert f"--fd {number} is no socket: give" in said
    with socket.socket() as bound, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        bound.bind(("127.0.0.1", 0))
        for sock, why in ((bound, "is a socket that does not listen"), (datagrams, "is no stream socket")):
            said = await _refused(processes, "--admin-fd", str(sock.fileno()), pass_fds=(sock.fileno(),))
            assert f"--admin-fd {sock.fileno()} {why}: give" in said


async def test_one_number_for_both_listeners_is_refused(processes: Processes) -> None:
    with listening() as sock:
        number = str(sock.fileno())
        said = await _refused(processes, "--fd", number, "--admin-fd", number, pass_fds=(sock.fileno(),))
    assert "cannot share a socket" in said


async def test_a_socket_that_others_reach_needs_callers_as_an_address_does(
    processes: Processes, tmp_path: Path
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        number, port = sock.fileno(), sock.getsockname()[1]
        said = await _refused(processes, "--fd", str(number), pass_fds=(number,))
        assert f"`0.0.0.0:{port}`, which others can reach, without `callers`" in said
        token = "a-token-of-the-storefront"
        configuration = {
            "listen": "127.0.0.1:1",  # the socket is what counts
            "admin": "127.0.0.1:0",
            "upstreams": {"inworld": {"url": f"http://127.0.0.1:{processes.upstream.port}"}},
            "callers": {"shop": {"token": spell_digest(digest_token(token.encode())), "allow": ["*"]}},
        }
        (tmp_path / "proxy.yaml").write_text(json.dumps(configuration))
        running = await processes.start(
            "open", "--config", str(tmp_path / "proxy.yaml"), "--fd", str(number), pass_fds=(number,)
        )
        assert running.port == port
        # As for an address beyond loopback: any name is answered, and every request has to show a token.
        caller = await processes.wire(port)
        await caller.send(request("GET /llm/v1alpha/models", f"Authorization: Bearer {token}", host="any.name"))
        assert (await caller.message()).content == b"open"
        await caller.send(request("GET /llm/v1alpha/models"))
        assert (await caller.message()).head.status == 401


async def test_an_address_and_a_socket_for_the_same_listener_are_one_too_many(processes: Processes) -> None:
    with listening() as sock:
        running = await processes.begin_with(
            "one", "--fd", str(sock.fileno()), "--listen", "127.0.0.1:0", pass_fds=(sock.fileno(),)
        )
        assert await running.ended() == 2
    assert "say one" in running.said


async def test_unix_sockets_are_listened_on(processes: Processes, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as data, socket.socket(socket.AF_UNIX) as admin:
        for sock, name in ((data, "data"), (admin, "admin")):
            sock.bind(str(tmp_path / name))
            sock.listen()
        numbers = (data.fileno(), admin.fileno())
        options = ("--fd", str(numbers[0]), "--admin-fd", str(numbers[1]))
        running = await processes.start("heir", *options, pass_fds=numbers)
        assert f" on unix:{tmp_path}/data -> " in running.said
        caller = Wire(*await asyncio.open_unix_connection(str(tmp_path / "data")))
        assert (await ask(caller)).content == b"heir"
        await caller.send(request("GET /llm/v1alpha/models", host="a-page.example"))
        assert (await caller.message()).head.status == 421
        await caller.cleanup()
        operator = Wire(*await asyncio.open_unix_connection(str(tmp_path / "admin")))
        await operator.send(request("GET /readyz", host="localhost"))
        assert (await operator.message()).head.status == 200
        await operator.cleanup()
        assert await running.stop() == 0
        assert (tmp_path / "data").exists()  # it belongs to who bound it


# -- systemd ----------------------------------------------------------------------------------------------------------


AS_SYSTEMD = """
import fcntl, os, sys
numbers, names, *command = sys.argv[1:]
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 64) for number in numbers.split(",")]
for index, number in enumerate(high):
    os.dup2(number, 3 + index)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""
"""The sockets from number 3 on, and variables that say so to this one process."""


async def _activated(processes: Processes, sockets: Sequence[socket.socket], names: str) -> Running:
    numbers = [sock.fileno() for sock in sockets]
    return await processes.begin_with(
        "activated", "--upstream", f"http://127.0.0.1:{processes.upstream.port}",
        before=(sys.executable, "-c", AS_SYSTEMD, ",".join(map(str, numbers)), names), pass_fds=numbers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "order"), [("listen:admin", (0, 1)), ("admin:listen", (1, 0)), ("x.socket:admin", (0, 1))]
)
async def test_systemd_says_by_name_which_socket_is_whose(
    processes: Processes, names: str, order: tuple[int, int]
) -> None:
    with listening() as first, listening() as second:
        running = await (await _activated(processes, (first, second), names)).ready()
        ports = [sock.getsockname()[1] for sock in (first, second)]
        assert (running.port, running.admin) == (ports[order[0]], ports[order[1]])
        assert (await ask(await processes.wire(running.port))).content == b"activated"


async def test_several_sockets_of_a_unit_are_all_listened_on(processes: Processes) -> None:
    with listening() as first, listening() as second, listening() as admin:
        running = await (await _activated(processes, (first, second, admin), "u:u:admin")).ready()
        for sock in (first, second):
            assert (await ask(await processes.wire(sock.getsockname()[1]))).content == b"activated"
        assert await running.stop() == 0


async def test_variables_for_another_process_mean_nothing(processes: Processes) -> None:
    running = await processes.begin("one", environ={"LISTEN_PID": "1", "LISTEN_FDS": "2"})
    await running.ready()
    assert (await ask(await processes.wire(running.port))).content == b"one"


async def test_systemd_is_told_when_it_serves_and_when_it_is_going(processes: Processes, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        loop = asyncio.get_running_loop()
        running = await processes.begin("one", environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert await bounded(loop.sock_recv(told, 100), START) == b"READY=1"
        await running.ready()
        assert (await ask(await processes.wire(running.port))).content == b"one"
        running.signal(signal.SIGTERM)
        assert await bounded(loop.sock_recv(told, 100)) == b"STOPPING=1"
        assert await running.ended(PATIENCE) == 0
