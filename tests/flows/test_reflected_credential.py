"""An upstream that repeats the credential does not hand it to callers: in no head, and in no error's first 64 KiB."""

from __future__ import annotations

import base64

import pytest

from proxy.observe.families import registry_of
from tests.proxies import Proxy
from tests.snapshots import AUTHORIZATION, KEY, SOCKET
from tests.wires import OK, chunked, request, response

PAIR = base64.b64decode(KEY)
SECRET = PAIR.partition(b":")[2].decode()
FORMS = {
    "as it was sent": AUTHORIZATION,
    "without padding": KEY.rstrip("="),
    "decoded": PAIR.decode(),
    "the secret": SECRET,
}


def _counted(proxy: Proxy) -> float:
    name = "inworld_proxy_credential_reflections_total"
    return registry_of(proxy.metrics).get_sample_value(name, {"credential": "workspace"}) or 0


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "500 Oops", "401 Unauthorized"])
@pytest.mark.parametrize("form", FORMS)
async def test_in_a_head(proxy: Proxy, status: str, form: str) -> None:
    answer = response(status, f"X-Debug: seen {FORMS[form]}, twice {FORMS[form]}", "X-Other: kept", body=b"ok")
    got = (await proxy.pass_on(request("GET /things"), answer)).got
    assert SECRET.encode() not in got.head.raw
    assert KEY.rstrip("=").encode() not in got.head.raw
    assert "*" * len(SECRET) in (got.head.get("X-Debug") or "")
    assert (got.head.get("X-Other"), got.content) == ("kept", b"ok")
    assert _counted(proxy) == 1


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("form", FORMS)
async def test_in_the_body_of_an_error(proxy: Proxy, form: str, framing: str) -> None:
    said = f'{{"error": "header was {FORMS[form]}"}}'.encode()
    cut = said.index(b"was ") + 9  # in the middle of it
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    if framing == "length":
        await wire.send(response("500 Oops", body=said))
    elif framing == "chunks":
        await wire.send(b"HTTP/1.1 502 Oops\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(said[:cut], said[cut:]))
    else:
        await wire.send(b"HTTP/1.1 418 Teapot\r\n\r\n" + said[:cut])
        await wire.send(said[cut:])
        wire.close()
    got = await caller.message()
    assert SECRET.encode() not in got.content
    assert KEY.rstrip("=").encode() not in got.content
    assert (len(got.content), got.content[:20]) == (len(said), said[:20])
    assert _counted(proxy) == 1


async def test_in_the_beginning_of_a_very_long_error(proxy: Proxy) -> None:
    said = KEY.encode() + b"x" * 300_000
    got = (await proxy.pass_on(request("GET /things"), response("500 Oops", body=said))).got
    assert got.content == b"*" * len(KEY) + b"x" * 300_000


async def test_in_the_answer_to_a_handshake(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request(f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))  # fmt: skip
    wire = await proxy.upstream.accept()
    await wire.head()
    await wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"X-Debug: " + AUTHORIZATION.encode() + b"\r\n\r\n"
    )
    head = await caller.head()
    assert (head.status, KEY.encode() in head.raw) == (101, False)
    assert _counted(proxy) == 1


async def test_what_is_no_error_passes_as_it_came(proxy: Proxy) -> None:
    """An answer of 200 is not held or read: what a caller asked for may take hours."""
    got = (await proxy.pass_on(request("GET /things"), response("200 OK", body=KEY.encode()))).got
    assert got.content == KEY.encode()
    assert _counted(proxy) == 0


async def test_an_error_that_repeats_nothing_is_not_touched(proxy: Proxy) -> None:
    said = b'{"error":"no such voice"}'
    got = (await proxy.pass_on(request("GET /things"), response("404 Not Found", "X-A: b", body=said))).got
    assert (got.content, got.head.get("X-A"), _counted(proxy)) == (said, "b", 0)


@pytest.mark.parametrize("length", [b"", b"Content-Length: 7\r\n"])
async def test_an_error_to_head_says_the_length_that_it_said(proxy: Proxy, length: bytes) -> None:
    answer = b"HTTP/1.1 404 Not Found\r\n" + length + b"\r\n"
    got = (await proxy.pass_on(request("HEAD /things"), answer)).got
    assert (got.head.status, got.head.get("Content-Length")) == (404, "7" if length else None)


async def test_the_next_answer_on_the_connection_is_whole(proxy: Proxy) -> None:
    caller = await proxy.caller()
    await caller.send(request("GET /things"))
    wire = await proxy.upstream.accept()
    await wire.message()
    await wire.send(response("500 Oops", body=KEY.encode()))
    await caller.message()
    await caller.send(request("GET /things"))
    await wire.message()
    await wire.send(OK)
    assert (await caller.message()).content == b"ok"
