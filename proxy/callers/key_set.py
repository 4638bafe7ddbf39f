"""The keys that tokens are verified with: a JWK set (RFC 7517) as published, or one key as configured.

What belongs here: which keys are good enough, and the one algorithm of each. What does not: fetching a set, and what a
token must say (``jwt.py``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from cryptography.x509 import load_der_x509_certificate
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SHORTEST_RSA = 2048
"""Bits (RFC 7518 section 3.3)."""

SHORTEST_SECRET = 32
"""Bytes (RFC 7518 section 3.2)."""

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Mapping[str, str] = MappingProxyType({"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"})
_EDWARDS = "EdDSA"
_SHARED = "HS256"

_ROCA_BASE = 65537
_ROCA_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip
"""Modulo each of these, the modulus of a key that can be factored (ROCA, CVE-2017-15361) is a power of 65537. Of other
moduli one in 200 million is."""

ALGORITHMS = frozenset({*_RSA, *_CURVES.values(), _EDWARDS, _SHARED})
"""All that a key may be for."""

_MEMBERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
)

Material = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes


class KeyRefused(ValueError):  # noqa: N818 - it says what became of the key
    """A key, or a set, that is not used. The text is a fixed sentence with nothing of the key in it."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm that it verifies."""

    algorithm: str
    material: Material = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by their ids, and those without one. ``refused`` says of each key that is not in it why not.

    ``whatever_id``: the only key is for every token, whichever key the token names.
    """

    by_id: Mapping[str, Key]
    nameless: tuple[Key, ...] = ()
    refused: tuple[str, ...] = ()
    whatever_id: bool = False

    def __len__(self) -> int:
        return len(self.by_id) + len(self.nameless)

    def find(self, key_id: object) -> Key | None:
        """The key that a token names. One that names none means the only key, where there is only one."""
        if self.whatever_id:
            return self.nameless[0]
        if key_id is None:
            every = (*self.by_id.values(), *self.nameless)
            return every[0] if len(every) == 1 else None
        return self.by_id.get(key_id) if isinstance(key_id, str) else None


def read_key_set(content: bytes) -> KeySet:
    """The keys of a published set that can be used. Raises ``KeyRefused`` for what is no set at all."""
    try:
        whole = json.loads(str(content, "utf-8"))
    except (ValueError, RecursionError):
        whole = None
    listed = whole.get("keys") if isinstance(whole, dict) else None
    if not isinstance(listed, list):
        raise KeyRefused("the key set is not a JSON object with a list of keys")
    by_id: dict[str, Key] = {}
    nameless: list[Key] = []
    refused: list[str] = []
    twice: set[str] = set()
    for jwk in listed:
        try:
            key = _read_jwk(jwk)
        except KeyRefused as exc:
            refused.append(str(exc))
            continue
        key_id = jwk.get("kid")
        if key_id is None:
            nameless.append(key)
        elif not isinstance(key_id, str):
            refused.append("a key whose id is not a text")
        elif key_id in by_id or key_id in twice:
            # Which of the two a token means cannot be known, so neither is used.
            twice.add(key_id)
            by_id.pop(key_id, None)
            refused.append("a key with the id of another")
        else:
            by_id[key_id] = key
    return KeySet(MappingProxyType(by_id), tuple(nameless), tuple(refused))


def read_configured_key(text: str) -> KeySet:
    """One key: a public one (PEM), or a secret that the issuer shares (HS256). Raises ``KeyRefused``."""
    if "-----BEGIN" not in text:
        secret = text.encode()
        if len(secret) < SHORTEST_SECRET:
            raise KeyRefused(f"a shared secret of less than {SHORTEST_SECRET} bytes")
        if _is_no_secret(text):
            raise KeyRefused("a key in a form that is not PEM: as a shared secret, whoever knows it could sign with it")
        key = Key(_SHARED, secret)
    else:
        try:
            material: object = load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm):
            # Also a private key: it has no business here, where only signatures are verified.
            raise KeyRefused("a PEM text that is not a public key") from None
        key = _fit(material, None)
    return KeySet(MappingProxyType({}), (key,), whatever_id=True)


def _is_no_secret(text: str) -> bool:
    """Is this a key in a spelling of its own: OpenSSH's, a JWK or a set of them, or Base64 of DER?

    What everybody may know must never become what signs (CVE-2022-29217, CVE-2026-48526). PyJWT refuses some of these
    with every token; here is where somebody reads why.
    """
    if text.startswith(("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN")):
        return True
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        pass
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return False
    for load in (load_der_public_key, load_der_x509_certificate):
        try:
            load(der)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return True
    return False


def _read_jwk(jwk: object) -> Key:
    if not isinstance(jwk, dict):
        raise KeyRefused("a key that is not a JSON object")
    kind = jwk.get("kty")
    if kind == "oct":
        raise KeyRefused("a shared secret, which whoever can read the set could sign with")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        raise KeyRefused("a key of a type that is not known")
    uses = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        raise KeyRefused("a key that is not for signatures")
    if "d" in jwk:
        raise KeyRefused("a private key, which whoever can read the set could sign with")
    if not all(isinstance(jwk.get(member), str) for member in _MEMBERS[kind]):
        raise KeyRefused("a key that is not complete")
    public = {"kty": kind, **{member: jwk[member] for member in _MEMBERS[kind]}}
    material: object
    try:
        match kind:
            case "RSA":
                material = RSAAlgorithm.from_jwk(public)
            case "EC":
                material = ECAlgorithm.from_jwk(public)
            case _:
                material = OKPAlgorithm.from_jwk(public)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError):
        raise KeyRefused("a key that is no valid key of its type") from None
    return _fit(material, jwk.get("alg"))


def _fit(material: object, wanted: object) -> Key:
    """The key with its algorithm: the one it is published for, or the usual one of its type."""
    algorithms: tuple[str, ...]
    match material:
        case RSAPublicKey():
            if material.key_size < SHORTEST_RSA:
                raise KeyRefused(f"an RSA key of less than {SHORTEST_RSA} bits")
            if _can_be_factored(material.public_numbers().n):
                raise KeyRefused("an RSA key that can be factored (CVE-2017-15361)")
            algorithms = _RSA
        case EllipticCurvePublicKey() if material.curve.name in _CURVES:
            algorithms = (_CURVES[material.curve.name],)
        case Ed25519PublicKey():
            algorithms = (_EDWARDS,)
        case _:
            raise KeyRefused("a key of a type that is not known")
    algorithm = algorithms[0] if wanted is None else wanted
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise KeyRefused("a key for an algorithm that is not of its type")
    return Key(algorithm, material)


def _can_be_factored(modulus: int) -> bool:
    """Was this modulus made by the chips that chose primes of one form (ROCA)?"""
    for prime in _ROCA_PRIMES:
        powers, power = {1}, _ROCA_BASE % prime
        while power not in powers:
            powers.add(power)
            power = power * _ROCA_BASE % prime
        if modulus % prime not in powers:
            return False
    return True
