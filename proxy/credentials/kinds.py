"""Every kind of credential the configuration can name, and what makes one.

A new kind is a file of its own beside this one and one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.core.model import Credential, KeyPower, Upstream
from proxy.credentials.api_key import ApiKey, check_api_key
from proxy.credentials.iw1 import DOCUMENTED, MintVariant
from proxy.credentials.live import Check, LiveSecret
from proxy.credentials.mint import SessionTokenMint
from proxy.credentials.session_token import SessionToken
from proxy.credentials.token_endpoint import TokenEndpoint


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a credential is made from. Only minted tokens have an upstream, a variant and what it asks for."""

    name: str
    live: LiveSecret
    power: KeyPower
    upstream: Upstream | None = None
    variant: MintVariant = DOCUMENTED
    workspace: str | None = None
    signed_host: str | None = None


@dataclass(frozen=True, slots=True)
class KindOfCredential:
    """``check`` raises ``SecretError`` for a secret of the wrong form; ``make`` is given one of the right form.

    ``mints``: it needs an upstream to mint at.
    """

    check: Check
    make: Callable[[Ingredients], Credential]
    mints: bool


def _api_key(given: Ingredients) -> Credential:
    return ApiKey(given.name, given.live.current, given.power, live=given.live)


def _session_token(given: Ingredients) -> Credential:
    if given.upstream is None:
        raise ValueError("a session token is minted at an upstream")
    endpoint = TokenEndpoint.of(given.upstream)
    mint = SessionTokenMint(endpoint, given.variant, given.workspace, given.signed_host)
    return SessionToken(given.name, given.live, given.power, mint)


KINDS: Mapping[str, KindOfCredential] = MappingProxyType(
    {
        "api-key": KindOfCredential(check_api_key, _api_key, mints=False),
        "session-token": KindOfCredential(check_api_key, _session_token, mints=True),
    }
)
