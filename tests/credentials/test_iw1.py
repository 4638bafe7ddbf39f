"""The signature reproduces every known vector, and each variant signs what its endpoint checks.

All keys in the vectors are made up. The one without a nonce is the vendor's own, from the tests of its Node SDK.
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.credentials.iw1 import (
    DOCUMENTED,
    SAMPLES,
    VARIANTS,
    MintVariant,
    authorization_value,
    sign,
    signed_host,
    split_key,
    without_port_443,
)
from proxy.credentials.secret import Secret

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "iw1_vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS["signed"])
def test_every_vector_is_reproduced(vector: dict[str, str]) -> None:
    parts = (vector["datetime"], vector["host"], vector["method"], vector["nonce"])
    assert sign(vector["secret"], parts) == vector["signature"]


@pytest.mark.parametrize("vector", VECTORS["signed"])
def test_every_vector_is_the_signature_in_the_field_value(vector: dict[str, str]) -> None:
    moment = datetime.strptime(vector["datetime"], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    value = authorization_value(
        vector["key"], Secret(vector["secret"]), host=vector["host"], method=vector["method"], moment=moment + 0.9,
        nonce=vector["nonce"],
    )  # fmt: skip
    assert value == (
        f"IW1-HMAC-SHA256 ApiKey={vector['key']},DateTime={vector['datetime']},Nonce={vector['nonce']},"
        f"Signature={vector['signature']}"
    )


def test_the_vendors_own_vector_is_reproduced() -> None:
    vector = VECTORS["without_nonce"]
    assert sign(vector["secret"], vector["parts"]) == vector["signature"]


def test_hexadecimal_digests_are_not_chained() -> None:
    vector = VECTORS["hexadecimal_chaining"]
    parts = (vector["datetime"], vector["host"], vector["method"], vector["nonce"])
    assert sign(vector["secret"], parts) != vector["signature"]
    assert any(sign(vector["secret"], parts) == each["signature"] for each in VECTORS["signed"])


@pytest.mark.parametrize(
    ("host", "signed"),
    [
        ("api-engine.inworld.ai:443", "api-engine.inworld.ai"),
        ("api.inworld.ai", "api.inworld.ai"),
        ("localhost:8443", "localhost:8443"),
        ("api-engine.inworld.ai:4433", "api-engine.inworld.ai3"),
    ],
)
def test_the_first_port_443_is_removed_as_the_vendors_code_does(host: str, signed: str) -> None:
    assert without_port_443(host) == signed
    made = [
        authorization_value("K", Secret("S"), host=each, method="M", moment=0, nonce="N") for each in (host, signed)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("variant", "upstream", "signed"),
    [
        (DOCUMENTED, "api.inworld.ai", "api.inworld.ai"),
        (SAMPLES, "api.inworld.ai", "api-engine.inworld.ai"),
        (DOCUMENTED, "API.inworld.ai", "api.inworld.ai"),
        (DOCUMENTED, "api.eu.inworld.ai", "api.eu.inworld.ai"),
        (SAMPLES, "api.eu.inworld.ai", "api-engine.eu.inworld.ai"),
        (DOCUMENTED, "127.0.0.1", "api.inworld.ai"),
        (SAMPLES, "gateway.corp.example", "api-engine.inworld.ai"),
        (DOCUMENTED, "api.inworld.ai.evil.example", "api.inworld.ai"),
    ],
)
def test_the_upstreams_documented_host_is_signed_and_never_our_own(
    variant: MintVariant, upstream: str, signed: str
) -> None:
    assert signed_host(variant, upstream) == signed


def test_the_two_variants_ask_as_documented() -> None:
    digits = "0123456789abcdef" * 2
    assert DOCUMENTED.nonce(digits) == digits
    assert SAMPLES.nonce(digits) == "123456789ab"
    assert DOCUMENTED.body("KEY", None) == {"api_key": "KEY"}
    assert SAMPLES.body("KEY", "w") == {"key": "KEY", "resources": ["workspaces/w"]}
    assert set(VARIANTS) == {"documented", "samples"}


def test_a_key_is_split_at_its_first_colon() -> None:
    key_id, secret = split_key(base64.b64decode(base64.b64encode(b"K,with=odd:a:b:c")).decode())
    assert (key_id, secret.reveal()) == ("K,with=odd", "a:b:c")
