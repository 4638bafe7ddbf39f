"""From the ``tokens`` section to the desk where callers get tokens for browsers and mobile apps.

What belongs here: which credential serves a purpose and whether it may. What does not: how tokens are minted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from proxy.core.model import (
    Credential,
    ErrorShape,
    KeyPower,
    KeyType,
    Kind,
    Level,
    Operation,
    Permission,
    Route,
    TokenDesk,
    Upstream,
)
from proxy.credentials.api_key import ApiKey
from proxy.credentials.desk import ONE_TIME, REALTIME, Desk, Issuer, OneTimeIssuer, SessionTokenIssuer
from proxy.credentials.one_time import LONGEST_LIFE, OneTimeMint
from proxy.credentials.session_token import SessionToken
from proxy.credentials.token_endpoint import TokenEndpoint
from proxy.document import Fault, nearest
from proxy.settings.model import TokenSettings
from proxy.settings.reading import Reading

_Kind = TypeVar("_Kind", SessionToken, ApiKey)

TOKEN_OPERATION = Operation(
    name="proxy.token",
    family="proxy",
    methods=frozenset({"POST"}),
    template="/token",
    kind=Kind.LOCAL,
    permission=Permission.NONE,
    errors=ErrorShape.OPENAI,
)
"""An operation like any other: a caller may do it when its grants say so."""


def offers_tokens(reading: Reading) -> bool:
    """Does the configuration enable ``POST /token``?"""
    tokens = reading.options.settings.tokens
    return tokens.realtime is not None or tokens.one_time is not None


def resolve_desk(
    reading: Reading,
    credentials: Mapping[str, Credential],
    routes: Mapping[str, Route],
    faults: list[Fault],
    *,
    keep: TokenDesk | None = None,
) -> TokenDesk | None:
    """The desk, or None when the configuration has none; what is wrong with it is added to ``faults``.

    It goes on with what callers have had this minute at the desk to ``keep``.
    """
    if not offers_tokens(reading):
        return None
    tokens = reading.options.settings.tokens
    if not reading.callers:
        found = "tokens for anyone who asks"
        faults.append(reading.document.fault(("tokens",), found, "declare `callers`, and grant `proxy.token` to some"))
    issuers: dict[str, Issuer] = {}
    if tokens.realtime is not None:
        chosen = _choose(reading, "realtime", tokens.realtime, credentials, SessionToken, "session-token", faults)
        if chosen is not None:
            issuers[REALTIME] = SessionTokenIssuer(chosen)
    if tokens.one_time is not None:
        key = _choose(reading, "one_time", tokens.one_time, credentials, ApiKey, "api-key", faults)
        upstream = _upstream_of(key, routes) if key is not None else None
        if tokens.one_time.lifetime > LONGEST_LIFE:
            path = ("tokens", "one_time", "lifetime")
            faults.append(
                reading.document.fault(path, "more than an hour", "write at most `1h`: the upstream allows no more")
            )
        if key is not None and upstream is not None:
            mint = OneTimeMint(TokenEndpoint.of(upstream), key.current, rate=key.one_time)
            issuers[ONE_TIME] = OneTimeIssuer(mint, max(1, round(tokens.one_time.lifetime)))
        elif key is not None:
            found = f"the credential `{key.name}`, which no route uses"
            faults.append(reading.document.fault(("tokens", "one_time"), found, "use it in a route, or name another"))
    return Desk(issuers, tokens.per_minute, old=keep if isinstance(keep, Desk) else None)


def _choose(
    reading: Reading,
    section: str,
    settings: TokenSettings,
    credentials: Mapping[str, Credential],
    kind: type[_Kind],
    spelled: str,
    faults: list[Fault],
) -> _Kind | None:
    """The credential named, or the one with the least power of its kind when none is."""
    path = ("tokens", section, "credential")
    fitting = {
        name: credential
        for name, credential in credentials.items()
        if isinstance(credential, kind) and (kind is SessionToken or credential.power.type is KeyType.STANDARD)
    }
    name = settings.credential
    if name is None:
        name = min(fitting, key=lambda each: breadth(fitting[each].power), default=None)
        if name is None and any(each not in credentials for each in reading.credentials):
            return None  # one that could not be made may be the one; what is wrong with it is said
        if name is None:
            found = "no credential that such a token can be minted from"
            faults.append(reading.document.fault(("tokens", section), found, f"declare one of `kind: {spelled}`"))
            return None
    if name not in reading.credentials:
        close = nearest(name, fitting)
        remedy = f"write `{close}`" if close is not None else f"name a credential of `kind: {spelled}`"
        faults.append(reading.document.fault(path, f"the credential `{name}`, which is not declared", remedy))
        return None
    chosen = fitting.get(name)
    if chosen is None:
        if name in credentials:
            found, remedy = f"the credential `{name}` of another kind", f"name one of `kind: {spelled}`"
            if isinstance(credentials[name], kind):
                found = f"the realtime-only key `{name}`, which serves none of what a one-time token is for"
                remedy = "name a standard key"
            faults.append(reading.document.fault(path, found, remedy))
        return None
    if not settings.allow_write and Level.WRITE in (chosen.power.voices, chosen.power.router):
        found = f"tokens with the write permission of the key `{name}`"
        remedy = "use a key that may only read, or add `allow_write: true` if whoever holds a token shall write"
        faults.append(reading.document.fault(("tokens", section), found, remedy))
        return None
    return chosen


def breadth(power: KeyPower) -> tuple[bool, int, int]:
    """How much a token of this key could do, to compare: realtime-only first, then what may write less, then read."""
    levels = [power.voices, power.router]
    return power.type is KeyType.STANDARD, levels.count(Level.WRITE), levels.count(Level.READ)


def _upstream_of(credential: Credential, routes: Mapping[str, Route]) -> Upstream | None:
    return next((route.upstream for route in routes.values() if route.credential is credential), None)
