"""Addresses are read strictly: one reading, or a fault that says what to write."""

import pytest

from proxy.core.model import Address
from proxy.document import UnusableError
from proxy.settings.addresses import (
    ConnectProxy,
    UpstreamUrl,
    parse_address,
    parse_connect_proxy,
    parse_host_name,
    parse_origin,
    parse_upstream_url,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("LOCALHOST:1", Address("localhost", 1)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("unix:/run/inworld-proxy/proxy.sock", Address("", 0, "/run/inworld-proxy/proxy.sock")),
        ("unix:/srv/with a blank/é.sock", Address("", 0, "/srv/with a blank/é.sock")),
    ],
)
def test_a_listener_is_an_ip_address_and_a_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (8080, "127.0.0.1:8080"),
        ("8080", "127.0.0.1:8080"),
        (":8080", "127.0.0.1:8080"),
        ("127.0.0.1", "127.0.0.1:8080"),
        ("::1:8080", "[::1]:8080"),
        ("127.1:8080", "127.0.0.1:8080"),
        ("127.evil.example:8080", "127.0.0.1:8080"),
        ("example.com:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.0.0.1:70000", "up to 65535"),
        ("*:8080", "`0.0.0.0:8080`"),
        ("[fe80::1%eth0]:80", "127.0.0.1:8080"),
        (None, "127.0.0.1:8080"),
        ("unix:", "unix:/run/"),
        ("unix:/", "unix:/run/"),
        ("unix:./proxy.sock", "unix:/run/"),
        ("unix://run/proxy.sock", "unix:/run/"),
        ("unix:/run//proxy.sock", "unix:/run/"),
        ("unix:/run/proxy.sock/", "unix:/run/"),
        ("unix:/run/\0proxy.sock", "unix:/run/"),
        ("unix:/run/\nproxy.sock", "unix:/run/"),
        ("unix:/" + "é" * 52, "at most 103 bytes"),
        ("UNIX:/run/proxy.sock", "127.0.0.1:8080"),
    ],
)
def test_any_other_listener_is_refused(text: object, remedy: str) -> None:
    with pytest.raises(UnusableError) as raised:
        parse_address(text)
    assert remedy in raised.value.remedy


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://api.inworld.ai", UpstreamUrl("https", "api.inworld.ai", 443, "api.inworld.ai")),
        ("https://api.inworld.ai/", UpstreamUrl("https", "api.inworld.ai", 443, "api.inworld.ai")),
        ("HTTPS://API.Inworld.AI:443", UpstreamUrl("https", "api.inworld.ai", 443, "api.inworld.ai")),
        ("https://api.inworld.ai:8443", UpstreamUrl("https", "api.inworld.ai", 8443, "api.inworld.ai:8443")),
        ("https://[2001:db8::1]", UpstreamUrl("https", "2001:db8::1", 443, "[2001:db8::1]")),
        ("http://127.0.0.1:8081", UpstreamUrl("http", "127.0.0.1", 8081, "127.0.0.1:8081")),
        ("http://localhost", UpstreamUrl("http", "localhost", 80, "localhost")),
        ("http://[::1]:99", UpstreamUrl("http", "::1", 99, "[::1]:99")),
    ],
)
def test_an_upstream_is_scheme_and_host(text: str, url: UpstreamUrl) -> None:
    assert parse_upstream_url(text) == url


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("api.inworld.ai", "no http or https URL"),
        ("wss://api.inworld.ai", "no http or https URL"),
        ("https://api.inworld.ai/v1", "the path `/v1`"),
        ("https://api.inworld.ai?x=1", "query or fragment"),
        ("https://api.inworld.ai#x", "query or fragment"),
        ("https://user:hunter2@api.inworld.ai", "user or password"),
        ("http://api.inworld.ai", "in clear"),
        ("http://10.0.0.1:80", "in clear"),
        ("http://127.evil.example", "in clear"),
        ("http://localhost.evil.example", "in clear"),
        ("https://", "no name or address"),
        ("https://a b", "no name or address"),
        ("https://a,b", "no name or address"),
        ("https://api.inworld.ai:", "no name or address"),
        ("https://api.inworld.ai:port", "no name or address"),
        ("https://api.inworld.ai:99999", "port is too large"),
        ("https://0x7f.1", "no name or address"),
        ("https://::1", "no name or address"),
        ("https://ünïcode.example", "no name or address"),
        (7, "`7`"),
    ],
)
def test_any_other_upstream_is_refused(text: object, found: str) -> None:
    with pytest.raises(UnusableError) as raised:
        parse_upstream_url(text)
    assert found in raised.value.found
    assert raised.value.remedy
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://egress.corp:3128", ConnectProxy("egress.corp", 3128, None)),
        ("http://egress.corp:3128/", ConnectProxy("egress.corp", 3128, None)),
        ("http://[::1]:3128", ConnectProxy("::1", 3128, None)),
        ("http://u:p@egress.corp:3128", ConnectProxy("egress.corp", 3128, "Basic dTpw")),
        ("http://u:p%40%3A@egress.corp:3128", ConnectProxy("egress.corp", 3128, "Basic dTpwQDo=")),
    ],
)
def test_a_connect_proxy_is_host_and_port_and_perhaps_a_password(text: str, proxy: ConnectProxy) -> None:
    assert parse_connect_proxy(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "egress.corp:3128",
        "https://u:hunter2@egress.corp:3128",
        "socks5://egress.corp:1080",
        "http://u:hunter2@egress.corp",
        "http://u:hunter2@egress.corp:99999",
        "http://hunter2@egress.corp:3128",
        "http://u:hunter2@:3128",
        "http://u:hunter2@egress.corp:3128/path",
        "http://u\r\nhunter2:x@egress.corp:3128",
        None,
    ],
)
def test_any_other_connect_proxy_is_refused_without_being_quoted(text: object) -> None:
    with pytest.raises(UnusableError) as raised:
        parse_connect_proxy(text)
    assert "hunter2" not in str(raised.value)
    assert "egress.corp" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [("Proxy.Internal", "proxy.internal"), ("10.0.0.1", "10.0.0.1"), ("::1", "[::1]"), ("[FE80::1]", "[fe80::1]")],
)
def test_host_names_are_compared_in_lower_case(text: str, host: str) -> None:
    assert parse_host_name(text) == host


@pytest.mark.parametrize("text", ["*", "*.internal", "http://proxy", "proxy:8080", "a b", "", "a/b", "x@y", 7])
def test_any_other_host_name_is_refused(text: object) -> None:
    with pytest.raises(UnusableError):
        parse_host_name(text)


@pytest.mark.parametrize("text", ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443"])
def test_origins_are_kept_as_browsers_send_them(text: str) -> None:
    assert parse_origin(text) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "write `https://app.example.com`"),
        ("https://App.Example.com", "write `https://app.example.com`"),
        ("app.example.com", "scheme and host"),
        ("*", "scheme and host"),
        ("null", "scheme and host"),
        (None, "scheme and host"),
    ],
)
def test_any_other_origin_is_refused(text: object, remedy: str) -> None:
    with pytest.raises(UnusableError) as raised:
        parse_origin(text)
    assert remedy in raised.value.remedy
