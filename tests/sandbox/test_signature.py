"""The signature of the session-token mint, against what published clients compute."""

from __future__ import annotations

import pytest

from proxy.sandbox import signature

# (secret, host, method, datetime, nonce, signature), computed with the vendor's own published packages.
WORLD_ENGINE = "ai.inworld.engine.WorldEngine/GenerateToken"
VECTORS = [
    (
        "SECRET", "api-engine.inworld.ai", WORLD_ENGINE, "20220601123658", "123456789ab",
        "5b69c3a790fe5a38d34ba76ab05ecc39b227310baec63371f96b0d2c8cf1c9c3",
    ),
    (
        "TESTSECRET0000000000000000000000000000000000000000000000000000A", "api-engine.inworld.ai", WORLD_ENGINE,
        "20260131235959", "feeddccbbaa", "7c9b862957117d347027482bce54c3ff7288ff694062bbd9cd6ef51dcf4a79ed",
    ),
    (
        "sécrèt-ключ-🔑", "api-engine.inworld.ai", WORLD_ENGINE, "20260228010203", "eadbeefdead",
        "220afbaaf2f32c3c1bc5370d0cfe440d14a270ae96858f33d363179ba83d3f1b",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("secret", "host", "method", "moment", "nonce", "expected"), VECTORS)
def test_signatures_are_those_that_published_clients_make(
    secret: str, host: str, method: str, moment: str, nonce: str, expected: str
) -> None:
    assert signature.sign(secret, (moment, host, method, nonce)) == expected


def test_the_vendors_own_committed_expectation_holds() -> None:
    parts = ("20220601123658", "localhost", "ai.inworld.studio.v1alpha.Tokens/GenerateSessionToken")
    assert signature.sign("SECRET", parts) == "648908d6ef4b44b922f5ca5f7df1183c0d7455312fea3eb03e4aa1b9385efd6c"


def test_the_sample_readmes_hexadecimal_chaining_is_not_what_is_computed() -> None:
    parts = ("20220601123658", "api-engine.inworld.ai", WORLD_ENGINE, "123456789ab")
    assert signature.sign("SECRET", parts) != "3b8d20737c54612c98b2fdbf5ea603db8f7ff6cb97ac4a4b2083e1942d4e44c2"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic Zm9v",
        "IW1-HMAC-SHA256 ApiKey=K, DateTime=20220601123658, Nonce=1, Signature=" + "0" * 64,
        "IW1-HMAC-SHA256 ApiKey=K,DateTime=2022,Nonce=1,Signature=" + "0" * 64,
        "IW1-HMAC-SHA256 ApiKey=K,DateTime=20220601123658,Nonce=1,Signature=" + "G" * 64,
        "IW1-HMAC-SHA256 ApiKey=K,DateTime=20220601123658,Nonce=1,Signature=" + "0" * 64 + ",More=1",
    ],
)
def test_anything_but_the_exact_header_is_no_signature(value: str) -> None:
    assert signature.read_header(value) is None


def test_the_first_port_443_is_removed_wherever_it_stands() -> None:
    assert signature.without_port_443("localhost:4433") == "localhost3"
    assert signature.without_port_443("localhost:8443") == "localhost:8443"
