"""The sandbox as a process: what it announces, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp
from click.testing import CliRunner

from proxy.cli.sandbox import banner, command
from proxy.sandbox.keys import DEMO_KEYS
from tests.sandbox.conftest import KEYS

ROOT = Path(__file__).parents[2]
RUN = "from proxy.cli.sandbox import command; command()"


async def begin(*arguments: str, **extra: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, "--port", "0", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, **extra,  # type: ignore[arg-type]
    )  # fmt: skip


async def test_it_announces_itself_in_one_line_and_ends_with_its_parent() -> None:
    process = await begin("--announce-json", "--exit-with-parent", "--key", "name=studio,voices=write")
    assert process.stdin is not None
    assert process.stdout is not None
    announced = json.loads(await process.stdout.readline())
    assert announced["keys"]["full"]["basic"] == KEYS["full"].basic
    assert announced["keys"]["studio"]["voices"] == "write"
    headers = {"Authorization": f"Basic {announced['keys']['studio']['basic']}"}
    url = f"http://{announced['host']}:{announced['port']}/voices/v1/voices"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 200
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert await process.stdout.read() == b""


async def test_it_announces_itself_on_a_descriptor_and_ends_on_a_signal() -> None:
    reading, writing = os.pipe()
    process = await begin("--ready-fd", str(writing), pass_fds=(writing,))
    os.close(writing)
    with os.fdopen(reading) as announcement:
        announced = await asyncio.to_thread(announcement.readline)
    assert json.loads(announced)["port"] > 0
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert process.stdin is not None
    process.stdin.close()


def test_a_person_sees_where_it_is_and_every_key() -> None:
    shown = banner("::1", 9000, DEMO_KEYS)
    assert "http://[::1]:9000" in shown
    assert all(key.name in shown and key.basic in shown for key in DEMO_KEYS)


def test_a_wrong_option_gets_a_sentence() -> None:
    for arguments, sentence in (
        (["--fail", "tts=200"], "OPERATION=STATUS"),
        (["--key", "colour=red"], "name=NAME"),
        (["--host", "192.0.2.1"], "cannot listen on"),
    ):
        result = CliRunner().invoke(command, ["--port", "0", *arguments])
        assert result.exit_code != 0
        assert sentence in result.output
