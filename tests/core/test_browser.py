"""No web page may spend a developer's key: what is believed of Host, Origin and Sec-Fetch-Site."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.token import digest_token, token_recogniser
from proxy.core.browser import check_host, check_silence, check_site, judge_host
from proxy.core.errors import Code
from proxy.core.model import Allow, Caller, Decision, Deny, Policy, RequestHead
from proxy.core.policy import decide

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


Heads = Callable[..., RequestHead]
Policies = Callable[..., Policy]

TRUSTWORTHY = [b"localhost", b"LocalHost:8080", b"app.localhost", b"a.b.LOCALHOST:1", b"127.0.0.1", b"127.0.0.1:65535",
               b"127.1.2.3", b"127.255.255.255:80", b"[::1]", b"[::1]:8080"]  # fmt: skip
"""Where browsers say Sec-Fetch-Site over plain HTTP, too: W3C Secure Contexts, section 3.1."""
UNTRUSTED = [b"laptop.test", b"laptop.test:8080", b"LAPTOP.test", b"localhost.test", b"evil-localhost",
             b"xlocalhost:80", b"localhost.", b"127.0.0.1.test", b"127.0.0.1.", b"x127.0.0.1", b"128.0.0.1",
             b"27.0.0.1", b"227.0.0.1", b"127.0.1", b"127.0.0.1.1", b"0.0.0.0", b"10.0.0.7", b"192.168.1.5:8080",
             b"[::]", b"[::2]", b"[::11]", b"[1::1]", b"[fe80::1]:8080", b"[::ffff:127.0.0.1]"]  # fmt: skip


@pytest.mark.parametrize("host", TRUSTWORTHY)
def test_browsers_say_where_a_request_to_loopback_comes_from(host: bytes) -> None:
    assert judge_host(host, None) == (None, True)


@pytest.mark.parametrize("host", UNTRUSTED)
def test_browsers_need_not_say_where_a_request_to_any_other_name_comes_from(host: bytes) -> None:
    assert judge_host(host, None) == (None, False)


@given(st.binary(max_size=30) | st.sampled_from([*TRUSTWORTHY, *UNTRUSTED, *MALFORMED]))
def test_a_host_is_judged_as_it_is_checked(host: bytes) -> None:
    for hosts in (HOSTS, None):
        refused, told = judge_host(host, hosts)
        assert refused == check_host(host, hosts)
        assert not told or refused is None or refused[0] is Code.HOST_NOT_ALLOWED


@pytest.mark.parametrize(
    "line",
    [b"User-Agent: Mozilla/5.0", b"user-agent: Mozilla/5.0", b"USER-AGENT:Mozilla/5.0", b"User-Agent: \t Mozilla/4.0",
     b"User-Agent: Mozilla/", b"User-Agent: Mozilla/5.0 (iPhone) CriOS/140 Safari/604.1",
     b"User-Agent: AppleCoreMedia/1.0.0.23A344 (iPhone; U; CPU OS 26_0; en_us)", b"User-Agent: Opera/9.80",
     b"User-Agent: stagefright/1.2 (Linux;Android 14)"],
)  # fmt: skip
def test_a_browser_that_says_nothing_may_have_been_sent_by_a_page(line: bytes) -> None:
    ours, another = line + b"\r\n", b"User-Agent: another\r\n"
    for kept in ([ours], [b"Accept: */*\r\n", ours], [another, ours], [ours, another]):
        refused = check_silence(kept)
        assert refused is not None
        assert refused[0] is Code.CROSS_SITE_REQUEST
        for way_out in ("http://127.0.0.1", "localhost", "`callers`", "TLS", "User-Agent"):
            assert way_out in refused[1]


@pytest.mark.parametrize(
    "line",
    [b"User-Agent: curl/8.5.0", b"User-Agent: Python/3.12 aiohttp/3.13", b"User-Agent: python-httpx/0.28",
     b"User-Agent: node", b"User-Agent: undici", b"User-Agent: okhttp/5.1.0", b"User-Agent: UnityPlayer/6000.1",
     b"User-Agent: App/1 CFNetwork/3826.500.111 Darwin/24.4.0", b"User-Agent: OpenAI/Python 2.54.0",
     b"User-Agent: ", b"User-Agent: Mozilla", b"User-Agent: mozilla/5.0", b"User-Agent: not Mozilla/5.0",
     b"User-Agent: x\tMozilla/5.0", b"X-User-Agent: Mozilla/5.0", b"User-Agent-X: Mozilla/5.0",
     b"X: User-Agent: Mozilla/5.0", b"Accept: */*"],
)  # fmt: skip
def test_programs_are_not_asked_where_they_come_from(line: bytes) -> None:
    assert check_silence([line + b"\r\n"]) is None
    assert check_silence([b"X: Mozilla/5.0\r\n", line + b"\r\n"]) is None


def test_who_does_not_say_what_it_is_is_no_browser() -> None:
    assert check_silence([]) is None


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_make_looking_for_a_browser_fail(kept: list[bytes]) -> None:
    assert check_silence(kept) is None or any(line.lower().startswith(b"user-agent:") for line in kept)


# What a page can make a browser send to a name that is no address of this machine, in the words of decide().

READS = "GET /voices/v1/voices"
BROWSER = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
TOKEN = "tok-storefront-3f81"


def spell(decision: Decision) -> str:
    """The code of a refusal; nothing for none."""
    return decision.code.value if isinstance(decision, Deny) else ""


@pytest.fixture
def named(make_policy: Policies) -> Policy:
    """Without callers, by the names of ``HOSTS`` and by one that is no name of loopback."""
    return make_policy(hosts=HOSTS | {"laptop.test"}, origins=ORIGINS)


@pytest.mark.parametrize(
    ("host", "code"),
    [("laptop.test:8080", "cross_site_request"), ("LAPTOP.TEST", "cross_site_request"), ("127.0.0.1:8080", ""),
     ("localhost", ""), ("[::1]", ""), ("proxy.internal", "cross_site_request"), ("other.test", "host_not_allowed")],
)  # fmt: skip
@pytest.mark.parametrize("anything", [False, True], ids=["listed", "any"])
def test_a_page_gets_no_further_by_a_name_of_which_browsers_say_nothing(
    named: Policy, make_head: Heads, host: str, code: str, *, anything: bool
) -> None:
    if anything:
        named = replace(named, hosts=None)
        code = code.replace("host_not_allowed", "cross_site_request")
    for request in (READS, "HEAD /voices/v1/voices", "POST /tts/v1/voice"):
        assert spell(decide(named, make_head(request, [BROWSER], host=host), 0.0)) == code
        program = make_head(request, [("User-Agent", "curl/8.5.0")], host=host)
        assert spell(decide(named, program, 0.0)) == code.replace("cross_site_request", "")
    assert spell(decide(named, make_head("GET /nowhere", [BROWSER], host=host), 0.0)) == (code or "no_operation")
    socket = "GET /api/v1/realtime/session?key=s&protocol=realtime"
    assert spell(decide(named, make_head(socket, [BROWSER], host=host, websocket=True), 0.0)) == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [([], "cross_site_request"), ([("Sec-Fetch-Site", "none")], ""), ([("Sec-Fetch-Site", "same-origin")], ""),
     ([("Sec-Fetch-Site", "cross-site")], "cross_site_request"), ([("Origin", "http://localhost:3000")], ""),
     ([("Origin", "http://laptop.test:8080")], "origin_not_allowed"), ([("Origin", "null")], "origin_not_allowed"),
     ([("Sec-Fetch-Mode", "no-cors")], "cross_site_request"), ([("Referer", "http://laptop.test:8080/")],
     "cross_site_request"), ([("Authorization", "Bearer guessed")], "cross_site_request")],
)  # fmt: skip
def test_a_browser_that_says_where_it_comes_from_is_judged_by_that(
    named: Policy, make_head: Heads, fields: list[tuple[str, str]], code: str
) -> None:
    assert spell(decide(named, make_head(READS, [BROWSER, *fields], host="laptop.test"), 0.0)) == code


@pytest.mark.parametrize("host", [None, "laptop.test"])
def test_the_silence_of_an_old_version_of_http_is_silence(named: Policy, make_head: Heads, host: str | None) -> None:
    assert spell(decide(named, make_head(READS, [BROWSER], host=host, version=10), 0.0)) == "cross_site_request"
    assert spell(decide(named, make_head(READS, [], host=host, version=10), 0.0)) == ""


def test_where_a_token_has_to_be_shown_silence_says_nothing(make_policy: Policies, make_head: Heads) -> None:
    """A page cannot send one without asking first, and programs that have one may call themselves what they like."""
    shop = Caller("storefront", make_policy().anonymous.routes)  # type: ignore[union-attr]  # without recognisers it is
    recogniser = token_recogniser([(digest_token(TOKEN.encode()), shop)])
    for hosts in (None, frozenset({"laptop.test"})):
        policy = make_policy(recognisers=(recogniser,), hosts=hosts)
        assert spell(decide(policy, make_head(READS, [BROWSER], host="laptop.test"), 0.0)) == "caller_required"
        shown = [BROWSER, ("Authorization", f"Bearer {TOKEN}")]
        assert isinstance(decide(policy, make_head(READS, shown, host="laptop.test"), 0.0), Allow)


def test_the_name_of_a_program_crosses_as_it_was_also_where_it_is_looked_at(named: Policy, make_head: Heads) -> None:
    names = [("user-AGENT", "curl/8.5.0 "), ("User-Agent", " second\t")]
    head = make_head(READS, names, host="laptop.test")
    assert isinstance(decide(named, head, 0.0), Allow)
    assert head.kept == [b"user-AGENT: curl/8.5.0 \r\n", b"User-Agent:  second\t\r\n"]
