"""The sandbox and the proxy as processes of their own, and what the sandbox says about who asked it what."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Self

import pytest
import yaml

from proxy.callers.token import digest_token, spell_digest
from tests.secrets_watch import WATCH

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds for anything that must happen at all. No test waits so long when all is well."""

BETWEEN = 0.08
"""Seconds between the chunks of what the sandbox streams, unless a request says otherwise."""
CHUNK_BYTES = 4_096

CALLERS: Mapping[str, tuple[str, list[str]]] = {
    "studio": ("studio-token-51f0c7d2a9e84b36", ["*"]),
    "storefront": ("storefront-token-8e2b60f4d17a4c95", ["tts.*", "llm.*", "realtime.*"]),
    "reader": ("reader-token-c3a94d7b0e5f4812", ["voices.list", "voices.get"]),
}
"""Name: token and grants."""
STUDIO, STOREFRONT, READER = (token for token, _ in CALLERS.values())
ANYTHING = "anything-a-client-insists-on"
"""The key of a client that cannot do without one, where the proxy wants none."""
STRANGER = "nobody-knows-this-token"
CLIENT_SECRETS = (STUDIO, STOREFRONT, READER, ANYTHING, STRANGER)
for _secret in CLIENT_SECRETS:
    WATCH.add("what a client showed to the proxy", _secret)

GONE = "Z29uZTpkZWxldGVkLWxvbmctYWdv"
"""A key that the sandbox does not know."""
DIRECT = "X-Asked-Without-The-Proxy"

KEY_POWERS: Mapping[str, Mapping[str, Any]] = {
    "standard-read": {"permissions": {"voices": "read", "router": "read"}},
    "voices-write": {"permissions": {"voices": "write", "router": "read"}},
    "router-write": {"permissions": {"voices": "read", "router": "write"}},
    "full": {"permissions": {"voices": "write", "router": "write"}},
    "no-permissions": {"permissions": {"voices": "none", "router": "none"}},
    "realtime-only": {"type": "realtime-only"},
}
"""The sandbox's keys, declared as what they are."""


def needed(module: str) -> ModuleType:
    """The module of an optional client; skips the test file without it, and fails where it could be installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing(f"{module} is not installed: {error}")
        raise


def needed_program(name: str) -> str:
    """The path of a program; skips without it, and fails where it could be installed."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return str(path)


def missing(reason: str) -> None:
    """Skips, or fails where nothing has to be missing (CI=true)."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def environment(**extra: str) -> dict[str, str]:
    """A small environment for a child: no proxy between it and this machine, and no key of the developer's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", **extra}


class Process:
    """``python -m proxy …``: its output line by line, and its end."""

    def __init__(self, *arguments: str, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxy", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=ROOT, env=dict(environ),
        )  # fmt: skip
        self.command = " ".join(arguments)
        self.out: list[str] = []
        self.err: list[str] = []
        self._news: queue.SimpleQueue[tuple[list[str], str | None]] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.out), (self._process.stderr, self.err))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line)
                WATCH.read(f"`{self.command}`", line)
                self._news.put((lines, line))
        self._news.put((lines, None))

    def announced(self, where: list[str], pattern: str) -> re.Match[str]:
        """The first line there that matches; fails with all of standard error if it does not come."""
        deadline = time.monotonic() + PATIENCE
        try:
            while (remaining := deadline - time.monotonic()) > 0:
                lines, line = self._news.get(timeout=remaining)
                if lines is not where:
                    continue
                if line is None:
                    break
                match = re.search(pattern, line)
                if match is not None:
                    return match
        except queue.Empty:
            pass
        self.end()
        pytest.fail(f"`{self.command}` did not start. Its standard error:\n{''.join(self.err)}", pytrace=False)

    def end(self) -> int:
        """Ends it, by force if need be; its exit code."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return process.returncode


@dataclass(frozen=True)
class Answer:
    """An answer read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    base: str,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One request by the standard library, which knows neither proxies nor retries. Field names in lower case."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=timeout)
    try:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass
class Sandbox:
    """The running sandbox."""

    url: str
    keys: Mapping[str, str]
    """The complete credential of each key, by the key's name."""
    _gates: int = field(default=0)

    @classmethod
    def at(cls, announcement: str) -> Self:
        told = json.loads(announcement)
        return cls(f"http://{told['host']}:{told['port']}", {name: key["basic"] for name, key in told["keys"].items()})

    def basic(self, key: str) -> str:
        """The Authorization that carries this key."""
        return f"Basic {self.keys[key]}"

    def ask(self, method: str, path: str, body: Any = None, key: str = "full", **headers: str) -> Answer:
        """The same request without the proxy: what it answers is what it would have sent."""
        return ask(self.url, method, path, body, {"Authorization": self.basic(key), DIRECT: "yes", **headers})

    def forget(self) -> None:
        """Forgets what it saw."""
        assert ask(self.url, "DELETE", "/_sandbox/seen").status == 200

    def seen(self) -> list[dict[str, Any]]:
        """What came through the proxy, once nothing is being answered any more."""
        answer = ask(self.url, "GET", "/_sandbox/seen?settled=10").json()
        assert answer["settled"], "the sandbox is still answering: a connection was left open"
        return [each for each in answer["requests"] if DIRECT.lower() not in fields_of(each)]

    def only(self) -> dict[str, Any]:
        """The one request that came through the proxy."""
        (seen,) = self.seen()
        return seen

    def new_gate(self) -> str:
        """The name of a gate that nobody has used."""
        self._gates += 1
        return f"gate-{self._gates}"

    def open_gate(self, name: str) -> None:
        """Lets one more chunk out."""
        assert ask(self.url, "POST", f"/_sandbox/gates/{name}").status == 200


def fields_of(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The fields of a request that the sandbox saw: all values by lower-case name."""
    fields: dict[str, list[str]] = {}
    for name, value in record["headers"]:
        fields.setdefault(name.lower(), []).append(value)
    return fields


@dataclass
class Proxy:
    """A running proxy."""

    url: str
    process: Process

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return ask(self.url, method, path, body, headers)


class Proxies:
    """Starts proxies in front of one sandbox and ends them."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._begun: list[Process] = []

    def begin(self, name: str, configuration: Mapping[str, Any]) -> Process:
        """Starts one. Several may be begun before the first is waited for."""
        path = self._folder / f"{name}.yaml"
        listeners = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "log": {"format": "json"},
            "time": {"drain": "1s"},
        }
        upstreams = {"inworld": {"url": self._sandbox.url}}
        path.write_text(yaml.safe_dump({**listeners, "upstreams": upstreams, **configuration}), encoding="utf-8")
        secrets = {spell_variable(key): basic for key, basic in self._sandbox.keys.items()}
        process = Process("serve", "--config", str(path), environ=environment(**secrets, KEY_GONE=GONE))
        self._begun.append(process)
        return process

    def ready(self, process: Process) -> Proxy:
        """Waits until it says where it is."""
        return Proxy(process.announced(process.err, r" on (https?://\S+) ->")[1], process)

    def end(self) -> None:
        """Ends all; a proxy must end well, and must have said nothing but where it was, and no secret."""
        codes = [process.end() for process in self._begun]
        for process, code in zip(self._begun, codes, strict=True):
            told = [line for line in process.err if line.strip()]
            assert (code, told[3:]) == (0, []), f"{process.command}: exit code {code}\n{''.join(told)}"
            said = "".join(process.out + process.err)
            for secret in (*CLIENT_SECRETS, *self._sandbox.keys.values()):
                assert secret not in said, f"{process.command} wrote {secret} to its log"


def spell_variable(key: str) -> str:
    """The environment variable in which a proxy finds this key."""
    return f"KEY_{key.upper().replace('-', '_')}"


def credential(key: str, **instead: Any) -> dict[str, Any]:
    """A credential with a key of the sandbox's, declared as what it is, or otherwise."""
    return {"kind": "api-key", "secret": f"env:{spell_variable(key)}", **KEY_POWERS.get(key, {}), **instead}


SHARED_ROUTES: Mapping[str, Any] = {
    "credentials": {
        "workspace": credential("full"),
        "live": credential("realtime-only"),
        # Declared with more than it has, and one that no longer exists: what the upstream then says must get through.
        "optimist": credential("standard-read", permissions={"voices": "write"}),
        "deleted": credential("gone"),
    },
    "routes": [
        {"operations": "realtime.*", "credential": "live"},
        {"operations": "pronunciations.create", "credential": "optimist"},
        {"operations": ["llm.moderations", "llm.chat_moderations"], "credential": "deleted"},
        {"operations": "*", "credential": "workspace"},
    ],
}
KEYS_BY_OPERATION: Mapping[str, str] = {
    "realtime.session": "realtime-only",
    "realtime.calls": "realtime-only",
    "realtime.ice_servers": "realtime-only",
    "pronunciations.create": "standard-read",
}
"""Which key those routes show to the sandbox, where it is not ``full``."""


def callers() -> dict[str, Any]:
    """The callers as a configuration says them: digests, never tokens."""
    return {
        name: {"token": spell_digest(digest_token(token.encode())), "allow": allow}
        for name, (token, allow) in CALLERS.items()
    }
