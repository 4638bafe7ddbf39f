"""One exchange with a token endpoint over real sockets: what is sent, and everything that may come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.core.model import Upstream
from proxy.credentials.clock import Clock
from proxy.credentials.token_endpoint import (
    LARGEST_ANSWER,
    TIME_LIMIT,
    MintError,
    MintFailure,
    TokenEndpoint,
    measure_skew,
)
from tests.wires import bounded

CREDENTIAL = "Basic dGVzdC1rZXktaWQ6dGVzdC1zM2NyM3Q="
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[TokenEndpoint]]


def endpoint_at(port: int, **changed: object) -> TokenEndpoint:
    upstream: dict[str, object] = {
        "name": "u", "scheme": "http", "host": "127.0.0.1", "port": port, "authority": f"api.example:{port}",
    }  # fmt: skip
    return TokenEndpoint.of(Upstream(**(upstream | changed)))  # type: ignore[arg-type]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one handler on every path; the endpoint that asks it is returned."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(handler: Handler, tls: ssl.SSLContext | None = None, **changed: object) -> TokenEndpoint:
            application = web.Application()
            application.router.add_route("*", "/{tail:.*}", handler)
            server = TestServer(application, scheme="https" if tls else "http")
            await server.start_server(ssl=tls)
            stack.push_async_callback(server.close)
            return endpoint_at(server.port or 0, **changed)

        yield begin


async def failure_of(endpoint: TokenEndpoint, time_limit: float = 5.0) -> MintError:
    with pytest.raises(MintError) as raised:
        await endpoint.post("/mint", CREDENTIAL, {"a": 1}, clock=Clock(), time_limit=time_limit)
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=False).format())
    assert CREDENTIAL.split()[1] not in shown
    assert raised.value.__context__ is None
    return raised.value


def answering(status: int, body: bytes = b"{}", **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers={"Content-Type": "application/json"} | fields)

    return handler


async def test_exactly_what_is_needed_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment adds a credential or sends it elsewhere."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[tuple[str, dict[str, str], object]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((f"{request.method} {request.path_qs}", dict(request.headers), await request.json()))
        return web.json_response({"token": "t"}, headers={"Set-Cookie": "a=b"})

    endpoint = await serve(handler)
    for _ in range(2):
        reply = await endpoint.post("/v1/mint:generate", CREDENTIAL, {"api_key": "x"}, clock=Clock())
        assert reply.members == {"token": "t"}
        assert "token" not in repr(reply)
    line, headers, body = seen[1]
    assert (line, body) == ("POST /v1/mint:generate", {"api_key": "x"})
    assert headers.pop("User-Agent").startswith("inworld-proxy/")
    assert headers == {
        "Host": endpoint.upstream.authority,
        "Authorization": CREDENTIAL,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Length": "16",
        "Connection": "close",
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(serve: Serve, status: int) -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response({"token": "t"})

    other = await serve(elsewhere)
    location = f"http://127.0.0.1:{other.upstream.port}/elsewhere"
    failure = await failure_of(await serve(answering(status, Location=location)))
    assert failure.failure is MintFailure.UNAVAILABLE
    assert "redirects" in failure.reason
    assert asked == []


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_told_from_trouble(serve: Serve, status: int) -> None:
    failure = await failure_of(await serve(answering(status, b'{"message":"invalid authorization signature"}')))
    assert failure.failure is MintFailure.REFUSED
    assert failure.skew == 0.0


@pytest.mark.parametrize("status", [201, 204, 400, 404, 429, 500, 503])
async def test_anything_else_but_200_is_trouble(serve: Serve, status: int) -> None:
    failure = await failure_of(await serve(answering(status)))
    assert (failure.failure, failure.reason) == (MintFailure.UNAVAILABLE, f"the token endpoint answered {status}")


@pytest.mark.parametrize(
    ("field", "seconds"), [("7", 7), ("86400", 60), ("-1", 0), ("soon", 0), ("1e9", 0), ("", 0), ("²", 0)]
)
async def test_the_endpoint_may_say_when_to_come_back_within_reason(serve: Serve, field: str, seconds: float) -> None:
    assert (await failure_of(await serve(answering(503, Retry_After=field)))).retry_after == seconds


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"token"', b"null", b"{", b"\xff\xfe", b"[" * 60_000, b'{"a":1}x'],
    ids=lambda body: body[:8].decode("latin-1"),
)  # fmt: skip
async def test_garbage_is_an_invalid_answer(serve: Serve, body: bytes) -> None:
    assert (await failure_of(await serve(answering(200, body)))).failure is MintFailure.INVALID


async def test_a_huge_answer_is_not_read_to_its_end(serve: Serve) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * LARGEST_ANSWER)
                sent += LARGEST_ANSWER
        return response

    failure = await failure_of(await serve(handler))
    assert (failure.failure, failure.reason) == (MintFailure.INVALID, "the token endpoint's answer is too large")
    assert sent < 100 * 2**20


@pytest.mark.parametrize("before_head", [True, False])
async def test_a_slow_answer_is_given_up(serve: Serve, *, before_head: bool) -> None:
    given_up = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if not before_head:
            await response.prepare(request)
            await response.write(b"{")
        await given_up.wait()
        return response

    failure = await bounded(failure_of(await serve(handler), time_limit=0.2), TIME_LIMIT - 1)
    given_up.set()
    assert failure.failure is MintFailure.UNAVAILABLE
    assert "in time" in failure.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999,
    ],
)
async def test_a_broken_answer_is_trouble(raw: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        failure = await failure_of(endpoint_at(server.sockets[0].getsockname()[1]))
    assert failure.failure is MintFailure.UNAVAILABLE


async def test_an_endpoint_that_is_not_there_is_trouble() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        failure = await failure_of(endpoint_at(held.getsockname()[1]))
    assert (failure.failure, failure.reason) == (MintFailure.UNAVAILABLE, "the token endpoint could not be reached")


# -- trust ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made, str(tmp_path / "ca.pem")


def context_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_the_upstreams_extra_authority_is_trusted_and_nobody_else(
    serve: Serve, authority: tuple[trustme.CA, str]
) -> None:
    made, file = authority
    tls = context_of(made, "127.0.0.1")
    trusting = await serve(answering(200, b'{"token":"t"}'), tls, scheme="https", ca_file=file)
    assert (await trusting.post("/", CREDENTIAL, {}, clock=Clock())).members == {"token": "t"}
    for mistrusting in (
        await serve(answering(200), tls, scheme="https"),
        await serve(answering(200), context_of(made, "other.example"), scheme="https", ca_file=file),
    ):
        assert (await failure_of(mistrusting)).failure is MintFailure.UNAVAILABLE


async def test_a_mint_goes_through_the_upstreams_proxy(serve: Serve, authority: tuple[trustme.CA, str]) -> None:
    made, file = authority
    direct = await serve(answering(200, b'{"token":"t"}'), context_of(made, "upstream.example"))
    port = direct.upstream.port
    heads: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        endpoint = endpoint_at(
            443, scheme="https", host="upstream.example", authority="upstream.example", ca_file=file,
            connect_proxy=("127.0.0.1", server.sockets[0].getsockname()[1]),
            connect_proxy_authorization="Basic cHJveHk=",
        )  # fmt: skip
        assert (await endpoint.post("/", CREDENTIAL, {}, clock=Clock())).members == {"token": "t"}
    assert heads[0].startswith(b"CONNECT upstream.example:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic cHJveHk=\r\n" in heads[0]
    assert CREDENTIAL.encode() not in heads[0]


# -- the other clock --------------------------------------------------------------------------------------------------

DATE = "Wed, 20 May 2026 12:00:00 GMT"
THEN = 1779278400.0


@pytest.mark.parametrize(
    ("sent", "received", "skew"),
    [
        (THEN, THEN + 0.2, 0.0),
        (THEN + 0.9, THEN + 0.95, 0.0),
        (THEN - 5, THEN + 5, 0.0),  # a slow answer says little
        (THEN + 600, THEN + 600.1, -599.0),
        (THEN - 600, THEN - 599.9, 601.0),
        (THEN + 1.5, THEN + 1.6, -0.5),
    ],
)
def test_the_other_clock_is_read_from_its_date(sent: float, received: float, skew: float) -> None:
    assert measure_skew(DATE, sent, received) == pytest.approx(skew)


@pytest.mark.parametrize("date", [None, "", "soon", "Wed, 99 May 2026 12:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_date_that_says_nothing_is_not_believed(date: str | None) -> None:
    assert measure_skew(date, THEN, THEN) is None
