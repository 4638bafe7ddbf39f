"""The credential kind ``api-key``: ``Authorization: Basic <the key as Inworld's Portal gives it>``.

What belongs here: what such a key looks like, with a remedy for each way people get it wrong, and the field line.
Portal's key is already ``base64(key_id:secret)``; encoding it again is the classic failure, so nothing here encodes.
"""

from __future__ import annotations

import base64
import binascii
from math import inf
from typing import TYPE_CHECKING, NoReturn

from proxy.core.model import CredentialState, KeyPower, Spawn
from proxy.credentials.clock import Clock
from proxy.credentials.definition import Definition
from proxy.credentials.live import LiveSecret
from proxy.credentials.one_time import PER_PERIOD, PERIOD, SPARE, Rate
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.sources import EnvironmentSource

if TYPE_CHECKING:
    from proxy.credentials.session_token import SessionToken

ENVIRONMENT_VARIABLE = "INWORLD_API_KEY"
"""Where Inworld's own tools look for the key, and where it is looked for when nothing is configured."""

REMEMBERED = 300.0
"""Seconds for which a key that was refused is reported as refused; under traffic each request renews it."""

_AS_GIVEN = "use the key as the Portal's Base64 copy action gives it"
_QUOTES = "'\"`"


class ApiKey:
    """An API key. Static unless ``live`` follows its source. Implements ``Credential``."""

    __slots__ = (
        "_clock", "_line", "_predecessor", "_refusals", "_refused_at", "definition", "live", "name", "one_time",
        "power",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        secret: Secret,
        power: KeyPower,
        *,
        live: LiveSecret | None = None,
        definition: Definition | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ``SecretError`` for a secret that is not ``base64(key_id:secret)``."""
        check_api_key(secret)
        self.name = name
        self.power = power
        self.definition = definition
        self.one_time = Rate(PER_PERIOD, PERIOD + SPARE)
        """The one-time tokens of this key's minute: the upstream counts them by key, whatever is configured here."""
        self._predecessor: ApiKey | None = None
        self._clock = clock or Clock()
        self.live = live or LiveSecret(
            name, EnvironmentSource(ENVIRONMENT_VARIABLE), secret, check=check_api_key, environ={}, clock=self._clock
        )
        self._refusals = 0
        self._refused_at = -inf
        self._line = _line(secret)

    @property
    def renews(self) -> bool:
        """A refused key stays refused, whoever asks again."""
        return False

    @property
    def kind(self) -> str:
        """Always ``api-key``."""
        return "api-key"

    def authorization(self) -> bytes | None:
        """The field line; a key always has it at hand."""
        return self._line

    async def refresh(self) -> None:
        """Nothing to fetch."""

    def refusals(self) -> tuple[int, float]:
        """How often it was refused, and when last."""
        return self._refusals, self._refused_at

    def current(self) -> Secret:
        """The key as it is now, to mint from."""
        return self.live.current

    def refused(self, line: bytes) -> bool:
        """Remembers it if it is still the key that is shown. Never worth another try with the same key."""
        if line == self._line:
            self._refusals += 1
            self._refused_at = self._clock.monotonic()
            self.live.ask()
        return False

    def doubted(self, line: bytes) -> None:
        """Nothing to do: a key does not expire."""

    def inherit(self, old: ApiKey | SessionToken) -> bool:
        """Goes on, once it starts, with the counts of another that is in force now. False: their keys differ."""
        if not isinstance(old, ApiKey) or old.live.current != self.live.current:
            return False
        self._predecessor = old
        self.one_time = old.one_time  # one rate for both: what is being minted already has a hold of it
        return True

    def start(self, spawn: Spawn) -> None:
        """Follows the key's source."""
        old, self._predecessor = self._predecessor, None
        if old is not None:
            self._refusals, self._refused_at = old.refusals()
            self.live.inherit(old.live)
        self.live.start(spawn, self._on_secret)

    def close(self) -> None:
        """Stops following it; the key stays in use."""
        self.live.close()

    def state(self) -> CredentialState:
        """How it is now. A refusal counts for ``REMEMBERED`` seconds: nothing on the wire says that one is over."""
        return CredentialState(
            ready=True,
            source=self.live.kind,
            place=self.live.place,
            succeeded_at=self.live.read_at,
            source_reads=dict(self.live.reads),
            refused=self._clock.monotonic() - self._refused_at < REMEMBERED,
            refusals=self._refusals,
            fault=self.live.fault,
        )

    def _on_secret(self) -> None:
        self._line = _line(self.live.current)
        self._refused_at = -inf

    def __repr__(self) -> str:
        return f"ApiKey({self.name!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential cannot be copied or pickled")


def _line(secret: Secret) -> bytes:
    return f"Authorization: Basic {secret.reveal()}\r\n".encode("ascii")


def check_api_key(secret: Secret) -> None:
    """Raises ``SecretError`` unless this is ``base64(key_id:secret)``, saying what it looks like instead."""
    key = secret.reveal()
    _check_spelling(key)
    decoded = _decode(key)
    if decoded is None:
        raise SecretError("a key that is not Base64", f"{_AS_GIVEN}, complete with any `=` at its end")
    if ":" not in decoded.rstrip(":") and _is_pair(_decode(decoded.removesuffix(":").strip())):
        raise SecretError("a key that was Base64-encoded twice", f"{_AS_GIVEN}, without encoding it again")
    if decoded.endswith("\n") and _is_pair(decoded.strip()):
        raise SecretError("a key that was encoded together with a line break", "encode it with printf, not with echo")
    if ":" not in decoded:
        raise SecretError("a key that decodes to text without a colon, not to `id:secret`", _AS_GIVEN)
    if decoded.count(":") > 1:
        raise SecretError("a key that decodes to text with more than one colon, not to `id:secret`", _AS_GIVEN)
    if not _is_pair(decoded):
        raise SecretError("a key that decodes to `id:secret` with one half empty or not printable", _AS_GIVEN)


def _check_spelling(key: str) -> None:
    if not key:
        raise SecretError("an empty key", _AS_GIVEN)
    scheme, space, _ = key.partition(" ")
    if space and scheme.lower() in {"basic", "bearer"}:
        raise SecretError(f"a key with the prefix `{scheme} `", "remove the prefix: the proxy adds it")
    if key.lower().startswith("authorization:"):
        raise SecretError("a whole Authorization field", f"{_AS_GIVEN}, without the field's name and scheme")
    if any(character.isspace() for character in key):
        raise SecretError("a key with a blank or a line break in it", "remove it: a key has none")
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise SecretError("a key in quotes", "remove the quotes: they are not part of the key")
    if key.startswith(f"{ENVIRONMENT_VARIABLE}="):
        raise SecretError(f"a key that begins with `{ENVIRONMENT_VARIABLE}=`", "store only what follows the `=`")
    if ":" in key:
        raise SecretError(
            "a key that looks like `id:secret`, not encoded",
            "encode it once: printf '%s' 'ID:SECRET' | base64 | tr -d '\\n'",
        )
    if key.startswith("eyJ") and key.count(".") == 2:
        raise SecretError("a token (JWT), which is short-lived", f"{_AS_GIVEN}; it does not expire")


def _decode(key: str) -> str | None:
    """The printable ASCII that this is the strict Base64 of, or None."""
    try:
        # Encoding again and comparing refuses stray bits before the padding: one key, one spelling.
        decoded = base64.b64decode(key, validate=True)
        if base64.b64encode(decoded).decode() != key:
            return None
        return decoded.decode("ascii")
    except (binascii.Error, ValueError):
        return None


def _is_pair(decoded: str | None) -> bool:
    if decoded is None or not decoded.isprintable() or decoded.count(":") != 1:
        return False
    key_id, _, secret = decoded.partition(":")
    return bool(key_id.strip() and secret.strip())
