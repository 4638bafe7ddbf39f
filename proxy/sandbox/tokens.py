"""The two kinds of token that the sandbox issues, as real JWTs: session tokens and one-time tokens.

What belongs here: making, checking and spending tokens. What does not: the endpoints that mint them (``mints.py``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

import jwt

from proxy.sandbox.shapes import new_uuid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

SESSION = "session"
ONE_TIME = "one-time"

# Invented: what is inside. Only the RS256 header is known (published examples start with its base64).
_ISSUER = "inworld-sandbox"
_REAL_ALGORITHM = "RS256"
_RSA_BITS = 2048
_SECRET_BYTES = 32

_Name = TypeVar("_Name")


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token: what kind it is, which key it was minted from, and when it ends."""

    kind: str
    identifier: str
    key_id: str
    expires: float


class TokenFault(Exception):  # noqa: N818 - a reason to refuse, not a bug.
    """Why a token was not accepted, in the vendor's word for it and in a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class TokenMint:
    """Signs and verifies tokens with a key that lives as long as the process; remembers what was spent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Invented: the symmetric algorithm where the optional package for the real one is not installed. Clients do not
        # look inside a token, save for its expiry.
        self._algorithm = _REAL_ALGORITHM if find_spec("cryptography") else "HS256"
        self._key: RSAPrivateKey | bytes | None = None
        self._spent: dict[str, float] = {}
        self._nonces: dict[tuple[str, str], float] = {}

    def issue(self, kind: str, key_id: str, expires: float) -> tuple[str, Token]:
        """A new token and its text."""
        token = Token(kind, new_uuid(), key_id, expires)
        claims = {
            "iss": _ISSUER,
            "sub": key_id,
            "jti": token.identifier,
            "typ": kind,
            "iat": int(self._clock()),
            "exp": expires,
        }
        return jwt.encode(claims, self._signing_key(), algorithm=self._algorithm), token

    def verify(self, text: str) -> Token:
        """The token that this text is; raises ``TokenFault``. Does not spend it."""
        try:
            algorithm = jwt.get_unverified_header(text).get("alg")
            if algorithm != self._algorithm:
                # The wording is a third party's report of what the real service says to a self-made token.
                raise TokenFault("SESSION_TOKEN_INVALID", f"signing method {algorithm} is invalid")
            # The expiry is compared below with the sandbox's own clock, which a test may have set.
            claims = jwt.decode(
                text,
                self._checking_key(),
                algorithms=[self._algorithm],
                issuer=_ISSUER,
                options={"verify_exp": False, "verify_iat": False},
            )
            token = Token(str(claims["typ"]), str(claims["jti"]), str(claims["sub"]), float(claims["exp"]))
        except (jwt.InvalidTokenError, KeyError, ValueError) as exc:
            raise TokenFault("SESSION_TOKEN_INVALID", "session token is invalid") from exc
        if token.expires <= self._clock():
            raise TokenFault("SESSION_TOKEN_EXPIRED", "session token is expired")
        return token

    def spend(self, token: Token) -> None:
        """Uses a one-time token up; raises ``TokenFault`` if it was already. Other tokens are untouched."""
        if token.kind != ONE_TIME:
            return
        self._forget(self._spent)
        if token.identifier in self._spent:
            raise TokenFault("SESSION_TOKEN_INVALID", "one-time token has already been used")
        self._spent[token.identifier] = token.expires

    def first_use(self, key_id: str, nonce: str, until: float) -> bool:
        """True the first time a key's nonce is seen within its signature's window."""
        self._forget(self._nonces)
        if (key_id, nonce) in self._nonces:
            return False
        self._nonces[key_id, nonce] = until
        return True

    def _forget(self, remembered: dict[_Name, float]) -> None:
        now = self._clock()
        for name in [name for name, until in remembered.items() if until <= now]:
            del remembered[name]

    def _signing_key(self) -> RSAPrivateKey | bytes:
        # Made when first needed, and imported then: together a tenth of a second that most runs never need.
        if self._key is None and self._algorithm == _REAL_ALGORITHM:
            from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - see above.

            self._key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        elif self._key is None:
            self._key = secrets.token_bytes(_SECRET_BYTES)
        return self._key

    def _checking_key(self) -> RSAPublicKey | bytes:
        key = self._signing_key()
        return key if isinstance(key, bytes) else key.public_key()
