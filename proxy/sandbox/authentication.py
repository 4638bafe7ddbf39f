"""Who is asking: finding the credential in a request, recognising it, and what its key may do.

What belongs here: credentials of API requests. What does not: the signature of a session-token mint (``mints.py``).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.sandbox.endpoint import Admission, Endpoint, Governed
from proxy.sandbox.errors import Refusal, unauthenticated, unknown_key
from proxy.sandbox.keys import Access, KeyType, SandboxKey
from proxy.sandbox.tokens import ONE_TIME, TokenFault

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.sandbox.state import Sandbox

SUBPROTOCOL_PREFIX = "bearer_"
BASIC = "basic"
BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asked, and by which kind of credential."""

    key: SandboxKey
    kind: str


class KeyRing:
    """The keys that exist. Comparison takes the same time whichever key is presented, or none."""

    def __init__(self, keys: tuple[SandboxKey, ...]) -> None:
        self._keys = keys

    def all(self) -> tuple[SandboxKey, ...]:
        """All keys."""
        return self._keys

    def by_basic(self, presented: str) -> SandboxKey | None:
        """The key whose complete credential this is."""
        given = presented.encode()
        matching = [key for key in self._keys if hmac.compare_digest(key.basic.encode(), given)]
        return matching[0] if matching else None

    def by_id(self, key_id: str) -> SandboxKey | None:
        """The key with this id, which is not a secret."""
        return next((key for key in self._keys if key.key_id == key_id), None)

    def delete(self, name: str) -> bool:
        """Deletes a key, as the Portal does: its tokens die with it. False if there is none of that name."""
        kept = tuple(key for key in self._keys if key.name != name)
        deleted = len(kept) != len(self._keys)
        self._keys = kept
        return deleted


def identify(request: web.Request, sandbox: Sandbox, endpoint: Endpoint) -> Identity:
    """The identity behind a request; raises ``Refusal``. A one-time token is used up by this."""
    scheme, value = presented_credential(request, endpoint)
    if endpoint.admission is Admission.BASIC and scheme != BASIC:
        # Documented: "Bearer callers are refused". Invented: the sentence.
        raise unauthenticated("only an API key with Basic authorization may create a token")
    key = sandbox.keys.by_basic(value)
    if key is not None:
        return Identity(key, f"{scheme}-api-key")
    if scheme == BEARER and value.count(".") == 2:
        return _by_token(value, sandbox, endpoint)
    raise unknown_key(value)


def presented_credential(request: web.Request, endpoint: Endpoint) -> tuple[str, str]:
    """The scheme (lower case) and value of the credential; raises the 401 of a request that carries none."""
    header = request.headers.get("Authorization", "")
    if not header and endpoint.admission is Admission.SOCKET:
        header = _socket_credential(request)
    scheme, _, value = header.partition(" ")
    if scheme.lower() not in (BASIC, BEARER) or not value.strip():
        raise unauthenticated()
    return scheme.lower(), value.strip()


def offered_bearer(request: web.Request) -> str | None:
    """The ``bearer_<token>`` subprotocol that a browser offered, whole."""
    offers = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    return next((offer.strip() for offer in offers if offer.strip().startswith(SUBPROTOCOL_PREFIX)), None)


def _socket_credential(request: web.Request) -> str:
    offered = offered_bearer(request)
    if offered is not None:
        return f"Bearer {offered.removeprefix(SUBPROTOCOL_PREFIX)}"
    # Third parties use this form; the vendor's current documentation says not to. Accepted, so that a proxy which fails
    # to strip it is found out.
    query = request.query
    return query.get("authorization") or query.get("Authorization") or ""


def _by_token(text: str, sandbox: Sandbox, endpoint: Endpoint) -> Identity:
    try:
        token = sandbox.tokens.verify(text)
        if token.kind == ONE_TIME and endpoint.admission is Admission.REALTIME:
            # Documented: "Realtime does not accept one-time tokens". Invented: the status and the sentence.
            raise unauthenticated("the Realtime API does not accept one-time tokens")
        key = sandbox.keys.by_id(token.key_id)
        if key is None:
            raise unknown_key(text)
        sandbox.tokens.spend(token)
    except TokenFault as exc:
        # Invented: that this is 401 and not 403; the error types are the ones the vendor's SDKs know.
        raise unauthenticated(exc.message, kind=exc.kind) from exc
    return Identity(key, f"{token.kind}-token")


def authorise(key: SandboxKey, endpoint: Endpoint) -> None:
    """Raises the 403 of a key that may not do this.

    Invented: the messages, since the vendor documents neither body; a 403 with gRPC code 7 is what its own tools
    expect.
    """
    if key.type is KeyType.REALTIME_ONLY and endpoint.admission is not Admission.REALTIME:
        raise Refusal(403, "this API key is restricted to the Realtime API")
    if endpoint.governed is None:
        return
    held = key.voices if endpoint.governed is Governed.VOICES else key.router
    if not held.covers(endpoint.access):
        letters = "rw" if endpoint.access is Access.WRITE else "r"
        scope = f"api.dsgnt.{endpoint.governed.value}::{letters}"
        raise Refusal(403, f"API key does not have the required permission: {scope}")
