"""What all tests share: the loops that asynchronous tests run on, and a proxy to talk to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest

from proxy.core.build import BUILD
from tests.proxies import ClockLoop, Proxies, Proxy
from tests.redis_server import RedisServer, Unhurried
from tests.wires import ScriptedUpstream

pytest_plugins = ("tests.secrets_watch",)


def pytest_configure() -> None:
    """Ends a run that is about another build than whoever started it thinks (scripts/compiled.py)."""
    expected = os.environ.get("INWORLD_PROXY_EXPECT", BUILD)
    if expected != BUILD:
        pytest.exit(f"these tests would be about the {BUILD} build", returncode=1)
    # Under nohup, and behind a script's `&`, they are ignored, and would be by every process that a test starts.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


try:
    import uvloop
except ImportError:
    uvloop = None

_LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    **({} if uvloop is None else {"uvloop": uvloop.new_event_loop}),
    "asyncio": asyncio.new_event_loop,
    "clock": ClockLoop,
}
_ON_BOTH_LOOPS = ("flows", "faults")
"""Folders whose tests run on every loop that the product runs on."""


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return _LOOPS
    if item.path.parent.name in _ON_BOTH_LOOPS:
        return {name: make for name, make in _LOOPS.items() if name != "clock"}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def proxies() -> AsyncIterator[Proxies]:
    """Makes proxies and upstreams that are ended, and checked for leaks, after the test."""
    made = Proxies()
    yield made
    await made.cleanup()


@pytest.fixture
async def proxy(proxies: Proxies) -> Proxy:
    """A proxy without callers in front of a scripted upstream; its key may only read voices and routers."""
    return await proxies.start()


@pytest.fixture
def upstream(proxy: Proxy) -> ScriptedUpstream:
    """The scripted upstream behind ``proxy``."""
    return proxy.upstream


@pytest.fixture
async def clock() -> ClockLoop:
    """The clock of this test's loop; for tests marked with ``loop_factories=["clock"]``."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockLoop)
    return loop


@pytest.fixture
async def still_clock(clock: ClockLoop) -> ClockLoop:
    """The same, and it stands still while the test does not move it."""
    clock.stand_still()
    return clock


@pytest.fixture
def unhurried() -> Iterator[Unhurried]:
    """The product waits for Redis as long as a busy machine takes to answer, until the test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        made = Unhurried(patch)
        made.begin()
        yield made


@pytest.fixture
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """A Redis server of this test's own, started; skips without one, and fails where it could be installed."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    await server.start()
    yield server
    await server.kill()
