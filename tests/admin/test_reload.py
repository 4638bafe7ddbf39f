"""``POST /reload``: who may, what is answered, and that many who ask at once cause one more reload and no more."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from proxy.admin.application import make_application
from proxy.core.model import Address, Snapshot
from proxy.credentials.api_key import ApiKey
from proxy.document import Fault
from proxy.reload import Outcome, Reloader, State
from proxy.settings.load import SettingsError
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at, with_policy
from tests.wires import Message, bounded, connect, request

TOKEN = "the-operators-own-token"
DIGEST = hashlib.sha256(TOKEN.encode()).digest()
FAULT = Fault("proxy.yaml", "tyme", "a key that does not exist", "write `time`", 3, 1)
BEARER = f"Authorization: Bearer {TOKEN}"


class Loads:
    """Gives what a test puts there, and says how often it was asked."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.next: Snapshot | Exception = snapshot
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def __call__(self, keep: Snapshot, stop: threading.Event) -> Snapshot:
        self.count += 1
        self.begun.set()
        assert self.gate.wait(5)
        if isinstance(self.next, Exception):
            raise self.next
        return self.next


class Admin:
    """A proxy's admin listener, on loopback whatever address the configuration names, and its reloads."""

    def __init__(self, proxy: Proxy, address: str) -> None:
        self.proxy = proxy
        self.loads = Loads(replace(proxy.server.snapshot, source="the next one"))
        self.reloader = Reloader(proxy.server, self.loads)
        self.reloader.start()
        self.runner = web.AppRunner(make_application(proxy.server, self.reloader), access_log=None)

    async def ask(self, what: str = "POST /reload", *fields: str, host: str = "127.0.0.1") -> Message:
        wire = await connect("127.0.0.1", self.runner.addresses[0][1])
        try:
            await wire.send(request(what, *fields, host=host))
            return await wire.message(answers=what.partition(" ")[0])
        finally:
            await wire.cleanup()

    async def status(self, *arguments: str, host: str = "127.0.0.1") -> int:
        return (await self.ask(*arguments, host=host)).head.status

    async def readyz(self) -> tuple[int, dict[str, object]]:
        got = await self.ask("GET /readyz")
        return got.head.status, json.loads(got.content)["reload"]

    def protect(self, digest: bytes | None = DIGEST) -> None:
        server = self.proxy.server
        server.snapshot = replace(server.snapshot, admin_token=digest)
        self.loads.next = replace(server.snapshot, source="the next one")


@pytest.fixture
async def make(proxies: Proxies) -> AsyncIterator[Callable[..., object]]:
    made: list[Admin] = []

    async def make(address: str = "127.0.0.1") -> Admin:
        upstream = await proxies.upstream()
        snapshot = with_policy(make_snapshot(upstream_at(upstream.port)), origins=frozenset({"https://ours.example"}))
        proxy = await proxies.start(replace(snapshot, admin=Address(address, 0)), upstream)
        admin = Admin(proxy, address)
        await admin.runner.setup()
        await web.TCPSite(admin.runner, "127.0.0.1", 0).start()
        made.append(admin)
        return admin

    yield make
    for admin in made:
        admin.loads.gate.set()
        admin.reloader.close()
        await admin.runner.cleanup()


@pytest.fixture
async def admin(make: Callable[..., object]) -> Admin:
    return await make()  # type: ignore[misc, no-any-return]


@pytest.fixture
async def exposed(make: Callable[..., object]) -> Admin:
    """As configured on an address that other machines reach."""
    return await make("0.0.0.0")  # type: ignore[misc, no-any-return]


async def test_a_reload_that_was_asked_for_is_done_when_it_is_answered(admin: Admin) -> None:
    assert (await admin.readyz())[1] | {"when": ""} == {"state": "loaded", "when": "", "faults": 0}
    got = await admin.ask()
    body = json.loads(got.content)
    assert (got.head.status, body["status"], body["faults"]) == (200, "reloaded", [])
    assert body["configuration"] == admin.proxy.server.snapshot.source == "the next one"
    assert (await admin.readyz())[1]["state"] == "reloaded"


async def test_a_secret_that_goes_on_is_looked_at_again_by_whoever_follows_it(admin: Admin) -> None:
    (credential,) = admin.proxy.server.snapshot.credentials.values()
    assert isinstance(credential, ApiKey)
    admin.loads.next = SettingsError((FAULT,))
    assert await admin.status() == 422
    assert not credential.live._asked.is_set(), "a refused configuration asks for nothing"
    admin.loads.next = replace(admin.proxy.server.snapshot)
    assert await admin.status() == 200
    assert credential.live._asked.is_set()


async def test_a_refused_configuration_is_answered_with_every_fault(admin: Admin) -> None:
    before = admin.proxy.server.snapshot
    admin.loads.next = SettingsError((FAULT, replace(FAULT, line=7)))
    got = await admin.ask()
    body = json.loads(got.content)
    assert (got.head.status, body["status"], body["faults"]) == (
        422,
        "failed",
        [str(FAULT), str(replace(FAULT, line=7))],
    )
    assert admin.proxy.server.snapshot is before
    status, shown = await admin.readyz()
    assert (status, shown["state"], shown["faults"], shown["found"]) == (200, "failed", 2, body["faults"])
    admin.loads.next = replace(before)
    assert await admin.status() == 200
    assert (await admin.readyz())[1]["faults"] == 0


@pytest.mark.parametrize("error", [OSError(2, "No such file or directory"), PermissionError(13, "Permission denied")])
async def test_a_file_that_cannot_be_used_in_the_last_moment_is_a_fault_too(admin: Admin, error: Exception) -> None:
    admin.loads.next = error
    got = await admin.ask()
    assert got.head.status == 422
    assert error.strerror in got.content.decode()  # type: ignore[attr-defined]


async def test_a_ca_file_that_is_gone_when_it_is_put_in_force_changes_nothing(admin: Admin) -> None:
    before, pools = admin.proxy.server.snapshot, admin.proxy.server.pools
    (upstream,) = before.upstreams.values()
    others = {"inworld": replace(upstream, scheme="https", ca_file="/nowhere/ca.pem")}
    admin.loads.next = replace(before, upstreams=others, time=replace(before.time, keep_alive=1.0))
    assert await admin.status() == 422
    assert admin.proxy.server.snapshot is before
    assert admin.proxy.server.pools is pools
    assert [pool.time for pool in pools.values()] == [before.time]


async def test_a_defect_is_no_end_of_reloads_and_shows_nothing_of_itself(admin: Admin) -> None:
    admin.loads.next = RuntimeError("a secret, perhaps")
    got = await admin.ask()
    assert got.head.status == 422
    assert b"perhaps" not in got.content
    admin.proxy.faults.clear()  # it is said on standard error, as a defect should be
    admin.loads.next = admin.proxy.server.snapshot
    assert await admin.status() == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_reloads(admin: Admin, method: str) -> None:
    got = await admin.ask(f"{method} /reload")
    assert (got.head.status, got.head.get("Allow"), admin.loads.count) == (405, "POST", 0)


@pytest.mark.parametrize(
    ("host", "fields", "status"),
    [("rebind.evil:9464", (), 421), ("a,b", (), 400), ("127.0.0.1", ("Origin: https://evil.example",), 403),
     ("127.0.0.1", ("Origin: https://ours.example",), 403), ("127.0.0.1", ("Origin: null",), 403),
     ("127.0.0.1:9464", ("Origin: http://127.0.0.1:9464",), 403),
     ("127.0.0.1:9464", ("Origin: http://127.0.0.1:9464", "Sec-Fetch-Site: same-origin"), 403),
     ("127.0.0.1", ("Sec-Fetch-Site: cross-site",), 403), ("127.0.0.1", ("Sec-Fetch-Site: same-site",), 403)],
)  # fmt: skip
@pytest.mark.parametrize("token", [(), (BEARER,)])
async def test_no_web_page_reloads(
    admin: Admin, host: str, fields: tuple[str, ...], status: int, token: tuple[str, ...]
) -> None:
    if token:
        admin.protect()
    assert await admin.status("POST /reload", *fields, *token, host=host) == status
    assert admin.loads.count == 0


WRONG = [
    (),
    ("Authorization: Bearer wrong",),
    ("Authorization: Bearer",),
    ("Authorization:",),
    (f"Authorization: Basic {TOKEN}",),
    (f"Authorization: {TOKEN}",),
    (f"Authorization: Bearer {TOKEN}x",),
    (f"Authorization: Bearer {DIGEST.hex()}",),
    (BEARER, "Authorization: Bearer wrong"),
    (BEARER, BEARER),
    (f"X-Api-Key: {TOKEN}",),
]


@pytest.mark.parametrize("fields", WRONG)
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_where_there_is_a_token_it_must_be_shown(
    make: Callable[..., object], address: str, fields: tuple[str, ...]
) -> None:
    admin: Admin = await make(address)  # type: ignore[misc]
    admin.protect()
    got = await admin.ask("POST /reload", *fields)
    assert (got.head.status, got.head.get("WWW-Authenticate"), admin.loads.count) == (401, "Bearer", 0)
    assert await admin.status("POST /reload", BEARER.replace("Bearer", "bearer")) == 200


async def test_beyond_loopback_there_is_nothing_to_reload_with_until_a_token_is_configured(exposed: Admin) -> None:
    for method in ("POST", "GET", "PUT"):
        got, nothing = await exposed.ask(f"{method} /reload", BEARER), await exposed.ask(f"{method} /nothing")
        assert (got.head.status, got.content) == (nothing.head.status, nothing.content) == (404, b"404: Not Found")
    exposed.protect()
    assert await exposed.status("POST /reload", BEARER, host="10.1.2.3:9464") == 200
    other = hashlib.sha256(b"another").digest()
    exposed.loads.next = replace(exposed.proxy.server.snapshot, admin_token=other)
    assert await exposed.status("POST /reload", BEARER) == 200
    assert await exposed.status("POST /reload", BEARER) == 401, "the reload has changed the token"
    assert await exposed.status("POST /reload", "Authorization: Bearer another") == 200


async def test_what_is_wrong_with_a_file_is_told_to_those_who_may_reload_and_not_to_every_probe(
    exposed: Admin,
) -> None:
    exposed.protect()
    exposed.loads.next = SettingsError((FAULT,))
    got = await exposed.ask("POST /reload", BEARER)
    assert (got.head.status, json.loads(got.content)["faults"]) == (422, [str(FAULT)])
    status, shown = await exposed.readyz()
    assert (status, shown["state"], shown["faults"], "found" in shown) == (200, "failed", 1, False)


async def test_however_many_ask_during_a_reload_there_is_exactly_one_more(admin: Admin) -> None:
    admin.loads.gate.clear()
    first = asyncio.ensure_future(admin.ask())
    await asyncio.to_thread(admin.loads.begun.wait, 5)
    asked = [admin.reloader.ask("SIGHUP") for _ in range(20)]
    admin.loads.gate.set()
    assert (await bounded(first)).head.status == 200
    outcomes: set[Outcome] = {await bounded(each) for each in asked}
    assert [outcome.state for outcome in outcomes] == [State.RELOADED]
    assert admin.loads.count == 2


async def test_who_leaves_takes_the_reload_of_others_not_with_him(admin: Admin) -> None:
    admin.loads.gate.clear()
    wire = await connect("127.0.0.1", admin.runner.addresses[0][1])
    await wire.send(request("POST /reload"))
    await asyncio.to_thread(admin.loads.begun.wait, 5)
    second = admin.reloader.ask("SIGHUP")
    await wire.cleanup()
    admin.loads.gate.set()
    assert (await bounded(second)).state is State.RELOADED


async def test_nobody_waits_for_a_proxy_that_is_stopping(admin: Admin) -> None:
    before = admin.proxy.server.snapshot
    admin.loads.gate.clear()
    first = asyncio.ensure_future(admin.ask())
    await asyncio.to_thread(admin.loads.begun.wait, 5)
    second = admin.reloader.ask("SIGHUP")
    admin.proxy.server.draining = True
    admin.reloader.close()
    assert (await bounded(first)).head.status == 503
    assert (await bounded(second)).faults == ("the proxy is stopping",)
    assert (await bounded(admin.reloader.ask("SIGHUP"))).state is State.FAILED
    admin.loads.gate.set()
    assert admin.proxy.server.snapshot is before
