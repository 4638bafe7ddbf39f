"""``curl`` at the proxy's door: who may come in, what a refusal looks like, and that no client's secret goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.curl import CURL, curl, run
from tests.clients.processes import (
    ANYTHING,
    PATIENCE,
    READER,
    STOREFRONT,
    STRANGER,
    STUDIO,
    Proxy,
    Sandbox,
    fields_of,
)

VOICES = "/voices/v1/voices"
SPEECH = "/v1/audio/speech"
SPOKEN = {"model": "m", "voice": "Ashley", "input": "Hi.", "response_format": "wav", "sandbox": {"between": 0}}


@pytest.mark.parametrize(
    ("token", "path", "code"),
    [
        (STUDIO, VOICES, None),
        (STUDIO, "/router/v1/routers", None),
        (STUDIO, "/v1/realtime/ice-servers", None),
        (READER, VOICES, None),
        (READER, "/v1/realtime/ice-servers", "operation_not_granted"),
        (READER, "/tts/v1/voices", "operation_not_granted"),
        (STOREFRONT, "/tts/v1/voices", None),
        (STOREFRONT, "/v1/realtime/ice-servers", None),
        (STOREFRONT, VOICES, "operation_not_granted"),
        (STOREFRONT, "/router/v1/routers", "operation_not_granted"),
        (STOREFRONT, "/no/such/thing", "no_operation"),
        (STRANGER, VOICES, "unknown_caller"),
        (STRANGER, "/no/such/thing", "unknown_caller"),
        (None, VOICES, "caller_required"),
        (None, "/no/such/thing", "caller_required"),
    ],
)
def test_a_caller_does_what_it_is_granted_and_nothing_else_is_sent(
    proxy: Proxy, sandbox: Sandbox, token: str | None, path: str, code: str | None
) -> None:
    shown = curl(proxy.url + path, *(() if token is None else ("-H", f"Authorization: Bearer {token}")))
    if code is None:
        assert shown.status == 200
        assert "proxy-status" not in shown.fields
        assert len(sandbox.seen()) == 1
        return
    assert shown.code == code
    assert shown.fields["proxy-status"] == f'inworld-proxy; error=http_request_denied; details="{code}"'
    assert sandbox.seen() == []


@pytest.mark.parametrize("path", [VOICES, SPEECH, "/v1/messages", "/tts/v1/voice:stream"])
def test_a_refusal_is_one_readable_object_on_one_line(proxy: Proxy, path: str) -> None:
    shown = curl(proxy.url + path, method="POST", body={})
    assert shown.status == 401
    assert shown.fields["content-type"].startswith("application/json")
    assert shown.body.endswith("}\n")
    assert shown.body.count("\n") == 1
    assert "Send a caller token where the Inworld key would go" in shown.message


def test_a_refusal_says_where_to_change_it(proxy: Proxy) -> None:
    shown = curl(f"{proxy.url}{SPEECH}", "-H", f"X-Api-Key: {READER}", method="POST", body=SPOKEN)
    assert json.loads(shown.body) == {
        "error": {
            "message": "The caller 'reader' is not granted tts.openai_speech; add it to callers.reader.allow.",
            "type": "permission_error",
            "param": None,
            "code": "operation_not_granted",
        }
    }


def test_the_pasted_command_writes_a_file_that_a_player_can_play(
    open_proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "hello.wav"
    said = run([
        CURL, "-q", "-sS", f"{open_proxy.url}{SPEECH}", "-H", "Content-Type: application/json", "-o", str(file),
        "--max-time", str(PATIENCE), "-d", json.dumps(SPOKEN),
    ])  # fmt: skip
    assert said == ""
    assert file.read_bytes() == sandbox.ask("POST", SPEECH, SPOKEN).body
    assert file.read_bytes()[:4] == b"RIFF"


SECRET = STUDIO
PLACES = (
    f"Authorization: Bearer {SECRET}",
    f"X-Api-Key: {SECRET}",
    f"Api-Key: {SECRET}",
    f"X-Goog-Api-Key: {SECRET}",
    f"X_Api_Key: {SECRET}",
    f"Cookie: token={SECRET}",
    f"Proxy-Authorization: Basic {SECRET}",
    f"Grpc-Metadata-Authorization: Bearer {SECRET}",
    f"Referer: http://localhost/?token={SECRET}",
    f"X-Forwarded-Authorization: {SECRET}",
    f"Sec-WebSocket-Protocol: bearer_{SECRET}",
)


def test_a_clients_secret_goes_on_from_none_of_the_places_where_it_may_be(proxy: Proxy, sandbox: Sandbox) -> None:
    query = f"?authorization=Bearer%20{SECRET}&token={SECRET}&key={SECRET}&access_token={SECRET}&pageSize=2"
    options = [option for place in PLACES for option in ("-H", place)]
    shown = curl(f"{proxy.url}{VOICES}{query}", *options, "-H", "X-Kept: 1")
    assert shown.status == 200
    # That the secret is nowhere in it is checked after every test.
    seen = sandbox.only()
    assert seen["target"] == f"{VOICES}?pageSize=2"
    assert fields_of(seen)["x-kept"] == ["1"]


def test_connection_cannot_name_our_credential_away(open_proxy: Proxy, sandbox: Sandbox) -> None:
    shown = curl(open_proxy.url + VOICES, "-H", "Connection: authorization, host", "-H", f"Authorization: {ANYTHING}")
    assert shown.status == 200
    assert sandbox.only()["credential"] == "full"


def test_what_the_upstream_says_about_the_key_gets_through_as_it_is(proxy: Proxy, sandbox: Sandbox) -> None:
    target = "/pronunciations/v1/workspaces/sandbox-demo/pronunciationDictionaries"
    body = {"displayName": "d", "pronunciations": []}
    shown = curl(proxy.url + target, "-H", f"Authorization: Bearer {STUDIO}", method="POST", body=body)
    direct = sandbox.ask("POST", target, body, key="standard-read")
    assert (shown.status, shown.body) == (direct.status, direct.body.decode()) == (403, shown.body)
    assert "does not have the required permission" in shown.message
    assert "proxy-status" not in shown.fields
    assert sandbox.only()["credential"] == "standard-read"


def test_no_web_page_can_spend_the_key(open_proxy: Proxy, sandbox: Sandbox) -> None:
    from_page = curl(open_proxy.url + VOICES, "-H", "Origin: https://evil.example")
    assert (from_page.status, from_page.code) == (403, "origin_not_allowed")
    rebound = curl(open_proxy.url + VOICES, "-H", "Host: evil.example")
    assert (rebound.status, rebound.code) == (421, "host_not_allowed")
    for refused in (from_page, rebound):
        assert refused.fields["proxy-status"].startswith("inworld-proxy; error=http_request_denied")
    assert sandbox.seen() == []


def test_a_path_with_a_second_reading_is_refused(open_proxy: Proxy, sandbox: Sandbox) -> None:
    for path in ("/tts/v1/../../voices/v1/voices", "//voices/v1/voices", "/voices%2Fv1/voices", "/voices/v1/voices;a"):
        shown = curl(open_proxy.url + path, "--path-as-is")
        assert shown.status in {400, 404}, path
        assert shown.fields["proxy-status"].startswith("inworld-proxy; error=")
    assert sandbox.seen() == []


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_every_version_that_curl_may_ask_for_is_served(open_proxy: Proxy, version: str) -> None:
    # Without TLS, curl asks for HTTP/2 by an upgrade from HTTP/1.1, which a server may ignore.
    assert curl(open_proxy.url + VOICES, version).status == 200
