"""How a process ends: what is in flight is finished, probes are told at once, a second signal waits for nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_socket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.flows.test_tunnels import HANDSHAKE, SWITCH
from tests.processes.running import GET, Processes, Running, ask, key_of
from tests.snapshots import SOCKET
from tests.wires import PATIENCE, ScriptedUpstream, Wire, bounded

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _streaming(processes: Processes, *options: str) -> tuple[Running, Wire, Wire]:
    """A process in the middle of an answer: the caller's end, and the upstream's."""
    await processes.put(ScriptedUpstream())
    running = await processes.start("one", *options)
    caller = await processes.wire(running.port)
    await caller.send(GET)
    wire = await processes.upstream.accept()
    await wire.message()
    await wire.send(HEAD + b"3\r\none\r\n")
    await caller.head()
    assert await caller.exactly(8) == b"3\r\none\r\n"
    return running, caller, wire


async def _until_draining(running: Running) -> None:
    while (await running.ask_admin("/readyz")).head.status == 200:
        pass


def _draining(folder: Path, port: int, drain: str) -> tuple[str, str]:
    """The options for a configuration with this drain time."""
    configuration = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": {"url": f"http://127.0.0.1:{port}"}},
        "time": {"drain": drain},
    }
    (folder / "proxy.yaml").write_text(json.dumps(configuration))  # JSON is YAML
    return "--config", str(folder / "proxy.yaml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_answer_in_flight_is_finished_while_probes_are_told_at_once(
    processes: Processes, number: signal.Signals
) -> None:
    running, caller, upstream = await _streaming(processes)
    idle = await processes.wire(running.port)
    running.signal(number)
    await _until_draining(running)
    await idle.send(GET)  # a connection that was idle may still ask, once
    await upstream.send(b"3\r\ntwo\r\n")
    assert await caller.exactly(8) == b"3\r\ntwo\r\n"
    second = await processes.upstream.accept()
    await second.message()
    draining = await running.ask_admin("/readyz")
    assert (draining.head.status, json.loads(draining.content)["status"]) == (503, "draining")
    assert (await running.ask_admin("/healthz")).head.status == 200
    with pytest.raises(ConnectionRefusedError):
        await processes.wire(running.port)
    await second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    last = await idle.message()
    assert (last.head.status, last.head.get("Connection")) == (200, "close")
    assert (await running.metrics())["requests_in_flight"] == 1
    await upstream.send(b"5\r\nthree\r\n0\r\n\r\n")
    assert (await caller.chunks())[1] == b"three"
    assert await caller.some() == b""
    caller.close()
    idle.close()
    assert await running.ended(PATIENCE) == 0


async def test_a_second_signal_ends_it_now(processes: Processes) -> None:
    running, caller, _ = await _streaming(processes)
    running.signal(signal.SIGTERM)
    await _until_draining(running)  # signals of one number that come together are one signal
    running.signal(signal.SIGTERM)
    assert await running.ended(PATIENCE) == 0  # the drain time is longer
    # It was cut, and looks like it.
    assert b"0\r\n\r\n" not in await caller.until_broken()


async def test_what_does_not_finish_within_the_drain_time_is_cut_and_said(processes: Processes, tmp_path: Path) -> None:
    await processes.put(ScriptedUpstream())
    running = await processes.start("one", *_draining(tmp_path, processes.upstream.port, "500ms"))
    caller = await processes.wire(running.port)
    await caller.send(GET)
    await (await processes.upstream.accept()).message()
    assert await bounded(running.stop()) == 0
    assert b" 200 " not in await caller.until_broken()
    assert "1 requests did not finish within the drain time of 0.5 s" in running.said


async def test_a_websocket_that_is_open_at_the_end_of_the_drain_time_is_told_to_go(
    processes: Processes, tmp_path: Path
) -> None:
    told: asyncio.Queue[int | None] = asyncio.Queue()

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)
        await socket.wait_closed()
        told.put_nowait(socket.close_code)

    async with serve(echo, "127.0.0.1", 0) as upstream:
        # In so long a busy machine, too, gets something through it while it drains.
        options = _draining(tmp_path, next(iter(upstream.sockets)).getsockname()[1], "2s")
        running = await processes.start("one", *options)
        async with connect_socket(f"ws://127.0.0.1:{running.port}{SOCKET}?key=s", proxy=None) as client:
            await client.send("before")
            assert await client.recv() == "before"
            running.signal(signal.SIGTERM)
            await client.send("after")
            assert await client.recv() == "after"
            with pytest.raises(ConnectionClosed):
                await bounded(client.recv())
            assert (client.close_code, client.close_reason) == (1001, "draining")
        assert await bounded(told.get()) == 1001
        assert await running.ended(PATIENCE) == 0


async def test_a_websocket_that_is_asked_for_while_draining_is_refused(processes: Processes) -> None:
    running, caller, upstream = await _streaming(processes)
    idle = await processes.wire(running.port)
    running.signal(signal.SIGTERM)
    await _until_draining(running)
    await idle.send(HANDSHAKE)
    refused = await idle.message()
    assert refused.head.status == 503
    assert SWITCH[:12] not in refused.head.raw
    await upstream.send(b"0\r\n\r\n")
    await caller.chunks()
    caller.close()
    idle.close()
    assert await running.ended(PATIENCE) == 0


async def test_it_ends_at_once_when_nobody_is_there(processes: Processes) -> None:
    running = await processes.start()
    running.signal(signal.SIGTERM)
    assert await running.ended(PATIENCE) == 0  # the drain time is longer
    first, *others = running.said.splitlines()
    assert first.startswith("inworld-proxy ")
    assert [line.split(": ")[0] for line in others if line] == ["metrics", "inspector"]  # where it was, nothing else


async def test_connections_that_only_wait_do_not_hold_it_up(processes: Processes) -> None:
    running = await processes.start("alone")
    caller = await processes.wire(running.port)
    assert (await ask(caller)).content == b"alone"
    assert key_of("alone") not in running.said
    running.signal(signal.SIGTERM)
    assert await caller.some() == b""
    caller.close()
    assert await running.ended(PATIENCE) == 0
