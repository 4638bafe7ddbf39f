"""What is not allowed is answered here, before anything is sent upstream, in words that say what is missing."""

from __future__ import annotations

import json

import pytest

from tests.proxies import Proxies, Proxy
from tests.snapshots import ALL_POWERS, HOSTS, SOCKET, make_snapshot, upstream_at, with_policy
from tests.wires import OK, chunked, request


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [("POST /voices/v1/voices:clone", 403, "write_not_permitted"),
     ("DELETE /voices/v1/voices/v1", 403, "write_not_permitted"),
     ("POST /router/v1/routers", 403, "write_not_permitted"),
     ("POST /auth/v1/tokens", 403, "token_mint_refused"),
     ("GET /v1/models", 404, "no_operation"),
     ("GET /things/", 404, "no_operation"),
     ("PUT /tts/v1/voice", 405, "method_not_allowed"),
     ("TRACE /things", 405, "method_not_allowed"),
     ("CONNECT api.example.com:443", 405, "method_not_allowed"),
     ("get /things", 405, "method_not_allowed"),
     ("GET //things", 400, "ambiguous_target"),
     ("GET /things/../things", 400, "ambiguous_target"),
     ("GET /voices%2Fv1/voices", 400, "ambiguous_target"),
     ("POST /voices/v1/voices%3Aclone", 400, "ambiguous_target"),
     ("GET http://127.0.0.1/things", 400, "ambiguous_target"),
     ("GET /things#x", 400, "ambiguous_target"),
     ("GET /things;a=b", 400, "ambiguous_target"),
     ("OPTIONS *", 400, "ambiguous_target"),
     ("GET /th\xefngs", 400, "ambiguous_target"),
     (f"GET {SOCKET}", 426, "upgrade_required")],
)  # fmt: skip
async def test_what_is_not_allowed_never_reaches_the_upstream(proxy: Proxy, line: str, status: int, code: str) -> None:
    got = await proxy.ask(request(line))
    assert got.head.status == status
    assert got.head.get("Content-Type") == "application/json"
    assert code in got.body.decode()
    assert f'details="{code}"' in (got.head.get("Proxy-Status") or "")
    assert proxy.upstream.count == 0
    assert proxy.records[0].code is not None
    assert proxy.records[0].code.value == code


async def test_the_refusal_of_a_grpc_operation_has_the_shape_its_clients_parse(proxy: Proxy) -> None:
    body = json.loads((await proxy.ask(request("POST /voices/v1/voices:clone"))).body)
    assert body["code"] == 7
    assert "voices: read" in body["message"]
    assert body["details"][0]["reason"] == "write_not_permitted"


async def test_the_refusal_of_an_openai_operation_has_the_shape_its_clients_parse(proxy: Proxy) -> None:
    body = json.loads((await proxy.ask(request("GET /v1/nothing"))).body)
    assert (body["error"]["type"], body["error"]["code"]) == ("not_found_error", "no_operation")


async def test_the_answer_to_a_refused_head_request_has_no_body(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("HEAD /nothing"))
    assert (await caller.message(answers="HEAD")).head.status == 404
    await caller.send(request("GET /nothing"))
    assert (await caller.message()).head.status == 404


async def test_a_refused_head_request_gets_no_body_even_if_its_head_is_wrong(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("HEAD /things", "Host: 127.0.0.1"))
    head = await caller.head()
    assert (head.status, head.get("Connection"), int(head.get("Content-Length") or "0") > 0) == (400, "close", True)
    assert await caller.rest() == b""


async def test_a_connection_serves_on_after_a_refusal_and_its_body_is_not_taken_for_a_request(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /voices/v1/voices:clone", body=request("GET /things")))
    assert (await caller.message()).head.status == 403
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    assert (await wire.message()).head.line == "GET /things HTTP/1.1"
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"


@pytest.mark.parametrize("fields", [("Transfer-Encoding: chunked",), ("Content-Length: 10000000",)])
async def test_a_connection_closes_after_a_refusal_whose_body_is_not_worth_reading(
    proxy: Proxy, fields: tuple[str, ...]
) -> None:
    caller = await proxy.caller()
    await caller.send(request("POST /voices/v1/voices:clone", *fields, body=chunked(b"x")))
    got = await caller.message()
    assert (got.head.status, got.head.get("Connection")) == (403, "close")
    assert await caller.rest() == b""


async def test_a_key_with_write_permission_may_write(proxies: Proxies) -> None:
    upstream = await proxies.upstream()
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port), power=ALL_POWERS), upstream)
    assert (await proxy.pass_head(request("POST /voices/v1/voices:clone", body=b"{}"))).line.startswith("POST /voices")


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("127.0.0.1:8080", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8080", 200),
     ("rebind.evil", 421), ("rebind.evil:8080", 421), ("0.0.0.0", 421), ("127.0.0.1.evil", 421),
     ("api.inworld.ai", 421),
     ("", 400), ("a,b", 400), ("x@127.0.0.1", 400), ("127.0.0.1/#", 400), ("127.0.0.1:x", 400), ("a b", 400)],
)  # fmt: skip
async def test_only_our_own_names_are_answered(proxy: Proxy, host: str, status: int) -> None:
    proxy.upstream.always(OK)
    assert (await proxy.ask(request("GET /things", host=host))).head.status == status
    assert proxy.upstream.count == (status == 200)


@pytest.mark.parametrize(
    ("fields", "status"),
    [(("Origin: https://evil.example",), 403), (("Origin: null",), 403), (("Origin: http://127.0.0.1:8080",), 403),
     (("Sec-Fetch-Site: cross-site",), 403), (("Sec-Fetch-Site: same-site",), 403), (("Sec-Fetch-Site: odd",), 403),
     (("Sec-Fetch-Site: none",), 200), (("Sec-Fetch-Site: same-origin",), 200),
     (("Origin: https://ours.example",), 200), (("Origin: https://ours.example", "Sec-Fetch-Site: cross-site"), 200),
     (("Origin: https://OURS.example",), 403), (("Origin: https://evil.example", "Sec-Fetch-Site: none"), 403)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_web_page_cannot_spend_the_key(
    proxies: Proxies, fields: tuple[str, ...], status: int, kind: str
) -> None:
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    proxy = await proxies.start(with_policy(snapshot, origins=frozenset({"https://ours.example"})), upstream)
    upstream.always(OK)
    if kind == "http":
        raw = request("POST /tts/v1/voice", *fields, body=b"{}")
    else:
        handshake = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
        raw = request(f"GET {SOCKET}", *handshake, *fields)
    got = await proxy.ask(raw)
    assert got.head.status == status
    assert upstream.count == (status == 200)
    if status == 200:
        assert not {"origin", "sec-fetch-site"} & {*upstream.requests[0].head.names}


@pytest.mark.parametrize(
    ("host", "agent", "fields", "status"),
    [("laptop.test", "Mozilla/5.0 (X11) Chrome/140.0", (), 403), ("laptop.test:80", "Mozilla/5.0 Firefox/140", (), 403),
     ("laptop.test", "Mozilla/5.0 Safari/604.1", ("Referer: http://laptop.test/",), 403),
     ("laptop.test", "Mozilla/5.0", ("Origin: https://ours.example",), 200),
     ("laptop.test", "Mozilla/5.0", ("Origin: http://laptop.test",), 403),
     ("laptop.test", "Mozilla/5.0", ("Sec-Fetch-Site: none",), 200),
     ("laptop.test", "curl/8.5.0", (), 200), ("laptop.test", None, (), 200),
     ("127.0.0.1:8080", "Mozilla/5.0", (), 200), ("localhost", "Mozilla/5.0", (), 200),
     ("[::1]", "Mozilla/5.0", (), 200)],
)  # fmt: skip
async def test_a_web_page_cannot_spend_the_key_by_a_name_of_which_browsers_say_nothing(
    proxies: Proxies, host: str, agent: str | None, fields: tuple[str, ...], status: int
) -> None:
    """To a name that is not this machine's, over plain HTTP: an image comes without Origin and Sec-Fetch-Site."""
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port))
    named = with_policy(snapshot, hosts=HOSTS | {"laptop.test"}, origins=frozenset({"https://ours.example"}))
    proxy = await proxies.start(named, upstream)
    upstream.always(OK)
    caller = await proxy.caller()
    for _ in range(2):  # the second time, the connection may remember the answer
        lines = ("Accept: image/*", *(() if agent is None else (f"User-Agent: {agent}",)), *fields)
        await caller.send(request("GET /things", *lines, host=host))
        got = await caller.message()
        assert got.head.status == status
        if status == 403:
            code = b"origin_not_allowed" if "Origin: http://laptop.test" in fields else b"cross_site_request"
            assert code in got.content
    assert upstream.count == (status == 200)
    for seen in upstream.requests:
        assert seen.head.get("User-Agent") == agent


async def test_a_preflight_is_not_answered_with_permission(proxy: Proxy) -> None:
    fields = ("Origin: https://evil.example", "Access-Control-Request-Private-Network: true")
    got = await proxy.ask(request("OPTIONS /things", *fields))
    assert got.head.status == 403
    assert not any(name.startswith("access-control-") for name in got.head.names)


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket, h2c"])
async def test_an_upgrade_that_we_do_not_speak_is_not_passed_on_and_the_connection_closes(
    proxy: Proxy, upgrade: str
) -> None:
    caller = await proxy.caller()
    fields = (f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
    await caller.send(request("GET /things", *fields) + request("GET /things?second"))
    if "websocket" in upgrade:
        assert (await caller.message()).head.status == 400
    else:
        wire = await proxy.upstream.accept()
        seen = await wire.message()
        assert not {"upgrade", "connection", "http2-settings"} & {*seen.head.names}
        await wire.send(OK)
        got = await caller.message()
        assert (got.head.status, got.head.get("Connection")) == (200, "close")
    assert await caller.rest() == b""


async def test_a_websocket_where_none_is_served_is_refused(proxy: Proxy) -> None:
    got = await proxy.ask(request("GET /things", "Upgrade: websocket", "Connection: Upgrade"))
    assert got.head.status == 400
    assert b"upgrade_not_allowed" in got.body
