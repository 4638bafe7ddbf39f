"""A caller is recognised by the digest of the token presented."""

import hashlib

import pytest

from proxy.callers.token import DIGEST_OF_NOTHING, digest_token, parse_digest, spell_digest, token_recogniser
from proxy.core.model import Caller, Presented

STOREFRONT = Caller("storefront", {}, frozenset({"tts.synthesize"}))
STUDIO = Caller("studio", {}, frozenset())
RECOGNISE = token_recogniser(
    [(digest_token(b"one"), STOREFRONT), (digest_token(b"newer"), STOREFRONT), (digest_token(b"two"), STUDIO)]
)


@pytest.mark.parametrize(
    ("token", "user", "caller"),
    [
        (b"one", None, STOREFRONT),
        (b"newer", None, STOREFRONT),
        (b"two", None, STUDIO),
        (b"two", "studio", STUDIO),
        (b"two", "", STUDIO),
        (b"two", "storefront", None),
        (b"two", "Studio", None),
        (b"three", None, None),
        (b"", None, None),
        (b"ONE", None, None),
        (digest_token(b"one"), None, None),
        (spell_digest(digest_token(b"one")).encode(), None, None),
        (b"\xff\xfe", None, None),
    ],
)
def test_a_token_belongs_to_one_caller_or_to_none(token: bytes, user: str | None, caller: Caller | None) -> None:
    assert RECOGNISE(Presented("authorization", token, user), 0.0) is caller


def test_without_callers_nobody_is_recognised() -> None:
    assert token_recogniser([])(Presented("x-api-key", b"one"), 0.0) is None


def test_digests_are_spelled_as_the_configuration_has_them() -> None:
    spelled = spell_digest(digest_token(b"one"))
    assert spelled == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert parse_digest(spelled) == digest_token(b"one")
    assert parse_digest(spelled.upper().replace("SHA", "sha")) == digest_token(b"one")
    assert digest_token(b"") == DIGEST_OF_NOTHING


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "g" * 64, "0" * 64, "md5:" + "0" * 64]
)
def test_what_is_no_digest_is_none(text: str) -> None:
    assert parse_digest(text) is None
