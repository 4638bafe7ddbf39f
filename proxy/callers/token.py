"""Recognising a caller by a shared token, of which only the SHA-256 digest is stored.

A digest is enough because tokens are random (``inworld-proxy token`` makes them): there is nothing to guess, so a slow
hash would only let strangers keep this process busy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from proxy.core.model import Caller, Presented, Recogniser

DIGEST_OF_NOTHING = hashlib.sha256(b"").digest()
"""Would make everyone who presents an empty token a caller; the configuration refuses it."""

_SPELLING = re.compile(r"sha256:([0-9a-fA-F]{64})")


def digest_token(token: bytes) -> bytes:
    """The SHA-256 digest of a token, in 32 bytes."""
    return hashlib.sha256(token).digest()


def spell_digest(digest: bytes) -> str:
    """A digest as the configuration spells it: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{digest.hex()}"


def parse_digest(text: str) -> bytes | None:
    """The digest that the configuration spells so, or None when it is spelled in no such way."""
    match = _SPELLING.fullmatch(text)
    return bytes.fromhex(match[1]) if match is not None else None


def token_recogniser(tokens: Iterable[tuple[bytes, Caller]]) -> Recogniser:
    """Recognises the callers of these (digest, caller) pairs; each digest must belong to one caller.

    The work is one hash and one lookup whoever asks and whatever is presented: the digest of a guess says nothing about
    how near the guess was. A user name beside the token (Basic) must be the caller's own, unless it is empty.
    """
    callers: Mapping[bytes, Caller] = MappingProxyType(dict(tokens))

    def recognise(presented: Presented, now: float) -> Caller | None:  # noqa: ARG001 - shared tokens do not expire
        caller = callers.get(digest_token(presented.token))
        if caller is None or (presented.user and presented.user != caller.name):
            return None
        return caller

    return recognise
