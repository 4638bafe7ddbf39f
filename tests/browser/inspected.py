"""A proxy whose inspector is looked at: the process, its admin address, load at a given rate, pictures of the page."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.clients.processes import (
    PATIENCE,
    READER,
    STOREFRONT,
    STRANGER,
    STUDIO,
    Answer,
    Process,
    Sandbox,
    ask,
    environment,
    spell_variable,
)


class Inspected:
    """``python -m proxy serve`` with this configuration. ``listen`` and ``admin`` default to free ports."""

    def __init__(self, sandbox: Sandbox, path: Path, configuration: Mapping[str, Any]) -> None:
        listeners = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "log": {"level": "failed"},
            "time": {"drain": "1s"},
        }
        upstreams = {"inworld": {"url": sandbox.url}}
        path.write_text(yaml.safe_dump({**listeners, "upstreams": upstreams, **configuration}), encoding="utf-8")
        secrets = {spell_variable(key): basic for key, basic in sandbox.keys.items()}
        self.path = path
        self.environ = environment(**secrets)
        self.process = Process("serve", "--config", str(path), environ=self.environ)
        self.url = self.process.announced(self.process.err, r" on (http://\S+) ->")[1]
        self.admin = self.process.announced(self.process.err, r"metrics: (http://\S+)/metrics")[1]

    @property
    def page(self) -> str:
        return f"{self.admin}/inspector"

    @property
    def ws(self) -> str:
        return self.url.replace("http://", "ws://")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return ask(self.url, method, path, body, headers)

    def send(self, raw: bytes) -> bytes:
        """Sends bytes that no client would, and reads until the proxy closes."""
        at = urlsplit(self.url)
        with socket.create_connection((at.hostname, at.port), PATIENCE) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @contextlib.contextmanager
    def load(self, rate: int) -> Iterator[None]:
        """So many requests a second, on one connection, for as long as the block takes."""
        over = threading.Event()
        sender = threading.Thread(target=self._send, args=(rate, over), daemon=True)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join(PATIENCE)

    def _send(self, rate: int, over: threading.Event) -> None:
        """Refusals of all kinds: they are made by the proxy alone, so that the rate is kept on a busy machine too."""
        at, batch = urlsplit(self.url), rate // 20
        asked = (
            ("GET", "/voices/v1/voices", ""),
            ("POST", "/v1/chat/completions", READER),
            ("GET", "/nothing", STUDIO),
            ("DELETE", "/voices/v1/voices", STOREFRONT),
            ("GET", "/tts/v1/voice", STRANGER),
        )
        heads = [
            f"{method} {path} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
            for method, path, token in asked
        ]
        raw = "".join(heads[index % len(heads)] for index in range(batch)).encode()
        with socket.create_connection((at.hostname, at.port), PATIENCE) as connection:
            due = time.monotonic()
            while not over.wait(max(0.0, due - time.monotonic())):
                connection.sendall(raw)
                answered = 0
                while answered < batch:
                    answered += len(re.findall(rb"HTTP/1\.1 4\d\d ", connection.recv(1 << 20)))
                due += batch / rate


def picture(page: Any, name: str) -> None:
    """Pictures for people to look at, light and dark, where they are asked for."""
    folder = os.environ.get("PICTURES")
    if folder:
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(200)
            page.screenshot(path=Path(folder) / f"{name}-{scheme}.png")
