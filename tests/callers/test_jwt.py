"""A caller is recognised by a token that its issuer signed; everything else that looks like one is nobody's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.jwt import LONGEST, MOST_REMEMBERED, FixedKeys, JwtRecogniser, JwtRule
from proxy.callers.key_set import KeySet
from proxy.core.model import Caller, Presented
from tests.callers.issuers import (
    AUDIENCE,
    CLAIMS,
    ISSUER,
    NOW,
    ec_key,
    ed_key,
    encode,
    jwk,
    key_set,
    rsa_key,
    sign,
    sign_text,
)

STUDIO = Caller("studio", {})
OTHER = Caller("other", {})


class Holder:
    """A key set that a test replaces, and how often another was wanted."""

    def __init__(self, keys: KeySet | None) -> None:
        self.keys = keys
        self.times_wanted = 0

    def current(self) -> KeySet | None:
        return self.keys

    def wanted(self) -> None:
        self.times_wanted += 1


def one_key() -> KeySet:
    return key_set(jwk(rsa_key(), kid="1"))


def rule(keys: KeySet | Holder, **changed: Any) -> JwtRule:
    holder = FixedKeys(keys) if isinstance(keys, KeySet) else keys
    plain = JwtRule(STUDIO, holder, ISSUER, AUDIENCE, {"team": frozenset({"studio"})})
    return replace(plain, **changed)


def who(token: bytes, *rules: JwtRule, now: float = NOW, user: str | None = None) -> Caller | None:
    return JwtRecogniser(rules or (rule(one_key()),))(Presented("authorization", token, user), now)


def test_a_token_that_is_right_is_its_callers() -> None:
    assert who(sign(rsa_key())) is STUDIO
    assert who(sign(rsa_key(), header={"kid": "1", "typ": "at+jwt", "x": [1]})) is STUDIO
    assert who(sign(rsa_key()), user="studio") is STUDIO
    assert who(sign(rsa_key()), user="") is STUDIO
    assert who(sign(rsa_key()), user="other") is None


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (rsa_key, "RS256"), (rsa_key, "RS384"), (rsa_key, "RS512"), (rsa_key, "PS256"), (rsa_key, "PS384"),
        (rsa_key, "PS512"), (lambda: ec_key("secp256r1"), "ES256"), (lambda: ec_key("secp384r1"), "ES384"),
        (lambda: ec_key("secp521r1"), "ES512"), (ed_key, "EdDSA"),
    ],
)  # fmt: skip
def test_each_key_has_one_algorithm(make: Callable[[], Any], algorithm: str) -> None:
    """The one it is published for; every other one of its type is refused, though it was signed with that key."""
    key = make()
    keys = rule(key_set(jwk(key, alg=algorithm)))
    assert who(sign(key, algorithm), keys) is STUDIO
    family = [name for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") if algorithm[1] == "S"]
    for name in family if make is rsa_key else ():
        assert (who(sign(key, name), keys) is STUDIO) == (name == algorithm)
    # What the header says is compared, and never believed.
    said = json.dumps(CLAIMS).encode()
    assert who(sign_text(key, said, {"alg": "none"}, algorithm), keys) is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, True),
        ({"aud": [AUDIENCE]}, True),
        ({"aud": ["other", AUDIENCE]}, True),
        ({"aud": "other"}, False),
        ({"aud": ["other"]}, False),
        ({"aud": []}, False),
        ({"aud": AUDIENCE + "2"}, False),
        ({"aud": {AUDIENCE: 1}}, False),
        ({"aud": [[AUDIENCE]]}, False),
        ({"aud": None}, False),
        ({"iss": None}, False),
        ({"iss": "https://id.example.com/"}, False),
        ({"iss": [ISSUER]}, False),
        ({"iss": "HTTPS://ID.EXAMPLE.COM"}, False),
        ({"exp": None}, False),
        ({"exp": NOW}, False),
        ({"exp": NOW - 1}, False),
        ({"exp": NOW + 0.5}, True),
        ({"exp": str(NOW + 300)}, False),
        ({"exp": True}, False),
        ({"exp": inf}, False),
        ({"exp": float("nan")}, False),
        ({"exp": 10**400}, False),
        ({"exp": [NOW + 300]}, False),
        ({"nbf": NOW}, True),
        ({"nbf": NOW + 1}, False),
        ({"nbf": "soon"}, False),
        ({"nbf": True}, False),
        ({"iat": NOW - 5}, True),
        ({"iat": NOW + 30}, False),
        ({"iat": {}}, False),
        ({"iat": False}, False),
        ({"iat": float("nan")}, False),
        ({"team": None}, False),
        ({"team": "Studio"}, False),
        ({"team": ["sales", "studio"]}, True),
        ({"team": ["sales"]}, False),
        ({"team": {"studio": 1}}, False),
        ({"team": "sales studio"}, False),
        ({"team": True}, False),
        ({"more": "x"}, True),
    ],
    ids=str,
)
def test_what_a_token_must_say(said: dict[str, Any], *, found: bool) -> None:
    assert who(sign(rsa_key(), **said)) is (STUDIO if found else None)


def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    for said, least in (({"exp": NOW - 20}, 20), ({"nbf": NOW + 20}, 20), ({"iat": NOW + 20}, 20)):
        token = sign(rsa_key(), **said)
        assert who(token, rule(one_key(), leeway=least + 1)) is STUDIO
        assert who(token, rule(one_key(), leeway=least - 1)) is None


def test_a_list_of_values_means_any_of_them_and_every_claim_is_needed() -> None:
    either = rule(one_key(), claims={"team": frozenset({"a", "b"}), "role": frozenset({"x"})})
    assert who(sign(rsa_key(), team="b", role="x"), either) is STUDIO
    assert who(sign(rsa_key(), team=["c", "a"], role=["x"]), either) is STUDIO
    assert who(sign(rsa_key(), team="c", role="x"), either) is None
    assert who(sign(rsa_key(), team="a"), either) is None
    assert who(sign(rsa_key(), team=None), rule(one_key(), claims={})) is STUDIO


# -- attacks ----------------------------------------------------------------------------------------------------------


def unsigned(algorithm: str) -> bytes:
    return encode(json.dumps({"alg": algorithm}).encode()) + b"." + encode(json.dumps(CLAIMS).encode()) + b"."


PUBLIC_PEM = (
    rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def shared(secret: bytes, **header: Any) -> bytes:
    """Signed by HS256 with what everyone knows."""
    import hashlib
    import hmac

    signed = encode(json.dumps({"alg": "HS256"} | header).encode()) + b"." + encode(json.dumps(CLAIMS).encode())
    return signed + b"." + encode(hmac.digest(secret, signed, hashlib.sha256))


ATTACKER = rsa_key(number=1)
SAID = json.dumps(CLAIMS).encode()

ATTACKS: dict[str, Callable[[], bytes]] = {
    **{f"alg {name}": lambda name=name: unsigned(name) for name in ("none", "None", "nOnE", "NONE", "", "HS256")},
    **{f"alg {name}, with a signature": lambda name=name: unsigned(name) + b"AAAA" for name in ("none", "nOnE")},
    "alg none, signed": lambda: sign(rsa_key(), header={"alg": "none"}),
    "no alg": lambda: sign_text(rsa_key(), SAID, {}),
    "alg a list": lambda: sign(rsa_key(), header={"alg": ["RS256"]}),
    "alg in lower case": lambda: sign(rsa_key(), header={"alg": "rs256"}),
    "the public key as a secret": lambda: shared(PUBLIC_PEM),
    "the public key as a secret, without its last line end": lambda: shared(PUBLIC_PEM.strip()),
    "the public JWK as a secret": lambda: shared(json.dumps(jwk(rsa_key())).encode()),
    "an empty secret": lambda: shared(b""),
    "another key": lambda: sign(ATTACKER),
    "another key under this id": lambda: sign(ATTACKER, header={"kid": "1"}),
    "a key of its own": lambda: sign(ATTACKER, header={"jwk": jwk(ATTACKER)}),
    "a key of its own elsewhere": lambda: sign(ATTACKER, header={"jku": "https://evil.example/keys", "kid": "e"}),
    "a certificate of its own": lambda: sign(ATTACKER, header={"x5u": "https://evil.example/", "x5c": ["MIIB"]}),
    "an id that is a path": lambda: sign(ATTACKER, header={"kid": "../../../../dev/null"}),
    "an id that is a path, with an empty secret": lambda: shared(b"", kid="/dev/null"),
    "an id that is a query": lambda: sign(rsa_key(), header={"kid": "1' OR '1'='1"}),
    "an id that is a list": lambda: sign(rsa_key(), header={"kid": ["1"]}),
    "an id that is an object": lambda: sign(rsa_key(), header={"kid": {"1": 1}}),
    "an id that is a number": lambda: sign(rsa_key(), header={"kid": 1}),
    "an empty id": lambda: sign(rsa_key(), header={"kid": ""}),
    "crit": lambda: sign(rsa_key(), header={"crit": ["x"], "x": 1}),
    "crit that is empty": lambda: sign(rsa_key(), header={"crit": []}),
    "crit that is null": lambda: sign(rsa_key(), header={"crit": None}),
    "crit of what is known": lambda: sign(rsa_key(), header={"crit": ["exp"]}),
    "b64 false": lambda: sign(rsa_key(), header={"b64": False}),
    "b64 false and critical": lambda: sign(rsa_key(), header={"b64": False, "crit": ["b64"]}),
    "b64 true": lambda: sign(rsa_key(), header={"b64": True}),
    "detached": lambda: sign(rsa_key()).split(b".")[0] + b".." + sign(rsa_key()).split(b".")[2],
    "without a signature": lambda: sign(rsa_key()).rpartition(b".")[0] + b".",
    "half of it": lambda: sign(rsa_key()).rpartition(b".")[0],
    "four parts": lambda: sign(rsa_key()) + b".AAAA",
    "five parts": lambda: sign(rsa_key()) + b".AAAA.AAAA",
    "a signature cut off": lambda: sign(rsa_key())[:-4],
    "a signature that goes on": lambda: sign(rsa_key()) + b"AAAA",
    "other claims": lambda: swapped(sign(rsa_key(), team="sales"), 1, SAID),
    "another header": lambda: swapped(sign(rsa_key()), 0, b'{"alg":"RS256","kid":"1"}'),
    "padding": lambda: sign(rsa_key()) + b"==",
    "padding within": lambda: sign_text(rsa_key(), SAID, b'{"alg":"RS256"} ').replace(b".", b"=.", 1),
    "a line end after it": lambda: sign(rsa_key()) + b"\n",
    "a blank before it": lambda: b" " + sign(rsa_key()),
    "a blank within": lambda: sign(rsa_key())[:-8] + b" " + sign(rsa_key())[-8:],
    "a NUL within": lambda: sign(rsa_key())[:-8] + b"\0" + sign(rsa_key())[-8:],
    "letters of the other alphabet": lambda: plain_alphabet(),  # noqa: PLW0108 - defined below
    "letters beyond ASCII": lambda: sign(rsa_key()) + "é".encode(),
    "JSON serialization": lambda: json.dumps({"payload": encode(SAID).decode(), "signatures": []}).encode(),
    "too long": lambda: sign(rsa_key(), more="x" * LONGEST),
    "claims that are a list": lambda: sign_text(rsa_key(), b'["iss"]', {"alg": "RS256"}),
    "claims that are no JSON": lambda: sign_text(rsa_key(), b"{", {"alg": "RS256"}),
    "claims twice": lambda: sign_text(rsa_key(), b'{"team":"sales",' + SAID[1:], {"alg": "RS256"}),
    "claims in UTF-16": lambda: sign_text(rsa_key(), json.dumps(CLAIMS).encode("utf-16"), {"alg": "RS256"}),
    "claims after a byte order mark": lambda: sign_text(rsa_key(), b"\xef\xbb\xbf" + SAID, {"alg": "RS256"}),
    "deep claims": lambda: sign_text(rsa_key(), b"[" * 5000, {"alg": "RS256"}),
    "a number without end": lambda: sign_text(rsa_key(), b'{"exp":' + b"9" * 5000 + b"}", {"alg": "RS256"}),
    "a header that is a list": lambda: sign_text(rsa_key(), SAID, b'["alg"]'),
    "a header twice": lambda: sign_text(rsa_key(), SAID, b'{"alg":"none","alg":"RS256"}'),
    "a deep header": lambda: sign_text(rsa_key(), b"{}", b"[" * 5000),
    "a header in UTF-16": lambda: sign_text(rsa_key(), SAID, json.dumps({"alg": "RS256"}).encode("utf-16")),
    "nothing": lambda: b"",
    "dots": lambda: b"..",
    "one letter each": lambda: b"A.A.A",
}


def swapped(token: bytes, index: int, part: bytes) -> bytes:
    parts = token.split(b".")
    parts[index] = encode(part)
    return b".".join(parts)


def plain_alphabet() -> bytes:
    """The same bytes as a right token, with + and / where base64url has - and _."""
    for number in range(100):
        token = sign(rsa_key(), more=number)
        if b"-" in token or b"_" in token:
            return token.replace(b"-", b"+").replace(b"_", b"/")
    raise AssertionError


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_makes_nobody_a_caller(attack: str) -> None:
    token = ATTACKS[attack]()
    assert who(token) is None
    assert who(token, rule(one_key(), claims={}), rule(key_set(jwk(ed_key())), caller=OTHER)) is None


def test_the_attacks_would_be_tokens_but_for_what_is_wrong_with_them() -> None:
    assert who(sign_text(rsa_key(), SAID, {"alg": "RS256"})) is STUDIO
    assert jwt.decode(sign(ATTACKER), ATTACKER.public_key(), ["RS256"], options={"verify_signature": False})


def test_only_one_spelling_of_a_token_is_one() -> None:
    """The last letter of a part may have unused bits; only those that are zero are how it is spelled."""
    key, keys = rsa_key(), one_key()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    tried = 0
    for padding in range(3):
        token = sign(key, more="x" * padding)
        parts = token.split(b".")
        for index, part in enumerate(parts):
            same = base64.urlsafe_b64decode(part + b"==")
            for letter in alphabet.encode():
                other = part[:-1] + bytes([letter])
                if other == part or len(part) % 4 == 0 or base64.urlsafe_b64decode(other + b"==") != same:
                    continue
                tried += 1
                assert who(b".".join([*parts[:index], other, *parts[index + 1 :]]), rule(keys)) is None
        assert who(token, rule(keys)) is STUDIO
    assert tried >= 15


def test_a_curve_that_is_not_the_keys_is_refused() -> None:
    keys = rule(key_set(jwk(ec_key("secp256r1"))))
    assert who(sign(ec_key("secp256r1"), "ES256"), keys) is STUDIO
    assert who(sign(ec_key("secp384r1"), "ES384"), keys) is None
    assert who(sign(ed_key(), "EdDSA"), keys) is None
    assert who(sign(rsa_key(), "RS256"), keys) is None


def test_a_signature_of_zeros_is_none() -> None:
    """r = s = 0 verifies for every message where nobody checks the range (CVE-2022-21449)."""
    head = encode(b'{"alg":"ES256"}') + b"." + encode(SAID) + b"."
    assert who(head + encode(bytes(64)), rule(key_set(jwk(ec_key())))) is None


def test_a_token_without_key_id_needs_a_set_of_one() -> None:
    two = rule(key_set(jwk(rsa_key(), kid="1"), jwk(ATTACKER, kid="2")))
    assert who(sign(rsa_key()), two) is None
    assert who(sign(rsa_key(), header={"kid": "1"}), two) is STUDIO
    assert who(sign(rsa_key(), header={"kid": "2"}), two) is None
    assert who(sign(rsa_key()), rule(key_set(jwk(rsa_key())))) is STUDIO
    assert who(sign(rsa_key(), header={"kid": "1"}), rule(key_set(jwk(rsa_key())))) is None


@given(st.binary(max_size=200) | st.from_regex(rb"[A-Za-z0-9_-]{1,80}(\.[A-Za-z0-9_-]{1,80}){2}", fullmatch=True))
def test_garbage_is_nobody_and_never_an_error(token: bytes) -> None:
    assert who(token) is None


HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        st.lists,
        max_leaves=8,  # far below the 8 KiB that a token may have
    ),
)


@given(HEADERS, HEADERS)
def test_no_header_and_no_claims_are_an_error(header: dict[str, Any], claims: dict[str, Any]) -> None:
    said = json.dumps(CLAIMS | claims).encode()
    found = who(sign_text(rsa_key(), said, {"alg": "RS256"} | header))
    right = header.get("alg", "RS256") == "RS256" and header.get("kid", "1") == "1"
    assert found is (STUDIO if right and "crit" not in header and "b64" not in header else None)


# -- several callers, several keys ------------------------------------------------------------------------------------


def test_callers_of_one_issuer_are_told_apart_by_claims() -> None:
    keys = one_key()
    rules = (rule(keys), rule(keys, caller=OTHER, claims={"team": frozenset({"sales"})}))
    assert who(sign(rsa_key()), *rules) is STUDIO
    assert who(sign(rsa_key(), team="sales"), *rules) is OTHER
    assert who(sign(rsa_key(), team=["sales", "studio"]), *rules) is None, "it belongs to both, and so to neither"
    assert who(sign(rsa_key(), team="else"), *rules) is None


def test_a_key_of_one_issuer_signs_for_no_other() -> None:
    rules = (
        rule(key_set(jwk(rsa_key()))),
        rule(key_set(jwk(ATTACKER)), caller=OTHER, issuer="https://other.example", claims={}),
    )
    assert who(sign(rsa_key()), *rules) is STUDIO
    assert who(sign(ATTACKER, iss="https://other.example"), *rules) is OTHER
    assert who(sign(ATTACKER), *rules) is None
    assert who(sign(rsa_key(), iss="https://other.example"), *rules) is None


def test_without_keys_a_token_is_unknown_and_the_keys_are_asked_for_when_one_is_missing() -> None:
    holder = Holder(None)
    recognise = JwtRecogniser([rule(holder)])

    def found(token: bytes) -> Caller | None:
        return recognise(Presented("x-api-key", token), NOW)

    assert found(sign(rsa_key())) is None
    holder.keys = key_set(jwk(ATTACKER, kid="old"))
    assert found(sign(rsa_key(), header={"kid": "1"}, iss="https://other.example")) is None
    assert found(sign(rsa_key(), header={"kid": "1"}, exp=NOW - 1)) is None
    assert found(sign(rsa_key(), header={"kid": "old"})) is None
    assert holder.times_wanted == 0
    assert found(sign(rsa_key(), header={"kid": "1"})) is None
    assert holder.times_wanted == 1
    holder.keys = one_key()
    assert found(sign(rsa_key(), header={"kid": "1"})) is STUDIO


# -- what is remembered -----------------------------------------------------------------------------------------------


class Counting(JwtRecogniser):
    """Counts what is verified."""

    verified = 0

    def _signed(self, *arguments: Any) -> bool:
        self.verified += 1
        return super()._signed(*arguments)


def test_a_verified_token_is_remembered_until_it_ends() -> None:
    holder = Holder(one_key())
    recognise = Counting([rule(holder)])
    token = Presented("authorization", sign(rsa_key(), nbf=NOW - 10))
    for _ in range(3):
        assert recognise(token, NOW) is STUDIO
    assert recognise.verified == 1
    assert recognise(token._replace(user="other"), NOW) is None
    assert recognise(token, NOW + 299.9) is STUDIO
    assert recognise(token, NOW + 300) is None
    assert recognise(token, NOW - 11) is None, "a clock that was set back does not bring it back early"
    assert recognise(token, NOW) is STUDIO
    assert len(recognise._remembered) == 1


def test_what_was_verified_with_keys_that_are_gone_is_forgotten() -> None:
    holder = Holder(one_key())
    recognise = Counting([rule(holder)])
    token = Presented("authorization", sign(rsa_key()))
    assert recognise(token, NOW) is STUDIO
    holder.keys = key_set(jwk(ATTACKER))
    assert recognise(token, NOW) is None
    assert recognise(token, NOW) is None
    assert not recognise._remembered
    holder.keys = one_key()
    assert recognise(token, NOW) is STUDIO


def test_only_so_many_are_remembered_and_never_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_REMEMBERED == 4096
    monkeypatch.setattr("proxy.callers.jwt.MOST_REMEMBERED", 2)
    recognise = Counting([rule(one_key())])
    for number in (1, 2, 1, 3):  # 2 was used longest ago when 3 came
        assert recognise(Presented("authorization", sign(rsa_key(), more=number)), NOW) is STUDIO
        assert recognise(Presented("authorization", sign(ATTACKER, more=number)), NOW) is None
    assert len(recognise._remembered) == 2
    before = recognise.verified
    assert recognise(Presented("authorization", sign(rsa_key(), more=1)), NOW) is STUDIO
    assert recognise.verified == before
    assert recognise(Presented("authorization", sign(rsa_key(), more=2)), NOW) is STUDIO
    assert recognise.verified == before + 1
