"""One task that asks for all callers: how often, what it does when nobody answers, and what it says about that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from proxy.core.errors import Code
from proxy.core.model import CallerLimits, RunningTask, SharedLimits
from proxy.limits.gate import Gate, Gates, Refusal
from proxy.limits.leases import PATIENCE, Counts
from proxy.limits.shared import PROBE, ROUND_TRIP, SharedRates
from proxy.limits.store import Answer, Ask, StoreError
from tests.proxies import ClockLoop
from tests.redis_server import RedisServer
from tests.wires import bounded

pytestmark = pytest.mark.asyncio(loop_factories=["clock"])


class ScriptedStore:
    """Grants everything, unless the test says otherwise."""

    where = "a place for tests"

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.rounds: list[list[Ask]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.fault: str | None = None
        self.silent = False
        self.granted = 1000
        self._changed = asyncio.Event()

    async def open(self) -> None:
        self.opened += 1
        self._changed.set()
        await self._answer()

    async def lease(self, asks: Sequence[Ask]) -> list[Answer]:
        self.rounds.append([*asks])
        self._changed.set()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self._answer()
        finally:
            self.under_way -= 1
        return [Answer(min(self.granted, ask.wanted), 3.0 if self.granted < ask.wanted else 0.0) for ask in asks]

    async def close(self) -> None:
        self.closed += 1
        self._changed.set()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.silent:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise StoreError(self.fault)

    async def until(self, true: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not true():
                self._changed.clear()
                await self._changed.wait()

        await bounded(wait())


class Waiter:
    """Who stands in line, and can be waited for."""

    def __init__(self) -> None:
        self.called: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

    def on_admitted(self, waited: float) -> None:
        self.called.set_result(None)

    def on_refused(self, refusal: Refusal, waited: float) -> None:
        self.called.set_result(refusal)


class Bench:
    def __init__(self, *, fail_open: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = ScriptedStore()
        self.rates = SharedRates(
            self.store, fail_open=fail_open, counts=Counts(), clock=self.loop.time, call_at=self.loop.call_at
        )
        self.tasks: list[asyncio.Task[None]] = []
        self.gates: dict[str, Gate] = {}

    def start(self) -> None:
        self.rates.start(self.spawn)

    def spawn(self, work: object) -> RunningTask:
        self.tasks.append(self.loop.create_task(work))  # type: ignore[arg-type]
        return self.tasks[-1]

    def gate(self, name: str = "shop", *, rate: float = 50.0, queue: float = 0.0) -> Gate:
        gate = self.gates.get(name)
        if gate is None:
            limits = CallerLimits(rate, None, queue)
            gate = self.gates[name] = Gate(name, limits, self.loop.time, self.loop.call_at, self.rates)
        return gate

    async def ask(self, name: str = "shop") -> Refusal | None:
        """One request: None when it was let through."""
        waiter = Waiter()
        entered = self.gate(name).enter(waiter)
        if entered is True:
            return None
        return entered if isinstance(entered, Refusal) else await bounded(waiter.called)

    async def end(self) -> None:
        for gate in self.gates.values():
            gate.close()
        self.rates.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.end()


async def test_a_request_before_there_is_a_connection_waits_for_it(bench: Bench) -> None:
    asked = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    bench.start()
    assert await asked is None
    assert bench.rates.state().up


async def test_many_callers_share_a_round_trip_and_there_is_one_at_a_time(bench: Bench) -> None:
    bench.start()
    await bench.ask()
    names = [f"caller-{number}" for number in range(300)]
    assert [*await asyncio.gather(*(bench.ask(name) for name in names))] == [None] * 300
    assert len(bench.store.rounds) <= 1 + 3 + 1
    assert bench.store.most_under_way == 1
    assert len(bench.tasks) == 1
    assert bench.rates.counts.leases == {"granted": 301, "exhausted": 0, "failed": 0}


async def test_what_is_refused_and_what_is_granted_is_counted(bench: Bench) -> None:
    bench.start()
    bench.store.granted = 0
    refusal = await bench.ask()
    assert refusal is not None
    assert (refusal.code, refusal.retry_after) == (Code.RATE_LIMITED, 3)
    assert bench.rates.counts.leases == {"granted": 0, "exhausted": 1, "failed": 0}


@pytest.mark.parametrize("fail_open", [True, False])
async def test_silence_is_a_failure_after_a_moment_and_is_said_once(
    still_clock: ClockLoop, caplog: pytest.LogCaptureFixture, fail_open: bool
) -> None:
    bench = Bench(fail_open=fail_open)
    bench.start()
    await bench.ask()
    caplog.set_level(logging.INFO, "proxy")
    bench.store.silent = True
    asked = [asyncio.ensure_future(bench.ask()) for _ in range(3)]
    await bench.store.until(lambda: len(bench.store.rounds) == 2)
    await still_clock.advance(ROUND_TRIP - 0.01)
    assert not any(each.done() for each in asked)
    await still_clock.advance(0.02)
    refusals = await bounded(asyncio.gather(*asked))
    for _ in range(5):
        refusals.append(await bench.ask())
    codes = {refusal and refusal.code for refusal in refusals}
    assert codes == {None if fail_open else Code.LIMITS_UNAVAILABLE}
    choice, other = ("open", "closed") if fail_open else ("closed", "open")
    assert bench.rates.counts.fallback == {choice: 8, other: 0}
    assert bench.rates.counts.leases["failed"] == 1
    state = bench.rates.state()
    assert (state.up, state.fault) == (False, "it did not answer in time")
    opened = bench.store.opened
    for _ in range(3):
        await still_clock.advance(5)
    await bench.store.until(lambda: bench.store.opened > opened)
    (record,) = caplog.records
    assert "a place for tests cannot be asked: it did not answer in time" in record.getMessage()
    assert ("counts for itself" in record.getMessage()) == fail_open
    bench.store.silent = False
    for _ in range(10):
        await still_clock.advance(5)
    assert bench.rates.state().up
    assert len(caplog.records) == 2
    assert await bench.ask() is None
    await bench.end()


async def test_attempts_become_rarer_and_do_not_stop(still_clock: ClockLoop, bench: Bench) -> None:
    bench.store.fault = "it refuses connections"
    bench.start()
    await bench.store.until(lambda: bench.store.closed == 1)
    for seconds in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        opened = bench.store.opened
        await still_clock.advance(seconds * 0.9)
        assert bench.store.opened == opened
        await still_clock.advance(seconds * 0.2)
        await bench.store.until(lambda before=opened: bench.store.opened == before + 1)  # type: ignore[misc]
        for _ in range(3):
            await asyncio.sleep(0)


async def test_an_idle_process_notices_too(still_clock: ClockLoop, bench: Bench) -> None:
    bench.start()
    await bench.ask()
    for _ in range(5):
        await asyncio.sleep(0)
    bench.store.fault = "it refuses connections"
    await still_clock.advance(PROBE + 0.1)
    await bench.store.until(lambda: bench.store.closed == 1)
    assert not bench.rates.state().up


async def test_a_connection_that_takes_long_is_not_waited_for(still_clock: ClockLoop, bench: Bench) -> None:
    bench.store.silent = True
    bench.start()
    asked = asyncio.ensure_future(bench.ask())
    await bench.store.until(lambda: bench.store.opened == 1)
    await still_clock.advance(PATIENCE + 0.01)
    assert await bounded(asked) is None
    assert bench.rates.counts.fallback["open"] == 1
    assert bench.rates.state().fault == "there is no connection to it yet"


async def test_a_bug_in_asking_is_an_outage_and_not_a_wait(bench: Bench) -> None:
    bench.start()
    await bench.ask()
    bench.store.lease = None  # type: ignore[assignment,method-assign]
    assert await bench.ask() is None
    assert bench.rates.counts.fallback["open"] == 1
    with pytest.raises(TypeError):
        await bench.tasks[0]


# -- the gates of a process and a real server -------------------------------------------------------------------------


@pytest.mark.usefixtures("unhurried")
async def test_sharing_can_be_changed_at_any_time(redis_server: RedisServer) -> None:
    loop = asyncio.get_running_loop()
    gates = Gates(loop.time, loop.call_at)
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: object) -> RunningTask:
        tasks.append(loop.create_task(work))  # type: ignore[arg-type]
        return tasks[-1]

    limits = CallerLimits(5.0)
    assert gates.shared_state() is None
    assert gates.of("shop", limits).enter(Waiter()) is True
    shared = SharedLimits(redis_server.url)
    gates.share(shared, spawn)
    waiter = Waiter()
    assert gates.of("shop", limits).enter(waiter) is False
    assert await bounded(waiter.called) is None
    gates.share(SharedLimits(redis_server.url), spawn)
    assert len(tasks) == 1
    gates.share(SharedLimits(f"unix://{redis_server.socket}"), spawn)
    await bounded(asyncio.wait([tasks[0]]))
    waiter = Waiter()
    assert gates.of("shop", limits).enter(waiter) is False
    assert await bounded(waiter.called) is None
    assert int(await redis_server.ask("PTTL", "inworld-proxy:rate:shop")) > 1000
    state = gates.shared_state()
    assert state is not None
    assert state.leases["granted"] == 2  # counted on, whatever the server
    gates.share(None, spawn)
    await bounded(asyncio.wait([tasks[1]]))
    assert gates.of("shop", limits).enter(Waiter()) is True
    assert gates.shared_state() is None
    gates.close()
