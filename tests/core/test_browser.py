"""No web page may spend a developer's key: what is believed of Host, Origin and Sec-Fetch-Site."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.browser import check_host, check_site
from proxy.core.errors import Code

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "proxy.internal"})
ORIGINS = frozenset({"http://localhost:3000"})


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST", b"localhost:8080", b"LocalHost:1", b"127.0.0.1", b"127.0.0.1:65535", b"[::1]",
     b"[::1]:8080", b"proxy.internal:80"],
)  # fmt: skip
def test_a_host_of_ours_is_answered_in_any_case_and_on_any_port(host: bytes) -> None:
    assert check_host(host, HOSTS) is None


@pytest.mark.parametrize(
    "host",
    [b"rebind.evil", b"rebind.evil:8080", b"0.0.0.0", b"0.0.0.0:8080", b"[::]", b"127.0.0.2", b"127.1", b"2130706433",
     b"localhost.", b"localhost.evil.test", b"evil-localhost", b"xlocalhost", b"[::ffff:127.0.0.1]", b"[0:0::1]",
     b"10.0.0.7", b"internal"],
)  # fmt: skip
def test_any_other_name_is_misdirected(host: bytes) -> None:
    refused = check_host(host, HOSTS)
    assert refused is not None
    assert refused[0] is Code.HOST_NOT_ALLOWED
    assert f"'{host.decode().partition(':8080')[0]}'" in refused[1]
    assert "`hosts`" in refused[1]
    assert check_host(host, None) is None, "well formed, so where names are not checked it will do"


MALFORMED = [b"", b" ", b":", b":8080", b"a b", b" localhost", b"localhost ", b"a,b", b"localhost, localhost", b"x@y",
             b"user:pass@localhost", b"localhost/", b"127.0.0.1/#", b"x/?", b"localhost#", b"localhost?", b"localhost:",
             b"localhost:x", b"localhost:-1", b"localhost:123456", b"localhost:80:80", b"::1", b"[::1", b"[]", b"[x]",
             b"[::1]x", b"[::1%25lo]", b"http://localhost", b"localhost\x00", b"localhost\n", b"lo\xe9", b"*", b"%6c",
             b"localhost\\", b"'localhost'"]  # fmt: skip


@pytest.mark.parametrize("host", MALFORMED)
def test_a_host_that_is_not_a_name_with_perhaps_a_port_is_a_bad_request(host: bytes) -> None:
    for hosts in (HOSTS, None):
        refused = check_host(host, hosts)
        assert refused is not None
        assert refused[0] is Code.BAD_REQUEST


def test_with_no_names_at_all_nobody_is_answered() -> None:
    refused = check_host(b"localhost", frozenset())
    assert refused is not None
    assert refused[0] is Code.HOST_NOT_ALLOWED


@given(st.binary(max_size=30))
def test_no_bytes_make_checking_a_host_fail_and_what_passes_is_ours(host: bytes) -> None:
    if check_host(host, HOSTS) is None:
        assert any(host.lower().startswith(name.encode()) for name in HOSTS)


@pytest.mark.parametrize("site", [None, b"none", b"same-origin"])
def test_what_no_page_sent_or_a_person_typed_is_answered(site: bytes | None) -> None:
    assert check_site(None, site, frozenset()) is None


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"", b"None", b"none, cross-site", b"anything"])
def test_what_a_page_sent_without_saying_its_origin_is_refused(site: bytes) -> None:
    refused = check_site(None, site, ORIGINS)
    assert refused is not None
    assert refused[0] is Code.CROSS_SITE_REQUEST
    assert "`origins`" in refused[1]


@pytest.mark.parametrize("site", [None, b"none", b"same-origin", b"same-site", b"cross-site"])
@pytest.mark.parametrize(
    "origin",
    [b"http://evil.test", b"null", b"", b"http://localhost:3001", b"https://localhost:3000", b"http://localhost",
     b"http://localhost:3000.evil.test", b"http://localhost:3000/", b"HTTP://LOCALHOST:3000", b"http://127.0.0.1:3000",
     b"http://localhost:3000 http://evil.test", b"\xff", b"*"],
)  # fmt: skip
def test_an_origin_that_is_not_listed_is_refused_whatever_the_site(origin: bytes, site: bytes | None) -> None:
    for origins in (ORIGINS, frozenset[str]()):
        refused = check_site(origin, site, origins)
        assert refused is not None
        assert refused[0] is Code.ORIGIN_NOT_ALLOWED
        assert "`origins`" in refused[1]


@pytest.mark.parametrize("site", [None, b"same-origin", b"same-site", b"cross-site"])
def test_a_listed_origin_may_call_from_any_site(site: bytes | None) -> None:
    assert check_site(b"http://localhost:3000", site, ORIGINS) is None
