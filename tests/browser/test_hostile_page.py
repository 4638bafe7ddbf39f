"""A hostile page in headless Chromium, on the laptop of somebody who runs the proxy without callers: it spends nothing.

Whoever reaches the proxy here may use it, so all that stands between a page and the key is what the browser says about
the page (``proxy/core/browser.py``). That is the browser's word: only a browser can show that it is given.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import CHROMIUM, MILLISECONDS, OPTIONS, sync_api
from tests.clients.processes import (
    PATIENCE,
    Answer,
    Proxies,
    Proxy,
    Sandbox,
    ask,
    credential,
    environment,
    needed_program,
)

PAGE = (Path(__file__).parent / "hostile_page.html").read_bytes()

MISLED = (  # by these, the browser leaves the guarding to the proxy
    *OPTIONS,
    # The attacker's names lead to this machine, as they do once the attacker has bound them anew.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    # Newer versions of Chromium keep some pages from this machine themselves, by other names from one to the next;
    # other browsers do not. Without this it would be the browser that is tested, not the proxy.
    ("--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets,"
     "BlockInsecurePrivateNetworkRequests"),
)  # fmt: skip

READS = "/voices/v1/voices"
SPENDS = "/tts/v1/voice"
BODY = {"text": "Hello.", "voiceId": "Ashley", "modelId": "inworld-tts-1"}
SOCKETS = {
    "realtime": "/api/v1/realtime/session?key=hostile&protocol=realtime",
    "speech": "/tts/v1/voice:streamBidirectional",
    "transcription": "/stt/v1/transcribe:streamBidirectional",
}
ORIGIN, SITE, HOST = "origin_not_allowed", "cross_site_request", "host_not_allowed"

NOTHING = {"error", "opaque", "load", "closed", "sent"}
"""What a page may observe: that something is there, and nothing of it."""


class Line(NamedTuple):
    """What the proxy's log says about a request; ``code`` is empty where it was not refused."""

    method: str
    path: str
    status: int
    code: str


class Attack(NamedTuple):
    """One of ``hostile_page.html``, on a path, and what the browser then sends."""

    name: str
    path: str
    method: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.path.partition('?')[0]}"

    def line(self, status: int, code: str) -> Line:
        """What the proxy's log must say of it."""
        return Line(self.method, self.path.partition("?")[0], status, code)


WITHOUT_ORIGIN = (
    "fetch_no_cors", "fetch_redirected", "image", "image_without_referrer", "image_redirected", "audio", "video",
    "script", "stylesheet", "prefetch", "preload", "object", "embed", "iframe", "iframe_redirected", "form_get",
    "worker", "worker_script",
)  # fmt: skip
"""A browser says no Origin with these: ``Sec-Fetch-Site`` alone gives them away."""
WITH_ORIGIN = ("fetch", "fetch_with_credentials", "xhr", "event_source", "image_cors", "module", "font")
POSTS = (
    "post_no_cors", "post_text", "post_keepalive", "post_redirected", "post_xhr", "post_sandboxed", "post_from_data",
    "form_text", "form_urlencoded", "form_multipart", "form_redirected", "beacon", "ping", "policy_report",
)  # fmt: skip
ASKED_FIRST = (("json", SPENDS), ("json_xhr", SPENDS), ("json_beacon", SPENDS), ("with_a_token", READS),
               ("delete", READS + "/v1"))  # fmt: skip
"""The browser asks with a preflight, and is told nothing that would let it go on."""

ATTACKS = (
    *(Attack(name, READS, "GET", SITE) for name in WITHOUT_ORIGIN),
    *(Attack(name, READS, "GET", ORIGIN) for name in WITH_ORIGIN),
    *(Attack(name, SPENDS, "POST", ORIGIN) for name in POSTS),
    *(Attack(name, path, "OPTIONS", ORIGIN) for name, path in ASKED_FIRST),
    *(Attack("socket", path, "GET", ORIGIN) for path in SOCKETS.values()),
    *(Attack(name, SOCKETS["realtime"], "GET", ORIGIN) for name in ("socket_with_a_token", "socket_sandboxed")),
)
PLACES = ("same-site", "cross-site")
"""Where the page is from: another port of this very address, or another host."""
ADDRESS, NAME = "127.0.0.1", "laptop.example"
"""What the proxy is called: of the first a browser says where a request comes from, of the second it never does.

``Sec-Fetch-Site`` goes to HTTPS and to loopback alone (Fetch Metadata, section 3; Secure Contexts, section 3.1), Origin
not with a simple GET: whoever listed the name under ``hosts`` has the proxy judge by silence.
"""
REBOUND = ("rebind.example", "evil.localhost", "0.0.0.0")
"""Names of the proxy's own address and port that are not its names; the second needs no DNS at all."""
REBOUND_ATTACKS = (
    *(Attack(name, READS, "GET") for name in ("fetch", "fetch_no_cors", "xhr", "event_source", "image", "iframe")),
    *(Attack(name, SPENDS, "POST") for name in ("post_text", "post_xhr", "form_text", "beacon", "json", "json_xhr")),
    Attack("delete", READS + "/v1", "DELETE"),
    *(Attack("socket", path, "GET") for path in SOCKETS.values()),
)
"""The browser takes page and proxy for one origin here: it asks nothing first, and lets the page read the answer."""

LEAVES: Mapping[str, tuple[str, str, str]] = {
    "location": ("location.href = at", "GET", SITE),
    "link": ("made('a', {href: at, rel: 'noreferrer', textContent: 'free voices'}).click()", "GET", SITE),
    "refresh": ("location.href = `/refreshing?${at}`", "GET", SITE),
    "redirect": ("location.href = `/to?${at}`", "GET", SITE),
    "window": ("opened = open(at)", "GET", SITE),
    "window_without_opener": ("open(at, '_blank', 'noopener')", "GET", SITE),
    "form": ("made('form', {action: at, method: 'post', enctype: 'text/plain'}).submit()", "POST", ORIGIN),
    "form_in_a_window": ("made('form', {action: at, method: 'post', target: '_blank'}).submit()", "POST", ORIGIN),
}
"""Ways to send the browser to the proxy, page and all: a script, and what the browser then sends."""

OPERATORS = (
    *(Attack(name, path, "GET") for name in ("fetch", "fetch_no_cors", "iframe") for path in ("/metrics", "/readyz")),
    *(Attack(name, "/reload", "POST") for name in ("post_no_cors", "post_redirected", "form_text", "beacon", "json")),
)
"""Of these ``fetch`` and ``json`` fail in the browser, which then shows nobody the answer that it got."""


class _Pages(BaseHTTPRequestHandler):
    """The attacker's server."""

    protocol_version = "HTTP/1.1"
    server: Pages

    def do_GET(self) -> None:
        """The page; or on to where it wants the browser to go; or a policy that is violated at once."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        status, fields, body = 200, {"Content-Type": "text/html; charset=utf-8"}, PAGE
        if path == "/told":
            self.server.told.append(tuple(self.headers.get(name) for name in ("Origin", "Sec-Fetch-Site")))
        elif path == "/to":
            status, fields, body = 307, {"Location": query}, b""
        elif path == "/reporting":
            fields["Content-Security-Policy"] = f"img-src 'none'; report-uri {query}"
            body = b'<!doctype html><body><img src="data:,">'
        elif path == "/refreshing":
            body = f'<!doctype html><meta http-equiv="refresh" content="0; url={query}">'.encode()
        self.send_response(status)
        for name, value in (fields | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


class Pages(ThreadingHTTPServer):
    """It serves the hostile page, under whatever name it is asked by."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.port = self.server_address[1]
        self.told: list[tuple[str | None, ...]] = []
        """Origin and ``Sec-Fetch-Site`` of whatever asked for /told."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stops serving."""
        self.shutdown()
        self._thread.join(PATIENCE)
        self.server_close()


@dataclass
class Laptop:
    """A proxy as on a laptop, its admin listener, and who serves the pages: an attacker, and a friend."""

    proxy: Proxy
    admin: str
    sandbox: Sandbox
    hostile: Pages
    friendly: Pages
    _marks: int = 0
    _lines: int = 0
    """How much of the log has been read."""

    @property
    def port(self) -> int:
        """The proxy's."""
        return urlsplit(self.proxy.url).port or 0

    @property
    def origins(self) -> dict[str, str]:
        """The origins of the hostile page by what the browser calls them."""
        return {
            "same-site": f"http://127.0.0.1:{self.hostile.port}",
            "cross-site": f"http://attacker.example:{self.hostile.port}",
        }

    def at(self, name: str) -> str:
        """The proxy, by this name."""
        return f"http://{name}:{self.port}"

    def origins_beside(self, name: str) -> dict[str, str]:
        """The same, for a proxy of this name."""
        return self.origins | {"same-site": f"http://{name}:{self.hostile.port}"}

    @property
    def friend(self) -> str:
        """The one origin that is listed."""
        return f"http://127.0.0.1:{self.friendly.port}"

    def answered(self, expected: Sequence[Line]) -> Counter[Line]:
        """How often the proxy's log says what since this was last asked; waits for what is expected.

        A page is never told what became of a beacon, and the log is written a moment later: a request of our own marks
        where to stop reading, until there are as many lines or patience is at its end.
        """
        found, awaited = Counter[Line](), len(expected)
        deadline = time.monotonic() + PATIENCE
        while True:
            self._marks += 1
            mark = f"/mark-{self._marks}"
            assert self.proxy.ask("GET", mark).status == 404
            process = self.proxy.process
            process.announced(process.out, f'"path":"{mark}"')
            lines = [json.loads(line) for line in process.out[self._lines :]]
            self._lines += len(lines)
            found.update(
                Line(line["method"], line["path"], line["status"], line.get("code", ""))
                for line in lines
                # The browser asks for an icon of what it shows, by itself; there is none to pay for.
                if not line["path"].startswith("/mark-") and line["path"] != "/favicon.ico"
            )
            if found.total() >= awaited or time.monotonic() > deadline:
                return found

    def tally(self) -> Any:
        """What became of every credential that the upstream was ever shown."""
        return ask(self.sandbox.url, "GET", "/_sandbox/tally").json()

    def reloads(self) -> list[float]:
        """How often the configuration was read again, by result."""
        text = ask(self.admin, "GET", "/metrics").body.decode()
        counts = re.findall(r"^\w+_configuration_reloads_total\{.*\} (\S+)$", text, re.MULTILINE)
        assert len(counts) == 2, "success and failed"
        return [float(each) for each in counts]


@pytest.fixture(scope="module")
def laptop(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """No callers, and one page that may call: nobody but the friend's is let through by it."""
    hostile, friendly = Pages(), Pages()
    started = Proxies(sandbox, tmp_path_factory.mktemp("laptop"))
    process = started.begin(
        "laptop",
        {
            "origins": [f"http://127.0.0.1:{friendly.port}"],
            "hosts": [NAME],
            # A key that may do everything: no lack of permission must be what stops a page.
            "credentials": {"workspace": credential("full")},
            "routes": [{"operations": "*", "credential": "workspace"}],
        },
    )
    proxy = started.ready(process)
    admin = process.announced(process.err, r"^metrics: (http://\S+)/metrics$")[1]
    yield Laptop(proxy, admin, sandbox, hostile, friendly)
    started.end()
    hostile.end()
    friendly.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=MISLED, env=environment())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    context.set_default_timeout(MILLISECONDS)
    yield context
    context.close()


@pytest.fixture(scope="module")
def opened(context: Any, laptop: Laptop) -> Callable[[str], Any]:
    """Opens the hostile page under an origin, once."""
    pages: dict[str, Any] = {}

    def open_page(origin: str) -> Any:
        if origin not in pages:
            page = pages[origin] = context.new_page()
            address = f"{origin}/page"
            if urlsplit(origin).port in (laptop.hostile.port, laptop.friendly.port):
                page.goto(address)
            else:
                # The name was the attacker's own when the page came, and is the proxy's ever after.
                page.route(address, lambda route: route.fulfill(body=PAGE, content_type="text/html; charset=utf-8"))
                page.goto(address)
                page.unroute(address)
        return pages[origin]

    return open_page


@pytest.fixture
def unspent(laptop: Laptop) -> Iterator[Laptop]:
    """The proxy, of whose key nothing may be spent: the upstream hears of nothing and is shown no credential."""
    laptop.sandbox.forget()
    before = laptop.tally(), laptop.reloads()
    yield laptop
    assert laptop.sandbox.seen() == []
    assert (laptop.tally(), laptop.reloads()) == before


def attack(page: Any, name: str, address: str) -> str:
    """What the page observed."""
    return str(page.evaluate("([name, address]) => attack(name, address)", [name, address]))


def attack_and_wait(page: Any, name: str, address: str) -> str:
    """The same, once the browser has its last answer: it sends once more what was answered 421 (RFC 9110, 15.5.20)."""
    if name != "beacon":
        return attack(page, name, address)
    with page.context.expect_event("response", lambda answer: answer.url == address, timeout=MILLISECONDS):
        return attack(page, name, address)


@pytest.mark.parametrize("name", [ADDRESS, NAME])
@pytest.mark.parametrize("tried", ATTACKS, ids=str)
def test_no_page_of_another_origin_spends_the_key_or_reads_a_byte(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack, name: str
) -> None:
    address = unspent.at(name) + tried.path
    origins = unspent.origins_beside(name)
    observed = {place: attack(opened(origin), tried.name, address) for place, origin in origins.items()}
    assert set(observed.values()) <= NOTHING, observed
    expected = [tried.line(403, tried.code)] * len(observed)
    assert unspent.answered(expected) == Counter(expected)


@pytest.mark.parametrize(("name", "said"), [(ADDRESS, "cross-site"), (NAME, None)])
def test_what_a_browser_says_of_an_image_depends_on_what_the_server_is_called(
    laptop: Laptop, opened: Callable[[str], Any], name: str, said: str | None
) -> None:
    """So what was refused above by the name that is not loopback's was refused for the browser's silence."""
    laptop.hostile.told.clear()
    address = f"http://{name}:{laptop.hostile.port}/told"
    assert attack(opened(laptop.origins["cross-site"]), "image", address) == "error", "it is a page"
    assert laptop.hostile.told == [(None, said)]


def test_a_page_of_no_origin_spends_nothing_whichever_way_the_browser_says_so(
    unspent: Laptop, opened: Callable[[str], Any]
) -> None:
    """Chromium says ``Origin: null`` with this image where page and proxy share a host, and else no Origin."""
    expected = [Line("GET", READS, 403, code) for code in (ORIGIN, SITE)]
    for origin in unspent.origins.values():
        assert attack(opened(origin), "image_sandboxed", unspent.proxy.url + READS) == "error"
    assert unspent.answered(expected) == Counter(expected)


@pytest.mark.parametrize("way", LEAVES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [ADDRESS, NAME])
def test_a_page_that_sends_the_browser_here_spends_nothing(
    unspent: Laptop, browser: Any, way: str, place: str, name: str
) -> None:
    script, method, code = LEAVES[way]
    tried = Attack(way, READS if method == "GET" else SPENDS, method, code)
    address = unspent.at(name) + tried.path
    context = browser.new_context()
    page = context.new_page()
    page.goto(unspent.origins_beside(name)[place])
    with context.expect_event("response", lambda answer: answer.url == address, timeout=MILLISECONDS) as answered:
        # Later, so that what is asked of the page is over before the page is.
        page.evaluate(f"(at) => {{ setTimeout(() => {{ {script} }}) }}", address)
    assert answered.value.status == 403
    if way == "window":
        # An empty window is the page's own, until the proxy's answer is in it.
        closed = "() => { try { return !opened.document } catch (fault) { return fault.name === 'SecurityError' } }"
        page.wait_for_function(closed, polling=20, timeout=MILLISECONDS)
    context.close()
    expected = [tried.line(403, code)]
    assert unspent.answered(expected) == Counter(expected)


@pytest.mark.parametrize("tried", REBOUND_ATTACKS, ids=str)
def test_a_page_whose_name_was_bound_to_this_address_is_not_answered(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack
) -> None:
    for name in REBOUND:
        origin = f"http://{name}:{unspent.port}"
        observed = attack_and_wait(opened(origin), tried.name, origin + tried.path)
        assert observed in NOTHING or is_refusal(observed, name), name
    expected = [tried.line(421, HOST)] * len(REBOUND)
    # Perhaps more of them: see above.
    found = unspent.answered(expected)
    assert (set(found), found >= Counter(expected)) == (set(expected), True)


def is_refusal(observed: str, name: str) -> bool:
    """Did the page read that it used the wrong name, and nothing else?"""
    read = re.fullmatch(r"readable (?:421 )?(\{.*\})\s*", observed)
    if read is None:
        return False
    told = json.loads(read[1])
    return told["details"][0]["reason"] == HOST and f"does not answer to the name '{name}'" in told["message"]


@pytest.mark.parametrize("tried", REBOUND_ATTACKS, ids=str)
def test_the_address_that_stands_for_all_is_no_way_round(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack
) -> None:
    """A browser that lets a page reach 0.0.0.0 reaches this machine, and tells it less: no ``Sec-Fetch-Site``."""
    address = f"http://0.0.0.0:{unspent.port}{tried.path}"
    observed = {
        place: attack_and_wait(opened(origin), tried.name, address) for place, origin in unspent.origins.items()
    }
    assert set(observed.values()) <= NOTHING, observed
    asked_first = tried.name in ("json", "json_xhr", "delete")
    expected = [tried._replace(method="OPTIONS" if asked_first else tried.method).line(421, HOST)] * len(observed)
    found = unspent.answered(expected)
    assert (set(found), found >= Counter(expected)) == (set(expected), True)


@pytest.mark.parametrize("place", [*PLACES, "friend"])
@pytest.mark.parametrize("tried", OPERATORS, ids=str)
def test_no_page_reads_or_changes_anything_of_the_operators(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack, place: str
) -> None:
    """Not even one that may call the data listener."""
    page = opened(unspent.origins.get(place, unspent.friend))
    address = unspent.admin + tried.path
    hidden = tried.name in ("fetch", "json")
    with page.context.expect_event(
        "requestfailed" if hidden else "response", lambda event: event.url == address, timeout=MILLISECONDS
    ) as ended:
        assert attack(page, tried.name, address) in NOTHING
    assert hidden or ended.value.status == 403
    assert_nothing_was_reloaded(unspent)


@pytest.mark.parametrize("name", REBOUND)
@pytest.mark.parametrize("tried", [tried for tried in OPERATORS if tried.name != "post_redirected"], ids=str)
def test_no_name_that_was_bound_anew_leads_to_the_operators(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack, name: str
) -> None:
    origin = f"http://{name}:{urlsplit(unspent.admin).port}"
    page, address = opened(origin), origin + tried.path
    with page.context.expect_event("response", lambda event: event.url == address, timeout=MILLISECONDS) as answered:
        observed = attack(page, tried.name, address)
    assert observed in NOTHING or is_refusal(observed, name)
    assert answered.value.status == 421
    assert_nothing_was_reloaded(unspent)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tried", [tried for tried in OPERATORS if tried.name not in ("fetch", "json")], ids=str)
def test_by_a_name_of_which_browsers_say_nothing_the_operators_paths_tell_a_page_nothing_either(
    unspent: Laptop, opened: Callable[[str], Any], tried: Attack, place: str
) -> None:
    """Silence is answered here, so that people can look: a GET costs and changes nothing, and no page reads it."""
    page = opened(unspent.origins_beside(NAME)[place])
    address = unspent.admin.replace(ADDRESS, NAME) + tried.path
    with page.context.expect_event("response", lambda answer: answer.url == address, timeout=MILLISECONDS) as answered:
        assert attack(page, tried.name, address) in NOTHING
    assert answered.value.status == (200 if tried.method == "GET" else 403)
    assert_nothing_was_reloaded(unspent)


def assert_nothing_was_reloaded(laptop: Laptop) -> None:
    """Does the operator's own view say so?"""
    state = ask(laptop.admin, "GET", "/readyz").json()["reload"]
    assert (state["state"], state["faults"], sum(laptop.reloads())) == ("loaded", 0, 0)


PRIVATE = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}


@pytest.mark.parametrize("listener", ["data", "admin"])
@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "http://127.0.0.1", "https://127.0.0.1:8080"])
def test_the_private_network_is_opened_to_no_page_that_is_not_listed(
    unspent: Laptop, listener: str, origin: str
) -> None:
    """By hand: a browser may ask the proxy this, and the Chromium of these tests asks the person instead."""
    base, path = (unspent.proxy.url, SPENDS) if listener == "data" else (unspent.admin, "/reload")
    answer = ask(base, "OPTIONS", path, headers={**PRIVATE, "Origin": origin})
    assert_no_permission(answer)
    expected = [Line("OPTIONS", SPENDS, 403, ORIGIN)] if listener == "data" else []
    assert unspent.answered(expected) == Counter(expected)


def test_the_page_that_is_listed_is_let_into_the_private_network_and_not_to_the_operators(unspent: Laptop) -> None:
    asks = {**PRIVATE, "Origin": unspent.friend}
    answer = ask(unspent.proxy.url, "OPTIONS", SPENDS, headers=asks)
    assert (answer.status, answer.headers["access-control-allow-private-network"]) == (204, "true")
    assert_no_permission(ask(unspent.admin, "OPTIONS", "/reload", headers=asks))
    expected = [Line("OPTIONS", SPENDS, 204, "")]
    assert unspent.answered(expected) == Counter(expected)


def assert_no_permission(answer: Answer) -> None:
    """Is it a refusal that a browser takes for one?"""
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "rebind.example", "evil.localhost", "127.0.0.1.example", "localhost.example"]
)
def test_a_name_that_is_not_ours_is_refused_by_both_listeners_without_a_browser_too(unspent: Laptop, host: str) -> None:
    for base, method, path in ((unspent.proxy.url, "POST", SPENDS), (unspent.admin, "POST", "/reload")):
        answer = ask(base, method, path, BODY, {"Host": f"{host}:{urlsplit(base).port}"})
        assert (answer.status, HOST in answer.headers["proxy-status"]) == (421, True)
    expected = [Line("POST", SPENDS, 421, HOST)]
    assert unspent.answered(expected) == Counter(expected)


@pytest.mark.parametrize(
    ("name", "path"),
    [("json", SPENDS), ("json_xhr", SPENDS), ("post_text", SPENDS), ("fetch", READS), ("xhr", READS),
     *(("socket", path) for path in SOCKETS.values())],
)  # fmt: skip
@pytest.mark.parametrize("called", [ADDRESS, NAME])
def test_the_same_page_from_an_origin_that_is_listed_may_call(
    laptop: Laptop, opened: Callable[[str], Any], name: str, path: str, called: str
) -> None:
    """So what was refused above was refused for where it came from, and the page would have seen what it got."""
    laptop.sandbox.forget()
    observed = attack(opened(laptop.friend), name, laptop.at(called) + path)
    assert observed == "open" if name == "socket" else observed.startswith("readable 200 ")
    seen = laptop.sandbox.only()
    assert (seen["credential"], seen["target"].partition("?")[0]) == ("full", path.partition("?")[0])
    served = [Line(seen["method"], path.partition("?")[0], 101 if name == "socket" else 200, "")]
    asked_first = [Line("OPTIONS", SPENDS, 204, "")] if name.startswith("json") else []
    found = laptop.answered(served)
    assert found - Counter(asked_first) == Counter(served)  # a browser need not ask first each time


def test_a_page_of_a_listed_origin_has_to_say_so(unspent: Laptop, opened: Callable[[str], Any]) -> None:
    """With an image a browser says no Origin, and so nothing that could be looked up."""
    assert attack(opened(unspent.friend), "image", unspent.proxy.url + READS) == "error"
    expected = [Line("GET", READS, 403, SITE)]
    assert unspent.answered(expected) == Counter(expected)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_person_types_the_address_and_reads(laptop: Laptop, browser: Any, name: str) -> None:
    laptop.sandbox.forget()
    page = browser.new_page()
    for base, path, has in ((laptop.proxy.url, READS, "voices"), (laptop.admin, "/metrics", "inworld_proxy_requests")):
        answer = page.goto(base.replace("127.0.0.1", name) + path)
        assert (answer.status, has in page.locator("body").inner_text()) == (200, True)
    page.close()
    assert laptop.sandbox.only()["credential"] == "full"
    served = [Line("GET", READS, 200, "")]
    assert laptop.answered(served) == Counter(served)


def test_a_person_who_types_a_name_of_which_browsers_say_nothing_is_told_what_to_do(
    unspent: Laptop, browser: Any
) -> None:
    """What a person typed and what a page had fetched look alike there."""
    page = browser.new_page()
    answer = page.goto(unspent.at(NAME) + READS)
    told = page.locator("body").inner_text()
    page.close()
    assert answer.status == 403
    assert [each for each in (SITE, "http://127.0.0.1", "`callers`", "TLS") if each not in told] == []
    expected = [Line("GET", READS, 403, SITE)]
    assert unspent.answered(expected) == Counter(expected)


def test_an_address_that_a_person_opens_and_that_leads_on_to_the_proxy_counts_as_typed(
    laptop: Laptop, browser: Any
) -> None:
    """The limit of what a browser says: such a redirect is ``Sec-Fetch-Site: none``, like an address that was typed.

    It is a GET, so it reads for the person what the person may read, writes nothing, and the attacker learns nothing.
    """
    laptop.sandbox.forget()
    page = browser.new_page()
    leads = f"{laptop.origins['cross-site']}/to?{laptop.proxy.url}"
    assert page.goto(leads + READS).status == 200
    assert page.goto(leads + SPENDS).status == 405
    assert page.goto(f"{laptop.origins['cross-site']}/to?{laptop.admin}/reload").status == 405
    page.close()
    assert laptop.sandbox.only()["target"] == READS
    assert sum(laptop.reloads()) == 0
    expected = [Line("GET", READS, 200, ""), Line("GET", SPENDS, 405, "method_not_allowed")]
    assert laptop.answered(expected) == Counter(expected)


@pytest.mark.parametrize("name", [ADDRESS, NAME])
def test_programs_are_not_asked_where_they_come_from(laptop: Laptop, name: str) -> None:
    curl = needed_program("curl")
    before = laptop.tally()
    laptop.sandbox.forget()
    for arguments in ([READS], [SPENDS, "--json", json.dumps(BODY)]):
        address = laptop.at(name) + arguments[0]
        command = [curl, "--silent", "--max-time", "20", "--output", "-", "--write-out", "\n%{http_code}", address]
        command += ["--resolve", f"{NAME}:{laptop.port}:{ADDRESS}"]
        done = subprocess.run(
            [*command, *arguments[1:]], capture_output=True, text=True, check=True, env=environment(), timeout=PATIENCE
        )
        assert done.stdout.splitlines()[-1] == "200"
    assert [seen["credential"] for seen in laptop.sandbox.seen()] == ["full", "full"]
    expected = [Line("GET", READS, 200, ""), Line("POST", SPENDS, 200, "")]
    assert laptop.answered(expected) == Counter(expected)
    assert laptop.tally() != before, "what says above that nothing was spent would have said so"
