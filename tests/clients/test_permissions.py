"""Which key may do what, asked with ``curl``: a proxy for every kind of key, a row for every kind of operation.

The sandbox knows the same keys and would say no itself: what passes here must pass there, and what is refused here must
never have been sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.core.errors import OUTCOMES, Code
from tests.clients.curl import curl
from tests.clients.processes import ANYTHING, KEY_POWERS, Proxies, Proxy, Sandbox, credential

SPOKEN = {"text": "Hi.", "voiceId": "Ashley", "modelId": "inworld-tts-1.5-max", "sandbox": {"between": 0}}
CHAT = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Hi."}]}
DESIGN = {"designPrompt": "A calm and friendly voice for tests.", "previewText": "Hi.", "langCode": "EN_US"}
DICTIONARY = {"displayName": "d", "pronunciations": []}
AUDIO = {"transcribeConfig": {"modelId": "inworld/inworld-stt-1"}, "audioData": {"content": "AAAA"}}
VOICES = "/voices/v1/voices"
OLDER = "/voices/v1/workspaces/sandbox-demo/voices"
DICTIONARIES = "/pronunciations/v1/workspaces/sandbox-demo/pronunciationDictionaries"
ROUTERS = "/router/v1/routers"

READ = "read_not_permitted"
WRITE = "write_not_permitted"
REALTIME = "key_is_realtime_only"
MINT = "token_mint_refused"

# A number is the status of the sandbox's answer, a word the code of the proxy's own. The order of the keys:
KEYS = tuple(KEY_POWERS)
assert KEYS == ("standard-read", "voices-write", "router-write", "full", "no-permissions", "realtime-only")
ROWS: tuple[tuple[str, str, Any, tuple[int | str, ...]], ...] = (
    # Not gated by either permission, whatever their paths look like.
    ("POST", "/tts/v1/voice", SPOKEN, (200, 200, 200, 200, 200, REALTIME)),
    ("POST", "/tts/v1/voice:stream", SPOKEN, (200, 200, 200, 200, 200, REALTIME)),
    ("GET", "/tts/v1/voice:preview?voice_id=Ashley&model_id=m", None, (200, 200, 200, 200, 200, REALTIME)),
    ("GET", "/tts/v1/voices", None, (200, 200, 200, 200, 200, REALTIME)),
    ("POST", "/stt/v1/transcribe", AUDIO, (200, 200, 200, 200, 200, REALTIME)),
    ("POST", "/v1/chat/completions", CHAT, (200, 200, 200, 200, 200, REALTIME)),
    ("POST", "/v1/responses/none/cancel", {}, (404, 404, 404, 404, 404, REALTIME)),
    ("DELETE", "/v1/responses/none", None, (404, 404, 404, 404, 404, REALTIME)),
    ("GET", "/llm/v1alpha/models", None, (200, 200, 200, 200, 200, REALTIME)),
    ("GET", "/lro/v1alpha/workspaces/w/jobs/j/operations/o", None, (404, 404, 404, 404, 404, REALTIME)),
    # Voices.
    ("GET", VOICES, None, (200, 200, 200, 200, READ, REALTIME)),
    ("GET", OLDER, None, (200, 200, 200, 200, READ, REALTIME)),
    ("GET", f"{VOICES}/sandbox-demo__none", None, (404, 404, 404, 404, READ, REALTIME)),
    ("POST", f"{VOICES}:design", DESIGN, (WRITE, 200, WRITE, 200, WRITE, REALTIME)),
    ("POST", f"{OLDER}:design", DESIGN, (WRITE, 200, WRITE, 200, WRITE, REALTIME)),
    ("POST", f"{VOICES}:clone", {}, (WRITE, 400, WRITE, 400, WRITE, REALTIME)),
    ("POST", f"{VOICES}:redeemCopyToken", {}, (WRITE, 400, WRITE, 400, WRITE, REALTIME)),
    ("POST", f"{VOICES}/sandbox-demo__none:publish", {}, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    ("POST", f"{VOICES}/sandbox-demo__none:issueCopyToken", {}, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    ("PATCH", f"{VOICES}/sandbox-demo__none", {}, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    ("DELETE", f"{VOICES}/sandbox-demo__none", None, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    ("DELETE", f"{OLDER}/none", None, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    # Pronunciations, which the same permission governs.
    ("GET", DICTIONARIES, None, (200, 200, 200, 200, READ, REALTIME)),
    ("POST", DICTIONARIES, DICTIONARY, (WRITE, 200, WRITE, 200, WRITE, REALTIME)),
    ("DELETE", f"{DICTIONARIES}/none?etag=e", None, (WRITE, 404, WRITE, 404, WRITE, REALTIME)),
    # Routers.
    ("GET", ROUTERS, None, (200, 200, 200, 200, READ, REALTIME)),
    ("POST", ROUTERS, {}, (WRITE, WRITE, 400, 400, WRITE, REALTIME)),
    ("DELETE", f"{ROUTERS}/none", None, (WRITE, WRITE, 404, 404, WRITE, REALTIME)),
    # Realtime: what every kind of key serves.
    ("GET", "/v1/realtime/ice-servers", None, (200, 200, 200, 200, 200, 200)),
    ("POST", "/v1/realtime/calls", {}, (400, 400, 400, 400, 400, 400)),
    # A socket without an upgrade; only the proxy can say so, and it says first what the key lacks.
    ("GET", "/tts/v1/voice:streamBidirectional", None, ("upgrade_required",) * 5 + (REALTIME,)),
    ("GET", "/api/v1/realtime/session?key=k&protocol=realtime", None, ("upgrade_required",) * 6),
    # What nobody may do, and what nobody knows.
    ("POST", "/auth/v1/tokens", {"single_use": True}, (MINT,) * 6),
    ("POST", "/auth/v1/tokens/token:generate", {}, (MINT,) * 6),
    ("POST", "/v1/sessionTokens/token:generate", {}, (MINT,) * 6),
    ("GET", "/v1/models", None, ("no_operation",) * 6),
    ("POST", "/studio/v1/anything", {}, ("no_operation",) * 6),
    ("PUT", f"{VOICES}/sandbox-demo__none", {}, ("method_not_allowed",) * 6),
)


@pytest.fixture(scope="module")
def by_key(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    """A proxy for every kind of key, without callers."""
    proxies = Proxies(sandbox, tmp_path_factory.mktemp("keys"))
    begun = {key: proxies.begin(key, {"credentials": {"only": credential(key)}}) for key in KEYS}
    try:
        yield {key: proxies.ready(process) for key, process in begun.items()}
    finally:
        proxies.end()


@pytest.fixture
def injected(sandbox: Sandbox, request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], str]:
    """Whatever the operation: the only key that the proxy of this row has."""
    return lambda _seen: sandbox.basic(request.node.callspec.params["key"])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("method", "target", "body", "expected"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_a_key_does_what_it_may_and_nothing_else_is_sent(
    by_key: dict[str, Proxy],
    sandbox: Sandbox,
    key: str,
    method: str,
    target: str,
    body: Any,
    expected: tuple[int | str, ...],
) -> None:
    shown = curl(by_key[key].url + target, "-H", f"Authorization: Bearer {ANYTHING}", method=method, body=body)
    wanted = expected[KEYS.index(key)]
    seen = sandbox.seen()
    if isinstance(wanted, int):
        assert shown.status == wanted, shown
        assert "proxy-status" not in shown.fields
        assert shown.fields["x-inworld-request-id"]
        (only,) = seen
        assert (only["credential"], only["status"], only["target"]) == (key, wanted, target)
        return
    outcome = OUTCOMES[Code(wanted)]
    assert (shown.status, shown.code) == (outcome.status, wanted), shown
    assert shown.fields["proxy-status"] == f'inworld-proxy; error={outcome.proxy_error}; details="{wanted}"'
    assert "x-inworld-request-id" not in shown.fields
    assert seen == []
