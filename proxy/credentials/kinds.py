"""Every kind of credential the configuration can name, what makes one, and which one goes on after a reload.

A new kind is a file of its own beside this one, one row here, and its ``inherit()``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.core.model import Credential
from proxy.credentials.api_key import ApiKey, check_api_key
from proxy.credentials.definition import Definition
from proxy.credentials.live import Check, LiveSecret
from proxy.credentials.mint import SessionTokenMint
from proxy.credentials.session_token import SessionToken
from proxy.credentials.token_endpoint import TokenEndpoint


@dataclass(frozen=True, slots=True)
class KindOfCredential:
    """``check`` raises ``SecretError`` for a secret of the wrong form; ``make`` is given one of the right form.

    ``mints``: it needs an upstream to mint at.
    """

    check: Check
    make: Callable[[Definition, LiveSecret], Credential]
    mints: bool


def _api_key(given: Definition, live: LiveSecret) -> Credential:
    return ApiKey(given.name, live.current, given.power, live=live, definition=given)


def _session_token(given: Definition, live: LiveSecret) -> Credential:
    if given.upstream is None:
        raise ValueError("a session token is minted at an upstream")
    endpoint = TokenEndpoint.of(given.upstream)
    mint = SessionTokenMint(endpoint, given.variant, given.workspace, given.signed_host)
    return SessionToken(given.name, live, given.power, mint, definition=given)


KINDS: Mapping[str, KindOfCredential] = MappingProxyType(
    {
        "api-key": KindOfCredential(check_api_key, _api_key, mints=False),
        "session-token": KindOfCredential(check_api_key, _session_token, mints=True),
    }
)


class Predecessors:
    """The credentials in force, seen from the next configuration, which declares these ``names``."""

    def __init__(self, credentials: Mapping[str, Credential], names: Collection[str]) -> None:
        self._by_name = {name: each for name, each in credentials.items() if isinstance(each, ApiKey | SessionToken)}
        self._renamed = [each for name, each in self._by_name.items() if name not in names]

    def same(self, definition: Definition) -> Credential | None:
        """The credential that this is the definition of. It goes on as it is, and follows its source by itself."""
        known = self._by_name.get(definition.name)
        return known if known is not None and known.definition == definition else None

    def bequeath(self, heir: Credential) -> None:
        """Lets a new credential begin with what one in force has, if the same key is behind both.

        That is the one of its name, else one whose name is gone; and that one has one heir, or counts would double.
        """
        if not isinstance(heir, ApiKey | SessionToken) or heir.definition is None:
            return
        known = self._by_name.get(heir.name)
        for each in [*([known] if known is not None else []), *self._renamed]:
            if each.definition is not None and each.definition.place == heir.definition.place and heir.inherit(each):
                self._renamed = [other for other in self._renamed if other is not each]
                return


def look_again(credential: Credential) -> None:
    """Reads its secret again soon where nothing else would say that it changed: the operator asked for a new look."""
    if isinstance(credential, ApiKey | SessionToken):
        credential.live.ask()
