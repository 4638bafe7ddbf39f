"""What the tests of credentials share: time that stands until told, tasks that are kept, mints that are scripted."""

from __future__ import annotations

import asyncio
import base64
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.core.model import KeyPower
from proxy.credentials.api_key import check_api_key
from proxy.credentials.clock import Clock
from proxy.credentials.live import LiveSecret
from proxy.credentials.mint import Minted
from proxy.credentials.secret import Secret
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import EnvironmentSource
from proxy.credentials.token_endpoint import MintError, MintFailure
from tests.proxies import ClockLoop

KEY = base64.b64encode(b"test-key-id:test-s3cr3t").decode()
OTHER_KEY = base64.b64encode(b"other-key-id:other-s3cr3t").decode()
START = 1_780_000_000.0


class _Impatient(selectors.DefaultSelector):
    """Fails where a loop would wait for time to pass: on a clock that stands, that is for ever."""

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and (timeout is None or timeout > 0):
            raise RuntimeError("nothing will happen until the test puts the clock forward")
        return events


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands, until a test puts it forward."""

    def __init__(self) -> None:
        super().__init__(_Impatient())
        self.now = 5_000.0

    def time(self) -> float:
        return self.now

    async def settle(self) -> None:
        """Lets everything happen that is due."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Puts the clock forward, from one timer to the next, so that what is due on the way happens on the way."""
        end = self.now + seconds
        await self.settle()
        while self.now < end:
            due = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self.now = min([end, *(max(when, self.now + 0.001) for when in due)])
            await self.settle()


def refused(**extra: Any) -> MintError:
    return MintError(MintFailure.REFUSED, "refused", **extra)


def unavailable(**extra: Any) -> MintError:
    return MintError(MintFailure.UNAVAILABLE, "unavailable", **extra)


@dataclass
class FakeMint:
    """A token endpoint that answers as told: a life in seconds, a failure, or only once the gate is opened.

    ``answers`` is used up from the front; then every mint gives a token of ``life`` seconds.
    """

    wall: Callable[[], float]
    life: float = 3600.0
    skew: float | None = 0.0
    answers: list[MintError | float] = field(default_factory=list)
    gate: asyncio.Event | None = None
    asked: list[tuple[str, float]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    cancelled: int = 0

    async def __call__(self, key: Secret, skew: float) -> Minted:
        number = len(self.asked) + 1
        self.asked.append((key.reveal(), skew))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers.pop(0) if self.answers else self.life
            if isinstance(answer, MintError):
                raise answer
            return Minted(Secret(f"token-{number}"), self.wall() + (self.skew or 0.0) + answer, self.skew)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1


class Stage:
    """A session token on a still clock, with a scripted mint."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StillLoop)
        self.loop = loop
        self.ahead = 0.0
        """How far the wall clock has been moved against the other one."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.clock = Clock(wall=self.wall, monotonic=loop.time, chance=lambda: 0.5)
        self.mint = FakeMint(self.wall)
        self.live = LiveSecret(
            "live", EnvironmentSource("KEY"), Secret(KEY), check=check_api_key, environ={}, clock=self.clock
        )
        self.credential = SessionToken("live", self.live, KeyPower(), self.mint, clock=self.clock)

    def wall(self) -> float:
        return START + self.loop.now + self.ahead

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    async def start(self) -> None:
        self.credential.start(self.spawn)
        await self.loop.settle()

    def shown(self) -> str | None:
        line = self.credential.authorization()
        return None if line is None else line.decode().removeprefix("Authorization: Bearer ").removesuffix("\r\n")

    async def soon(self, wait: Coroutine[Any, Any, Any]) -> Any:
        """What comes of a wait that is over within seconds, which it makes pass."""
        task = asyncio.ensure_future(wait)
        await self.loop.settle()
        for _ in range(240):
            if task.done():
                break
            await self.loop.advance(0.05)
        return await task

    def replace_key(self, key: str = OTHER_KEY) -> None:
        """What a change of the source does."""
        self.live.current = Secret(key)
        self.credential._on_secret()

    async def gather(self, waits: list[Awaitable[None]]) -> list[Any]:
        return list(await asyncio.gather(*waits, return_exceptions=True))

    async def end(self) -> None:
        self.credential.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert not self.failures, self.failures


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Any:
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return {"still": StillLoop, "clock": ClockLoop}
    return {"asyncio": asyncio.new_event_loop}


def put(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A file with this content that nobody else can read."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def gone(pid: int) -> bool:
    """True once nothing but a corpse is left of a process."""
    for _ in range(1000):  # many more than it takes: a busy machine ends it later
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A session token whose tasks must all be over, and have not failed, after the test."""
    stage = Stage()
    yield stage
    await stage.end()
    assert not stage.tasks
