"""A unix socket that the process makes: said how to use it, made new after a crash, and never another's file."""

from __future__ import annotations

import asyncio
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.processes.running import START, Processes, Running, ask
from tests.wires import Message, Wire, bounded, request


async def _connect(path: Path) -> Wire:
    return Wire(*await bounded(asyncio.open_unix_connection(str(path))))


async def _ask(path: Path, raw: bytes | None = None) -> Message:
    wire = await _connect(path)
    try:
        if raw is None:
            return await ask(wire)
        await wire.send(raw)
        return await wire.message()
    finally:
        await wire.cleanup()


async def _start(processes: Processes, folder: Path, name: str = "one", *options: str) -> Running:
    listen = ("--listen", f"unix:{folder}/proxy.sock", "--admin", f"unix:{folder}/admin.sock")
    return await processes.start(name, *listen, *options)


async def test_both_listeners_may_be_unix_sockets_private_and_gone_at_the_end(
    processes: Processes, tmp_path: Path
) -> None:
    running = await _start(processes, tmp_path)
    for name in ("proxy.sock", "admin.sock"):
        assert stat.S_IMODE((tmp_path / name).lstat().st_mode) == 0o600
    assert (await _ask(tmp_path / "proxy.sock")).content == b"one"
    assert (await _ask(tmp_path / "admin.sock", request("GET /readyz"))).head.status == 200
    assert (await _ask(tmp_path / "admin.sock", request("GET /readyz", host="a-page.example"))).head.status == 421
    assert (await _ask(tmp_path / "admin.sock", request("POST /reload", "Content-Length: 0"))).head.status == 200
    assert await running.stop() == 0
    assert not (tmp_path / "proxy.sock").exists()
    assert not (tmp_path / "admin.sock").exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_what_is_printed_at_the_start_can_be_pasted(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "with a blank"
    folder.mkdir()
    running = await processes.begin("one", "--listen", f"unix:{folder}/proxy.sock", "--admin", "127.0.0.1:0")
    await running.until("metrics: ")
    found = await running.until(r"(?m)^to unix:.*/proxy\.sock: (curl .*)/…$")
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", f"{found[1]}/llm/v1alpha/models -s"],
        capture_output=True, timeout=START, check=True,
    )  # fmt: skip
    assert done.stdout == b"one"
    assert await running.stop() == 0


async def test_a_socket_that_a_killed_process_left_is_replaced(processes: Processes, tmp_path: Path) -> None:
    first = await _start(processes, tmp_path, "first")
    first.signal(signal.SIGKILL)
    await first.ended()
    assert (tmp_path / "proxy.sock").is_socket()
    assert (tmp_path / "admin.sock").is_socket()
    await _start(processes, tmp_path, "second")
    assert (await _ask(tmp_path / "proxy.sock")).content == b"second"


async def test_one_that_somebody_listens_on_is_in_use(processes: Processes, tmp_path: Path) -> None:
    await _start(processes, tmp_path, "first")
    second = await processes.begin("second", "--listen", f"unix:{tmp_path}/proxy.sock", "--admin", "127.0.0.1:0")
    assert await second.ended() == 1
    assert "somebody listens there already" in second.said
    assert f"has unix:{tmp_path}/proxy.sock or" in second.said
    assert (await _ask(tmp_path / "proxy.sock")).content == b"first"


@pytest.mark.parametrize("option", ["--listen", "--admin"])
async def test_a_file_in_its_place_is_said_and_stays(processes: Processes, tmp_path: Path, option: str) -> None:
    (tmp_path / "precious").write_text("all that there is")
    running = await processes.begin("one", option, f"unix:{tmp_path}/precious")
    assert await running.ended() == 1
    assert "something that is no socket is there, and stays" in running.said
    assert "Another program" not in running.said
    assert "Traceback" not in running.said
    assert (tmp_path / "precious").read_text() == "all that there is"


async def test_a_folder_that_is_not_there_is_said(processes: Processes, tmp_path: Path) -> None:
    running = await processes.begin("one", "--listen", f"unix:{tmp_path}/none/proxy.sock")
    assert await running.ended() == 1
    assert "there is no such folder" in running.said


async def test_the_next_process_takes_over_while_the_last_one_is_still_draining(
    processes: Processes, tmp_path: Path
) -> None:
    old = await _start(processes, tmp_path, "old")
    caller = await _connect(tmp_path / "proxy.sock")
    assert (await ask(caller)).content == b"old"
    old.signal(signal.SIGTERM)
    async with asyncio.timeout(START):
        while (tmp_path / "proxy.sock").exists():  # noqa: ASYNC110 - a file tells nobody that it is gone
            await asyncio.sleep(0)
    new = await processes.start("new", "--listen", f"unix:{tmp_path}/proxy.sock", "--admin", "127.0.0.1:0")
    await caller.cleanup()
    assert await old.ended() == 0
    assert (await _ask(tmp_path / "proxy.sock")).content == b"new"
    assert await new.stop() == 0
    assert not (tmp_path / "proxy.sock").exists()
