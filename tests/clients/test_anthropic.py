"""The ``anthropic`` package through the proxy: messages whole and streamed, with either kind of key, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.processes import (
    ANYTHING,
    PATIENCE,
    READER,
    STOREFRONT,
    STRANGER,
    Proxy,
    Sandbox,
    fields_of,
    needed,
)

anthropic = needed("anthropic")

ASKED = {
    "model": "anthropic/claude-sonnet-4",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Was kostet die Welt?"}],
}


def client_for(proxy: Proxy, **key: str) -> Any:
    return anthropic.Anthropic(base_url=proxy.url, max_retries=0, timeout=PATIENCE, **key)


@pytest.fixture(params=["auth_token", "api_key"])
def client(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Any]:
    """A client whose key, of either kind, is a caller token."""
    with client_for(proxy, **{request.param: STOREFRONT}) as made:
        yield made


def direct_reply(sandbox: Sandbox) -> str:
    return str(sandbox.ask("POST", "/v1/messages", ASKED).json()["content"][0]["text"])


def test_a_message_is_what_the_sandbox_answers(client: Any, sandbox: Sandbox) -> None:
    message = client.messages.create(**ASKED)
    assert message.content[0].text == direct_reply(sandbox)
    seen = sandbox.only()
    assert (seen["operation"], seen["credential"]) == ("llm.messages", "full")
    assert "x-api-key" not in fields_of(seen)
    assert fields_of(seen)["anthropic-version"]


def test_every_piece_of_a_streamed_message_arrives_before_the_next_is_sent(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    pieces = []
    with client.messages.stream(**ASKED, extra_body={"sandbox": {"between": 0, "gate": gate}}) as stream:
        sandbox.open_gate(gate)
        for piece in stream.text_stream:
            pieces.append(piece)
            sandbox.open_gate(gate)
        final = stream.get_final_message()
    assert "".join(pieces) == final.content[0].text == direct_reply(sandbox)
    assert len(pieces) > 3
    assert final.stop_reason == "end_turn"


@pytest.mark.parametrize("kind", ["auth_token", "api_key"])
def test_a_key_of_the_clients_own_is_ignored_where_there_are_no_callers(
    open_proxy: Proxy, sandbox: Sandbox, kind: str
) -> None:
    with client_for(open_proxy, **{kind: ANYTHING}) as client:
        assert client.messages.create(**ASKED).content[0].text == direct_reply(sandbox)


def check_refusal(error: Any, code: str, kind: str, message: str) -> None:
    assert message in error.message
    assert error.body["type"] == "error"
    assert error.body["error"]["type"] == kind
    assert error.body["error"]["code"] == code
    assert message in error.body["error"]["message"]
    assert error.response.headers["proxy-status"].endswith(f'; details="{code}"')


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["auth_token", "api_key"])
def test_a_caller_without_the_grant_gets_a_permission_denied_error(
    proxy: Proxy, sandbox: Sandbox, kind: str, streamed: bool
) -> None:
    with client_for(proxy, **{kind: READER}) as client, pytest.raises(anthropic.PermissionDeniedError) as refused:
        client.messages.create(**ASKED, stream=streamed)
    check_refusal(refused.value, "operation_not_granted", "permission_error", "'reader' is not granted llm.messages")
    assert sandbox.seen() == []


@pytest.mark.parametrize("kind", ["auth_token", "api_key"])
def test_a_key_that_is_no_callers_token_gets_an_authentication_error(proxy: Proxy, sandbox: Sandbox, kind: str) -> None:
    with client_for(proxy, **{kind: STRANGER}) as client, pytest.raises(anthropic.AuthenticationError) as refused:
        client.messages.create(**ASKED)
    check_refusal(refused.value, "unknown_caller", "authentication_error", "belongs to no caller of this proxy")
    assert sandbox.seen() == []


def test_an_operation_that_the_api_does_not_have_gets_a_not_found_error(client: Any, sandbox: Sandbox) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.count_tokens(model=ASKED["model"], messages=ASKED["messages"])
    check_refusal(refused.value, "no_operation", "not_found_error", "/v1/messages/count_tokens is not in this proxy's")
    assert sandbox.seen() == []


def test_what_the_upstream_refuses_gets_through_as_the_upstream_said_it(client: Any, sandbox: Sandbox) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**{**ASKED, "messages": []})
    assert "model, messages and max_tokens are required" in refused.value.message
    assert "proxy-status" not in refused.value.response.headers
