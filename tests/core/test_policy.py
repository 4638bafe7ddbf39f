"""``decide()``: what is refused first, who is recognised, what audit mode suspends, and what the sentences say.

Which key may do which operation is the matrix of tests/decisions.yaml.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.token import digest_token, token_recogniser
from proxy.catalogue.load import Catalogue
from proxy.core.errors import OUTCOMES, Code
from proxy.core.model import (
    Allow,
    Caller,
    Decision,
    Deny,
    ErrorShape,
    KeyPower,
    KeyType,
    Level,
    Mode,
    Permission,
    Policy,
    RequestHead,
    Route,
)
from proxy.core.policy import check_power, decide
from proxy.core.recognition import read_presented

Heads = Callable[..., RequestHead]
Policies = Callable[..., Policy]
Routes = Callable[[KeyPower], Mapping[str, Route]]

STOREFRONT, STUDIO = "tok-storefront-3f81", "tok-studio-77aa"
CLONE = "POST /voices/v1/voices:clone"
SOCKET = "GET /api/v1/realtime/session?key=s&protocol=realtime"
MANY = KeyPower(KeyType.STANDARD, Level.WRITE, Level.WRITE)


def code_of(decision: Decision) -> Code | None:
    return decision.code if isinstance(decision, Deny) else None


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="session")
def callers(routes_to: Routes) -> dict[str, Caller]:
    routes = routes_to(MANY)
    synthesis = frozenset(name for name in routes if name.startswith("tts."))
    return {"storefront": Caller("storefront", routes, synthesis), "studio": Caller("studio", routes, None)}


@pytest.fixture(scope="session")
def guarded(make_policy: Policies, callers: dict[str, Caller]) -> Policy:
    """Two callers: storefront may synthesize, studio may do everything."""
    tokens = [(STOREFRONT, "storefront"), (STUDIO, "studio")]
    return make_policy(
        recognisers=(token_recogniser((digest_token(token.encode()), callers[name]) for token, name in tokens),)
    )


# The order of refusals. Each request is wrong in its own way and in every way below it.
EVERYTHING_WRONG = [
    (Code.METHOD_NOT_ALLOWED, "TRACE //a", "evil.test", ["Origin: http://evil.test"]),
    (Code.AMBIGUOUS_TARGET, "POST //a", "evil.test", ["Origin: http://evil.test"]),
    (Code.BAD_REQUEST, "POST /nowhere", "a b", ["Origin: http://evil.test"]),
    (Code.HOST_NOT_ALLOWED, "POST /nowhere", "evil.test", ["Origin: http://evil.test"]),
    (Code.ORIGIN_NOT_ALLOWED, "POST /nowhere", "localhost", ["Origin: http://evil.test"]),
    (Code.CROSS_SITE_REQUEST, "POST /nowhere", "localhost", ["Sec-Fetch-Site: cross-site"]),
    (Code.CALLER_REQUIRED, "POST /nowhere", "localhost", []),
    (Code.UNKNOWN_CALLER, "POST /nowhere", "localhost", ["Authorization: Bearer wrong"]),
    (Code.NO_OPERATION, "POST /nowhere", "localhost", [f"Authorization: Bearer {STOREFRONT}"]),
    (Code.METHOD_NOT_ALLOWED, "PUT /voices/v1/voices:clone", "localhost", [f"Authorization: Bearer {STOREFRONT}"]),
    (Code.TOKEN_MINT_REFUSED, "POST /auth/v1/tokens", "localhost", [f"Authorization: Bearer {STOREFRONT}"]),
    (Code.OPERATION_NOT_GRANTED, CLONE, "localhost", [f"Authorization: Bearer {STOREFRONT}", "Upgrade: websocket"]),
    (Code.UPGRADE_NOT_ALLOWED, CLONE, "localhost", [f"Authorization: Bearer {STUDIO}", "Upgrade: websocket"]),
    (None, CLONE, "localhost", [f"Authorization: Bearer {STUDIO}"]),
]


@pytest.mark.parametrize(("code", "request_line", "host", "fields"), EVERYTHING_WRONG)
def test_refusals_come_in_the_promised_order(
    guarded: Policy, make_head: Heads, code: Code | None, request_line: str, host: str, fields: list[str]
) -> None:
    head = make_head(request_line, [tuple(field.split(": ")) for field in fields], host=host)
    assert code_of(decide(guarded, head, 0.0)) is code


def test_the_order_of_statuses_is_400_before_421_and_403_before_401_before_404_and_405_before_403() -> None:
    statuses = [OUTCOMES[code].status for code, *_ in EVERYTHING_WRONG[1:-1] if code is not None]
    assert statuses == [400, 400, 421, 403, 403, 401, 401, 404, 405, 403, 403, 400]


def test_unknown_caller_is_refused_before_routing(make_policy: Policies, make_head: Heads) -> None:
    """Somebody unknown must not learn from the answer which paths there are."""
    policy = make_policy(recognisers=(lambda presented, now: None,))
    for request in (CLONE, "POST /nowhere", "PUT /voices/v1/voices", "POST /auth/v1/tokens", SOCKET):
        decision = decide(policy, make_head(request, [("Authorization", "Bearer x")]), 0.0)
        assert isinstance(decision, Deny)
        assert (decision.code, decision.operation, decision.route, decision.allow) == (
            Code.UNKNOWN_CALLER, None, None, None,
        )  # fmt: skip


def test_grants_come_before_routes_and_routes_before_what_the_key_may_do(
    make_policy: Policies, make_head: Heads
) -> None:
    nothing = Caller("nothing", {}, frozenset())
    everything = Caller("everything", {}, None)
    head = make_head(CLONE)
    assert code_of(decide(make_policy(), head, 0.0, caller=nothing)) is Code.OPERATION_NOT_GRANTED
    assert code_of(decide(make_policy(), head, 0.0, caller=everything)) is Code.NO_ROUTE
    assert code_of(decide(make_policy(), head, 0.0)) is Code.WRITE_NOT_PERMITTED


PLACES = [
    ("Authorization: Bearer", ("Authorization", f"Bearer {STUDIO}")),
    ("Authorization: bearer, two blanks", ("Authorization", f"bearer  {STUDIO}")),
    ("Authorization: Basic with the token itself", ("Authorization", f"Basic {STUDIO}")),
    ("Authorization: BASIC name:token", ("Authorization", basic(f"studio:{STUDIO}").replace("Basic", "BASIC"))),
    ("Authorization: Basic :token", ("Authorization", basic(f":{STUDIO}"))),
    ("x-api-key", ("X-Api-Key", STUDIO)),
    ("subprotocol bearer_", ("Sec-WebSocket-Protocol", f"bearer_{STUDIO}")),
    ("subprotocol of OpenAI", ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{STUDIO}, beta")),
]


@pytest.mark.parametrize("field", [field for _, field in PLACES], ids=[place for place, _ in PLACES])
def test_a_caller_is_recognised_in_every_place_where_a_client_can_put_a_key(
    guarded: Policy, make_head: Heads, field: tuple[str, str]
) -> None:
    decision = decide(guarded, make_head(SOCKET, [field], websocket=True), 0.0)
    assert isinstance(decision, Allow)
    assert decision.caller.name == "studio"


NOBODY = [
    ("no field at all", [], Code.CALLER_REQUIRED),
    ("an empty Authorization", [("Authorization", "")], Code.CALLER_REQUIRED),
    ("an empty x-api-key", [("X-Api-Key", "")], Code.CALLER_REQUIRED),
    ("another scheme", [("Authorization", f"Digest {STUDIO}")], Code.CALLER_REQUIRED),
    ("a token without a scheme", [("Authorization", STUDIO)], Code.CALLER_REQUIRED),
    ("a cookie", [("Cookie", f"token={STUDIO}")], Code.CALLER_REQUIRED),
    ("Proxy-Authorization", [("Proxy-Authorization", f"Bearer {STUDIO}")], Code.CALLER_REQUIRED),
    ("api-key", [("Api-Key", STUDIO)], Code.CALLER_REQUIRED),
    ("a twin of x-api-key", [("X_Api_Key", STUDIO)], Code.CALLER_REQUIRED),
    ("a subprotocol of another form", [("Sec-WebSocket-Protocol", f"Bearer, {STUDIO}")], Code.CALLER_REQUIRED),
    ("an empty Bearer", [("Authorization", "Bearer ")], Code.UNKNOWN_CALLER),
    ("a wrong token", [("Authorization", "Bearer tok-studio-77ab")], Code.UNKNOWN_CALLER),
    ("a token in another case", [("Authorization", f"Bearer {STUDIO.upper()}")], Code.UNKNOWN_CALLER),
    ("a token with more behind it", [("Authorization", f"Bearer {STUDIO}, x")], Code.UNKNOWN_CALLER),
    ("the token under another's name", [("Authorization", basic(f"storefront:{STUDIO}"))], Code.UNKNOWN_CALLER),
    ("the token as a name", [("Authorization", basic(f"{STUDIO}:"))], Code.UNKNOWN_CALLER),
    ("Basic that is not Base64", [("Authorization", "Basic ==a==")], Code.UNKNOWN_CALLER),
    ("Basic that is not UTF-8", [("Authorization", "Basic " + base64.b64encode(b"\xff:x").decode())],
     Code.UNKNOWN_CALLER),
    ("an empty subprotocol token", [("Sec-WebSocket-Protocol", "bearer_")], Code.UNKNOWN_CALLER),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code"), [row[1:] for row in NOBODY], ids=[row[0] for row in NOBODY])
def test_nobody_is_recognised_by(guarded: Policy, make_head: Heads, fields: list[tuple[str, str]], code: Code) -> None:
    assert code_of(decide(guarded, make_head("POST /tts/v1/voice", fields), 0.0)) is code


def test_a_token_in_the_query_recognises_nobody(guarded: Policy, make_head: Heads) -> None:
    head = make_head(f"POST /tts/v1/voice?token={STUDIO}&authorization=Bearer%20{STUDIO}&api_key={STUDIO}")
    assert code_of(decide(guarded, head, 0.0)) is Code.CALLER_REQUIRED


def test_a_token_longer_than_any_is_not_even_looked_at(make_policy: Policies, make_head: Heads) -> None:
    seen: list[int] = []

    def recognise(presented: object, now: float) -> Caller | None:
        seen.append(len(presented.token))  # type: ignore[attr-defined]
        return None

    policy = make_policy(recognisers=(recognise,))
    for length in (8192, 8193, 30_000):
        head = make_head(
            "POST /tts/v1/voice", [("Authorization", "Bearer " + "x" * length), ("X-Api-Key", "y" * length)]
        )
        assert code_of(decide(policy, head, 0.0)) is Code.UNKNOWN_CALLER
    assert seen == [8192, 8192]


def test_the_tokens_of_two_callers_at_once_are_refused(guarded: Policy, make_head: Heads) -> None:
    for fields in (
        [("Authorization", f"Bearer {STUDIO}"), ("X-Api-Key", STOREFRONT)],
        [("X-Api-Key", STUDIO), ("Sec-WebSocket-Protocol", f"bearer_{STOREFRONT}")],
        [("Sec-WebSocket-Protocol", f"bearer_{STUDIO}, openai-insecure-api-key.{STOREFRONT}")],
        [("Authorization", basic(f"studio:{STUDIO}")), ("X-Api-Key", STOREFRONT)],
    ):
        decision = decide(guarded, make_head("POST /tts/v1/voice", fields), 0.0)
        assert isinstance(decision, Deny)
        assert decision.code is Code.UNKNOWN_CALLER
        assert "two callers" in decision.message


def test_one_caller_may_show_its_token_twice_or_beside_something_unknown(guarded: Policy, make_head: Heads) -> None:
    """SDKs send x-api-key with whatever key they were given, beside the Authorization that was configured."""
    for other in (STUDIO, "sk-placeholder"):
        fields = [("Authorization", f"Bearer {STUDIO}"), ("X-Api-Key", other)]
        decision = decide(guarded, make_head("POST /v1/messages", fields), 0.0)
        assert isinstance(decision, Allow)
        assert decision.caller.name == "studio"


def test_recognisers_are_asked_with_the_time_and_the_first_who_knows_the_caller_counts(
    make_policy: Policies, make_head: Heads, callers: dict[str, Caller]
) -> None:
    times: list[float] = []

    def clocked(presented: object, now: float) -> Caller | None:
        times.append(now)
        return None

    policy = make_policy(recognisers=(clocked, lambda presented, now: callers["studio"]))
    decision = decide(policy, make_head(CLONE, [("X-Api-Key", "x")]), 1234.5)
    assert isinstance(decision, Allow)
    assert (decision.caller.name, times) == ("studio", [1234.5])


def test_without_callers_everyone_is_the_same_and_no_token_is_looked_at(
    make_policy: Policies, make_head: Heads
) -> None:
    for fields in ([], [("Authorization", "Bearer whatever")], [("X-Api-Key", "sk-1"), ("Authorization", "Basic x")]):
        decision = decide(make_policy(), make_head("POST /tts/v1/voice", fields), 0.0)
        assert isinstance(decision, Allow)
        assert decision.caller.name == "anonymous"


def test_a_caller_that_is_given_stands_for_the_one_who_would_be_recognised(
    guarded: Policy, make_head: Heads, callers: dict[str, Caller]
) -> None:
    assert code_of(decide(guarded, make_head(CLONE), 0.0, caller=callers["storefront"])) is Code.OPERATION_NOT_GRANTED
    assert isinstance(decide(guarded, make_head(CLONE), 0.0, caller=callers["studio"]), Allow)


def test_presented_secrets_say_where_they_came_from(make_head: Heads) -> None:
    fields = [("Authorization", basic("studio:a:b")), ("X-Api-Key", "k"), ("Sec-WebSocket-Protocol", "x, bearer_t")]
    assert [(one.place, one.token, one.user) for one in read_presented(make_head(CLONE, fields).noted)] == [
        ("authorization", base64.b64encode(b"studio:a:b"), None),
        ("authorization", b"a:b", "studio"),
        ("x-api-key", b"k", None),
        ("sec-websocket-protocol", b"t", None),
    ]


# What audit mode suspends.


def test_audit_mode_allows_what_is_not_granted_and_says_what_enforce_would_have_refused(
    guarded: Policy, make_head: Heads
) -> None:
    head = make_head(CLONE, [("X-Api-Key", STOREFRONT)])
    decision = decide(replace(guarded, mode=Mode.AUDIT), head, 0.0)
    assert isinstance(decision, Allow)
    assert decision.audited == decide(guarded, head, 0.0)
    assert decision.audited is not None
    assert decision.audited.code is Code.OPERATION_NOT_GRANTED


@pytest.mark.parametrize(
    ("code", "request_line", "host", "fields"),
    [row for row in EVERYTHING_WRONG if row[0] not in {None, Code.OPERATION_NOT_GRANTED}],
)
def test_audit_mode_suspends_nothing_but_grants(
    guarded: Policy, make_head: Heads, code: Code, request_line: str, host: str, fields: list[str]
) -> None:
    head = make_head(request_line, [tuple(field.split(": ")) for field in fields], host=host)
    assert code_of(decide(replace(guarded, mode=Mode.AUDIT), head, 0.0)) is code


def test_audit_mode_does_not_suspend_what_the_key_may_do(
    make_policy: Policies, make_head: Heads, routes_to: Routes
) -> None:
    policy = make_policy(mode=Mode.AUDIT)
    for power, code in (
        (KeyPower(), Code.WRITE_NOT_PERMITTED),
        (KeyPower(KeyType.REALTIME_ONLY), Code.KEY_IS_REALTIME_ONLY),
    ):
        for granted in (frozenset[str](), None):
            caller = Caller("a", routes_to(power), granted)
            assert code_of(decide(policy, make_head(CLONE), 0.0, caller=caller)) is code
    assert code_of(decide(policy, make_head(CLONE), 0.0, caller=Caller("a", {}, frozenset()))) is Code.NO_ROUTE


def test_nothing_is_audited_when_it_is_granted(guarded: Policy, make_head: Heads) -> None:
    head = make_head("POST /tts/v1/voice", [("X-Api-Key", STOREFRONT)])
    decision = decide(replace(guarded, mode=Mode.AUDIT), head, 0.0)
    assert isinstance(decision, Allow)
    assert decision.audited is None


# What the key may do.


def test_a_realtime_only_key_stays_one_whatever_permissions_are_declared_for_it(catalogue: Catalogue) -> None:
    power = KeyPower(KeyType.REALTIME_ONLY, Level.WRITE, Level.WRITE)
    for operation in catalogue.operations:
        for method in operation.methods:
            refused = check_power(power, operation, method, credential="live")
            assert (refused is None) == (operation.permission is Permission.REALTIME), operation.name


def test_any_method_that_is_no_known_read_is_a_write(catalogue: Catalogue) -> None:
    power = KeyPower()
    gated = [row for row in catalogue.operations if row.permission in {Permission.VOICES, Permission.ROUTER}]
    assert gated
    for operation in gated:
        for method in ("POST", "PUT", "PATCH", "DELETE", "QUERY", "get", ""):
            refused = check_power(power, operation, method, credential="k")
            assert refused is not None
            assert refused[0] is Code.WRITE_NOT_PERMITTED
        for method in ("GET", "HEAD", "OPTIONS"):
            assert check_power(power, operation, method, credential="k") is None


def test_no_key_has_the_power_to_mint(catalogue: Catalogue) -> None:
    for operation in catalogue.operations:
        if operation.permission is Permission.MINT:
            for type_ in KeyType:
                refused = check_power(KeyPower(type_, Level.WRITE, Level.WRITE), operation, "POST", credential="k")
                assert refused is not None


# Hosts, origins and sites (browser.py has the grammar; here is that decide() asks it).


def test_a_request_without_host_is_refused_unless_it_is_http_1_0(make_policy: Policies, make_head: Heads) -> None:
    request = "POST /tts/v1/voice"
    assert code_of(decide(make_policy(), make_head(request, host=None), 0.0)) is Code.BAD_REQUEST
    assert code_of(decide(make_policy(), make_head(request, host=""), 0.0)) is Code.BAD_REQUEST
    assert isinstance(decide(make_policy(), make_head(request, host=None, version=10), 0.0), Allow)
    named = make_head(request, host="evil.test", version=10)
    assert code_of(decide(make_policy(), named, 0.0)) is Code.HOST_NOT_ALLOWED


def test_any_well_formed_host_will_do_where_names_are_not_checked(make_policy: Policies, make_head: Heads) -> None:
    policy = make_policy(hosts=None)
    assert isinstance(decide(policy, make_head("POST /tts/v1/voice", host="10.0.0.7:8080"), 0.0), Allow)
    assert code_of(decide(policy, make_head("POST /tts/v1/voice", host="a,b"), 0.0)) is Code.BAD_REQUEST


@pytest.mark.parametrize("request_line", ["POST /tts/v1/voice", CLONE, SOCKET, "GET /voices/v1/voices", "GET /nowhere"])
def test_no_web_page_reaches_an_operation_by_another_name_or_from_another_origin(
    make_policy: Policies, make_head: Heads, request_line: str
) -> None:
    policy = make_policy(MANY)
    for host, fields, code in (
        ("rebind.evil:8080", [], Code.HOST_NOT_ALLOWED),
        ("0.0.0.0:8080", [], Code.HOST_NOT_ALLOWED),
        ("localhost:8080", [("Origin", "http://evil.test")], Code.ORIGIN_NOT_ALLOWED),
        ("localhost:8080", [("Origin", "null")], Code.ORIGIN_NOT_ALLOWED),
        ("localhost:8080", [("Origin", "http://localhost:8080")], Code.ORIGIN_NOT_ALLOWED),
        ("localhost:8080", [("Sec-Fetch-Site", "cross-site")], Code.CROSS_SITE_REQUEST),
        ("localhost:8080", [("Sec-Fetch-Site", "same-site")], Code.CROSS_SITE_REQUEST),
    ):
        head = make_head(request_line, fields, host=host, websocket=request_line == SOCKET)
        assert code_of(decide(policy, head, 0.0)) is code


def test_an_allowed_origin_may_call_and_no_other(make_policy: Policies, make_head: Heads) -> None:
    policy = make_policy(origins=frozenset({"http://localhost:3000"}))
    fields = [("Origin", "http://localhost:3000"), ("Sec-Fetch-Site", "cross-site")]
    assert isinstance(decide(policy, make_head("POST /tts/v1/voice", fields), 0.0), Allow)
    assert isinstance(decide(policy, make_head(SOCKET, fields, websocket=True), 0.0), Allow)
    other = make_head("POST /tts/v1/voice", [("Origin", "http://localhost:3001"), ("Sec-Fetch-Site", "same-origin")])
    assert code_of(decide(policy, other, 0.0)) is Code.ORIGIN_NOT_ALLOWED


# WebSocket handshakes.


def without(noted: dict[bytes, bytes], name: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value in noted.items() if key != name}


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"upgrade", None), (b"upgrade", b"h2c"), (b"upgrade", b"websocket, h2c"), (b"upgrade", b""),
     (b"connection", None), (b"connection", b"keep-alive"), (b"connection", b"close"),
     (b"sec-websocket-version", None), (b"sec-websocket-version", b"8"), (b"sec-websocket-version", b"13, 8"),
     (b"sec-websocket-key", None), (b"sec-websocket-key", b""), (b"sec-websocket-key", KEY[:-1]),
     (b"sec-websocket-key", KEY + b"="), (b"sec-websocket-key", b"!" * 22 + b"=="),
     (b"sec-websocket-key", KEY + b"\n")],
)  # fmt: skip
def test_a_handshake_that_is_not_complete_is_426(
    make_policy: Policies, make_head: Heads, name: bytes, value: bytes | None
) -> None:
    head = make_head(SOCKET, websocket=True)
    noted = without(head.noted, name) if value is None else {**head.noted, name: value}
    assert code_of(decide(make_policy(), head._replace(noted=noted), 0.0)) is Code.UPGRADE_REQUIRED


def test_a_handshake_of_http_1_0_is_426(make_policy: Policies, make_head: Heads) -> None:
    head = make_head(SOCKET, websocket=True, version=10)
    assert code_of(decide(make_policy(), head, 0.0)) is Code.UPGRADE_REQUIRED


def test_a_handshake_with_a_body_is_400(make_policy: Policies, make_head: Heads) -> None:
    for field in (("Content-Length", "1"), ("Content-Length", "00"), ("Transfer-Encoding", "chunked")):
        assert code_of(decide(make_policy(), make_head(SOCKET, [field], websocket=True), 0.0)) is Code.BAD_REQUEST
    head = make_head(SOCKET, [("Content-Length", "0")], websocket=True)
    assert isinstance(decide(make_policy(), head, 0.0), Allow)


def test_a_handshake_may_be_spelled_as_clients_spell_it(make_policy: Policies, make_head: Heads) -> None:
    head = make_head(SOCKET, websocket=True)
    noted = {**head.noted, b"upgrade": b"WebSocket", b"connection": b"keep-alive, Upgrade"}
    assert isinstance(decide(make_policy(), head._replace(noted=noted), 0.0), Allow)


def test_an_offer_of_http_2_on_a_plain_operation_is_not_taken_for_a_websocket(
    make_policy: Policies, make_head: Heads
) -> None:
    fields = [("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings")]
    assert isinstance(decide(make_policy(), make_head("POST /tts/v1/voice", fields), 0.0), Allow)
    both = make_head("POST /tts/v1/voice", [("Upgrade", "h2c, WebSocket")])
    assert code_of(decide(make_policy(), both, 0.0)) is Code.UPGRADE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("offered", "upstream", "selected"),
    [
        ([], None, None),
        (["realtime"], b"realtime", None),
        (["a", "b"], b"a, b", None),
        (["bearer_T"], None, b"bearer_T"),
        (["openai-insecure-api-key.T"], None, b"openai-insecure-api-key.T"),
        (
            ["realtime, openai-insecure-api-key.T, openai-beta.realtime-v1"],
            b"realtime, openai-beta.realtime-v1",
            b"realtime",
        ),
        (["bearer_T", "a", "b"], b"a, b", b"a"),
        (["bearer_T,bearer_U"], None, b"bearer_T"),
        (["Bearer_T"], b"Bearer_T", None),
    ],
)
def test_a_token_offered_as_a_subprotocol_stays_here_and_what_a_browser_needs_is_selected(
    make_policy: Policies, make_head: Heads, offered: list[str], upstream: bytes | None, selected: bytes | None
) -> None:
    head = make_head(SOCKET, [("Sec-WebSocket-Protocol", value) for value in offered], websocket=True)
    decision = decide(make_policy(), head, 0.0)
    assert isinstance(decision, Allow)
    assert (decision.protocols, decision.select_protocol) == (upstream, selected)


# What goes on the wire.


@pytest.mark.parametrize(
    ("target", "out"),
    [
        ("/tts/v1/voices?filter=language=en", "/tts/v1/voices?filter=language=en"),
        ("/tts/v1/voices?", "/tts/v1/voices?"),
        ("/tts/v1/voices?token=x", "/tts/v1/voices"),
        ("/tts/v1/voices?a=1&key=x&b=%41", "/tts/v1/voices?a=1&b=%41"),
        ("/voices/v1/voices/a%C3%A9?x=%2e%2E", "/voices/v1/voices/a%C3%A9?x=%2e%2E"),
    ],
)
def test_what_was_judged_is_sent_byte_for_byte_less_what_looks_like_a_credential(
    make_policy: Policies, make_head: Heads, target: str, out: str
) -> None:
    decision = decide(make_policy(), make_head(f"GET {target}"), 0.0)
    assert isinstance(decision, Allow)
    assert decision.target == out


def test_the_session_id_of_the_realtime_socket_is_sent_and_a_token_beside_it_is_not(
    make_policy: Policies, make_head: Heads
) -> None:
    head = make_head("GET /api/v1/realtime/session?key=s-1&protocol=realtime&token=t", websocket=True)
    decision = decide(make_policy(), head, 0.0)
    assert isinstance(decision, Allow)
    assert decision.target == "/api/v1/realtime/session?key=s-1&protocol=realtime"


# What a refusal says.


def test_a_missing_permission_is_named_with_its_key_and_where_to_change_it(
    make_policy: Policies, make_head: Heads
) -> None:
    message = deny(decide(make_policy(), make_head(CLONE), 0.0)).message
    for part in ("POST", "write permission", "Voice API", "'workspace'", "voices: read", "--voices write",
                 "credentials.workspace.permissions.voices"):  # fmt: skip
        assert part in message
    none = KeyPower(KeyType.STANDARD, Level.NONE, Level.NONE)
    message = deny(decide(make_policy(none), make_head("GET /router/v1/routers"), 0.0)).message
    for part in ("GET", "read permission", "Router API", "router: none", "--router read"):
        assert part in message


def test_a_missing_grant_is_named_with_its_caller_and_where_to_add_it(guarded: Policy, make_head: Heads) -> None:
    message = deny(decide(guarded, make_head(CLONE, [("X-Api-Key", STOREFRONT)]), 0.0)).message
    for part in ("'storefront'", "voices.clone", "callers.storefront.allow"):
        assert part in message


def test_a_key_of_the_wrong_type_is_named_with_what_to_do(make_policy: Policies, make_head: Heads) -> None:
    message = deny(decide(make_policy(KeyPower(KeyType.REALTIME_ONLY)), make_head(CLONE), 0.0)).message
    for part in ("'workspace'", "realtime-only", "voices.clone", "standard key"):
        assert part in message


def test_a_wrong_method_is_answered_with_the_right_ones(make_policy: Policies, make_head: Heads) -> None:
    assert deny(decide(make_policy(), make_head("PUT /router/v1/routers"), 0.0)).allow == "GET, HEAD, POST"
    everywhere = deny(decide(make_policy(), make_head("TRACE /router/v1/routers"), 0.0)).allow
    assert everywhere == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize(
    ("request_line", "shape"),
    [
        ("POST /v1/nothing", ErrorShape.OPENAI),
        ("GET /v1/chat/completions", ErrorShape.OPENAI),
        ("GET /v1/messages", ErrorShape.ANTHROPIC),
        ("GET /v1/sessionTokens/token:generate", ErrorShape.GRPC),
        ("PUT /voices/v1/voices", ErrorShape.GRPC),
        ("GET /nothing", ErrorShape.GRPC),
        (CLONE, ErrorShape.GRPC),
        ("GET /api/v1/realtime/session", ErrorShape.OPENAI),
    ],
)
def test_a_refusal_has_the_shape_of_its_path_before_an_operation_is_known_and_the_operations_own_after(
    make_policy: Policies, make_head: Heads, request_line: str, shape: ErrorShape
) -> None:
    assert deny(decide(make_policy(), make_head(request_line), 0.0)).shape is shape
    foreign = make_head(request_line, host="evil.test")
    assert deny(decide(make_policy(), foreign, 0.0)).shape is shape


def deny(decision: Decision) -> Deny:
    assert isinstance(decision, Deny)
    return decision


REQUESTS = [row[1] for row in EVERYTHING_WRONG] + [
    SOCKET, "GET /tts/v1/voice:streamBidirectional", "GET /v1/models", "DELETE /router/v1/routers/r",
]  # fmt: skip
FIELDS = [("Authorization", f"Bearer {STUDIO}"), ("Authorization", basic(f"studio:{STOREFRONT}")),
          ("X-Api-Key", STUDIO), ("X-Api-Key", "sk-secret-1"), ("Sec-WebSocket-Protocol", f"bearer_{STOREFRONT}, b"),
          ("Cookie", "sk-secret-2"), ("Upgrade", "websocket"), ("Transfer-Encoding", "sk-secret-3"),
          ("Content-Length", "sk-secret-4"), ("Connection", "Upgrade"),
          ("Sec-WebSocket-Key", "sk-secret-5")]  # fmt: skip


@given(st.sampled_from(REQUESTS), st.lists(st.sampled_from(FIELDS), max_size=5), st.booleans(), st.sampled_from(Mode))
def test_no_sentence_contains_a_secret(
    guarded: Policy, make_head: Heads, request_line: str, fields: list[tuple[str, str]], websocket: bool, mode: Mode
) -> None:
    separator = "&" if "?" in request_line else "?"
    head = make_head(f"{request_line}{separator}token=sk-secret-6", fields, websocket=websocket)
    decision = decide(replace(guarded, mode=mode), head, 0.0)
    denied = [one for one in (decision, getattr(decision, "audited", None)) if isinstance(one, Deny)]
    for secret in (STUDIO, STOREFRONT, "sk-secret", base64.b64encode(f"studio:{STOREFRONT}".encode()).decode()):
        assert all(secret not in one.message for one in denied)
        assert not isinstance(decision, Allow) or secret not in decision.target


noted_names = st.sampled_from([
    b"host", b"connection", b"authorization", b"x-api-key", b"origin", b"sec-fetch-site", b"sec-websocket-protocol",
    b"sec-websocket-key", b"sec-websocket-version", b"upgrade", b"content-length", b"transfer-encoding", b"expect",
])  # fmt: skip
values = st.binary(max_size=20) | st.sampled_from(
    [b"localhost", b"Basic ", b"Bearer", b"Basic dTpw", b"bearer_, ,", b","]
)


@given(
    st.text(max_size=8) | st.sampled_from(["GET", "POST"]),
    st.text(max_size=20) | st.sampled_from([SOCKET[4:], "/tts/v1/voice", "/voices/v1/voices/x"]),
    st.sampled_from([10, 11]),
    st.dictionaries(noted_names, values, max_size=6),
)
def test_nothing_in_a_head_makes_deciding_fail(
    guarded: Policy, make_policy: Policies, method: str, target: str, version: int, noted: dict[bytes, bytes]
) -> None:
    head = RequestHead(method, target, version, [], noted)
    for policy in (guarded, make_policy(MANY), make_policy(hosts=None)):
        decide(policy, head, 0.0)
