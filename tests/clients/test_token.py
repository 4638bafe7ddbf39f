"""A token got from ``POST /token`` works without the proxy, where its purpose says and as often as it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.clients.processes import (
    DIRECT,
    PATIENCE,
    READER,
    STUDIO,
    Answer,
    Proxies,
    Proxy,
    Sandbox,
    ask,
    callers,
    credential,
    fields_of,
    needed,
)

client = needed("websockets.sync.client")
exceptions = needed("websockets.exceptions")

REALTIME = "/api/v1/realtime/session?key=session-of-mine&protocol=realtime"
SPEAK = {"text": "Hello.", "voiceId": "Ashley", "modelId": "inworld-tts-1.5-max"}


@pytest.fixture(scope="module")
def offering(proxies: Proxies) -> Proxy:
    """A proxy that hands out tokens of both kinds."""
    granted = callers()
    granted["studio"]["allow"] = ["*", "proxy.token"]  # a wildcard alone does not grant it
    configuration: dict[str, Any] = {
        "credentials": {
            "full": credential("full"),
            "reader": credential("standard-read"),
            "live": {**credential("realtime-only"), "kind": "session-token"},
        },
        "routes": [
            {"operations": "realtime.*", "credential": "live"},
            {"operations": "tts.*", "credential": "reader"},
            {"operations": "*", "credential": "full"},
        ],
        "callers": granted,
        "tokens": {"realtime": {}, "one_time": {"lifetime": "1m"}, "per_minute": 6},
    }
    return proxies.ready(proxies.begin("tokens", configuration))


@pytest.fixture(autouse=True)
def _every_request_carried_our_credential_and_never_the_clients(sandbox: Sandbox) -> Iterator[None]:
    """Here what carries a credential is a mint: it shows the key, or its signature, and never the caller's token."""
    sandbox.forget()
    yield
    for seen in sandbox.seen():
        everything = json.dumps(seen)
        assert STUDIO not in everything
        assert READER not in everything


def token_for(proxy: Proxy, purpose: str) -> dict[str, Any]:
    answer = proxy.ask("POST", "/token", {"for": purpose}, Authorization=f"Bearer {STUDIO}")
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    told: dict[str, Any] = answer.json()
    assert set(told) == {"token", "type", "for", "expiresAt", "singleUse"}
    assert (told["type"], told["for"]) == ("Bearer", purpose)
    assert datetime.fromisoformat(told["expiresAt"]).timestamp() > time.time()
    return told


def opened(sandbox: Sandbox, token: str) -> Any:
    url = sandbox.url.replace("http://", "ws://") + REALTIME
    headers = {"Authorization": f"Bearer {token}", DIRECT: "yes"}
    return client.connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE)


def speak(sandbox: Sandbox, token: str) -> Answer:
    return ask(sandbox.url, "POST", "/tts/v1/voice", SPEAK, {"Authorization": f"Bearer {token}", DIRECT: "yes"})


def test_a_session_token_opens_realtime_sessions_and_nothing_else(offering: Proxy, sandbox: Sandbox) -> None:
    told = token_for(offering, "realtime")
    assert told["singleUse"] is False
    for _ in range(2):
        with opened(sandbox, told["token"]) as socket:
            assert json.loads(socket.recv(timeout=PATIENCE))["type"] == "session.created"
    assert speak(sandbox, told["token"]).status == 403
    # The proxy's own token is another one: it stays inside.
    with client.connect(
        offering.ws + REALTIME, additional_headers={"Authorization": f"Bearer {STUDIO}"}, proxy=None
    ) as socket:
        assert json.loads(socket.recv(timeout=PATIENCE))["type"] == "session.created"
    (through,) = [seen for seen in sandbox.seen() if seen["operation"] == "realtime.session"]
    assert fields_of(through)["authorization"] != [f"Bearer {told['token']}"]


def test_a_one_time_token_speaks_once_and_comes_from_the_key_that_can_do_least(
    offering: Proxy, sandbox: Sandbox
) -> None:
    told = token_for(offering, "one-time")
    assert told["singleUse"] is True
    assert speak(sandbox, told["token"]).status == 200
    assert speak(sandbox, told["token"]).status == 401
    assert sandbox.only()["credential"] == "standard-read"


def test_a_one_time_token_is_none_for_realtime(offering: Proxy, sandbox: Sandbox) -> None:
    with pytest.raises(exceptions.InvalidStatus), opened(sandbox, token_for(offering, "one-time")["token"]):
        pass


def test_a_caller_without_the_grant_and_one_that_asks_too_often_get_none(offering: Proxy, sandbox: Sandbox) -> None:
    refused = offering.ask("POST", "/token", {"for": "realtime"}, Authorization=f"Bearer {READER}")
    assert refused.status == 403
    for _ in range(7):
        late = offering.ask("POST", "/token", {"for": "realtime"}, Authorization=f"Bearer {STUDIO}")
        if late.status != 200:
            break
    assert late.status == 429
    assert 1 <= int(late.headers["retry-after"]) <= 60
