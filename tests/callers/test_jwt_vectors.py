"""Public vectors, and what can be done to a token that was truly signed: one spelling is a token, all others are not.

The vectors are the examples of RFC 7515 (appendix A) and RFC 8037 (appendix A.4). They are no tokens of ours: one rule
asks for nothing and shows whether the signature holds; with one of ours the rest is still asked for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jwt
import pytest

from proxy.callers.jwt import LONGEST, FixedKeys, JwtRecogniser, JwtRule
from proxy.callers.key_set import Key, KeySet
from proxy.core.model import Caller, Presented
from tests.callers.issuers import AUDIENCE, CLAIMS, ISSUER, NOW, ec_key, encode, jwk, key_set, rsa_key, sign, sign_text

STUDIO = Caller("studio", {})
KEYS = key_set(jwk(rsa_key(), kid="1"))
SAID = json.dumps(CLAIMS).encode()
HEADER = {"alg": "RS256", "kid": "1"}


def who(token: bytes, keys: KeySet = KEYS, rule: type[JwtRule] = JwtRule, now: float = NOW) -> Caller | None:
    return JwtRecogniser([rule(STUDIO, FixedKeys(keys), ISSUER, AUDIENCE, {})])(Presented("authorization", token), now)


# -- the examples of the RFCs -----------------------------------------------------------------------------------------

JOE = b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
BEFORE_JOE_ENDS = 1_300_819_379.0
SECRET = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)
RSA = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH"
    "g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW"
    "yuXpoQ",
    "e": "AQAB",
}
P256 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
ED25519 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}

VECTORS: dict[str, tuple[KeySet, bytes]] = {
    "RFC 7515 A.1, HS256": (
        KeySet(MappingProxyType({}), (Key("HS256", SECRET),), whatever_id=True),
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + JOE + b".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    "RFC 7515 A.2, RS256": (
        key_set(RSA),
        b"eyJhbGciOiJSUzI1NiJ9." + JOE + b".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0"
        b"Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1"
        b"L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9F"
        b"s98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    "RFC 7515 A.3, ES256": (
        key_set(P256),
        b"eyJhbGciOiJFUzI1NiJ9." + JOE + b".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJq"
        b"PP3-Kg6NU1Q",
    ),
}


class ForJoe(JwtRule):
    """Whoever the issuer of the example vouches for: nothing but the signature and the time is left to fail."""

    def accepts(self, claims: Mapping[str, object]) -> bool:
        return claims.get("iss") == "joe"


@pytest.mark.parametrize("vector", VECTORS)
def test_the_signature_of_an_example_holds_and_it_is_still_no_token_of_ours(vector: str) -> None:
    keys, token = VECTORS[vector]
    assert who(token, keys, ForJoe, BEFORE_JOE_ENDS) is STUDIO
    assert who(token, keys, ForJoe, BEFORE_JOE_ENDS + 1) is None, "it has ended"
    assert who(token, keys, JwtRule, BEFORE_JOE_ENDS) is None, "another issuer, and no audience"


@pytest.mark.parametrize("vector", VECTORS)
def test_no_letter_of_an_example_can_be_another(vector: str) -> None:
    keys, token = VECTORS[vector]
    changed = 0
    for place in range(0, len(token), 7):
        for letter in b"A_=+ .":
            other = token[:place] + bytes([letter]) + token[place + 1 :]
            if other != token:
                changed += 1
                assert who(other, keys, ForJoe, BEFORE_JOE_ENDS) is None, place
    assert changed > 100


@pytest.mark.parametrize("vector", VECTORS)
def test_an_example_holds_under_no_other_key(vector: str) -> None:
    for name, (keys, _) in VECTORS.items():
        assert (who(VECTORS[vector][1], keys, ForJoe, BEFORE_JOE_ENDS) is STUDIO) == (name == vector)


def test_the_example_that_nobody_signed_is_nobodys() -> None:
    """RFC 7515 A.5, with the empty signature that it has, and with every one of the others."""
    unsigned = b"eyJhbGciOiJub25lIn0." + JOE + b"."
    for keys, token in VECTORS.values():
        assert who(unsigned, keys, ForJoe, BEFORE_JOE_ENDS) is None
        assert who(unsigned + token.rpartition(b".")[2], keys, ForJoe, BEFORE_JOE_ENDS) is None


def test_an_edwards_signature_is_verified_as_in_the_example() -> None:
    """RFC 8037 A.4. What it signs is no JSON, so that its signature is tried on the verifier's own terms."""
    text = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    signature = b".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    keys = key_set(ED25519)
    rule = JwtRule(STUDIO, FixedKeys(keys), ISSUER, AUDIENCE, {})
    recognise = JwtRecogniser([rule])
    assert recognise._signed(text + signature, {"alg": "EdDSA"}, rule, keys)
    assert not recognise._signed(text + signature.replace(b".h", b".i"), {"alg": "EdDSA"}, rule, keys)
    assert who(text + signature, keys) is None


# -- what is signed and still no token --------------------------------------------------------------------------------


def deep(brackets: int) -> bytes:
    """A header with a list in a list in a list."""
    return b'{"alg":"RS256","kid":"1","x":' + b"[" * brackets + b"]" * brackets + b"}"


SIGNED: dict[str, Callable[[], bytes]] = {
    "a token within a token": lambda: sign_text(rsa_key(), sign(rsa_key()), HEADER | {"cty": "JWT"}),
    "a token within quotes": lambda: sign_text(rsa_key(), b'"' + sign(rsa_key()) + b'"', HEADER | {"cty": "JWT"}),
    "NaN as its end": lambda: sign_text(rsa_key(), SAID.replace(b"1780000300.0", b"NaN"), HEADER),
    "Infinity as its end": lambda: sign_text(rsa_key(), SAID.replace(b"1780000300.0", b"Infinity"), HEADER),
    "an end beyond what floats know": lambda: sign_text(rsa_key(), SAID.replace(b"1780000300.0", b"1e999"), HEADER),
    "an end before all time": lambda: sign_text(rsa_key(), SAID.replace(b"1780000300.0", b"-1e999"), HEADER),
    "NaN anywhere": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":NaN}', HEADER),
    "-Infinity deep inside": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":[{"y":-Infinity}]}', HEADER),
    "NaN in the header": lambda: sign_text(rsa_key(), SAID, b'{"alg":"RS256","kid":"1","x":NaN}'),
    "two ends": lambda: sign_text(rsa_key(), SAID[:-1] + b',"exp":1780000300}', HEADER),
    "two ends, one of them escaped": lambda: sign_text(rsa_key(), SAID[:-1] + b',"\\u0065xp":1780000300}', HEADER),
    "two members deep inside": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":{"y":1,"y":1}}', HEADER),
    "two key ids": lambda: sign_text(rsa_key(), SAID, b'{"alg":"RS256","kid":"2","kid":"1"}'),
    "something after the claims": lambda: sign_text(rsa_key(), SAID + b"{}", HEADER),
    "a NUL after the claims": lambda: sign_text(rsa_key(), SAID + b"\0", HEADER),
    "claims in Latin-1": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":"\xe9"}', HEADER),
    "an overlong dot in the claims": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":"\xc0\xae"}', HEADER),
    "a surrogate in the claims": lambda: sign_text(rsa_key(), SAID[:-1] + b',"x":"\xed\xa0\x80"}', HEADER),
    "single quotes": lambda: sign_text(rsa_key(), SAID.replace(b'"', b"'"), HEADER),
    "a key id that is half a character": lambda: sign_text(rsa_key(), SAID, b'{"alg":"RS256","kid":"\\ud800"}'),
    "an algorithm that is half a character": lambda: sign_text(rsa_key(), SAID, b'{"alg":"\\ud800","kid":"1"}'),
    "crit that it names itself": lambda: sign(rsa_key(), header={"crit": ["crit"]}),
    "crit of the key id": lambda: sign(rsa_key(), header={"kid": "1", "crit": ["kid"]}),
    "b64 as a text": lambda: sign(rsa_key(), header={"b64": "false"}),
    "a key id with a NUL": lambda: sign(rsa_key(), header={"kid": "1\0"}),
    "a key id that is a URL": lambda: sign(rsa_key(), header={"kid": "https://id.example.com/keys#1"}),
    "a key id that is an attribute": lambda: sign(rsa_key(), header={"kid": "__class__"}),
    "a key id that is true": lambda: sign(rsa_key(), header={"kid": True}),
    "a key id in another case": lambda: sign(rsa_key(), header={"kid": "l"}),
}


@pytest.mark.parametrize("name", SIGNED)
def test_what_its_issuer_signed_is_no_token_when_it_can_be_read_in_two_ways(name: str) -> None:
    assert who(SIGNED[name]()) is None


@pytest.mark.parametrize(
    "said", [{}, {"x": "\ud800"}, {"\ud800": 1}, {"x": "\0"}, {"x": 10**400}, {"x": "é"}], ids=ascii
)
def test_what_is_odd_and_has_one_reading_is_a_token(said: dict[str, Any]) -> None:
    assert who(sign(rsa_key(), **said)) is STUDIO


def test_half_a_character_is_no_audience_and_no_issuer() -> None:
    for said in ({"aud": "\ud800"}, {"aud": [AUDIENCE + "\ud800"]}, {"iss": ISSUER + "\udfff"}):
        assert who(sign(rsa_key(), **said)) is None


def test_however_deep_a_header_is_nobody_crashes() -> None:
    """Neither where we read it nor where PyJWT does, which is called a few frames deeper: so every depth is tried."""
    claims = encode(SAID)
    for brackets in range(1, 1100):
        assert who(encode(deep(brackets)) + b"." + claims + b".AAAA") is None
    for brackets in (2000, 3000):
        assert who(encode(deep(brackets)) + b"." + claims + b".AAAA") is None
    assert who(sign_text(rsa_key(), SAID, deep(20))) is STUDIO


@pytest.mark.parametrize(
    "trouble",
    [jwt.InvalidTokenError, jwt.InvalidKeyError, ValueError, TypeError, RecursionError],
    ids=lambda it: it.__name__,
)
def test_whatever_the_library_stumbles_over_is_a_refusal(
    trouble: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise trouble

    assert who(sign(rsa_key())) is STUDIO
    monkeypatch.setattr(jwt.PyJWS, "decode_complete", stumble)
    assert who(sign(rsa_key())) is None


def unused_bits(part: int) -> bytes:
    """A right token with the last letter of a part replaced by one that a lax reader takes for the same."""
    for number in range(20):
        parts = sign(rsa_key(), header={"x": "y" * number}, more="y" * number).split(b".")
        for letter in b"BCDEFGHIJKLMNOPRSTUVWXYZabcdefhijklmnopqrstuvxyz012345679":
            other = parts[part][:-1] + bytes([letter])
            if len(other) % 4 and other != parts[part] and lax(other) == lax(parts[part]):
                return b".".join([*parts[:part], other, *parts[part + 1 :]])
    raise AssertionError


def lax(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"==")


UNSEEN: dict[str, Callable[[], bytes]] = {
    "crit": lambda: sign(rsa_key(), header={"crit": ["x"], "x": 1}),
    "an empty crit": lambda: sign(rsa_key(), header={"crit": []}),
    "b64": lambda: sign(rsa_key(), header={"b64": False}),
    "alg none": lambda: sign(rsa_key(), header={"alg": "none"}),
    "alg HS256": lambda: sign(rsa_key(), header={"alg": "HS256"}),
    "another alg of the key's type": lambda: sign(rsa_key(), "PS256"),
    "an unknown key": lambda: sign(rsa_key(), header={"kid": "2"}),
    "unused bits in the header": lambda: unused_bits(0),
    "unused bits in the claims": lambda: unused_bits(1),
    "unused bits in the signature": lambda: unused_bits(2),
    "padding": lambda: sign(rsa_key()) + b"=",
    "a blank": lambda: sign(rsa_key()) + b" ",
    "a claim twice": SIGNED["two ends"],
    "no end": lambda: sign(rsa_key(), exp=None),
    "another audience": lambda: sign(rsa_key(), aud="other"),
    "another issuer": lambda: sign(rsa_key(), iss="other"),
    "too many bytes": lambda: sign(rsa_key(), more="x" * LONGEST),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_the_library_never_sees_what_is_wrong_before_its_signature(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that none of it depends on what a release of PyJWT is strict about."""
    token, right, seen = UNSEEN[name](), sign(rsa_key()), []
    monkeypatch.setattr(jwt.PyJWS, "decode_complete", lambda *arguments, **_: seen.append(arguments))
    assert who(token) is None
    assert not seen
    assert who(right) is STUDIO
    assert len(seen) == 1


# -- limits -----------------------------------------------------------------------------------------------------------


def of_length(length: int) -> bytes:
    """A right token of exactly so many bytes. Base64 cannot have each length, so three places are filled."""
    for first in range(4):
        for second in range(4):
            plain = len(sign(rsa_key(), header={"x": "y" * first}, more="y" * second))
            more = (length - plain) * 3 // 4
            for size in range(max(0, more - 4), more + 4):
                token = sign(rsa_key(), header={"x": "y" * first}, more="y" * (second + size))
                if len(token) == length:
                    return token
    raise AssertionError(length)


def test_8192_bytes_are_a_token_and_8193_are_not() -> None:
    assert LONGEST == 8192
    assert who(of_length(LONGEST)) is STUDIO
    assert who(of_length(LONGEST + 1)) is None


@pytest.mark.parametrize(
    "token",
    [
        b"A" * 100_000,
        b"A." * 50_000,
        b"A" * 8190 + b"..",
        b"A." * 4000,
        b"=" * 8192,
        b"." * 8192,
        b"A.A.A" + b"=" * 8000,
    ],
    ids=range(7),
)
def test_nothing_of_what_is_too_long_or_misspelled_is_decoded(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("something was decoded")

    monkeypatch.setattr(base64, "urlsafe_b64decode", decode)
    monkeypatch.setattr(json, "loads", decode)
    assert who(token) is None


def test_a_signature_in_another_form_is_none() -> None:
    """ECDSA in DER, as certificates have it, instead of the two numbers one after the other (RFC 7518 section 3.4)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    keys = key_set(jwk(ec_key()))
    signed = encode(b'{"alg":"ES256"}') + b"." + encode(SAID)
    der = ec_key().sign(signed, ec.ECDSA(hashes.SHA256()))
    numbers = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
    assert who(signed + b"." + encode(numbers), keys) is STUDIO
    for other in (der, numbers + b"\0", b"\0" + numbers, numbers[:-1], numbers * 2, b"", bytes(64), b"\xff" * 64):
        assert who(signed + b"." + encode(other), keys) is None
