"""One sandbox and two proxies in front of it for all of these tests; after each, what the sandbox saw is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.processes import (
    BETWEEN,
    CHUNK_BYTES,
    CLIENT_SECRETS,
    GONE,
    KEYS_BY_OPERATION,
    SHARED_ROUTES,
    Process,
    Proxies,
    Proxy,
    Sandbox,
    callers,
    environment,
    fields_of,
)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """The sandbox as a process."""
    pace = ("--between", str(BETWEEN), "--chunk-bytes", str(CHUNK_BYTES))
    process = Process("sandbox", "--port", "0", "--announce-json", "--exit-with-parent", *pace, environ=environment())
    yield Sandbox.at(process.announced(process.out, r"^\{.*\}$")[0])
    process.end()
    # Its library remarks on subprotocols that it does not know; anything else was a fault.
    assert [line for line in process.err if "overlap" not in line and line.strip()] == []


@pytest.fixture(scope="session")
def proxies(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    """Starts proxies in front of the sandbox."""
    started = Proxies(sandbox, tmp_path_factory.mktemp("proxies"))
    yield started
    started.end()


@pytest.fixture(scope="session")
def both(proxies: Proxies) -> tuple[Proxy, Proxy]:
    begun = (
        proxies.begin("callers", {**SHARED_ROUTES, "callers": callers()}),
        proxies.begin("open", SHARED_ROUTES),
    )
    return proxies.ready(begun[0]), proxies.ready(begun[1])


@pytest.fixture(scope="session")
def proxy(both: tuple[Proxy, Proxy]) -> Proxy:
    """A proxy that knows its callers."""
    return both[0]


@pytest.fixture(scope="session")
def open_proxy(both: tuple[Proxy, Proxy]) -> Proxy:
    """The same routes without callers: whoever reaches it may use it."""
    return both[1]


@pytest.fixture
def injected(sandbox: Sandbox) -> Callable[[dict[str, Any]], str]:
    """The Authorization that the proxy must have shown for a request."""

    def authorization(seen: dict[str, Any]) -> str:
        operation = seen["operation"]
        if operation in ("llm.moderations", "llm.chat_moderations"):
            return f"Basic {GONE}"
        return sandbox.basic(KEYS_BY_OPERATION.get(operation, "full"))

    return authorization


@pytest.fixture(autouse=True)
def _nothing_between_here_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    for name in ("INWORLD_API_KEY", "INWORLD_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS",
                 "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _every_request_carried_our_credential_and_never_the_clients(
    sandbox: Sandbox, injected: Callable[[dict[str, Any]], str]
) -> Iterator[None]:
    sandbox.forget()
    yield
    for seen in sandbox.seen():
        what = f"{seen['method']} {seen['target']}"
        fields = fields_of(seen)
        assert fields.get("authorization") == [injected(seen)], what
        everything = [seen["target"], *(text for pair in seen["headers"] for text in pair)]
        leaked = [secret for secret in CLIENT_SECRETS if any(secret in text for text in everything)]
        assert not leaked, f"{what} carried {leaked}"
