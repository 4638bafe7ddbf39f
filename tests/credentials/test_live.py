"""A secret follows its source: files that change, links that are swapped, commands that are run again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.core.model import KeyPower
from proxy.credentials.api_key import ApiKey, check_api_key
from proxy.credentials.clock import Clock
from proxy.credentials.live import LiveSecret
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.sources import EnvironmentSource, ExecSource, FileSource, Source, read_source
from tests.credentials.conftest import KEY, OTHER_KEY, gone, put
from tests.proxies import ClockLoop

pytestmark = pytest.mark.asyncio(loop_factories=["clock"])


class Followed:
    """A key that is followed on a clock that a test puts forward; threads and processes are real."""

    def __init__(self, source: Source, environ: dict[str, str] | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClockLoop)
        self.loop = loop
        self.changes = 0
        clock = Clock(monotonic=loop.time)
        secret = read_source(source, environ or {})
        self.live = LiveSecret("k", source, secret, check=check_api_key, environ=environ or {}, clock=clock)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        def changed() -> None:
            self.changes += 1

        self.live.start(lambda work: self.tasks.append(self.loop.create_task(work)) or self.tasks[-1], changed)

    async def until(self, true: Callable[[LiveSecret], object], *, step: float = 0.25) -> None:
        """Puts the clock forward until this is so, while threads and processes take their own time."""
        give_up = time.monotonic() + 60
        while not true(self.live):
            assert time.monotonic() < give_up, "it never came about"
            await self.pass_by(step)

    async def pass_by(self, seconds: float) -> None:
        await self.loop.advance(seconds)
        await asyncio.sleep(0.005)

    @property
    def reads(self) -> int:
        return sum(self.live.reads.values())

    @property
    def is_other(self) -> bool:
        return self.live.current == Secret(OTHER_KEY)

    async def end(self) -> None:
        self.live.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert all(task.cancelled() for task in self.tasks)


@contextlib.asynccontextmanager
async def following(source: Source, environ: dict[str, str] | None = None) -> AsyncIterator[Followed]:
    followed = Followed(source, environ)
    followed.start()
    yield followed
    await followed.end()


async def test_a_file_that_is_written_anew_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY + "\n")
    async with following(FileSource(path)) as followed:
        await followed.until(lambda live: live.reads["same"] == 1)
        put(path, OTHER_KEY + "\n")
        await followed.until(lambda _: followed.is_other)
        assert (followed.changes, followed.live.reads) == (1, {"changed": 1, "same": 1, "failed": 0})


async def test_a_file_that_is_renamed_over_the_one_before_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(FileSource(path)) as followed:
        put(tmp_path / "new", OTHER_KEY).replace(path)
        await followed.until(lambda _: followed.is_other)


async def test_a_file_behind_links_that_are_swapped_as_kubernetes_does_is_read_again(tmp_path: Path) -> None:
    for name, key in (("..one", KEY), ("..two", OTHER_KEY)):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "key", key)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "key").symlink_to("..data/key")
    async with following(FileSource(tmp_path / "key")) as followed:
        await followed.until(lambda live: live.reads["same"] == 1)
        (tmp_path / "..data_tmp").symlink_to("..two")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        await followed.until(lambda _: followed.is_other)


async def test_a_file_that_does_not_change_is_not_read(tmp_path: Path) -> None:
    async with following(FileSource(put(tmp_path / "key", KEY))) as followed:
        await followed.until(lambda _: followed.reads)
        for _ in range(40):
            await followed.pass_by(0.5)
        assert (followed.reads, followed.changes) == (1, 0)


@pytest.mark.parametrize("content", ["", "not a key", "bm90IGEga2V5", KEY + "=", "\udcff"])
async def test_a_malformed_key_changes_nothing_and_is_reported(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(FileSource(path)) as followed:
        with caplog.at_level(logging.INFO, "proxy"):
            put(path, content.encode("utf-8", "surrogateescape"))
            await followed.until(lambda live: live.fault)
        assert (followed.live.current == Secret(KEY), followed.changes) == (True, 0)
        assert "The secret read before stays in use" in caplog.text
        assert KEY not in caplog.text
        assert len(content) < 3 or content not in caplog.text
        put(path, OTHER_KEY)
        await followed.until(lambda _: followed.is_other)
        assert followed.live.fault is None


async def test_a_file_that_disappears_or_becomes_readable_to_all_is_reported(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(FileSource(path, private=True)) as followed:
        path.unlink()
        await followed.until(lambda live: "does not exist" in (live.fault or ""))
        put(path, OTHER_KEY, 0o644)
        await followed.until(lambda live: "everyone" in (live.fault or ""))
        assert followed.live.current == Secret(KEY)
        path.chmod(0o600)
        await followed.until(lambda _: followed.is_other)


async def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, KEY.encode())
    os.close(writing)
    async with following(FileSource(Path(f"/dev/fd/{reading}"))) as followed:
        await followed.loop.advance(5)
        await asyncio.sleep(0.02)
        assert (followed.live.fault, followed.reads) == (None, 0)
    os.close(reading)


async def test_a_variable_is_not_followed() -> None:
    async with following(EnvironmentSource("A"), {"A": KEY}) as followed:
        assert not followed.tasks
        assert followed.live.kind == "env"


def from_file(path: Path, every: float = 600.0) -> ExecSource:
    return ExecSource(("/bin/cat", str(path)), every)


async def test_a_command_is_run_again_when_its_period_is_over(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(from_file(path)) as followed:
        put(path, OTHER_KEY)
        await followed.loop.advance(590)
        await asyncio.sleep(0.05)
        assert followed.reads == 0
        await followed.until(lambda _: followed.is_other, step=5)
        assert followed.changes == 1


async def test_a_command_is_run_again_when_its_secret_is_refused_but_not_all_the_time(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(from_file(path)) as followed:
        await followed.loop.advance(60)
        began = followed.loop.time()
        while followed.loop.time() < began + 45:
            reads = followed.reads
            followed.live.ask()
            await followed.loop.advance(0.5)
            while not followed.live._asked.is_set() and followed.reads == reads:  # noqa: ASYNC110 - a process runs
                await asyncio.sleep(0.005)  # which takes its own time, and none of the clock's
        assert 2 <= followed.reads <= 6
        put(path, OTHER_KEY)
        followed.live.ask()
        await followed.until(lambda _: followed.is_other)


async def test_a_command_that_fails_is_run_again_before_its_period_is_over(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    async with following(from_file(path, every=3600.0)) as followed:
        path.unlink()
        followed.live.ask()
        await followed.until(lambda live: live.reads["failed"] >= 3)
        assert followed.live.current == Secret(KEY)
        put(path, OTHER_KEY)
        await followed.until(lambda _: followed.is_other)
        assert followed.live.fault is None


async def test_a_command_is_looked_up_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    put(tmp_path / "two" / "give-key", f"#!/bin/sh\necho {KEY}\n", 0o700)
    source = ExecSource(("give-key",), 60.0)
    async with following(source, {"PATH": f"{tmp_path}/one:{tmp_path}/two"}) as followed:
        put(tmp_path / "one" / "give-key", f"#!/bin/sh\necho {OTHER_KEY}\n", 0o700)
        await followed.until(lambda _: followed.reads, step=5)
        assert followed.live.reads == {"changed": 0, "same": 1, "failed": 0}


async def test_a_command_that_hangs_is_killed_at_the_end(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, pathlib, time
if pathlib.Path({str(pids)!r}).exists():
    pathlib.Path({str(pids)!r}).write_text(str(os.getpid()))
    time.sleep(60)
print({KEY!r})
"""
    async with following(ExecSource((sys.executable, "-c", code), 60.0)) as followed:
        pids.touch()
        await followed.until(lambda _: pids.read_text(), step=10)
    assert await asyncio.to_thread(gone, int(pids.read_text()))


async def test_a_first_secret_that_is_malformed_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SecretError):
        Followed(FileSource(put(tmp_path / "key", "not a key")))


async def test_an_api_key_shows_the_new_key_and_never_again_the_old(tmp_path: Path) -> None:
    path = put(tmp_path / "key", KEY)
    followed = Followed(FileSource(path))
    credential = ApiKey("k", followed.live.current, KeyPower(), live=followed.live)
    credential.start(lambda work: followed.tasks.append(followed.loop.create_task(work)) or followed.tasks[-1])
    old = credential.authorization()
    assert old == f"Authorization: Basic {KEY}\r\n".encode()
    assert credential.refused(old) is False
    assert credential.state().refused
    put(path, OTHER_KEY)
    await followed.until(lambda _: credential.authorization() != old)
    assert credential.authorization() == f"Authorization: Basic {OTHER_KEY}\r\n".encode()
    assert not credential.state().refused
    assert credential.refused(old) is False
    state = credential.state()
    assert (state.ready, state.source, state.refused, state.refusals, state.fault) == (True, "file", False, 1, None)
    assert state.source_reads["changed"] == 1
    credential.close()
    await followed.end()
