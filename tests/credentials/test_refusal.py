"""An upstream that refuses the credential is recognised, and what it echoes of a key is not passed on."""

import json

import pytest

from proxy.credentials.refusal import says_refused, without_echo
from proxy.sandbox.errors import unknown_key

UNKNOWN = b'{"code":7,"message":"API key does not exist or was deleted: \\"Zm9v***\\"","details":[]}'
WRAPPED = b'{"error":' + UNKNOWN + b"}"


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (401, b"Unauthorized", True),
        (401, b"", True),
        (403, UNKNOWN, True),
        (403, WRAPPED, True),
        (403, b'{"code":7,"message":"this key has no permission to write voices"}', False),
        (403, b"", False),
        (200, UNKNOWN, False),
        (500, UNKNOWN, False),
        (404, b'{"code":5,"message":"Not Found"}', False),
    ],
)
def test_a_refused_credential_is_told_from_a_refused_request(status: int, body: bytes, *, refused: bool) -> None:
    assert says_refused(status, body) is refused


@pytest.mark.parametrize("body", [UNKNOWN, WRAPPED])
def test_the_echo_of_a_key_is_made_unreadable_at_the_same_length(body: bytes) -> None:
    scrubbed = without_echo(body)
    assert b"Zm9v" not in scrubbed
    assert len(scrubbed) == len(body)
    assert json.loads(scrubbed)
    assert b"does not exist or was deleted" in scrubbed


@pytest.mark.parametrize("body", [b"", b"Unauthorized", b'{"code":16}', b"\x00" * 100])
def test_anything_else_stays_as_it_is(body: bytes) -> None:
    assert without_echo(body) == body


def test_the_sandbox_says_it_in_these_words() -> None:
    refusal = unknown_key("Zm9vYmFy")
    assert says_refused(refusal.status, json.dumps({"message": refusal.message}).encode())
