"""Callers' JWTs: nothing but a token as it was signed is ever anybody's, and nothing upsets who reads it."""

from __future__ import annotations

from collections.abc import Hashable

from proxy.callers.jwt import FixedKeys, JwtRecogniser, JwtRule
from proxy.core.model import Caller, Presented
from proxy.core.recognition import read_presented
from tests.callers.issuers import AUDIENCE, ISSUER, NOW, ec_key, ed_key, encode, jwk, key_set, rsa_key, sign, sign_text
from tests.fuzz.engine import Target

STUDIO = Caller("studio", {})
_HEADERS = (
    b'{"alg":"none"}', b'{"alg":"HS256"}', b'{"alg":"RS256","kid":"1"}', b'{"alg":"ES256","kid":"2"}',
    b'{"alg":"EdDSA","kid":"3"}',
    b'{"alg":"RS256","kid":"1","crit":["b64"],"b64":false}', b'{"alg":"RS256","jku":"http://127.0.0.1/"}',
    b'{"alg":"RS256","kid":null}',
    b'{"alg":"RS256","alg":"none","kid":"1"}', b"[]", b"null", b'"x"', b"1e999", b"\xff", b"{" * 300,
    b'{"alg":["RS256"],"kid":{}}',
)  # fmt: skip
_CLAIMS = (
    b"{}", b'{"iss":"https://id.example.com","aud":"inworld-proxy","exp":9e99,"team":"studio"}', b'{"exp":NaN}',
    b'{"exp":1e400}',
    b'{"exp":-1}', b'{"exp":"1"}', b'{"exp":true}', b'{"aud":[[]]}', b"[" * 1000, b'{"exp":' + b"9" * 4000 + b"}",
    b'"\\ud800"',
)  # fmt: skip


class _Tokens:
    """A recogniser that has seen the valid ones, as one that is in use has."""

    def __init__(self) -> None:
        keys = key_set(jwk(rsa_key(), kid="1"), jwk(ec_key(), kid="2"), jwk(ed_key(), kid="3"))
        rule = JwtRule(STUDIO, FixedKeys(keys), ISSUER, AUDIENCE, {"team": frozenset({"studio"})})
        signed = ((rsa_key(), "RS256", "1"), (ec_key(), "ES256", "2"), (ed_key(), "EdDSA", "3"))
        valid = [sign(key, algorithm, header={"kid": number}) for key, algorithm, number in signed]
        self.valid = frozenset(valid)
        self.recognise = JwtRecogniser((rule,))
        # Truly signed, and still nobody's.
        refused = [sign(rsa_key(), header={"kid": "1"}, exp=NOW - 1), sign(rsa_key(), header={"kid": "1"}, aud="x")]
        refused += [sign_text(rsa_key(), claims, {"alg": "RS256", "kid": "1"}) for claims in _CLAIMS]
        unsigned = [b".".join((encode(header), valid[0].split(b".")[1], encode(b"x"))) for header in _HEADERS]
        self.seeds = (*valid, *refused, *unsigned)
        self.words = (
            *(encode(each) for each in (*_HEADERS, *_CLAIMS)),
            b".",
            b"=",
            b"%3D",
            b"Bearer ",
            *valid[0].split(b"."),
        )

    def run(self, data: bytes) -> Hashable:
        found = self.recognise(Presented("authorization", data), NOW)
        assert found is None or (found is STUDIO and data in self.valid), "it is not one that was signed"
        assert self.recognise(Presented("authorization", data), NOW) is found, "the second answer differs"
        assert found is None or self.recognise(Presented("authorization", data, "another"), NOW) is None
        # As it would stand in a head, in every place where a caller may show it.
        line = data.translate(None, b"\r\n").strip(b" \t")
        places = (b"Bearer " + line, b"Basic " + line, line)
        for presented in read_presented({b"authorization": places[0], b"x-api-key": line}):
            assert self.recognise(presented, NOW) is None or presented.token in self.valid
        for place in places:
            for presented in read_presented({b"authorization": place, b"sec-websocket-protocol": b"a, " + line}):
                assert self.recognise(presented, NOW) is None or presented.token in self.valid
        return found is not None, data.count(b"."), len(data) // 256


def targets() -> tuple[Target, ...]:
    made = _Tokens()
    return (Target("tokens", made.run, made.seeds, made.words),)
