"""Which keys of a set are used, and which are too weak, of the wrong kind, or not what they say."""

from __future__ import annotations

import base64
import json
import math
import textwrap
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.jwt import FixedKeys, JwtRecogniser, JwtRule
from proxy.callers.key_set import KeyRefused, read_configured_key, read_key_set
from proxy.core.model import Caller, Presented
from tests.callers.issuers import AUDIENCE, ISSUER, NOW, ec_key, ed_key, jwk, key_set, rsa_key, sign

STUDIO = Caller("studio", {})
RSA = jwk(rsa_key())
SECRET = "k" * 32


@pytest.mark.parametrize(
    ("published", "algorithm"),
    [
        (RSA, "RS256"),
        (RSA | {"alg": "PS384"}, "PS384"),
        (RSA | {"use": "sig", "key_ops": ["verify"], "x5c": ["nonsense"], "x5u": "file:///etc/passwd"}, "RS256"),
        (jwk(ec_key("secp256r1")), "ES256"),
        (jwk(ec_key("secp384r1"), alg="ES384"), "ES384"),
        (jwk(ec_key("secp521r1")), "ES512"),
        (jwk(ed_key(), alg="EdDSA"), "EdDSA"),
    ],
)
def test_a_good_key_has_one_algorithm(published: dict[str, Any], algorithm: str) -> None:
    keys = key_set(published | {"kid": "a"})
    assert keys.by_id["a"].algorithm == algorithm
    assert (len(keys), keys.refused) == (1, ())


@pytest.mark.parametrize(
    ("published", "says"),
    [
        (jwk(rsa_key(1024)), "less than 2048 bits"),
        ({"kty": "oct", "k": "a" * 86, "alg": "HS256"}, "shared secret"),
        (RSA | {"alg": "HS256"}, "not of its type"),
        (RSA | {"alg": "none"}, "not of its type"),
        (RSA | {"alg": "ES256"}, "not of its type"),
        (RSA | {"alg": 7}, "not of its type"),
        (RSA | {"alg": "RSA-OAEP"}, "not of its type"),
        (RSA | {"use": "enc"}, "not for signatures"),
        (RSA | {"use": ["sig"]}, "not for signatures"),
        (RSA | {"key_ops": ["encrypt"]}, "not for signatures"),
        (RSA | {"key_ops": 7}, "not for signatures"),
        (RSA | {"d": "AQAB"}, "private key"),
        (RSA | {"n": None}, "not complete"),
        (RSA | {"n": 7}, "not complete"),
        (RSA | {"n": ""}, "no valid key"),
        (RSA | {"n": "é"}, "no valid key"),
        (RSA | {"e": "AA"}, "no valid key"),
        (jwk(ec_key("secp256k1")), "not known"),
        (jwk(ec_key("secp256r1"), alg="ES384"), "not of its type"),
        (jwk(ec_key("secp256r1"), crv="P-384"), "no valid key"),
        (jwk(ec_key("secp256r1"), y=jwk(ec_key("secp256r1"))["x"]), "no valid key"),
        (jwk(ed_key(), crv="X25519"), "no valid key"),
        (jwk(ed_key(), crv="Ed448"), "no valid key"),
        ({"kty": "PQ"}, "not known"),
        ({"kty": ["RSA"]}, "not known"),
        ({}, "not known"),
        ("key", "not a JSON object"),
        (None, "not a JSON object"),
        (RSA | {"kid": 1}, "not a text"),
    ],
    ids=str,
)
def test_a_bad_key_is_left_out_and_the_others_stay(published: object, says: str) -> None:
    keys = key_set(published, jwk(ed_key(), kid="good"))
    assert ([*keys.by_id], len(keys)) == (["good"], 1)
    assert len(keys.refused) == 1
    assert says in keys.refused[0]


def test_a_secret_in_a_set_is_never_used_not_even_beside_others() -> None:
    mixed = key_set(RSA | {"kid": "a"}, {"kty": "oct", "k": "a" * 86, "kid": "b"})
    assert mixed.find("b") is None
    assert mixed.find("a") is not None
    assert len(key_set({"kty": "oct", "k": "a" * 86})) == 0


def test_an_id_that_two_keys_have_is_neithers() -> None:
    twice = [jwk(rsa_key(), kid="a"), jwk(ed_key(), kid="a"), jwk(ec_key(), kid="a"), jwk(ec_key(), kid="b")]
    assert [*key_set(*twice).by_id] == ["b"]


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b'{"keys":{}}', b"<html>", b"\xff", b"[" * 100_000, b'{"keys":[]}x'],
    ids=lambda content: content[:8].decode("latin-1"),
)
def test_what_is_no_set_is_refused(content: bytes) -> None:
    with pytest.raises(KeyRefused, match="not a JSON object with a list of keys"):
        read_key_set(content)


def test_an_empty_set_is_a_set_without_keys() -> None:
    keys = read_key_set(b'{"keys":[]}')
    assert (len(keys), keys.find(None), keys.find("a")) == (0, None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=2)
)
MEMBERS = ["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "key_ops", "kid"]


@given(st.sampled_from([RSA, jwk(ec_key()), jwk(ed_key())]), st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_no_key_is_an_error(published: dict[str, Any], changed: dict[str, Any]) -> None:
    content = json.dumps({"keys": [published | changed]}).encode()
    keys = read_key_set(content)
    assert len(keys) + len(keys.refused) == 1
    assert keys == read_key_set(content)


# -- one key, as configured -------------------------------------------------------------------------------------------


def pem(key: Any) -> str:
    spelled = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return str(spelled.decode())


@pytest.mark.parametrize(("key", "algorithm"), [(rsa_key(), "RS256"), (ec_key(), "ES256"), (ed_key(), "EdDSA")])
def test_a_public_key_verifies_whatever_id_its_tokens_name(key: Any, algorithm: str) -> None:
    recognise = JwtRecogniser([JwtRule(STUDIO, FixedKeys(read_configured_key(pem(key))), ISSUER, AUDIENCE, {})])
    for header in ({}, {"kid": "x"}, {"kid": ""}):
        assert recognise(Presented("authorization", sign(key, algorithm, header=header)), NOW) is STUDIO
    assert recognise(Presented("authorization", sign(SECRET, "HS256")), NOW) is None


def test_a_shared_secret_verifies_hs256_alone() -> None:
    recognise = JwtRecogniser([JwtRule(STUDIO, FixedKeys(read_configured_key(SECRET)), ISSUER, AUDIENCE, {})])
    assert recognise(Presented("authorization", sign(SECRET, "HS256")), NOW) is STUDIO
    assert recognise(Presented("authorization", sign(SECRET, "HS512")), NOW) is None
    assert recognise(Presented("authorization", sign(SECRET + "2", "HS256")), NOW) is None
    assert recognise(Presented("authorization", sign(rsa_key())), NOW) is None


def private_pem(key: Any) -> str:
    spelled = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return str(spelled.decode())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("k" * 31, "less than 32 bytes"),
        ("", "less than 32 bytes"),
        (pem(rsa_key(1024)), "less than 2048 bits"),
        (pem(ec_key("secp256k1")), "not known"),
        (private_pem(ed_key()), "not a public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        (" -----BEGIN CERTIFICATE-----\nAAAA", "not a public key"),
    ],
)
def test_a_key_that_is_too_weak_or_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(KeyRefused, match=says) as raised:
        read_configured_key(text)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_nothing_shows_a_secret() -> None:
    assert SECRET not in repr(read_configured_key(SECRET))


def spelled(key: Any, encoding: str, form: str) -> bytes:
    kind, how = getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form)
    return bytes(key.public_key().public_bytes(kind, how))


@pytest.mark.parametrize("key", [rsa_key(), ec_key(), ed_key()], ids=["RSA", "EC", "Ed25519"])
def test_a_public_key_that_is_not_in_pem_form_never_becomes_a_shared_secret(key: Any) -> None:
    der = base64.b64encode(spelled(key, "DER", "SubjectPublicKeyInfo")).decode()
    lines = "\n".join(textwrap.wrap(der, 64))
    published = jwk(key)
    texts = (der, lines, spelled(key, "OpenSSH", "OpenSSH").decode(), json.dumps(published),
             json.dumps({"keys": [published]}), json.dumps([published], indent=2))  # fmt: skip
    for text in texts:
        with pytest.raises(KeyRefused, match="not PEM"):
            read_configured_key(text)
        # Were it one, this would be a token of a stranger's who knows the public key.
        assert len(text) >= 32


@pytest.mark.parametrize(
    "secret",
    [
        "k" * 32,
        base64.b64encode(bytes(range(48))).decode(),
        "MII" + base64.b64encode(bytes(range(200, 248))).decode(),
        "{" * 32,
        "1" * 40,
        '"' + "k" * 40 + '"',
        "é" * 16,
    ],
    ids=range(7),
)
def test_whatever_else_is_long_enough_is_a_secret(secret: str) -> None:
    assert read_configured_key(secret).find(None) is not None


def test_a_key_that_can_be_factored_is_refused() -> None:
    """ROCA: what tells such a modulus is its remainders alone, so it needs no such chip to make one."""
    product = math.prod(number for number in range(2, 168) if all(number % each for each in range(2, number)))
    modulus = pow(65537, 4711, product) + product * (1 << 2047 - product.bit_length())
    assert (modulus.bit_length(), modulus % 2) == (2047, 1)
    modulus += product * (1 << 2048 - product.bit_length())
    assert modulus.bit_length() == 2048
    n = base64.urlsafe_b64encode(modulus.to_bytes(256, "big")).rstrip(b"=").decode()
    keys = key_set(RSA | {"n": n}, RSA | {"kid": "good"})
    assert ([*keys.by_id], len(keys)) == (["good"], 1)
    assert keys.refused == ("an RSA key that can be factored (CVE-2017-15361)",)
    m = base64.urlsafe_b64encode((modulus + 2).to_bytes(256, "big")).rstrip(b"=").decode()
    assert len(key_set(RSA | {"n": m})) == 1, "the next odd number has other remainders"
