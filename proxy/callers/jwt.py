"""Recognising a caller by a token that an identity provider signed (JWT, RFC 7519, in its compact form).

What belongs here: which tokens are read at all, what they must say, and whose they then are. What does not: which keys
are good enough (``key_set.py``), and where they come from: whoever holds them hands them in.

The token decides nothing about how it is verified. The key is one of the caller's own set, the algorithm is the key's,
and ``jku``, ``jwk``, ``x5u`` and ``x5c`` are never looked at. PyJWT verifies the signature, and sees no token that is
too long or could be spelled in another way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

import jwt

from proxy.callers.key_set import ALGORITHMS, KeySet
from proxy.core.model import Caller, Presented

LONGEST = 8192
"""Bytes. Nothing of a longer token is decoded."""

MOST_REMEMBERED = 4096
"""Verified tokens kept until they end, 0.3 KB each. One that is kept costs 4 us, not 150 (RS256, 2026-11-21)."""

_SPELLING = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")
_LATEST = 1e12
"""Unix seconds. A moment beyond is no moment, and could not be reckoned with exactly."""


class Keys(Protocol):
    """The holder of a key set that changes. Neither method waits."""

    def current(self) -> KeySet | None:
        """The keys as they are now; None while there are none yet."""

    def wanted(self) -> None:
        """A token names a key that is not there: if it is new, the set should be fetched again."""


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """A key set that never changes. Implements ``Keys``."""

    keys: KeySet

    def current(self) -> KeySet:
        """Always the same."""
        return self.keys

    def wanted(self) -> None:
        """There is nowhere to get another from."""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """Whose a token is: the caller's, if one of these keys signed it, and it says this and is in its time.

    ``claims`` are values by name, of which the token must have one: as its text, or among its list.
    """

    caller: Caller
    keys: Keys
    issuer: str
    audience: str
    claims: Mapping[str, frozenset[str]]
    leeway: float = 0.0

    def accepts(self, claims: Mapping[str, object]) -> bool:
        """Does a token with these claims say what it must? Its time is another question."""
        return (
            claims.get("iss") == self.issuer
            and self.audience in _texts(claims.get("aud"))
            and all(not wanted.isdisjoint(_texts(claims.get(name))) for name, wanted in self.claims.items())
        )


class _Verified(NamedTuple):
    """A token that was verified, with these keys, and when it may be used (Unix seconds, leeway included)."""

    rule: JwtRule
    keys: KeySet
    begins: float
    ends: float


class JwtRecogniser:
    """Recognises the callers of these rules; a ``Recogniser``. A token that two of them accept belongs to neither."""

    __slots__ = ("_remembered", "_rules", "_verifier")

    def __init__(self, rules: Iterable[JwtRule]) -> None:
        self._rules = tuple(rules)
        self._verifier = jwt.PyJWS(algorithms=sorted(ALGORITHMS))
        # By digest: what a memory dump shows of a token is then of no use. Never a refusal: strangers could fill it.
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    def __call__(self, presented: Presented, now: float) -> Caller | None:
        """Whose token this is. A user name beside it (Basic) must be the caller's own, unless it is empty."""
        token = presented.token
        if len(token) > LONGEST or token.count(b".") != 2:
            return None
        digest = hashlib.sha256(token).digest()
        verified = self._remembered.get(digest)
        if verified is None or verified.rule.keys.current() is not verified.keys:
            verified = self._verify(token, now)
            if verified is None:
                self._remembered.pop(digest, None)
                return None
            self._remembered[digest] = verified
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        if not verified.begins <= now < verified.ends:
            del self._remembered[digest]
            return None
        self._remembered.move_to_end(digest)
        caller = verified.rule.caller
        return caller if not presented.user or presented.user == caller.name else None

    def _verify(self, token: bytes, now: float) -> _Verified | None:
        if _SPELLING.fullmatch(token) is None:
            return None
        parts = [_decode(part) for part in token.split(b".")]
        header, claims = _members(parts[0]), _members(parts[1])
        # Extensions that change what is signed (b64, RFC 7797) or must be understood (crit) are none of ours.
        if header is None or claims is None or parts[2] is None or "crit" in header or "b64" in header:
            return None
        found: _Verified | None = None
        for rule in self._rules:
            # What a token says costs less to check than its signature, and is worth nothing without it.
            life = _life(claims, rule.leeway)
            if life is None or not life[0] <= now < life[1] or not rule.accepts(claims):
                continue
            keys = rule.keys.current()
            if keys is None or not self._signed(token, header, rule, keys):
                continue
            if found is not None:
                return None
            found = _Verified(rule, keys, *life)
        return found

    def _signed(self, token: bytes, header: Mapping[str, object], rule: JwtRule, keys: KeySet) -> bool:
        key = keys.find(header.get("kid"))
        if key is None:
            rule.keys.wanted()
            return False
        if header.get("alg") != key.algorithm:
            return False
        try:
            self._verifier.decode_complete(token, key.material, algorithms=[key.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # RecursionError: PyJWT reads the header once more, a few calls deeper than we did, and a stranger who nests
            # it by so many brackets could end the request in a crash (its releases before 2.14 let it through).
            return False
        return True


def _decode(part: bytes) -> bytes | None:
    """What this base64url says, if it is how that is spelled: unused bits of the last letter are zero."""
    try:
        decoded = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        return None
    return decoded if base64.urlsafe_b64encode(decoded).rstrip(b"=") == part else None


def _members(part: bytes | None) -> dict[str, object] | None:
    """The members of a JSON object in UTF-8; none may be there twice."""
    try:
        value = json.loads(str(part or b"", "utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_constant(name: str) -> None:
    """NaN and Infinity are Python's, and not JSON's (RFC 8259 section 6): another reader finds something else there."""
    raise ValueError(name)


def _texts(value: object) -> frozenset[str]:
    """The texts of a claim, which is one or a list; nothing else is ever equal to a text."""
    values = value if isinstance(value, list) else [value]
    return frozenset(each for each in values if isinstance(each, str))


def _life(claims: Mapping[str, object], leeway: float) -> tuple[float, float] | None:
    """From when and until when; None without an end, or when one of its moments is none."""
    ends, *begins = (_moment(claims, name) for name in ("exp", "nbf", "iat"))
    if ends is None or None in begins or ends == -inf:
        return None
    return max(begin for begin in begins if begin is not None) - leeway, ends + leeway


def _moment(claims: Mapping[str, object], name: str) -> float | None:
    """A moment in Unix seconds; the beginning of time when it is not said, None when it is said wrongly."""
    if name not in claims:
        return -inf
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST:
        return None
    return float(value)
