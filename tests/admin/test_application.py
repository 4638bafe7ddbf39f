"""The operator's listener: three paths for machines, guarded against web pages where web pages can reach it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from proxy import __version__
from proxy.admin.application import make_application
from proxy.core.model import Address
from proxy.reload import Outcome, State
from tests.proxies import Proxies, Proxy
from tests.snapshots import KEY, make_snapshot, upstream_at, with_policy
from tests.wires import Message, connect, request


class Admin:
    """The admin listener of a proxy, on loopback whatever address the configuration names."""

    def __init__(self, proxy: Proxy, port: int, application: web.Application) -> None:
        self.proxy = proxy
        self.port = port
        self.routes = application.router.routes()

    async def ask(self, raw: bytes) -> Message:
        wire = await connect("127.0.0.1", self.port)
        try:
            await wire.send(raw)
            return await wire.message(answers=raw.partition(b" ")[0].decode())
        finally:
            await wire.cleanup()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def _admin(
    proxies: Proxies, stack: AsyncExitStack, address: str = "127.0.0.1", reloader: _Reloads | None = None
) -> Admin:
    upstream = await proxies.upstream()
    snapshot = with_policy(make_snapshot(upstream_at(upstream.port)), origins=frozenset({"https://ours.example"}))
    proxy = await proxies.start(replace(snapshot, admin=Address(address, 0)), upstream)
    application = make_application(proxy.server, reloader)  # type: ignore[arg-type]
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return Admin(proxy, runner.addresses[0][1], application)


@pytest.fixture
async def admin(proxies: Proxies, stack: AsyncExitStack) -> Admin:
    return await _admin(proxies, stack)


@pytest.fixture
async def exposed(proxies: Proxies, stack: AsyncExitStack) -> Admin:
    """As configured on an address that other machines reach."""
    return await _admin(proxies, stack, "0.0.0.0")


async def test_metrics_are_served_as_prometheus_reads_them(admin: Admin) -> None:
    got = await admin.ask(request("GET /metrics"))
    assert got.head.status == 200
    assert (got.head.get("Content-Type") or "").startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(got.content.decode())}
    assert {"inworld_proxy_requests", "inworld_proxy_build_info"} <= names
    assert KEY.encode() not in got.content


async def test_metrics_are_served_as_openmetrics_to_who_asks(admin: Admin) -> None:
    got = await admin.ask(request("GET /metrics", "Accept: application/openmetrics-text; version=1.0.0"))
    assert (got.head.get("Content-Type") or "").startswith("application/openmetrics-text")
    assert got.content.endswith(b"# EOF\n")


async def test_health_is_ok_while_the_process_lives(admin: Admin) -> None:
    got = await admin.ask(request("GET /healthz"))
    assert (got.head.status, json.loads(got.content)) == (200, {"status": "ok", "version": __version__})


READY = {"kind": "api-key", "state": "ready", "refused_upstream": False}


async def test_ready_says_so_until_the_proxy_drains(admin: Admin) -> None:
    got = await admin.ask(request("GET /readyz"))
    body = json.loads(got.content)
    assert (got.head.status, body["status"], body["credentials"]) == (200, "ready", {"workspace": READY})
    admin.proxy.server.draining = True
    got = await admin.ask(request("GET /readyz"))
    assert (got.head.status, json.loads(got.content)["status"]) == (503, "draining")
    assert (await admin.ask(request("GET /healthz"))).head.status == 200


PATHS = ["/metrics", "/healthz", "/readyz", "/", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("host", "fields", "status"),
    [("rebind.evil:9464", (), 421), ("0.0.0.0:9464", (), 421), ("127.0.0.1.evil", (), 421), ("a,b", (), 400),
     ("127.0.0.1", ("Origin: https://evil.example",), 403), ("127.0.0.1", ("Origin: https://ours.example",), 403),
     ("127.0.0.1", ("Origin: null",), 403), ("127.0.0.1", ("Sec-Fetch-Site: cross-site",), 403),
     ("127.0.0.1", ("Sec-Fetch-Site: same-site",), 403)],
)  # fmt: skip
async def test_no_web_page_reads_anything_on_loopback(
    admin: Admin, path: str, host: str, fields: tuple[str, ...], status: int
) -> None:
    got = await admin.ask(request(f"GET {path}", *fields, host=host))
    assert got.head.status == status
    assert not any(name.startswith("access-control-") for name in got.head.names)
    assert b"inworld_proxy_" not in got.content


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "localhost", "[::1]:9464"])
async def test_our_own_names_are_answered_on_loopback(admin: Admin, host: str) -> None:
    assert (await admin.ask(request("GET /metrics", "Sec-Fetch-Site: none", host=host))).head.status == 200


async def test_people_find_the_three_paths_on_loopback(admin: Admin) -> None:
    got = await admin.ask(request("GET /"))
    assert (got.head.status, b"/metrics" in got.content) == (200, True)


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/", 404), ("/x", 404)]
)
async def test_elsewhere_three_paths_are_served_and_host_does_not_matter(
    exposed: Admin, path: str, status: int
) -> None:
    assert (await exposed.ask(request(f"GET {path}", host="10.1.2.3:9464"))).head.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_nothing_can_be_changed_here(exposed: Admin, path: str, method: str) -> None:
    assert (await exposed.ask(request(f"{method} {path}"))).head.status == 405


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_the_data_listener_does_not_serve_these_paths(admin: Admin, path: str) -> None:
    assert (await admin.proxy.ask(request(f"GET {path}"))).head.status == 404


READ_ONLY = frozenset({"/metrics", "/healthz", "/readyz", "/"})
"""Paths whose answer to GET changes nothing: a page can make a browser send that from anywhere."""
ELSEWHERE = frozenset({"/metrics", "/healthz", "/readyz"})
INSPECTOR = frozenset({"/inspector", "/inspector/{name}", "/inspector/events", "/inspector/requests/{number}"})
"""They are there in every configuration, and 404 while the inspector is off, as it is here (``test_inspector.py``)."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Reloads:
    """Stands where the reloader does, and notes who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.last = Outcome(State.LOADED, 0.0, ())

    def ask(self, by: str) -> asyncio.Future[Outcome]:
        self.asked.append(by)
        done = asyncio.get_running_loop().create_future()
        done.set_result(self.last)
        return done


@pytest.fixture
def reloads() -> _Reloads:
    return _Reloads()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.1.2.3"])
async def test_whatever_answers_a_get_is_known_to_change_nothing(
    proxies: Proxies, stack: AsyncExitStack, reloads: _Reloads, address: str
) -> None:
    """A route that is new must be put into the list above by somebody who thought about it."""
    admin = await _admin(proxies, stack, address, reloads)
    here = admin.proxy.server.snapshot.admin.is_loopback
    routes = {(route.method, route.resource.canonical) for route in admin.routes if route.resource is not None}
    paths = READ_ONLY if here else ELSEWHERE
    known = {(method, path) for method in ("GET", "HEAD") for path in paths} | {("*", path) for path in INSPECTOR}
    assert routes == known | {("*", "/reload")}
    before = admin.proxy.server.snapshot
    for path in sorted(path for _, path in routes):
        got = await admin.ask(request(f"GET {path}"))
        off = path in INSPECTOR
        assert got.head.status == (200 if path in paths else 405 if here and not off else 404), path
    assert reloads.asked == []
    assert admin.proxy.server.snapshot is before
    assert not admin.proxy.server.draining


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*sorted(READ_ONLY), "/reload", "/token", "/tts/v1/voice", "/nothing", "/inspector",
                                  "/inspector/events"])  # fmt: skip
@pytest.mark.parametrize("host", ["127.0.0.1", "rebind.evil:9464"])
async def test_elsewhere_and_without_a_token_of_the_operators_three_paths_are_read_and_nothing_else_is_there(
    proxies: Proxies, stack: AsyncExitStack, reloads: _Reloads, path: str, method: str, host: str
) -> None:
    admin = await _admin(proxies, stack, "0.0.0.0", reloads)
    got = await admin.ask(request(f"{method} {path}", "Authorization: Bearer guessed", host=host))
    reads = method in ("GET", "HEAD")
    assert got.head.status == ((200 if reads else 405) if path in ELSEWHERE else 404)
    assert not any(name.startswith("access-control-") for name in got.head.names), "no page may read an answer"
    assert reloads.asked == []
