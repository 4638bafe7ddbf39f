"""``@inworld/tts`` and OpenAI's package in a page of another origin, through the proxy: over http, and over https."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from tests.browser.chromium import CHROMIUM, MILLISECONDS, OPTIONS, sync_api
from tests.browser.pages import NODE_MODULES, Pages
from tests.clients.processes import (
    BETWEEN,
    READER,
    SHARED_ROUTES,
    STRANGER,
    STUDIO,
    Proxies,
    Proxy,
    Sandbox,
    callers,
    environment,
    fields_of,
    missing,
)

if not all((NODE_MODULES / package).is_dir() for package in ("openai", "@inworld/tts")):
    missing("the packages for Node are not installed: run scripts/node-packages.sh")

TEXT = "One two three four five six."
MODEL = "inworld-tts-1.5-max"
SPOKEN = {"text": TEXT, "voice": "Ashley", "model": MODEL, "encoding": "PCM", "sampleRate": 8000}
CHAT = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Say something of some length."}]}
SPEECH = {"model": MODEL, "voice": "Ashley", "input": TEXT, "response_format": "wav"}


class Open(NamedTuple):
    """A page, the proxy that it may call, and what the browser said went wrong."""

    page: Any
    proxy: Proxy
    faults: list[str]


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.end()
    assert made.missed == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, env=environment())
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["http", "https"])
def proxy(
    request: pytest.FixtureRequest, proxies: Proxies, pages: Pages, tmp_path_factory: pytest.TempPathFactory
) -> Proxy:
    settings: dict[str, Any] = {**SHARED_ROUTES, "callers": callers(), "origins": [pages.origin]}
    if request.param == "https":
        folder = tmp_path_factory.mktemp("certificate")
        issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
        settings["tls"] = {name: write_private(folder / f"{name}.pem", content) for name, content in (
            ("cert", b"".join(pem.bytes() for pem in issued.cert_chain_pems)), ("key", issued.private_key_pem.bytes())
        )}  # fmt: skip
    return proxies.ready(proxies.begin(f"pages-{request.param}", settings))


def write_private(path: Path, content: bytes) -> str:
    """A file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def opened(browser: Any, pages: Pages, proxy: Proxy, sandbox: Sandbox) -> Iterator[Open]:
    sandbox.forget()
    # Whether a browser trusts a certificate is no question of the proxy's; the clients on Node verify it.
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(pages.origin)
    yield Open(page, proxy, faults)
    context.close()


def told_by(opened: Open, function: str, **options: Any) -> Any:
    """Runs a function of ``clients.mjs`` in the page."""
    call = f"options => import('/clients.mjs').then(clients => clients.{function}(options))"
    return opened.page.evaluate(call, options)


def spoken_by(sandbox: Sandbox) -> str:
    """The SHA-256 of the speech as the sandbox sends it without the proxy."""
    audio = {"audioEncoding": "PCM", "sampleRateHertz": 8000}
    asked = {"text": TEXT, "voiceId": "Ashley", "modelId": MODEL, "audioConfig": audio}
    answer = sandbox.ask("POST", "/tts/v1/voice", asked)
    return hashlib.sha256(base64.b64decode(answer.json()["audioContent"])).hexdigest()


def check_streamed(arrivals: list[float]) -> None:
    planned = BETWEEN * (len(arrivals) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2


def check_refusals(opened: Open, statuses: list[int]) -> None:
    """The browser's own account has the refused requests in it, and nothing that CORS forbade."""
    assert [fault for fault in opened.faults if "status of" not in fault] == []
    assert [status for status in statuses if not any(f" {status} " in fault for fault in opened.faults)] == []


def test_inworlds_own_package_speaks_streams_lists_voices_and_reads_refusals(opened: Open, sandbox: Sandbox) -> None:
    told = told_by(
        opened, "inworld", baseUrl=opened.proxy.url, token=STUDIO, reader=READER, stranger=STRANGER, spoken=SPOKEN
    )
    assert told["whole"] == told["streamed"] == spoken_by(sandbox)
    check_streamed(told["arrivals"])
    assert "Ashley" in told["voices"]
    denied, streamed, unknown = told["denied"], told["deniedStream"], told["unknown"]
    assert (told["isApiError"], denied["code"], streamed["code"], unknown["code"]) == (True, 403, 403, 401)
    assert denied["message"].startswith("The caller 'reader' is not granted tts.synthesize;")
    assert (denied["reason"], streamed["reason"]) == ("operation_not_granted", "operation_not_granted")
    assert "belongs to no caller of this proxy" in unknown["message"]
    check_refusals(opened, [403, 401])
    seen = sandbox.seen()
    assert [each["operation"] for each in seen] == ["tts.synthesize", "tts.synthesize_stream", "voices.list"]
    assert not [each for each in seen if {"origin", "referer", "cookie"} & set(fields_of(each))]


def test_openais_package_talks_streams_speaks_and_reads_refusals(opened: Open, sandbox: Sandbox) -> None:
    told = told_by(opened, "chat", baseURL=f"{opened.proxy.url}/v1", token=STUDIO, reader=READER, speech=SPEECH, **CHAT)
    assert told["said"] == told["streamed"] != ""
    check_streamed(told["arrivals"])
    direct = sandbox.ask("POST", "/v1/audio/speech", SPEECH)
    assert told["sound"] == hashlib.sha256(direct.body).hexdigest()
    assert "content-type" in told["headers"]
    ours = {"access-control-allow-origin", "access-control-expose-headers"}
    assert {name for name in told["headers"] if name.startswith("access-control")} == ours
    assert (told["denied"]["status"], told["nobody"]["status"]) == (403, 401)
    assert "is not granted llm.chat_completions" in told["denied"]["message"]
    assert told["denied"]["code"] == "operation_not_granted"
    check_refusals(opened, [403, 401])
    seen = sandbox.seen()
    assert [each["operation"] for each in seen] == ["llm.chat_completions", "llm.chat_completions", "tts.openai_speech"]


def test_openais_realtime_client_for_browsers_opens_a_session_where_the_proxy_speaks_tls(
    opened: Open, sandbox: Sandbox
) -> None:
    url = f"{opened.proxy.ws}/api/v1/realtime/session?key=page&protocol=realtime"
    if url.startswith("ws:"):
        with pytest.raises(sync_api.Error, match="must use the wss: protocol"):
            told_by(opened, "realtime", url=url, token=STUDIO)
        return
    told = told_by(opened, "realtime", url=url, token=STUDIO)
    assert told == {"seen": ["session.created"], "protocol": "realtime", "closed": 1000}
    assert opened.faults == []
    fields = fields_of(sandbox.only())
    assert "origin" not in fields
    assert fields["sec-websocket-protocol"] == ["realtime"]  # the other one was the caller's token


def test_a_page_of_another_origin_reads_nothing(browser: Any, pages: Pages, proxy: Proxy, sandbox: Sandbox) -> None:
    sandbox.forget()
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(pages.origin.replace("127.0.0.1", "localhost"))
    ask = "url => fetch(`${url}/voices/v1/voices`).then(answer => answer.status, error => error.name)"
    told = page.evaluate(ask, proxy.url)
    context.close()
    assert told == "TypeError"
    assert sandbox.seen() == []
