"""Exactly one Authorization arrives upstream and it is ours, whatever a caller sends in whatever place."""

from __future__ import annotations

import pytest

from tests.proxies import Proxies, Proxy
from tests.snapshots import AUTHORIZATION, SOCKET, TOKEN, make_snapshot, upstream_at
from tests.wires import Head, Wire, request, response

HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)

THEIRS = "client-secret"


def only_ours(head: Head) -> None:
    assert head.all("Authorization") == [AUTHORIZATION]
    assert head.fields[-1] == ("Authorization", AUTHORIZATION)
    assert THEIRS not in head.raw.decode("latin-1")


@pytest.mark.parametrize(
    "field",
    [f"Authorization: Bearer {THEIRS}", f"Authorization: Basic {THEIRS}", f"authorization: {THEIRS}",
     f"AUTHORIZATION:{THEIRS}", f"AuThOrIzAtIoN: Digest {THEIRS}", f"x-api-key: {THEIRS}", f"X-Api-Key: {THEIRS}",
     f"api-key: {THEIRS}", f"Api-Key: {THEIRS}", f"x-goog-api-key: {THEIRS}", f"Proxy-Authorization: Basic {THEIRS}",
     f"Proxy-Connection: {THEIRS}", f"Cookie: session={THEIRS}", f"Cookie2: {THEIRS}",
     f"Grpc-Metadata-Authorization: Bearer {THEIRS}", f"grpc-metadata-x-api-key: {THEIRS}",
     f"Authorization_: {THEIRS}", f"Proxy_Authorization: {THEIRS}", f"X_Api_Key: {THEIRS}",
     f"x_forwarded_for: {THEIRS}"],
)  # fmt: skip
async def test_a_clients_own_credential_never_reaches_the_upstream(proxy: Proxy, field: str) -> None:
    only_ours(await proxy.pass_head(request("GET /things", field, "X-Kept: 1")))


async def test_authorization_sent_twice_is_refused_here(proxy: Proxy) -> None:
    got = await proxy.ask(request("GET /things", f"Authorization: Bearer {THEIRS}", f"authorization: Basic {THEIRS}"))
    assert got.head.status == 400
    assert proxy.upstream.count == 0


@pytest.mark.parametrize(
    "connection",
    ["close, Authorization", "Authorization", "authorization", "keep-alive,AUTHORIZATION", "Authorization, Host",
     "Content-Length, Authorization", "close ,\tauthorization"],
)  # fmt: skip
async def test_naming_authorization_in_connection_does_not_remove_ours(proxy: Proxy, connection: str) -> None:
    head = await proxy.pass_head(request("POST /things", f"Connection: {connection}", body=b"body"))
    only_ours(head)
    assert head.get("Host") == f"127.0.0.1:{proxy.upstream.port}"
    assert head.get("Content-Length") == "4"
    assert head.get("Connection") is None


async def test_fields_that_a_caller_names_in_connection_end_here(proxy: Proxy) -> None:
    fields = ("Connection: close, X-One", "Connection: x-TWO", "X-One: 1", "X-Two: 2", "X-Three: 3")
    head = await proxy.pass_head(request("GET /things", *fields))
    assert not {"x-one", "x-two", "connection"} & {*head.names}
    assert head.get("X-Three") == "3"


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override", "X_HTTP_Method_Override", "X-Original-URL",
     "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-Proto",
     "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Via", "Referer", "HTTP2-Settings", "Keep-Alive",
     "TE", "Trailer", "Sec-Fetch-Mode", "Access-Control-Request-Method", "Upgrade"],
)  # fmt: skip
async def test_nothing_that_means_another_method_target_or_person_goes_upstream(proxy: Proxy, name: str) -> None:
    head = await proxy.pass_head(request("POST /tts/v1/voice", f"{name}: DELETE", "X-Kept: 1", body=b"{}"))
    assert name.lower() not in head.names
    assert (head.line, head.get("X-Kept")) == ("POST /tts/v1/voice HTTP/1.1", "1")


@pytest.mark.parametrize(
    "parameter",
    ["authorization", "token", "access_token", "api_key", "apikey", "api-key", "x-api-key", "key", "bearer", "jwt",
     "Authorization", "TOKEN", "%74oken", "tok%65n", "%2574oken", "a%75thorization", "_method",
     "x-http-method-override"],
)  # fmt: skip
async def test_a_credential_in_the_query_never_reaches_the_upstream(proxy: Proxy, parameter: str) -> None:
    head = await proxy.pass_head(request(f"GET /things?a=1&{parameter}={THEIRS}&b=2"))
    assert head.target == "/things?a=1&b=2"
    only_ours(head)


async def test_a_query_of_credentials_alone_leaves_no_question_mark(proxy: Proxy) -> None:
    assert (await proxy.pass_head(request(f"GET /things?token={THEIRS}"))).target == "/things"


async def test_an_empty_query_is_sent_as_it_was_judged(proxy: Proxy) -> None:
    assert (await proxy.pass_head(request("GET /things?"))).target == "/things?"


async def test_other_parameters_keep_their_order_and_spelling(proxy: Proxy) -> None:
    target = "/things?b=%7e&a=1&a=2&&keys=3&=4&tokens=5&c+d=e+f"
    assert (await proxy.pass_head(request(f"GET {target}"))).target == target


async def _handshake(proxy: Proxy, target: str, *fields: str) -> Head:
    caller = await proxy.caller()
    await caller.send(request(f"GET {target}", *HANDSHAKE, *fields))
    wire = await proxy.upstream.accept()
    head = await wire.head()
    await wire.send(response("400 Bad Request", body=b"no"))
    assert (await caller.message()).head.status == 400
    return head


async def test_the_key_of_the_realtime_socket_is_a_session_id_and_does_reach_the_upstream(proxy: Proxy) -> None:
    head = await _handshake(proxy, f"{SOCKET}?key=session-1&authorization={THEIRS}&protocol=realtime&token={THEIRS}")
    assert head.target == f"{SOCKET}?key=session-1&protocol=realtime"
    only_ours(head)


async def test_a_handshake_carries_our_credential_and_nothing_of_the_clients(proxy: Proxy) -> None:
    fields = (f"Authorization: Bearer {THEIRS}", f"Cookie: {THEIRS}", "Sec-WebSocket-Extensions: permessage-deflate")
    head = await _handshake(proxy, SOCKET, *fields)
    only_ours(head)
    assert head.get("Connection") == "Upgrade"
    assert head.get("Upgrade") == "websocket"
    assert head.get("Sec-WebSocket-Key") == "AAAAAAAAAAAAAAAAAAAAAA=="
    assert head.get("Sec-WebSocket-Extensions") == "permessage-deflate"


@pytest.fixture
async def guarded(proxies: Proxies) -> Proxy:
    """A proxy that knows one caller, the storefront."""
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN, "studio": "another-token"})
    return await proxies.start(snapshot, upstream)


def _basic(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "field",
    [f"Authorization: Bearer {TOKEN}", f"authorization: bearer {TOKEN}", f"Authorization: BEARER   {TOKEN}",
     f"Authorization: Basic {TOKEN}", f"Authorization: Basic {_basic(f'storefront:{TOKEN}')}",
     f"Authorization: Basic {_basic(f':{TOKEN}')}", f"x-api-key: {TOKEN}", f"X-API-Key: {TOKEN}"],
)  # fmt: skip
async def test_a_caller_token_is_recognised_where_a_client_puts_a_key_and_stays_here(
    guarded: Proxy, field: str
) -> None:
    seen, got = await guarded.pass_on(request("GET /things", field))
    assert got.head.status == 200
    assert TOKEN not in seen.head.raw.decode("latin-1")
    assert seen.head.all("Authorization") == [AUTHORIZATION]
    assert guarded.records[0].caller == "storefront"


@pytest.mark.parametrize(
    ("fields", "code"),
    [((), "caller_required"),
     (("Authorization: Bearer wrong",), "unknown_caller"),
     (("Authorization: Bearer ",), "unknown_caller"),
     ((f"Authorization: {TOKEN}",), "caller_required"),
     ((f"Authorization: Basic {_basic(f'studio:{TOKEN}')}",), "unknown_caller"),
     ((f"Authorization: Bearer {AUTHORIZATION.split()[1]}",), "unknown_caller"),
     ((f"Authorization: Bearer {TOKEN}", "x-api-key: another-token"), "unknown_caller"),
     ((f"Cookie: token={TOKEN}",), "caller_required"),
     ((f"Proxy-Authorization: Bearer {TOKEN}",), "caller_required")],
)  # fmt: skip
async def test_nobody_else_is_served(guarded: Proxy, fields: tuple[str, ...], code: str) -> None:
    got = await guarded.ask(request("GET /things", *fields))
    assert (got.head.status, got.head.get("WWW-Authenticate")) == (401, 'Bearer realm="inworld-proxy"')
    assert code.encode() in got.body
    assert TOKEN.encode() not in got.head.raw + got.body
    assert guarded.upstream.count == 0


async def test_an_unknown_caller_is_refused_before_routing(guarded: Proxy) -> None:
    got = await guarded.ask(request("GET /no/such/path"))
    assert got.head.status == 401


async def _open_socket(guarded: Proxy, protocols: str, *selected: str) -> tuple[Head, Head, Wire]:
    caller = await guarded.caller()
    await caller.send(request(f"GET {SOCKET}", *HANDSHAKE, f"Sec-WebSocket-Protocol: {protocols}"))
    wire = await guarded.upstream.accept()
    seen = await wire.head()
    answer = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: x", *selected)
    await wire.send("\r\n".join(["HTTP/1.1 101 Switching Protocols", *answer, "", ""]).encode())
    return seen, await caller.head(), wire


@pytest.mark.parametrize("prefix", ["bearer_", "openai-insecure-api-key."])
async def test_a_token_in_a_subprotocol_is_taken_out_and_one_protocol_selected_for_the_browser(
    guarded: Proxy, prefix: str
) -> None:
    seen, got, _ = await _open_socket(guarded, f"realtime, {prefix}{TOKEN}, other")
    assert seen.get("Sec-WebSocket-Protocol") == "realtime, other"
    assert TOKEN not in seen.raw.decode()
    assert got.status == 101
    assert got.get("Sec-WebSocket-Protocol") == "realtime"


@pytest.mark.parametrize("prefix", ["bearer_", "openai-insecure-api-key."])
async def test_a_token_that_is_the_only_subprotocol_is_selected_itself(guarded: Proxy, prefix: str) -> None:
    seen, got, _ = await _open_socket(guarded, f"{prefix}{TOKEN}")
    assert seen.get("Sec-WebSocket-Protocol") is None
    assert got.get("Sec-WebSocket-Protocol") == f"{prefix}{TOKEN}"


async def test_the_subprotocol_that_the_upstream_selects_wins(guarded: Proxy) -> None:
    seen, got, _ = await _open_socket(guarded, f"bearer_{TOKEN}, realtime, other", "Sec-WebSocket-Protocol: other")
    assert seen.get("Sec-WebSocket-Protocol") == "realtime, other"
    assert got.get("Sec-WebSocket-Protocol") == "other"


async def test_an_unknown_token_in_a_subprotocol_is_refused_before_the_upstream_is_asked(guarded: Proxy) -> None:
    got = await guarded.ask(request(f"GET {SOCKET}", *HANDSHAKE, "Sec-WebSocket-Protocol: bearer_wrong"))
    assert got.head.status == 401
    assert guarded.upstream.count == 0


async def test_subprotocols_without_a_token_are_left_alone(proxy: Proxy) -> None:
    seen, got, _ = await _open_socket(proxy, "realtime, other")
    assert seen.get("Sec-WebSocket-Protocol") == "realtime, other"
    assert got.get("Sec-WebSocket-Protocol") is None
