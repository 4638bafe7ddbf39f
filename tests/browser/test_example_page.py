"""The example page in headless Chromium: what its README says happens, and no key or caller token goes further."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser.chromium import CHROMIUM, MILLISECONDS, OPTIONS, sync_api
from tests.clients.processes import (
    PATIENCE,
    ROOT,
    Process,
    Sandbox,
    environment,
    fields_of,
    needed,
)

FOLDER = ROOT / "examples" / "realtime-page"
TOKEN = "page-of-the-example"


def free_port() -> int:
    """A port that nobody listens on now: page and proxy have to know of each other before either is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Backend:
    """``serve.py`` of the example as a process."""

    def __init__(self, port: int, proxy: str) -> None:
        command = [sys.executable, "-u", str(FOLDER / "serve.py"), "--port", str(port), "--proxy", proxy]
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        self.said: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE):
            self.end()
            pytest.fail(f"serve.py did not start: {self.said}", pytrace=False)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self.said.append(line)
                if self.url in line:
                    self._ready.set()

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)


@pytest.fixture(scope="module")
def running(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    """The page's address and the proxy, with the example's own configuration on other ports."""
    configuration = yaml.safe_load((FOLDER / "proxy.yaml").read_text(encoding="utf-8"))
    page, data = free_port(), free_port()
    configuration |= {
        "listen": f"127.0.0.1:{data}",
        "admin": "127.0.0.1:0",
        "origins": [f"http://127.0.0.1:{page}"],
        "upstreams": {"inworld": {"url": sandbox.url}},
        "log": {"format": "json"},
        "time": {"drain": "1s"},
    }
    path = tmp_path_factory.mktemp("page") / "proxy.yaml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    key = sandbox.keys["realtime-only"]
    proxy = Process("serve", "--config", str(path), environ=environment(INWORLD_REALTIME_KEY=key))
    url = proxy.announced(proxy.err, r" on (http://\S+) ->")[1]
    backend = Backend(page, url)
    yield backend.url, proxy
    backend.end()
    assert proxy.end() == 0
    said = "".join(proxy.out + proxy.err)
    assert TOKEN not in said
    assert key not in said
    assert not [line for line in proxy.err if "rror" in line]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, env=environment())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, running: tuple[str, Process], sandbox: Sandbox) -> Iterator[Any]:
    """The page, opened; nothing that it does may be wrong by the browser's own account."""
    sandbox.forget()
    context = browser.new_context(viewport={"width": 900, "height": 760})
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(running[0])
    yield page
    context.close()
    assert faults == []


def keep_picture(page: Any, name: str) -> None:
    """A picture for people to look at, where one is asked for."""
    folder = os.environ.get("PICTURES")
    if folder:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=Path(folder) / f"{name}-{scheme}.png")


def sockets_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [seen for seen in sandbox.seen() if seen["operation"] == "realtime.session"]


def test_the_page_talks_and_the_sandbox_sees_a_session_token_and_never_the_pages(page: Any, sandbox: Sandbox) -> None:
    expect = sync_api.expect
    page.click("#connect")
    expect(page.locator("#state")).to_have_text("connected")
    for said in ("Hello from the browser.", "And once more."):
        page.fill("#text", said)
        page.click("#send")
        answer = page.locator("#transcript li.assistant").last
        expect(answer.locator("small")).to_contain_text("s of speech")
        expect(page.locator("#transcript li.user").last).to_have_text(said)
        expect(answer).to_contain_text("Hello from the sandbox.")
    page.click("#token")
    expect(page.locator("#issued")).to_contain_text("For realtime, until ")
    page.click("summary")
    keep_picture(page, "conversation")
    assert "response.output_audio.delta" in page.locator("#events").inner_text()
    page.click("#connect")
    expect(page.locator("#state")).to_have_text("closed")
    (seen,) = sockets_of(sandbox)
    fields = fields_of(seen)
    (authorization,) = fields["authorization"]
    assert re.fullmatch(r"Bearer eyJ[\w.-]+", authorization)
    assert (seen["credential"], seen["credentialKind"]) == ("realtime-only", "session-token")
    assert (seen["outcome"], seen["closeCode"]) == ("finished", 1000)
    assert not {"origin", "sec-websocket-protocol", "cookie"} & set(fields)
    assert TOKEN not in json.dumps(sandbox.seen())


def test_the_token_that_the_page_gets_is_one_of_its_own(page: Any, sandbox: Sandbox) -> None:
    answers: list[Any] = []
    page.on("response", lambda response: answers.append(response) if response.url.endswith("/token") else None)
    with page.expect_response(lambda response: response.url.endswith("/token")):
        page.click("#token")
    sync_api.expect(page.locator("#issued")).to_contain_text("For realtime, until ")
    (answer,) = [each for each in answers if each.request.method == "POST"]
    told = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert told["expiresAt"] == page.locator("#issued").get_attribute("data-expires")
    assert told["token"] not in page.content()
    # It opens a session without the proxy.
    socket = f"{sandbox.url.replace('http', 'ws')}/api/v1/realtime/session?key=direct&protocol=realtime"
    websockets = needed("websockets.sync.client")
    bearer = {"Authorization": f"Bearer {told['token']}"}
    with websockets.connect(socket, additional_headers=bearer, proxy=None, open_timeout=PATIENCE) as direct:
        assert json.loads(direct.recv(timeout=PATIENCE))["type"] == "session.created"


def test_a_page_from_elsewhere_gets_nothing(browser: Any, running: tuple[str, Process], sandbox: Sandbox) -> None:
    """The same page by another name of the same machine: its origin is not in the configuration."""
    sandbox.forget()
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    page.goto(running[0].replace("127.0.0.1", "localhost"))
    page.click("#connect")
    sync_api.expect(page.locator("#state")).to_have_text("closed (1006)")
    page.click("#token")
    sync_api.expect(page.locator("#issued")).to_have_class("bad")
    context.close()
    assert sockets_of(sandbox) == []
