"""Callers known by the user who connected: asked only where no token is shown, and by nothing that can be sent."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import pytest

from proxy.callers.token import digest_token, token_recogniser
from proxy.callers.user import user_recogniser
from proxy.core.errors import Code
from proxy.core.model import Allow, Caller, Deny, KeyPower, Policy, RequestHead, Route
from proxy.core.policy import decide
from proxy.wire.head import RequestParts, read_request
from proxy.wire.tunnel import Asked

Heads = Callable[..., RequestHead]
Policies = Callable[..., Policy]

TOKEN = "tok-storefront-3f81"
SPEAK, LIST = "POST /tts/v1/voice", "GET /voices/v1/voices"
BATCH = 1001


@pytest.fixture(scope="session")
def policy(make_policy: Policies, routes_to: Callable[[KeyPower], Mapping[str, Route]]) -> Policy:
    """storefront, by token, may list voices; batch, the user 1001, may synthesize."""
    routes = routes_to(KeyPower())
    storefront = Caller("storefront", routes, frozenset({"voices.list"}))
    batch = Caller("batch", routes, frozenset({"tts.synthesize"}))
    return make_policy(
        recognisers=(token_recogniser([(digest_token(TOKEN.encode()), storefront)]),),
        recognise_user=user_recogniser({BATCH: batch}),
    )


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_the_user_who_connected_is_the_caller_with_that_callers_grant(policy: Policy, make_head: Heads) -> None:
    decision = decide(policy, make_head(SPEAK)._replace(uid=BATCH), 0.0)
    assert isinstance(decision, Allow)
    assert decision.caller.name == "batch"
    refused = decide(policy, make_head(LIST)._replace(uid=BATCH), 0.0)
    assert isinstance(refused, Deny)
    assert (refused.code, refused.caller and refused.caller.name) == (Code.OPERATION_NOT_GRANTED, "batch")


@pytest.mark.parametrize("uid", [None, 0, 1, 1000, 1002, 65534, 2**32 - 1])
def test_no_other_user_is(policy: Policy, make_head: Heads, uid: int | None) -> None:
    decision = decide(policy, make_head(SPEAK)._replace(uid=uid), 0.0)
    assert isinstance(decision, Deny)
    assert (decision.code, decision.caller) == (Code.CALLER_REQUIRED, None)
    assert uid is None or f"The user who connected, {uid}, is none of them." in decision.message


def test_a_token_is_what_counts_where_there_is_one(policy: Policy, make_head: Heads) -> None:
    head = make_head(LIST, [("Authorization", f"Bearer {TOKEN}")])._replace(uid=BATCH)
    decision = decide(policy, head, 0.0)
    assert isinstance(decision, Allow)
    assert decision.caller.name == "storefront"
    # With its token it is the storefront and may do what that may, and not what its user may.
    refused = decide(policy, make_head(SPEAK, [("Authorization", f"Bearer {TOKEN}")])._replace(uid=BATCH), 0.0)
    assert isinstance(refused, Deny)
    assert refused.code is Code.OPERATION_NOT_GRANTED


WRONG = [
    ("authorization", "Bearer wrong", Code.UNKNOWN_CALLER),
    ("authorization", "Bearer", Code.UNKNOWN_CALLER),
    ("authorization", "Bearer " + "x" * 9000, Code.UNKNOWN_CALLER),
    ("authorization", "Basic none-needed", Code.UNKNOWN_CALLER),
    ("authorization", _basic("batch:wrong"), Code.UNKNOWN_CALLER),
    ("x-api-key", "wrong", Code.UNKNOWN_CALLER),
    ("sec-websocket-protocol", "bearer_wrong", Code.UNKNOWN_CALLER),
    ("sec-websocket-protocol", "realtime, openai-insecure-api-key.", Code.UNKNOWN_CALLER),
    # What an application sends whose token is missing, and what is no token of ours.
    ("authorization", "", Code.CALLER_REQUIRED),
    ("authorization", "Digest username=batch", Code.CALLER_REQUIRED),
    ("x-api-key", "", Code.CALLER_REQUIRED),
]


@pytest.mark.parametrize(("field", "value", "code"), WRONG)
def test_who_shows_anything_in_place_of_a_token_never_falls_back_to_the_user(
    policy: Policy, make_head: Heads, field: str, value: str, code: Code
) -> None:
    decision = decide(policy, make_head(SPEAK, [(field, value)])._replace(uid=BATCH), 0.0)
    assert isinstance(decision, Deny)
    assert (decision.code, decision.caller) == (code, None)
    assert code is Code.UNKNOWN_CALLER or f"leave out the field {field}" in decision.message


def test_a_field_that_is_no_token_of_the_proxys_does_not_keep_the_user_from_being_asked(
    policy: Policy, make_head: Heads
) -> None:
    for fields in ([("Cookie", "session=1")], [("Proxy-Authorization", "Basic x")], [("X-Uid", "7")]):
        assert isinstance(decide(policy, make_head(SPEAK, fields)._replace(uid=BATCH), 0.0), Allow)


@pytest.mark.parametrize(
    "line",
    [b":uid: 1001", b"uid: 1001", b"Uid: 1001", b"X-Uid: 1001", b"SO_PEERCRED: 1001", b"Peer: unix:1001",
     b"X-Forwarded-User: batch", b"Remote-User: 1001"],
)  # fmt: skip
def test_no_field_says_who_connected(policy: Policy, line: bytes) -> None:
    read = read_request(b"POST /tts/v1/voice HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n")
    if isinstance(read, RequestParts):
        assert read.head.uid is None
        decision = decide(policy, read.head, 0.0)
        assert isinstance(decision, Deny)
        assert decision.code is Code.CALLER_REQUIRED
    else:
        assert read.code is Code.BAD_REQUEST


def test_without_such_callers_the_user_means_nothing(make_policy: Policies, make_head: Heads) -> None:
    policy = make_policy(recognisers=(lambda presented, now: None,))
    decision = decide(policy, make_head(SPEAK)._replace(uid=BATCH), 0.0)
    assert isinstance(decision, Deny)
    assert decision.message.endswith("(Authorization: Bearer).")


def test_the_user_is_asked_after_the_host_and_the_origin(policy: Policy, make_head: Heads) -> None:
    for fields, host, code in (
        ([], "a-page.example", Code.HOST_NOT_ALLOWED),
        ([("Origin", "https://a-page.example")], "localhost", Code.ORIGIN_NOT_ALLOWED),
        ([("Sec-Fetch-Site", "cross-site")], "localhost", Code.CROSS_SITE_REQUEST),
    ):
        decision = decide(policy, make_head(SPEAK, fields, host=host)._replace(uid=BATCH), 0.0)
        assert isinstance(decision, Deny)
        assert decision.code is code


def test_what_is_kept_of_a_handshake_keeps_the_user(make_head: Heads) -> None:
    head = make_head("GET /api/v1/realtime/session?key=s", websocket=True)._replace(uid=BATCH)
    again = Asked.of(head).head()
    assert (again.uid, again.noted) == (BATCH, head.noted)
