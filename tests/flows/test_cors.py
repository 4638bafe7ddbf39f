"""A page of a configured origin can use the proxy from the browser; a page of any other cannot even ask."""

from __future__ import annotations

import pytest

from proxy.core.errors import Code
from tests.proxies import Proxies, Proxy
from tests.snapshots import TOKEN, make_snapshot, upstream_at, with_policy
from tests.wires import request, response

PAGE = "http://localhost:3000"
ASKS = f"Origin: {PAGE}"


@pytest.fixture
async def paged(proxies: Proxies) -> Proxy:
    """A proxy with one caller, and one origin whose pages may call."""
    upstream = await proxies.upstream()
    snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN})
    return await proxies.start(with_policy(snapshot, origins=frozenset({PAGE})), upstream)


def preflight(path: str = "/tts/v1/voice", *fields: str, method: str = "POST", origin: str = PAGE) -> bytes:
    return request(f"OPTIONS {path}", f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *fields)


async def test_a_preflight_is_answered_here_without_a_token_and_without_the_upstream(paged: Proxy) -> None:
    got = await paged.ask(preflight("/tts/v1/voice", "Access-Control-Request-Headers: authorization, content-type"))
    assert got.head.status == 204
    assert got.head.get("access-control-allow-origin") == PAGE
    assert got.head.get("access-control-allow-methods") == "POST"
    assert got.head.get("access-control-allow-headers") == "authorization, content-type"
    assert "Origin" in (got.head.get("vary") or "")
    assert got.head.get("access-control-allow-private-network") is None
    assert paged.upstream.count == 0
    (record,) = paged.records
    assert (record.status, record.method, record.operation) == (204, "OPTIONS", None)


async def test_a_page_may_ask_for_the_private_network_only_if_its_origin_is_named(paged: Proxy) -> None:
    ask = "Access-Control-Request-Private-Network: true"
    allowed = await paged.ask(preflight("/tts/v1/voice", ask))
    refused = await paged.ask(preflight("/tts/v1/voice", ask, origin="http://evil.example"))
    assert allowed.head.get("access-control-allow-private-network") == "true"
    assert refused.head.status == 403
    assert not [name for name in refused.head.names if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (preflight(origin="http://localhost:3001"), Code.ORIGIN_NOT_ALLOWED),
        (preflight(origin="null"), Code.ORIGIN_NOT_ALLOWED),
        (preflight("/nothing"), Code.NO_OPERATION),
        (preflight("/tts//v1/voice"), Code.AMBIGUOUS_TARGET),
        (preflight("/tts/v1/voice", "Access-Control-Request-Headers: a b"), Code.BAD_REQUEST),
        (preflight("/tts/v1/voice", "Access-Control-Request-Headers: " + "a," * 65), Code.BAD_REQUEST),
        (request("OPTIONS /tts/v1/voice", ASKS, "Access-Control-Request-Method: POST", body=b"x"), Code.BAD_REQUEST),
        (preflight().replace(b"127.0.0.1", b"evil.example"), Code.HOST_NOT_ALLOWED),
    ],
)
async def test_a_preflight_that_may_not_go_ahead_says_why(paged: Proxy, raw: bytes, code: Code) -> None:
    got = await paged.ask(raw)
    assert code.value in (got.head.get("proxy-status") or "")
    assert paged.upstream.count == 0


async def test_the_answer_can_be_read_by_the_page_and_says_nothing_of_the_upstreams_own_rules(paged: Proxy) -> None:
    passed = await paged.pass_on(
        request("POST /tts/v1/voice", ASKS, f"Authorization: Bearer {TOKEN}", body=b"{}"),
        response("200 OK", "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", body=b"ok"),
    )
    assert passed.got.head.all("access-control-allow-origin") == [PAGE]
    assert passed.got.head.get("access-control-expose-headers") == "*"
    assert passed.got.head.get("access-control-allow-credentials") is None
    assert passed.seen.head.get("origin") is None


async def test_a_refusal_can_be_read_by_the_page_too(paged: Proxy) -> None:
    unknown = await paged.ask(request("POST /tts/v1/voice", ASKS, "Authorization: Bearer wrong", body=b"{}"))
    missing = await paged.ask(request("POST /nothing", ASKS, f"Authorization: Bearer {TOKEN}"))
    assert (unknown.head.status, unknown.head.get("access-control-allow-origin")) == (401, PAGE)
    assert (missing.head.status, missing.head.get("access-control-allow-origin")) == (404, PAGE)


async def test_a_failure_of_the_upstream_can_be_read_by_the_page_too(paged: Proxy) -> None:
    passed = await paged.pass_on(
        request("POST /tts/v1/voice", ASKS, f"Authorization: Bearer {TOKEN}", body=b"{}"), b"nonsense\r\n\r\n"
    )
    assert (passed.got.head.status, passed.got.head.get("access-control-allow-origin")) == (502, PAGE)


async def test_without_an_origin_nothing_is_said_about_origins(paged: Proxy) -> None:
    passed = await paged.pass_on(request("POST /tts/v1/voice", f"Authorization: Bearer {TOKEN}", body=b"{}"))
    assert not [name for name in passed.got.head.names if name.lower().startswith("access-control")]


async def test_options_that_is_no_preflight_is_a_method_like_any_other(paged: Proxy) -> None:
    got = await paged.ask(request("OPTIONS /tts/v1/voice", f"Authorization: Bearer {TOKEN}"))
    assert got.head.status == 405
