"""A configuration that takes the place of another: what both say in the same words goes on, and nothing else does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from proxy.core.model import Credential, Snapshot
from proxy.credentials.api_key import ApiKey
from proxy.credentials.desk import Desk
from proxy.credentials.key_set import FetchedKeys
from proxy.credentials.mint import Minted
from proxy.credentials.secret import Secret
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import Source
from proxy.settings.load import SettingsError, load_settings
from tests.callers.issuers import ed_key, jwk
from tests.settings.conftest import ENVIRON, KEY

Load = Callable[..., Snapshot]

LIVE = "credentials: {live: {kind: session-token, secret: env:OTHER_KEY%s}}\n"
OTHER_MINTS = (", mint: samples, workspace: w", ", signed_host: other.example")


class Loads:
    """Loads one text after the other, each to take the place of the one before, and counts the secrets read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "proxy.yaml"
        self.environ = dict(ENVIRON)
        self.now: Snapshot | None = None
        self.read: list[str] = []

    def __call__(self, text: str) -> Snapshot:
        self.path.write_text(text, encoding="utf-8")
        self.now = load_settings(self.path, self.environ, read_key=self._read, keep=self.now)
        return self.now

    def _read(self, source: Source, environ: Any) -> Secret:
        self.read.append(str(source))
        return Secret(environ[str(source).partition(":")[2]])


@pytest.fixture
def loads(tmp_path: Path) -> Loads:
    return Loads(tmp_path)


class Mints:
    """Gives a token of an hour each time, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, key: Secret, skew: float) -> Minted:
        self.count += 1
        number = self.count
        if self.gate is not None:
            await self.gate.wait()
        return Minted(Secret(f"token-{number}"), 4_000_000_000.0, 0.0)


class Spawned:
    """Keeps tasks, and ends them."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def minting(credential: Credential, mints: Mints) -> SessionToken:
    """The credential, with these mints and not those of the world."""
    assert isinstance(credential, SessionToken)
    credential._mint = mints
    return credential


async def started(credential: SessionToken, spawn: Spawned) -> bytes | None:
    credential.start(spawn)
    for _ in range(5):
        await asyncio.sleep(0)
    return credential.authorization()


def test_a_credential_that_is_defined_the_same_is_the_same_and_its_secret_is_not_read_again(loads: Loads) -> None:
    text = """\
credentials:
  a: {kind: api-key, secret: env:INWORLD_API_KEY}
  b: {kind: session-token, secret: env:OTHER_KEY}
routes: [{operations: "realtime.*", credential: b}, {operations: "*", credential: a}]
"""
    first = loads(text)
    second = loads(text + "log: {format: 'off'}\n")
    assert [second.credentials[name] is first.credentials[name] for name in ("a", "b")] == [True, True]
    assert second.routes[0].credential is first.credentials["b"]
    assert loads.read == ["env:INWORLD_API_KEY", "env:OTHER_KEY"]


@pytest.mark.parametrize(
    "change",
    [", permissions: {voices: write}", ", type: realtime-only", *OTHER_MINTS, "upstream", "source", "kind", "name"],
)
def test_a_credential_of_which_anything_is_different_is_another(loads: Loads, change: str) -> None:
    first = loads(LIVE % "")
    text = {
        "upstream": LIVE % "" + "upstreams: {inworld: {url: 'https://api.eu.inworld.ai'}}\n",
        "source": (LIVE % "").replace("OTHER_KEY", "INWORLD_API_KEY"),
        "kind": (LIVE % "").replace("session-token", "api-key"),
        "name": (LIVE % "").replace("live", "other"),
    }.get(change, LIVE % change)
    second = loads(text)
    (credential,) = second.credentials.values()
    assert credential is not first.credentials["live"]
    assert len(loads.read) == 2


@pytest.mark.parametrize("change", [", permissions: {voices: write}", ", type: realtime-only", "name", "source"])
async def test_with_the_same_key_at_the_same_place_the_token_and_the_counts_go_on(loads: Loads, change: str) -> None:
    loads.environ["SAME"] = loads.environ["OTHER_KEY"]
    mints, spawn = Mints(), Spawned()
    old = minting(loads(LIVE % "").credentials["live"], mints)
    warm = await started(old, spawn)
    assert warm == b"Authorization: Bearer token-1\r\n"
    text = {
        "name": (LIVE % "").replace("live", "other"),
        "source": (LIVE % "").replace("OTHER_KEY", "SAME"),
    }.get(change, LIVE % change)
    new = minting(next(iter(loads(text).credentials.values())), mints)
    assert new.authorization() is None, "it has begun with nothing before it is in force"
    assert await started(new, spawn) == warm
    assert (mints.count, new.state().mints["success"], old.state().mints["success"]) == (1, 1, 1)
    assert new._predecessor is None, "the old one is held by nobody"
    await spawn.end()


@pytest.mark.parametrize("change", [*OTHER_MINTS, "upstream", "key", "key-later"])
async def test_with_another_key_or_minted_elsewhere_nothing_goes_on(loads: Loads, change: str) -> None:
    mints, spawn = Mints(), Spawned()
    old = minting(loads(LIVE % "").credentials["live"], mints)
    await started(old, spawn)
    text = {
        "upstream": LIVE % "" + "upstreams: {inworld: {url: 'https://api.eu.inworld.ai'}}\n",
        "key": (LIVE % "").replace("OTHER_KEY", "INWORLD_API_KEY"),
        "key-later": LIVE % ", permissions: {voices: write}",
    }.get(change, LIVE % change)
    new = minting(loads(text).credentials["live"], mints)
    if change == "key-later":
        old.live.current = Secret(KEY)  # it was rotated after the new one had read it
    assert await started(new, spawn) == b"Authorization: Bearer token-2\r\n"
    assert new.state().mints["success"] == 1
    await spawn.end()


async def test_who_waits_for_the_old_one_is_served_while_it_is_retired(loads: Loads) -> None:
    mints, spawn = Mints(), Spawned()
    mints.gate = asyncio.Event()
    old = minting(loads(LIVE % "").credentials["live"], mints)
    old.start(spawn)
    waiting = asyncio.ensure_future(old.refresh())
    await asyncio.sleep(0)
    new = minting(loads(LIVE % ", permissions: {voices: write}").credentials["live"], mints)
    new.start(spawn)
    mints.gate.set()
    await asyncio.wait_for(waiting, 5)
    assert old.authorization() is not None
    await asyncio.wait_for(new.refresh(), 5)
    await spawn.end()


async def test_a_refused_key_stays_refused_and_its_one_time_tokens_stay_counted(loads: Loads) -> None:
    text = "credentials: {a: {kind: api-key, secret: env:OTHER_KEY%s}}\n"
    old = loads(text % "").credentials["a"]
    assert isinstance(old, ApiKey)
    old.refused(old.authorization() or b"")
    new = loads(text % ", permissions: {voices: write}").credentials["a"]
    assert isinstance(new, ApiKey)
    spawn = Spawned()
    new.start(spawn)
    assert (new.state().refusals, new.state().refused) == (1, True)
    assert new.one_time is old.one_time
    other = loads((text % "").replace("OTHER_KEY", "INWORLD_API_KEY")).credentials["a"]
    assert isinstance(other, ApiKey)
    assert other.one_time is not old.one_time
    await spawn.end()


def test_of_two_with_the_same_key_one_goes_on_with_the_token(loads: Loads) -> None:
    loads(LIVE % "")
    second = loads("""\
credentials:
  one: {kind: session-token, secret: env:OTHER_KEY}
  two: {kind: session-token, secret: env:OTHER_KEY}
routes: [{operations: "realtime.*", credential: one}, {operations: "*", credential: two}]
""")
    heirs = [each for each in second.credentials.values() if isinstance(each, SessionToken) and each._predecessor]
    assert len(heirs) == 1, "or its counts would be there twice"


def test_what_callers_had_of_tokens_this_minute_goes_on(loads: Loads) -> None:
    text = f"""\
credentials: {{live: {{kind: session-token, secret: env:OTHER_KEY, type: realtime-only}}}}
callers: {{a: {{token: "sha256:{"0" * 64}", allow: "*"}}}}
tokens: {{per_minute: %d, realtime: {{}}}}
"""
    old, new = loads(text % 2).desk, loads(text % 2).desk
    assert isinstance(old, Desk)
    assert isinstance(new, Desk)
    assert [old.wait("a"), new.wait("a")] == [0, 0]
    assert old.wait("a") > 0
    assert new.wait("a") > 0
    more = loads(text % 3).desk
    assert more is not None
    assert more.wait("a") == 0
    assert more.wait("a") > 0
    fewer = loads(text % 1).desk
    assert fewer is not None
    assert fewer.wait("a") > 0


async def test_a_key_set_at_the_same_address_goes_on_with_its_keys(loads: Loads) -> None:
    text = """\
callers:
  %s: {jwt: {jwks: "http://127.0.0.1:9/%s", issuer: i, audience: a}, allow: "*"}
"""
    first = loads(text % ("studio", "keys")).key_sets["studio"]
    assert isinstance(first, FetchedKeys)

    async def fetch() -> bytes:
        return json.dumps({"keys": [jwk(ed_key(), kid="1", alg="EdDSA")]}).encode()

    first._fetch = fetch
    spawn = Spawned()
    first.start(spawn)
    for _ in range(5):
        await asyncio.sleep(0)
    assert first.state().ready
    assert loads(text % ("studio", "keys") + "log: {format: 'off'}\n").key_sets["studio"] is first
    renamed = loads(text % ("shop", "keys")).key_sets["shop"]
    assert isinstance(renamed, FetchedKeys)
    assert not renamed.state().ready
    await renamed.fetch_first()
    renamed.start(spawn)
    assert renamed.current() is first.current(), "and so nobody who is known becomes unknown"
    assert renamed.state().fetches == {"success": 1, "failed": 0}
    elsewhere = loads(text % ("shop", "others")).key_sets["shop"]
    elsewhere.start(spawn)
    assert not elsewhere.state().ready
    await spawn.end()


@pytest.mark.parametrize(("key", "said"), [("listen", "127.0.0.1:8081"), ("admin", "127.0.0.1:9999")])
def test_the_listeners_cannot_move_while_the_proxy_runs(loads: Loads, key: str, said: str) -> None:
    before = loads("log: {format: 'off'}\n")
    with pytest.raises(SettingsError) as raised:
        loads(f"log: {{format: 'off'}}\n{key}: {said}\n")
    (fault,) = raised.value.faults
    assert (fault.path, fault.line, said in fault.found, "restart" in fault.remedy) == (key, 2, True, True)
    assert loads.now is before


@pytest.mark.parametrize("text", ["", "\n", "# callers are declared below\n", "{}\n"])
def test_a_file_that_says_nothing_takes_the_place_of_none_that_said_something(loads: Loads, text: str) -> None:
    loads("log: {format: 'off'}\n")
    with pytest.raises(SettingsError) as raised:
        loads(text)
    assert "an empty configuration file" in str(raised.value)


def test_a_fault_changes_nothing_of_what_is_in_force(loads: Loads, tmp_path: Path) -> None:
    before = loads(LIVE % "")
    credential = before.credentials["live"]
    with pytest.raises(SettingsError) as raised:
        loads(LIVE % ", type: realtime-only" + "upstreams: {inworld: {ca: missing.pem}}\nlissen: x\n")
    assert len(raised.value.faults) == 2
    assert raised.value.files == (str(tmp_path / "proxy.yaml"), str(tmp_path / "missing.pem"))
    assert loads.now is before
    assert before.credentials["live"] is credential
