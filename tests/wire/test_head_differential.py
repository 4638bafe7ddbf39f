"""Our reader of request heads against aiohttp's hardened parser: what we accept, it accepts, and reads alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.headers import Role, list_members, request_role
from proxy.core.model import METHODS
from proxy.core.target import read_target
from proxy.wire.head import CHUNKED, RequestParts, read_request


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def theirs(raw: bytes, loop: asyncio.AbstractEventLoop) -> RawRequestMessage | None:
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_line_size=2**16, max_field_size=2**16)
    try:
        messages, _, _ = parser.feed_data(raw)
    except (HttpProcessingError, ValueError):
        return None
    return messages[0][0] if len(messages) == 1 else None


names = st.sampled_from([b"X-Own", b"x", b"Accept", b"Cookie", b"Origin", b"User-Agent", b"a!#$%&'*+-.^_`|~9", b"X_Y",
                         b"Te", b"Connection", b"Content-Type"])  # fmt: skip
values = st.one_of(
    st.sampled_from([b"", b"a", b"a b", b"\tblank ", b"close", b"keep-alive", b"x, y", b'"q,q"', b"\xff\x80"]),
    st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20).map(
        lambda text: bytes(ord(each) for each in text if not 0x7F <= ord(each) < 0x80)
    ),
)
framings = st.sampled_from([b"", b"", b"Content-Length: 0\r\n", b"Content-Length: 12\r\n", b"content-length:7\r\n",
                            b"Transfer-Encoding: chunked\r\n"])  # fmt: skip
targets = st.sampled_from([b"/", b"/a/b?c=d", b"*", b"/%C3%A9", b"http://h/x", b"//x", b"/a;b#c"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(METHODS)),
    targets,
    st.sampled_from(["1.1", "1.1", "1.0"]),
    framings,
    # That parser refuses a second User-Agent or Content-Type; here they cross as they came.
    st.lists(
        st.tuples(names, st.sampled_from([b":", b": ", b":\t"]), values), max_size=6, unique_by=lambda each: each[0]
    ),
)
def test_a_head_that_both_accept_is_read_alike(
    loop: asyncio.AbstractEventLoop,
    method: str,
    target: bytes,
    version: str,
    framing: bytes,
    fields: list[tuple[bytes, bytes, bytes]],
) -> None:
    lines = b"".join(name + colon + value + b"\r\n" for name, colon, value in fields)
    raw = f"{method} ".encode() + target + f" HTTP/{version}\r\nHost: h\r\n".encode() + framing + lines + b"\r\n"
    ours = read_request(raw)
    if not isinstance(ours, RequestParts) or read_target(ours.head.target) is None:
        return
    message = theirs(raw, loop)
    assert message is not None, raw
    assert message.method == ours.head.method
    assert message.path.encode("utf-8", "surrogateescape") == target
    assert (message.version.major * 10 + message.version.minor) == ours.head.version
    assert message.chunked == (ours.length == CHUNKED)
    assert (message.headers.get("Content-Length") or "0") == str(ours.head.noted.get(b"content-length", b"0"), "ascii")
    if b"upgrade" not in ours.head.noted:
        assert message.should_close == (not ours.keep_alive)
    named = {each.lower() for each in list_members(ours.head.noted.get(b"connection", b""))}
    crossing = [
        (name, value)
        for name, value in message.raw_headers
        if request_role(name)[0] in (Role.KEEP, Role.BOTH) and name.lower() not in named
    ]
    kept = [line.removesuffix(b"\r\n").partition(b":") for line in ours.head.kept]
    assert [(name, value.strip(b" \t")) for name, _, value in kept] == [
        (name, value.strip(b" \t")) for name, value in crossing
    ]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_head_with_a_byte_changed_is_never_accepted_by_us_alone(
    loop: asyncio.AbstractEventLoop, data: st.DataObject
) -> None:
    raw = bytearray(
        b"POST /x?y=z HTTP/1.1\r\nHost: example.com\r\nContent-Length: 12\r\n"
        b"X-Own: some value\r\nConnection: close\r\n\r\n"
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 5))] = data.draw(st.integers(0, 255))
    head = bytes(raw)
    if b"\r\n\r\n" in head[:-4]:
        return
    ours = read_request(head)
    if not isinstance(ours, RequestParts) or ours.head.method not in METHODS or b"host" not in ours.head.noted:
        return
    if read_target(ours.head.target) is not None:
        assert theirs(head, loop) is not None, head
