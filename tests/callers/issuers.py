"""An issuer of tokens for tests: keys of every kind, and tokens as right or as wrong as a test wants them."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.callers.key_set import KeySet, read_key_set

NOW = 1_780_000_000.0
ISSUER = "https://id.example.com"
AUDIENCE = "inworld-proxy"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300, "team": "studio"}


@functools.cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(curve: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    named = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1(),
             "secp256k1": ec.SECP256K1()}  # fmt: skip
    return ec.generate_private_key(named[curve])


@functools.cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """The public part of a key, as a set publishes it."""
    public = key.public_key()
    match key:
        case rsa.RSAPrivateKey():
            made = RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePrivateKey():
            made = ECAlgorithm.to_jwk(public, as_dict=True)
        case _:
            made = OKPAlgorithm.to_jwk(public, as_dict=True)
    made.pop("key_ops", None)
    return made | more


def key_set(*jwks: object) -> KeySet:
    return read_key_set(json.dumps({"keys": jwks}).encode())


def sign(key: Any, algorithm: str = "RS256", *, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
    """A token with these claims; one that is None is left out."""
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return sign_text(key, json.dumps(said).encode(), {"alg": algorithm} | (header or {}), algorithm)


def sign_text(key: Any, payload: bytes, header: dict[str, Any] | bytes, algorithm: str = "RS256") -> bytes:
    """A token whose parts are exactly these, truly signed."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = encode(head) + b"." + encode(payload)
    method = jwt.get_algorithm_by_name(algorithm)
    return signed + b"." + encode(method.sign(signed, method.prepare_key(key)))


def encode(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
