"""Callers whose tokens an identity provider signs: their rules, and the key sets that these need.

What belongs here: that no token is recognised as another caller's too. What does not: what a token must say to be
accepted (``callers/jwt.py``), and fetching (``credentials/key_set.py``): nothing is fetched while a configuration is
read. Imported where a configuration has such callers: cryptography, which verifies, is 7 % of a start.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType

from proxy.callers.jwt import FixedKeys, JwtRecogniser, JwtRule, Keys
from proxy.callers.key_set import KeyRefused, KeySet, read_configured_key, read_key_set
from proxy.core.model import Caller, KeySetSource, Recogniser, Upstream
from proxy.credentials.key_set import FetchedKeys, KeySetEndpoint
from proxy.credentials.secret import SecretError
from proxy.document import Document, Fault
from proxy.settings.addresses import KeySetUrl
from proxy.settings.model import CallerSettings, JwtSettings
from proxy.settings.reading import Entry, Reading
from proxy.settings.resolve import Surroundings


class _KeySets:
    """One key set for each address, whoever needs it, and whichever configuration named it first."""

    def __init__(self, keep: Mapping[str, KeySetSource]) -> None:
        self._before = {each.address: each for each in keep.values() if isinstance(each, FetchedKeys)}
        self.by_url: dict[KeySetUrl, FetchedKeys[KeySet]] = {}

    def at(self, name: str, url: KeySetUrl) -> FetchedKeys[KeySet]:
        """The set at this address, named after who needs it first. Raises ``OSError`` or ``ssl.SSLError``."""
        if url not in self.by_url:
            self.by_url[url] = self._make(name, url)
        return self.by_url[url]

    def _make(self, name: str, url: KeySetUrl) -> FetchedKeys[KeySet]:
        endpoint = KeySetEndpoint.of(Upstream(name, *url.host), url.path)
        source = FetchedKeys(name, endpoint, read_key_set, address=endpoint.address)
        before = self._before.get(source.address)
        if before is None:
            return source
        if before.name == name:
            return before
        source.inherit(before)
        return source


def resolve_jwt_callers(
    reading: Reading,
    callers: Mapping[str, Caller],
    around: Surroundings,
    faults: list[Fault],
    *,
    keep: Mapping[str, KeySetSource] = MappingProxyType({}),
) -> tuple[tuple[Recogniser, ...], dict[str, KeySetSource]]:
    """The way of recognising them, if there are any, and the key sets to be fetched. Callers may share one.

    One of ``keep`` for the same address is taken as it is, or under another name begins with what that one has.
    """
    document = reading.document
    rules: list[JwtRule] = []
    fetched = _KeySets(keep)
    for name, entry in reading.callers.items():
        if entry is None:
            continue
        settings = entry.settings.jwt
        if settings is None:
            continue
        keys = _keys(name, document, entry, settings, fetched, around, faults)
        if keys is None or name not in callers:
            continue
        claims = MappingProxyType({claim: frozenset(wanted) for claim, wanted in settings.claims})
        rule = JwtRule(callers[name], keys, settings.issuer, settings.audience, claims, settings.leeway)
        other = next((each for each in rules if _same_tokens(each, rule)), None)
        if entry.whole and other is not None:
            found = f"tokens that are those of `{other.caller.name}` too, and so of neither"
            remedy = "tell the two apart: give both the same claim with different values, or another audience"
            faults.append(document.fault((*entry.path, "jwt"), found, remedy))
        rules.append(rule)
    recognisers: tuple[Recogniser, ...] = (JwtRecogniser(rules),) if rules else ()
    return recognisers, {source.name: source for source in fetched.by_url.values()}


def _keys(
    name: str,
    document: Document,
    entry: Entry[CallerSettings],
    settings: JwtSettings,
    fetched: _KeySets,
    around: Surroundings,
    faults: list[Fault],
) -> Keys | None:
    path = (*entry.path, "jwt")
    if settings.key is not None and settings.jwks is not None:
        faults.append(document.fault((*path, "key"), "`key` beside `jwks`", "remove one of them"))
        return None
    if settings.jwks is not None:
        try:
            return fetched.at(name, settings.jwks)
        except (OSError, ssl.SSLError):
            found = "an https address, without certificates on this system to trust"
            faults.append(document.fault((*path, "jwks"), found, "install the system's CA certificates"))
            return None
    if settings.key is None:
        if entry.whole:
            remedy = "add `jwks:` with the address of the issuer's key set, or `key:`"
            faults.append(document.fault(path, "nothing to verify tokens with", remedy))
        return None
    try:
        return FixedKeys(read_configured_key(around.read_key(settings.key, around.environ).reveal()))
    except SecretError as exc:
        faults.append(document.fault((*path, "key"), exc.found, exc.remedy))
    except KeyRefused as exc:
        remedy = "give a public key in PEM form (RSA from 2048 bits, EC or Ed25519), or a random secret of 32 bytes"
        faults.append(document.fault((*path, "key"), str(exc), remedy))
    return None


def _same_tokens(one: JwtRule, other: JwtRule) -> bool:
    """Can no token be the one's alone, or none the other's? Keys are not compared: an issuer has its own."""
    if (one.issuer, one.audience) != (other.issuer, other.audience):
        return False
    return _implies(one, other) or _implies(other, one)


def _implies(narrow: JwtRule, wide: JwtRule) -> bool:
    """Does all that ``narrow`` accepts say what ``wide`` asks for?"""
    return all(narrow.claims.get(name, frozenset({""})) <= wanted for name, wanted in wide.claims.items())
