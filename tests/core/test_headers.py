"""What crosses the proxy, what is read here, and what vanishes: field by field, however it is spelled."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import headers
from proxy.core.headers import (
    MOST_NAMES,
    REQUEST_ROLES,
    RESPONSE_ROLES,
    Role,
    has_member,
    list_members,
    request_role,
    response_role,
    sort_request_lines,
    sort_response_lines,
)


class Fields(NamedTuple):
    kept: list[bytes]
    noted: dict[bytes, bytes]
    repeated: bytes | None


def sort_request(*lines: str) -> Fields:
    return Fields(*sort_request_lines([line.encode("latin-1") for line in lines]))


def sort_response(*lines: str) -> Fields:
    return Fields(*sort_response_lines([line.encode("latin-1") for line in lines]))


def names(fields: Fields) -> list[str]:
    return [line.partition(b":")[0].decode() for line in fields.kept]


CROSSES = ["Content-Type", "Accept", "Accept-Encoding", "Content-Encoding", "User-Agent", "OpenAI-Organization",
           "X-User-Agent", "Idempotency-Key", "anthropic-version", "anthropic-beta", "OpenAI-Beta", "Range",
           "If-None-Match", "Cache-Control", "Sec-WebSocket-Key",
           "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "X-Stainless-Lang"]  # fmt: skip

STAYS = ["Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Cookie", "Cookie2",
         "Grpc-Metadata-Authorization", "Grpc-Metadata-session-id", "Grpc-Metadata-X-Authorization-Bearer-Type",
         "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Original-URI",
         "X-Rewrite-URL", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer",
         "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Content-Length", "Host", "Expect", "Forwarded",
         "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Uri", "X-Real-IP", "X-Client-IP",
         "True-Client-IP", "Via", "Referer", "baggage", "X-Request-Id", "traceparent", "tracestate", "Origin",
         "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest",
         "Access-Control-Request-Method", "Access-Control-Request-Private-Network",
         "Sec-WebSocket-Protocol"]  # fmt: skip

SPELLINGS = [str.lower, str.upper, str.title, str.swapcase, lambda name: name]


@pytest.mark.parametrize("name", CROSSES)
def test_a_field_that_is_none_of_the_proxys_business_crosses_as_it_was_spelled(name: str) -> None:
    for spell in SPELLINGS:
        assert sort_request(f"{spell(name)}:  a value ").kept == [f"{spell(name)}:  a value \r\n".encode()]


@pytest.mark.parametrize("name", STAYS)
def test_a_field_of_this_hop_of_the_callers_identity_or_with_a_credential_never_crosses(name: str) -> None:
    for spell in SPELLINGS:
        assert sort_request(f"{spell(name)}: x", "Accept: */*").kept == [b"Accept: */*\r\n"]


@pytest.mark.parametrize("name", STAYS)
def test_no_twin_with_an_underscore_crosses_in_place_of_a_guarded_field(name: str) -> None:
    twins = {name.replace("-", "_"), name.replace("-", "_", 1), f"{name}_", f"_{name}", f"{name.lower()}_"}
    for twin in twins - {name}:
        found = sort_request(f"{twin}: x")
        assert found.kept == [], twin
        assert found.noted == {}, "nor is it taken for the field itself"


RESPONSE_CROSSES = ["Content-Type", "Content-Encoding", "Location", "WWW-Authenticate", "Retry-After", "ETag", "Vary",
                    "Cache-Control", "x-inworld-request-id", "x-envoy-upstream-service-time", "Server", "Via", "Date",
                    "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "X-RateLimit-Remaining"]  # fmt: skip

RESPONSE_STAYS = ["Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
                  "TE", "Trailer", "Transfer-Encoding", "Content-Length", "Upgrade", "Alt-Svc",
                  "Strict-Transport-Security", "Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Proxy-Status",
                  "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
                  "Sec-WebSocket-Protocol", "X-Request-Id"]  # fmt: skip


@pytest.mark.parametrize("name", RESPONSE_CROSSES)
def test_what_the_upstream_says_about_its_answer_crosses(name: str) -> None:
    assert sort_response(f"{name}: a").kept == [f"{name}: a\r\n".encode()]


@pytest.mark.parametrize("name", RESPONSE_STAYS)
def test_what_the_upstream_says_about_itself_or_to_a_browser_stays_here(name: str) -> None:
    for spell in SPELLINGS:
        assert sort_response(f"{spell(name)}: a", "Date: now").kept == [b"Date: now\r\n"]


def test_what_is_read_here_is_noted_in_lower_case_and_trimmed() -> None:
    found = sort_request("HOST: \t a.example ", "authorization:Bearer x", "Sec-Websocket-Key: k", "X-API-KEY:")
    assert found.noted == {
        b"host": b"a.example", b"authorization": b"Bearer x", b"sec-websocket-key": b"k", b"x-api-key": b"",
    }  # fmt: skip
    assert found.repeated is None


def test_order_and_repetition_of_what_crosses_are_kept() -> None:
    lines = ["B: 1", "Accept: a", "b: 2", "Accept: b", "B: 1"]
    assert sort_request(*lines).kept == [f"{line}\r\n".encode() for line in lines]


@pytest.mark.parametrize(
    "connection",
    [
        ["Connection: close, X-Secret"],
        ["Connection: x-secret"],
        ["connection: X-SECRET"],
        ["CONNECTION:\tkeep-alive ,\t x-sEcReT\t,"],
        ["Connection: close", "Connection: X-Secret"],
        ["Connection: X-Secret", "connection: keep-alive", "Connection: upgrade"],
        ["Connection: ,,x-secret,,"],
        ["Connection: close,close,x-secret,x-secret"],
    ],
)
def test_a_field_that_connection_names_ends_here_however_it_is_said(connection: list[str]) -> None:
    for lines in ([*connection, "x-Secret: a", "X-Other: b"], ["X-Other: b", "X-SECRET: a", *connection]):
        assert sort_request(*lines).kept == [b"X-Other: b\r\n"]
        assert sort_response(*lines).kept == [b"X-Other: b\r\n"]


def test_connection_options_are_no_names_of_fields() -> None:
    assert names(sort_request("Connection: close, Keep-Alive, UPGRADE", "Close: 1", "Accept: a")) == ["Close", "Accept"]


def test_connection_cannot_unsay_what_was_read_here() -> None:
    found = sort_request("Connection: host, authorization, origin, x-api-key, connection", "Host: a", "Origin: b",
                         "Authorization: Bearer c")  # fmt: skip
    assert found.noted[b"host"] == b"a"
    assert found.noted[b"origin"] == b"b"
    assert found.noted[b"authorization"] == b"Bearer c"


def test_a_trace_field_that_connection_names_ends_here_too() -> None:
    lines = ["X-Request-Id: a", "traceparent: b", "tracestate: c", "Host: d"]
    assert sort_request("Connection: TraceParent, x-request-id, tracestate, host", *lines).noted.keys() == {
        b"connection", b"host",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Expect"])
def test_lines_of_a_list_are_joined(name: str) -> None:
    found = sort_request(f"{name}: a", f"{name.upper()}: b,c", f"{name}: d")
    assert found.noted == {name.lower().encode(): b"a, b,c, d"}
    assert found.repeated is None


@pytest.mark.parametrize(
    "name",
    ["Host", "Authorization", "Content-Length", "Transfer-Encoding", "Origin", "Sec-Fetch-Site", "X-Api-Key",
     "Sec-WebSocket-Key", "Sec-WebSocket-Version"],
)  # fmt: skip
def test_a_field_that_decides_something_and_comes_twice_is_reported(name: str) -> None:
    for second in ("same", "other"):
        found = sort_request(f"{name}: same", "Connection: a", "Connection: b", f"{name.lower()}: {second}")
        assert found.repeated == name.lower().encode()


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding"])
def test_a_response_whose_framing_is_said_twice_is_reported(name: str) -> None:
    assert sort_response(f"{name}: 1", f"{name}: 1").repeated == name.lower().encode()


def test_the_tables_are_written_in_lower_case_and_decide_for_any_spelling() -> None:
    for table, role_of in ((REQUEST_ROLES, request_role), (RESPONSE_ROLES, response_role)):
        for name, role in table.items():
            assert name == name.lower()
            assert role in set(Role)
            assert role_of(name.upper()) == role_of(name.title()) == (role, name)


@pytest.mark.parametrize(
    ("value", "members"),
    [(b"", []), (b",", []), (b" a ", [b"a"]), (b"a,b", [b"a", b"b"]), (b"a ,\tb,, c", [b"a", b"b", b"c"])],
)
def test_members_of_a_list_are_trimmed_and_empty_ones_ignored(value: bytes, members: list[bytes]) -> None:
    assert list_members(value) == members


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, False), (b"", False), (b"upgrade", True), (b"Upgrade", True), (b"keep-alive, UPGRADE", True),
     (b"upgrade,close", True), (b"upgraded", False), (b"no upgrade", False), (b"keep-alive,upgrades", False)],
)  # fmt: skip
def test_a_member_is_found_whole_and_in_any_case(value: bytes | None, found: bool) -> None:
    assert has_member(value, b"upgrade") is found


GUARDED = [*STAYS, "X-Secret"]
lines = st.lists(
    st.tuples(
        st.sampled_from([*GUARDED, *CROSSES]).flatmap(
            lambda name: st.sampled_from([name, name.lower(), name.upper(), name.replace("-", "_")])
        ),
        st.sampled_from(["a", "", "close", "x-secret", "Keep-Alive, X-SECRET", "content-type,accept", "\xe9"]),
    ),
    max_size=12,
)


@given(lines)
def test_nothing_guarded_ever_crosses(pairs: list[tuple[str, str]]) -> None:
    named = {
        member.strip().lower() for name, value in pairs if name.lower() == "connection" for member in value.split(",")
    }
    for name in names(sort_request(*(f"{name}: {value}" for name, value in pairs))):
        assert name.lower() not in {guarded.lower() for guarded in STAYS}
        assert name.lower() not in named
        assert "_" not in name


def test_whoever_invents_names_fills_no_memory() -> None:
    roles = headers._Roles(request_role)
    for number in range(2 * MOST_NAMES):
        assert roles[b"X-Invented-%d" % number] == (Role.KEEP, b"x-invented-%d" % number)
        assert roles[b"Cookie"] == (Role.DROP, b"cookie")
    assert len(roles) == MOST_NAMES


def test_the_values_of_roles_are_what_the_reader_takes_them_for() -> None:
    assert tuple(Role) == (headers._KEEP, headers._NOTE, headers._BOTH, headers._DROP)
    assert headers._NO_NAME not in [*Role]


def test_lines_of_answers_are_remembered_within_bounds_and_without_what_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: dict[bytes, object] = headers._LINES
    lines.clear()
    for number in range(3 * headers._MOST_LINES):
        fields = sort_response_lines([b"X-Number: %d" % number, b"Content-Type: a/b", b"Set-Cookie: s=%d" % number])
        assert fields is not None
        assert fields[0] == [b"X-Number: %d\r\n" % number, b"Content-Type: a/b\r\n"]
    assert len(lines) <= headers._MOST_LINES
    assert b"Content-Type: a/b" in lines
    assert not any(line.startswith(b"Set-Cookie") for line in lines)
    sort_response_lines([b"X-Long: " + b"x" * headers._LONGEST_LINE])
    assert not any(line.startswith(b"X-Long") for line in lines)
    lines.clear()
