"""The inspector's paths: who may read them and who may not, what the stream tells and when, and that it is bounded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.admin.inspector.feed import ENDS_WITHIN, MOST_QUEUED, MOST_VIEWERS, Viewer
from proxy.admin.inspector.rows import MOST_ROWS, percentile
from proxy.core.model import Snapshot
from proxy.observe.record import Record
from proxy.observe.trail import BURST
from tests.admin.watching import KEEP, Inspected, Inspectors
from tests.snapshots import HANDSHAKE, KEY, SWITCH, TOKEN
from tests.wires import OK, Wire, bounded, connect, request

OPERATORS = "the-operators-own-token"
BEARER = f"Authorization: Bearer {OPERATORS}"
DATA = ("/inspector/events", "/inspector/requests/1")
GET = request("GET /llm/v1alpha/models")


def protected(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, admin_token=hashlib.sha256(OPERATORS.encode()).digest())


async def status(inspected: Inspected, path: str, *fields: str, method: str = "GET", host: str = "127.0.0.1") -> int:
    """Of an answer that may never end: its head is enough."""
    wire = await connect("127.0.0.1", inspected.port)
    try:
        await wire.send(request(f"{method} {path}", *fields, host=host))
        head = await wire.head()
        assert not any(name.startswith("access-control-") for name in head.names), "no page may read an answer"
        return head.status
    finally:
        await wire.cleanup()


async def answered(inspected: Inspected, count: int = 1) -> None:
    """So many requests that the upstream answers."""
    inspected.proxy.upstream.always(OK)
    caller = await inspected.proxy.caller()
    for _ in range(count):
        await caller.send(GET)
        await caller.message()


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/inspector", "/inspector/app.js", *DATA, "/inspector/nothing.js"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
async def test_an_inspector_that_is_off_is_not_there(inspectors: Inspectors, path: str, method: str) -> None:
    inspected = await inspectors.start(keep=0)
    assert await status(inspected, path, method=method) == 404


@pytest.mark.parametrize("path", ["/inspector", *DATA])
async def test_beyond_loopback_nothing_is_there_without_a_token_of_the_operators(
    inspectors: Inspectors, path: str
) -> None:
    """The configuration refuses this already; nobody is to depend on that."""
    inspected = await inspectors.start(address="0.0.0.0")
    assert await status(inspected, path, BEARER) == 404


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_where_there_is_a_token_the_data_want_it_and_the_page_does_not(
    inspectors: Inspectors, address: str
) -> None:
    inspected = await inspectors.start(protected, address=address)
    await answered(inspected)
    assert await status(inspected, "/inspector") == 200
    for path in DATA:
        assert await status(inspected, path) == 401
        assert await status(inspected, path, "Authorization: Bearer wrong") == 401
        assert await status(inspected, path, f"Authorization: Basic {OPERATORS}") == 401
        assert await status(inspected, f"{path}?token={OPERATORS}") == 401
        assert await status(inspected, path, BEARER) == 200
    got = await inspected.ask("GET /inspector/requests/1")
    assert got.head.get("WWW-Authenticate") == "Bearer"
    assert "admin_token" in json.loads(got.content)["message"]


@pytest.mark.parametrize("path", ["/inspector", "/inspector/app.js", *DATA])
@pytest.mark.parametrize(
    ("host", "fields", "refused"),
    [("rebind.evil:9464", (), 421), ("127.0.0.1", ("Origin: https://evil.example",), 403),
     ("127.0.0.1", ("Origin: null",), 403), ("127.0.0.1", ("Sec-Fetch-Site: cross-site",), 403),
     ("127.0.0.1:9464", ("Origin: http://127.0.0.1:3000",), 403),
     ("127.0.0.1:9464", ("Origin: http://localhost:9464",), 403),
     ("127.0.0.1:9464", ("Origin: https://127.0.0.1:9464",), 403),
     ("rebind.evil:9464", ("Origin: http://rebind.evil:9464",), 421),
     ("127.0.0.1", ("Sec-Fetch-Site: same-site",), 403),
     ("127.0.0.1", ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), 403)],
)  # fmt: skip
async def test_a_page_of_another_site_neither_reads_nor_embeds_it(
    inspected: Inspected, path: str, host: str, fields: tuple[str, ...], refused: int
) -> None:
    await answered(inspected)
    assert await status(inspected, path, *fields, host=host) == refused


@pytest.mark.parametrize("path", ["/inspector", *DATA])
@pytest.mark.parametrize(
    "fields",
    [(), ("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"), ("Sec-Fetch-Site: same-origin",),
     ("Origin: http://localhost:9464", "Sec-Fetch-Site: same-origin")],
)  # fmt: skip
async def test_an_address_that_was_typed_and_its_own_page_are_answered(
    inspected: Inspected, path: str, fields: tuple[str, ...]
) -> None:
    await answered(inspected)
    assert await status(inspected, path, *fields, host="localhost:9464") == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/inspector", *DATA])
async def test_it_can_only_be_read(inspected: Inspected, path: str, method: str) -> None:
    assert await status(inspected, path, method=method) == 405


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/inspector", "text/html"), ("/inspector/app.js", "text/javascript"), ("/inspector/app.css", "text/css")],
)
async def test_the_page_loads_nothing_from_elsewhere_and_is_in_no_frame(
    inspected: Inspected, path: str, kind: str
) -> None:
    head = (await inspected.ask(f"GET {path}")).head
    assert head.status == 200
    assert (head.get("Content-Type") or "").startswith(kind)
    policy = head.get("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert head.get("X-Content-Type-Options") == "nosniff"
    assert head.get("Referrer-Policy") == "no-referrer"
    assert head.get("Cross-Origin-Opener-Policy") == "same-origin"
    assert head.get("Cache-Control") == "no-store"


@pytest.mark.parametrize(
    "name",
    ["routes.py", "__init__.py", "..%2fapplication.py", "%2e%2e%2ftoken.py", "nothing.js", "app.js%00", "app.JS"],
)
async def test_nothing_but_the_files_of_the_page_is_served(inspected: Inspected, name: str) -> None:
    assert await status(inspected, f"/inspector/{name}") in (400, 404)


async def test_a_browser_is_led_to_it_and_curl_is_told_of_it(inspected: Inspected) -> None:
    got = await inspected.ask("GET /", "Accept: text/html,application/xhtml+xml")
    assert (got.head.status, got.head.get("Location")) == (302, "/inspector")
    assert b"\n/inspector\n" in (await inspected.ask("GET /", "Accept: */*")).content


async def test_who_switched_it_off_is_not_led_anywhere(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(keep=0)
    got = await inspected.ask("GET /", "Accept: text/html")
    assert (got.head.status, b"/inspector" in got.content) == (200, False)


# -- the stream -------------------------------------------------------------------------------------------------------


async def test_who_comes_is_told_everything_and_then_what_happens(inspected: Inspected) -> None:
    await answered(inspected, 2)
    async with inspected.stream() as stream:
        assert stream.response.content_type == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        name, state = await stream.event()
        assert (name, state["keep"], "tail" in state) == ("state", KEEP, False)
        assert set(state["series"]) == {"step_s", "seconds", "requests", "refused", "p50_ms", "p99_ms", "tunnels"}
        name, told = await stream.event()
        assert (name, [row["id"] for row in told["rows"]], told["skipped"]) == ("requests", [1, 2], 0)
        await answered(inspected)
        (row,) = await stream.rows(1)
        assert (row["id"], row["operation"], row["status"]) == (3, "models.list", 200)
        assert abs(row["time"] - time.time()) < 60
        assert 0 < row["first_byte_ms"] <= row["duration_ms"]
        tail = (await stream.until("state"))["tail"]
        assert set(tail) == {"second", "requests", "refused", "p50_ms", "p99_ms", "tunnels"}


async def test_it_says_where_callers_really_connect(inspected: Inspected) -> None:
    """The configuration says port 0: any that is free."""
    assert (await inspected.state())["listen"] == f"http://{inspected.proxy.host}:{inspected.proxy.port}"


async def test_two_viewers_are_told_the_same_from_when_they_came(inspected: Inspected) -> None:
    async with inspected.stream() as first, inspected.stream() as second:
        await answered(inspected, 3)
        for stream in (first, second):
            assert [row["id"] for row in await stream.rows(3)] == [1, 2, 3]


async def test_of_more_than_are_kept_the_newest_are_told_and_how_many_were_left_out(inspected: Inspected) -> None:
    await answered(inspected, KEEP + 5)
    async with inspected.stream() as stream:
        told = await stream.until("requests")
    assert [row["id"] for row in told["rows"]] == list(range(6, KEEP + 6))
    assert told["skipped"] == 5


async def test_one_event_has_some_hundred_rows_at_most(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(keep=MOST_ROWS + 50)
    await answered(inspected, MOST_ROWS + 20)
    async with inspected.stream() as stream:
        told = await stream.until("requests")
    assert (len(told["rows"]), told["skipped"], told["rows"][-1]["id"]) == (MOST_ROWS, 20, MOST_ROWS + 20)


async def test_the_charts_say_what_happened_in_each_second(inspected: Inspected) -> None:
    async with inspected.stream() as stream:
        await stream.event()
        await answered(inspected, 3)
        await inspected.proxy.ask(request("GET /nowhere"))
        seen: dict[str, int] = {"requests": 0, "refused": 0}
        while seen != {"requests": 4, "refused": 1}:
            tail = (await stream.until("state"))["tail"]
            seen = {name: seen[name] + tail[name] for name in seen}
            assert (tail["p50_ms"] is None) == (tail["p99_ms"] is None)
            assert seen["requests"] <= 4
    whole = (await inspected.state())["series"]
    assert (sum(whole["requests"]), sum(whole["refused"])) == (4, 1)
    assert len({len(whole[name]) for name in whole if name != "step_s"}) == 1


async def test_what_is_too_much_to_be_kept_is_counted_in_the_charts_and_as_left_out(inspected: Inspected) -> None:
    many = 2 * int(BURST)
    async with inspected.stream() as stream:
        await stream.event()
        assert (await stream.until("requests"))["skipped"] == 0
        for _ in range(many):
            record = Record(1.0, 1.0, "GET", "/things", "127.0.0.1")
            record.status, record.ended = 200, 10.0
            inspected.proxy.server.trail.add(record)
        told = await stream.until("requests")
        assert (len(told["rows"]), told["skipped"]) == (KEEP, many - KEEP)
        requests = 0
        while requests < many:
            requests += (await stream.until("state"))["tail"]["requests"]
        assert requests == many
    async with inspected.stream() as stream:
        assert (await stream.until("requests"))["skipped"] == many - KEEP


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.5, None), ([7.0], 0.99, 7.0), ([3.0, 1.0], 0.5, 1.0), ([*range(1, 101)], 0.5, 50),
     ([*range(1, 101)], 0.99, 99), ([*range(1, 201)], 0.99, 198), ([2.0, 2.0, 9.0], 1.0, 9.0)],
)  # fmt: skip
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float, found: float | None) -> None:
    assert percentile(values, share) == found


async def test_open_tunnels_are_told_with_what_went_through_them(inspected: Inspected) -> None:
    caller = await inspected.proxy.caller()
    await caller.send(HANDSHAKE)
    upstream = await inspected.proxy.upstream.accept()
    await upstream.message()
    await upstream.send(SWITCH + b"\x81\x02hi")
    await caller.head()
    await caller.exactly(4)
    state = await inspected.state()
    (tunnel,) = state["tunnels"]
    assert (tunnel["operation"], tunnel["caller"], tunnel["peer"]) == ("realtime.session", "anonymous", "127.0.0.1")
    assert (tunnel["bytes_in"], tunnel["bytes_out"], state["tunnels_total"]) == (0, 4, 1)
    assert 0 <= tunnel["age_s"] < 60


async def test_credentials_and_callers_are_told_without_any_secret(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(tokens={"store": TOKEN})
    state = await inspected.state()
    (credential,) = state["credentials"]
    assert credential["name"] == "workspace"
    assert (credential["kind"], credential["type"], credential["state"]) == ("api-key", "standard", "ready")
    assert credential["source"] == "env:INWORLD_API_KEY"
    assert credential["permissions"] == "voices read, router read"
    assert (credential["expires_at"], credential["refused_upstream"], credential["fault"]) == (None, False, None)
    assert abs(credential["refreshed_at"] - time.time()) < 60
    assert state["callers"] == [
        {"name": "store", "in_flight": None, "waiting": None, "limits": "none", "left": "no limit"}
    ]
    text = json.dumps(state)
    assert KEY not in text
    assert TOKEN not in text


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_one_viewer_too_many_is_refused_in_a_sentence(inspected: Inspected) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(inspected.stream()) for _ in range(MOST_VIEWERS)]
        got = await inspected.ask("GET /inspector/events")
        assert got.head.status == 503
        assert f"{MOST_VIEWERS} viewers" in json.loads(got.content)["message"]
        streams[0].response.close()
        while await status(inspected, "/inspector/events") != 200:
            await streams[1].until("state")  # who left is noticed when it is told something: each second


def test_a_viewer_that_does_not_read_is_cut_and_holds_no_more_than_its_queue() -> None:
    cuts = []
    viewer = Viewer(lambda: cuts.append(True))
    for number in range(MOST_QUEUED):
        viewer.tell(b"event %d" % number)
    assert not cuts
    viewer.tell(b"one too many")
    assert cuts
    assert viewer.events.qsize() == MOST_QUEUED


async def test_a_viewer_that_does_not_read_is_cut_while_others_read_on(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(keep=MOST_ROWS)
    stuck = await _stuck(inspected)
    async with inspected.stream() as reader:
        await reader.until("requests")
        while len(_connections(inspected)) == 2:
            await answered(inspected)
            await reader.rows(1)
        await answered(inspected)
        await reader.rows(1)
    await stuck.cleanup()


async def _stuck(inspected: Inspected) -> Wire:
    """A viewer that does not read, to whom the first rows are more than all buffers on the way take."""
    await answered(inspected, MOST_ROWS)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", inspected.port))
    stuck = Wire(*await asyncio.open_connection(sock=sock))
    stuck.stop_reading()
    await stuck.send(request("GET /inspector/events"))
    return stuck


def _connections(inspected: Inspected) -> list[RequestHandler[web.Request]]:
    server = inspected.runner.server
    assert server is not None
    return [each for each in server.connections if each.transport is not None and not each.transport.is_closing()]


async def test_viewers_do_not_keep_the_proxy_from_stopping(inspected: Inspected) -> None:
    wire = await connect("127.0.0.1", inspected.port)
    await wire.send(request("GET /inspector/events"))
    await wire.head()
    await bounded(inspected.runner.cleanup())
    assert (await wire.rest()).endswith(b"0\r\n\r\n"), "it ends in order"
    await wire.cleanup()


async def test_a_viewer_that_does_not_read_keeps_the_proxy_from_stopping_for_a_second_at_most(
    inspectors: Inspectors,
) -> None:
    inspected = await inspectors.start(keep=MOST_ROWS)
    stuck = await _stuck(inspected)
    while not any(each._paused for each in _connections(inspected)):  # until it is really being waited for
        await answered(inspected)
    begun = asyncio.get_running_loop().time()
    await bounded(inspected.runner.cleanup())
    assert asyncio.get_running_loop().time() - begun < ENDS_WITHIN + 4
    await stuck.cleanup()


# -- reloads ----------------------------------------------------------------------------------------------------------


async def test_a_reload_that_switches_it_off_ends_the_streams_and_forgets(inspected: Inspected) -> None:
    server = inspected.proxy.server
    await answered(inspected, 2)
    async with inspected.stream() as stream:
        await stream.event()
        server.adopt(replace(server.snapshot, inspector=0))
        assert await stream.ended()
    assert await status(inspected, "/inspector/requests/1") == 404
    assert server.trail.after(0) == []
    assert server.trail.find(1) is None
    await answered(inspected)
    assert server.trail.after(0) == []


async def test_a_reload_that_switches_it_on_needs_no_restart(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(keep=0)
    server = inspected.proxy.server
    await answered(inspected, 2)
    server.adopt(replace(server.snapshot, inspector=5))
    await answered(inspected)
    async with inspected.stream() as stream:
        assert [row["id"] for row in await stream.rows(1)] == [1]
        await stream.until("state", lambda state: "tail" in state)


async def test_a_reload_that_keeps_fewer_keeps_the_newest(inspected: Inspected) -> None:
    server = inspected.proxy.server
    await answered(inspected, 9)
    server.adopt(replace(server.snapshot, inspector=3))
    assert [row["id"] for row in await inspected.rows()] == [7, 8, 9]
    await answered(inspected)
    server.adopt(replace(server.snapshot, inspector=8))
    await answered(inspected)
    assert [row["id"] for row in await inspected.rows()] == [8, 9, 10, 11]
    assert (await inspected.detail(11))["row"]["id"] == 11
    assert await status(inspected, "/inspector/requests/7") == 404


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "1.0", "9" * 30, "%31x", "٣"])
async def test_a_number_that_is_not_kept_is_said_to_be_gone(inspected: Inspected, number: str) -> None:
    await answered(inspected)
    path = "/inspector/requests/" + "".join(f"%{byte:02x}" if byte > 127 else chr(byte) for byte in number.encode())
    got = await inspected.ask(f"GET {path}")
    assert got.head.status == 404
    assert "not kept any more" in json.loads(got.content)["message"]
