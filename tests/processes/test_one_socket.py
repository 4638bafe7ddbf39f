"""Several processes on one listening socket: replaced one by one without a lost request, and one that is killed."""

from __future__ import annotations

import shutil
import signal
import socket

import pytest

from tests.processes.running import START, Load, Processes, ask, key_of, listening
from tests.wires import bounded

ACTIVATE = "systemd-socket-activate"


async def test_a_rolling_restart_under_load_loses_no_request_and_refuses_no_connection(processes: Processes) -> None:
    with listening() as sock:
        shared = {"pass_fds": (sock.fileno(),)}
        option = ("--fd", str(sock.fileno()))
        old = await processes.start("process-0", *option, **shared)
        load = Load(sock.getsockname()[1])
        async with load.running(callers=4):
            for number in range(1, 4):
                await load.until_answered(f"process-{number - 1}", 50)
                new = await processes.start(f"process-{number}", *option, **shared)
                assert await old.stop() == 0
                old = new
            await load.until_answered("process-3", 50)
        assert load.failed == []
        metrics = await old.metrics()
        answered = metrics["requests_accepted_total"]
        assert answered == metrics['requests_ended_total{ending="answered"}'] == load.answered["process-3"]


async def test_of_two_processes_one_is_killed_and_only_its_own_connections_notice(processes: Processes) -> None:
    with listening() as sock:
        shared = {"pass_fds": (sock.fileno(),)}
        option = ("--fd", str(sock.fileno()))
        begun = [await processes.begin(name, *option, **shared) for name in ("stays", "dies")]
        _, dies = [await each.ready() for each in begun]
        load = Load(sock.getsockname()[1])
        async with load.running(callers=8):
            await load.until_answered("stays", 50)
            await load.until_answered("dies", 50)
            dies.signal(signal.SIGKILL)
            assert await dies.ended() == -signal.SIGKILL
            served = load.answered["dies"]
            await load.until_answered("stays", 200)
            assert load.answered["dies"] == served
        # Each caller had one request in flight, at most: nobody was refused, and nobody whom the other one served lost.
        assert len(load.failed) <= 8
        assert {by for _, by, _ in load.failed} <= {"dies", "nobody yet"}
        assert not [exc for what, _, exc in load.failed if what == "connecting"]


async def test_what_waits_in_the_backlog_of_a_socket_without_a_process_is_served_by_the_next(
    processes: Processes,
) -> None:
    with listening() as sock:
        first = await processes.start("first", "--fd", str(sock.fileno()), pass_fds=(sock.fileno(),))
        assert await first.stop() == 0
        caller = await processes.wire(sock.getsockname()[1])
        await processes.start("second", "--fd", str(sock.fileno()), pass_fds=(sock.fileno(),))
        assert (await ask(caller)).content == b"second"


@pytest.mark.skipif(shutil.which(ACTIVATE) is None, reason=f"{ACTIVATE} (Debian package systemd) is not installed")
async def test_systemd_starts_it_with_the_first_connection_and_its_request_is_answered(processes: Processes) -> None:
    with socket.socket() as data, socket.socket() as admin:
        for sock in (data, admin):
            sock.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in (data, admin)]
    places = [f"--listen=127.0.0.1:{port}" for port in ports]
    setting = f"--setenv=INWORLD_API_KEY={key_of('activated')}"
    before = (ACTIVATE, *places, "--fdname=listen:admin", setting)
    running = await processes.begin_with(
        "activated", "--upstream", f"http://127.0.0.1:{processes.upstream.port}", before=before
    )
    await running.until("(?s)Listening on.*Listening on")
    caller = await processes.wire(ports[0])
    caller.patience = START
    assert (await ask(caller)).content == b"activated"
    await running.ready()
    assert [running.port, running.admin] == ports
    assert (await running.ask_admin("/readyz")).head.status == 200
    assert await bounded(running.stop()) == 0
