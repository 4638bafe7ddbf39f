"""Who gets in, who does not, and in which words: both error stacks, and every way to show a credential."""

from __future__ import annotations

import base64

import pytest

from tests.sandbox.conftest import KEYS, Running, Start

SYNTHESIS = {"text": "hello", "voiceId": "Ashley", "modelId": "inworld-tts-1.5"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
NO_CREDENTIAL = (
    b'{"code":16,"message":"authentication is required","details":[{"@type":"type.googleapis.com/'
    b'ai.inworld.common.InworldStatus","errorType":"SESSION_TOKEN_INVALID","reconnectType":"NO_RETRY",'
    b'"reconnectTime":null,"maxRetries":0}]}'
)
UNKNOWN_KEY = b'{"code":7,"message":"API key does not exist or was deleted: \\"Zm9v***\\"","details":[]}'


async def test_no_credential_is_401_with_the_gateways_body_and_challenge(sandbox: Running) -> None:
    response = await sandbox.ask("POST", "/tts/v1/voice", None, json=SYNTHESIS)
    assert (response.status, await response.read()) == (401, NO_CREDENTIAL)
    assert response.headers["www-authenticate"] == "authentication is required"


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
async def test_an_unknown_key_is_403_and_echoes_four_characters_of_it(sandbox: Running, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} Zm9vYmFyc2VjcmV0"}
    response = await sandbox.ask("POST", "/tts/v1/voice", None, json=SYNTHESIS, headers=headers)
    assert (response.status, await response.read()) == (403, UNKNOWN_KEY)


async def test_streaming_methods_wrap_the_error(sandbox: Running) -> None:
    missing = await sandbox.ask("POST", "/tts/v1/voice:stream", None, json=SYNTHESIS)
    assert (missing.status, await missing.read()) == (401, b'{"error":' + NO_CREDENTIAL + b"}")
    headers = {"Authorization": "Basic Zm9v"}
    unknown = await sandbox.ask("POST", "/tts/v1/voice:stream", None, json=SYNTHESIS, headers=headers)
    assert (unknown.status, await unknown.read()) == (403, b'{"error":' + UNKNOWN_KEY + b"}")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/moderations"])
async def test_the_chat_stack_says_unauthorized_in_plain_text_without_a_request_id(sandbox: Running, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer sk-nonsense"}):
        response = await sandbox.ask("POST", path, None, json=CHAT, headers=headers)
        assert (response.status, await response.text()) == (401, "Unauthorized")
        assert response.content_type == "text/plain"
        assert "x-inworld-request-id" not in response.headers


async def test_an_unknown_path_is_404_whoever_asks(sandbox: Running) -> None:
    for key in (None, "full"):
        response = await sandbox.ask("GET", "/v1/models", key)
        assert (response.status, await response.read()) == (404, b'{"code":5,"message":"Not Found"}')


async def test_answers_carry_the_headers_that_the_real_service_was_seen_to_send(sandbox: Running) -> None:
    response = await sandbox.ask("GET", "/voices/v1/voices")
    assert len(response.headers["x-inworld-request-id"]) == 32
    assert response.headers["server"] == "istio-envoy"
    assert response.headers["via"] == "1.1 google"
    assert response.headers["x-envoy-upstream-service-time"].isdigit()
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "basic"])
async def test_an_api_key_is_accepted_under_either_scheme(sandbox: Running, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEYS['standard-read'].basic}"}
    assert (await sandbox.ask("POST", "/v1/chat/completions", None, json=CHAT, headers=headers)).status == 200
    assert (await sandbox.seen())[-1]["credential"] == "standard-read"


async def test_a_key_encoded_a_second_time_is_not_that_key(sandbox: Running) -> None:
    twice = base64.b64encode(KEYS["full"].basic.encode()).decode()
    response = await sandbox.ask("GET", "/voices/v1/voices", None, headers={"Authorization": f"Basic {twice}"})
    assert response.status == 403


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "Grpc-Metadata-Authorization"])
async def test_a_key_elsewhere_is_not_looked_at(sandbox: Running, header: str) -> None:
    response = await sandbox.ask("GET", "/voices/v1/voices", None, headers={header: f"Basic {KEYS['full'].basic}"})
    assert response.status == 401


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("standard-read", "GET", "/voices/v1/voices", 200),
        ("standard-read", "POST", "/voices/v1/voices:clone", 403),
        ("standard-read", "POST", "/voices/v1/workspaces/sandbox-demo/voices:clone", 403),
        ("standard-read", "PATCH", "/voices/v1/voices/Ashley", 403),
        ("standard-read", "DELETE", "/voices/v1/voices/Ashley", 403),
        ("standard-read", "POST", "/voices/v1/voices/x:publish", 403),
        ("standard-read", "POST", "/voices/v1/voices/x:issueCopyToken", 403),
        ("standard-read", "POST", "/voices/v1/voices:redeemCopyToken", 403),
        ("standard-read", "POST", "/voices/v1/voices%3Aclone", 403),
        ("standard-read", "POST", "/pronunciations/v1/workspaces/sandbox-demo/pronunciationDictionaries", 403),
        ("standard-read", "GET", "/pronunciations/v1/workspaces/sandbox-demo/pronunciationDictionaries", 200),
        ("standard-read", "GET", "/router/v1/routers", 200),
        ("standard-read", "POST", "/router/v1/routers", 403),
        ("voices-write", "POST", "/router/v1/routers", 403),
        ("voices-write", "POST", "/voices/v1/voices:clone", 400),
        ("router-write", "POST", "/voices/v1/voices:clone", 403),
        ("router-write", "POST", "/router/v1/routers", 400),
        ("full", "POST", "/voices/v1/voices:clone", 400),
        ("full", "POST", "/router/v1/routers", 400),
        ("no-permissions", "GET", "/voices/v1/voices", 403),
        ("no-permissions", "GET", "/router/v1/routers", 403),
        ("no-permissions", "GET", "/tts/v1/voices", 200),
        ("no-permissions", "POST", "/v1/responses/resp_x/cancel", 404),
        ("realtime-only", "GET", "/v1/realtime/ice-servers", 200),
        ("realtime-only", "GET", "/voices/v1/voices", 403),
        ("realtime-only", "POST", "/tts/v1/voice", 403),
        ("realtime-only", "POST", "/v1/chat/completions", 403),
        ("realtime-only", "POST", "/auth/v1/tokens", 403),
    ],
)
async def test_a_key_may_do_what_its_type_and_permissions_allow(
    sandbox: Running, key: str, method: str, path: str, status: int
) -> None:
    """400 and 404 stand for: let through, and then refused for what was asked."""
    from yarl import URL

    response = await sandbox.session.request(
        method,
        URL(sandbox.url + path, encoded=True),
        headers={"Authorization": f"Basic {KEYS[key].basic}"},
        json=None if method == "GET" else {},
    )
    assert response.status == status
    if status == 403 and not path.startswith("/v1/chat"):
        assert (await response.json())["code"] == 7


async def test_a_path_that_names_another_workspace_is_refused(sandbox: Running) -> None:
    assert (await sandbox.ask("GET", "/voices/v1/workspaces/sandbox-other/voices")).status == 403


async def test_a_deleted_key_no_longer_exists(sandbox: Running) -> None:
    assert (await sandbox.session.delete(f"{sandbox.url}/_sandbox/keys/standard-read")).status == 200
    assert (await sandbox.ask("GET", "/voices/v1/voices", "standard-read")).status == 403
    assert (await sandbox.ask("GET", "/voices/v1/voices", "full")).status == 200


@pytest.mark.parametrize("path", ["/tts/v1/voice:streamBidirectional", "/stt/v1/transcribe:streamBidirectional"])
async def test_a_socket_without_a_credential_opens_and_then_says_so_in_a_frame(sandbox: Running, path: str) -> None:
    socket = await sandbox.socket(path, None)
    frame = await socket.receive_json()
    assert frame["error"]["code"] == 16
    assert frame["error"]["details"][0]["errorType"] == "SESSION_TOKEN_INVALID"
    await socket.receive()
    assert socket.close_code == 1008


async def test_a_socket_with_a_bad_key_stays_silent_unless_told_otherwise(start: Start) -> None:
    path = "/tts/v1/voice:streamBidirectional"
    bad = {"Authorization": "Basic Zm9v"}
    talkative = await start(explain_bad_key=True)
    socket = await talkative.session.ws_connect(talkative.url + path, headers=bad)
    assert (await socket.receive_json())["error"]["code"] == 7
    await socket.close()
    silent = await start()
    socket = await silent.session.ws_connect(silent.url + path, headers=bad)
    await socket.send_str("hello?")
    await socket.close()
    record = (await silent.seen())[-1]
    assert (record["status"], record["messages"], record["credential"]) == (101, 1, None)


async def test_the_realtime_socket_refuses_at_the_handshake(sandbox: Running) -> None:
    response = await sandbox.ask(
        "GET",
        "/api/v1/realtime/session?key=s&protocol=realtime",
        None,
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    assert (response.status, await response.read()) == (401, NO_CREDENTIAL)
