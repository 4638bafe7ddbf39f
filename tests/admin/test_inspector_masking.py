"""What of a head is shown: names, and values that cannot be a secret. Wherever a secret may be, it is masked."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.inspector.masking import mask_head, mask_target, mask_value
from proxy.core.headers import REQUEST_ROLES, RESPONSE_ROLES
from tests.admin.watching import Inspected, Inspectors
from tests.snapshots import HANDSHAKE, SWITCH, TOKEN
from tests.wires import request, response

SECRET = "sEcr3t-0123456789abcdefghijklmnopqrst"
BASIC = base64.b64encode(b"me:" + SECRET.encode()).decode()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSIsImEiOjF9." + "x" * 30

SHOWN = [
    ("Authorization", f"Bearer {SECRET}", "Bearer …qrst"),
    ("authorization", f"bearer {SECRET}", "bearer …qrst"),
    ("Authorization", "Bearer short-token", "Bearer …"),
    ("Authorization", f"Basic {BASIC}", "Basic …"),
    ("Authorization", f"  {SECRET}", "…"),
    ("Authorization", SECRET, "…"),
    ("Authorization", f"Sneaky {SECRET}", "…"),
    ("Proxy-Authorization", f"Basic {BASIC}", "Basic …"),
    ("X-Api-Key", SECRET, "…"),
    ("Api-Key", SECRET, "…"),
    ("X-Goog-Api-Key", SECRET, "…"),
    ("Cookie", f"session={SECRET}", "…"),
    ("Set-Cookie", f"session={SECRET}; Secure", "…"),
    ("X-Custom", "anything at all", "…"),
    ("X-Custom", "true", "true"),
    ("X-Custom", "12345", "12345"),
    ("X-Custom", "12345678", "…"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "…"),
    ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{SECRET}, openai-beta.realtime-v1",
     "realtime, openai-insecure-api-key.…, openai-beta.realtime-v1"),
    ("Sec-WebSocket-Protocol", f"bearer_{SECRET}", "bearer_…"),
    ("Sec-WebSocket-Protocol", f"key.{SECRET}", "…"),
    ("Referer", f"https://a.example/p?token={SECRET}&page=2", "https://a.example/p?token=…&page=2"),
    ("Location", f"https://me:{SECRET}@a.example/", "…"),
    ("Location", f"https://a.example/y#access_token={SECRET}", "https://a.example/y#…"),
    ("Location", f"https://a.example/y?page=2#{SECRET}?a=1", "https://a.example/y?page=2#…"),
    ("Location", f"https://a.example/#me:{SECRET}@b", "https://a.example/#…"),
    ("X-Original-Url", f"/a#token={SECRET}", "/a#…"),
    ("Referer", "https://a.example/p?page=2", "https://a.example/p?page=2"),
    ("Host", f"me:{SECRET}@a.example", "…"),
    ("Host", "a.example:8080", "a.example:8080"),
    ("Origin", f"https://me:{SECRET}@a.example", "…"),
    ("X-Forwarded-Host", f"me:{SECRET}@a.example", "…"),
    ("Forwarded", f'for=192.0.2.7;host="me:{SECRET}@a.example"', "…"),
    ("X-Stainless-Foo", SECRET, "…"),
    ("X-Stainless-Retry-Count", "0", "0"),
    ("X-Stainless-Package-Version", "1.68.2", "1.68.2"),
    ("X-Stainless-Runtime", "CPython", "CPython"),
    ("Content-Type", "application/json", "application/json"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("User-Agent", f"mine/1 token={SECRET}", "mine/1 token=…"),
    ("Accept", f"Bearer {SECRET}", "Bearer …"),
    ("X-Request-Id", JWT, "…"),
    ("User-Agent", "sk-0123456789", "…"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "shown"), SHOWN)
def test_of_a_value_is_shown_what_cannot_be_a_secret(name: str, value: str, shown: str) -> None:
    assert mask_value(name, value) == shown


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/p", "/p"), ("/p?", "/p"), ("/p?pageSize=3&lang=en-US", "/p?pageSize=3&lang=en-US"),
        (f"/p?key={SECRET}", "/p?key=…"), ("/p?key=a", "/p?key=…"), ("/p?access_token=a&b=1", "/p?access_token=…&b=1"),
        (f"/p?filter={SECRET}", "/p?filter=…"), (f"/p?{SECRET}", "/p?…"), ("/p?%6bey=abc", "/p?…=…"),
        ("/p?pwd=hunter2&pin=1234&otp=123456", "/p?pwd=…&pin=…&otp=…"), ("/p?access=abc", "/p?access=…"),
        ("/p?userPin=1&user_pin=1&PIN=1&pinCode=1", "/p?userPin=…&user_pin=…&PIN=…&pinCode=…"),
        ("/p?pinned=true&ping=1&shipping=1&mapping=a", "/p?pinned=true&ping=1&shipping=1&mapping=a"),
        (f"/p?a=1#access_token={SECRET}", "/p?a=…"),
        ("/p?a=b%20c", "/p?a=…"), ("/p?a=1&a=2", "/p?a=1&a=2"), ("/p?X-Goog-Signature=ab", "/p?X-Goog-Signature=…"),
    ],
)  # fmt: skip
def test_of_a_query_is_shown_what_cannot_be_a_secret(target: str, shown: str) -> None:
    assert mask_target("/p", target) == shown


def test_what_was_shown_as_a_secret_is_masked_in_every_other_place() -> None:
    raw = f"GET / HTTP/1.1\r\nX-Request-Id: {SECRET}\r\nUser-Agent: a {SECRET}/1\r\n{SECRET}: 1\r\n\r\n".encode()
    assert mask_head(raw, [SECRET]) == [("X-Request-Id", "…"), ("User-Agent", "a …/1"), ("…", "1")]


@pytest.mark.parametrize("line", [SECRET, f" {SECRET}", f"{SECRET} : x", f"Authorization {SECRET}", "x" * 65 + ": 1"])
def test_a_line_that_is_no_field_is_not_shown(line: str) -> None:
    assert mask_head(f"GET / HTTP/1.1\r\n{line}\r\n\r\n".encode()) == [("…", "…")]


NAMES = sorted(name.decode() for name in {*REQUEST_ROLES, *RESPONSE_ROLES})
SECRETS = st.text(string.ascii_letters + string.digits + "-_+/=.~", min_size=9, max_size=60).filter(
    lambda text: any(map(str.isalpha, text)) and any(map(str.isdigit, text)) and " " not in text
)


@given(
    name=st.sampled_from([*NAMES, "X-Auth", "X-Amz-Security-Token", "Ocp-Apim-Subscription-Key", "Signature"])
    | st.text(string.ascii_letters + "-_", min_size=1, max_size=30),
    secret=SECRETS,
    written=st.sampled_from(["{}", "Bearer {}", "Basic {}", "a={}; b=c", "token {}", "{}, {}", '"{}"', "x {} y"]),
)
def test_a_secret_that_was_shown_is_in_no_field(name: str, secret: str, written: str) -> None:
    raw = f"GET / HTTP/1.1\r\n{name}: {written.replace('{}', secret)}\r\n\r\n".encode()
    shown = json.dumps(mask_head(raw, [secret]), ensure_ascii=False)
    assert secret not in shown


@given(
    name=st.text(string.ascii_letters + "-", min_size=1, max_size=20).map(lambda text: f"X-Own-{text}"),
    secret=SECRETS,
    written=st.sampled_from(["{}", "Bearer {}", "a={}; b=c", "{}, {}", "x {} y"]),
)
def test_a_field_that_nobody_thought_of_is_not_shown(name: str, secret: str, written: str) -> None:
    raw = f"GET / HTTP/1.1\r\n{name}: {written.replace('{}', secret)}\r\n\r\n".encode()
    assert mask_head(raw) == [(name, "…")]


@given(secret=SECRETS, name=st.text(string.ascii_letters + "_-", min_size=1, max_size=12))
def test_a_long_value_of_a_query_is_not_shown(secret: str, name: str) -> None:
    assert secret not in mask_target("/p", f"/p?{name}={secret}")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_head_can_be_shown(data: bytes) -> None:
    for name, value in mask_head(data, ["abcdefgh"]):
        assert "\r\n" not in name + value


# -- on the way -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        (f"Authorization: Bearer {TOKEN}",), (f"X-Api-Key: {TOKEN}",),
        (f"Authorization: Bearer {TOKEN}", f"X-Request-Id: {TOKEN}", f"User-Agent: mine/{TOKEN}", f"Cookie: a={TOKEN}"),
        (f"Authorization: Basic {base64.b64encode(b'store:' + TOKEN.encode()).decode()}", f"Via: {TOKEN}"),
    ],
)  # fmt: skip
async def test_no_token_of_a_caller_reaches_a_page(inspectors: Inspectors, fields: tuple[str, ...]) -> None:
    inspected = await inspectors.start(tokens={"store": TOKEN})
    line = f"GET /llm/v1alpha/models?key={TOKEN}&x={TOKEN}"
    answer = response("200 OK", f"X-Echo: {TOKEN}", f"Server: {TOKEN}")
    async with inspected.stream() as stream:
        await inspected.proxy.pass_on(request(line, *fields), answer)
        await stream.rows(1)
        await stream.until("state")
    told = stream.raw.decode() + json.dumps(await inspected.detail(1), ensure_ascii=False)
    for secret in (TOKEN, base64.b64encode(b"store:" + TOKEN.encode()).decode()):
        assert secret not in told


async def test_no_token_in_a_subprotocol_reaches_a_page(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(tokens={"store": TOKEN})
    caller = await inspected.proxy.caller()
    protocols = f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{TOKEN}\r\n\r\n"
    await caller.send(HANDSHAKE.removesuffix(b"\r\n") + protocols.encode())
    upstream = await inspected.proxy.upstream.accept()
    await upstream.message()
    await upstream.send(SWITCH)
    await caller.head()
    upstream.close()
    caller.close()
    await inspected.proxy.metrics.until(lambda m: m.in_flight == 0)
    detail = await inspected.detail(1)
    assert TOKEN not in json.dumps(detail)
    assert dict(detail["headers"]["received"])["Sec-WebSocket-Protocol"] == "realtime, openai-insecure-api-key.…"
    assert dict(detail["headers"]["sent"])["Sec-WebSocket-Protocol"] == "realtime"


@pytest.mark.parametrize(
    "raw",
    [f"GET http://me:{SECRET}@h/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", f"GET /x HTTP/1.1\r\n{SECRET}\r\n\r\n",
     f"{SECRET} HTTP/1.1\r\nHost: a\r\n\r\n", f"GET /x?{SECRET} HTTP/1.1\r\nHost: a\r\nX Y: {SECRET}\r\n\r\n"],
)  # fmt: skip
async def test_what_cannot_be_read_is_not_shown(inspected: Inspected, raw: str) -> None:
    await inspected.proxy.ask(raw.encode())
    told = json.dumps([await inspected.detail(1), await inspected.rows()])
    assert SECRET not in told
