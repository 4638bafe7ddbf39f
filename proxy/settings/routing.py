"""Routes and callers: which credential serves which operation, who may ask for it, and what can never work.

What belongs here: matching wildcards with the catalogue, first match wins, and refusing at load what would be refused
on every request. Whether a key serves an operation is asked of ``core/policy.py``, the same code that decides later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from proxy.callers.token import token_recogniser
from proxy.core.model import (
    Caller,
    Credential,
    KeyPower,
    KeySetSource,
    KeyType,
    Operation,
    Permission,
    Recogniser,
    Route,
)
from proxy.core.policy import check_power
from proxy.document import Document, Fault, KeyPath, choose_from, nearest, quoted
from proxy.settings.credentials import key_power
from proxy.settings.limits import resolve_limits
from proxy.settings.model import CallerSettings, RouteSettings
from proxy.settings.reading import Entry, Reading
from proxy.settings.resolve import Served, Surroundings

ANONYMOUS = "anonymous"
"""Who everyone is when no callers are declared; no declared caller may have this name."""

Operations = Mapping[str, Operation]


OWN = "proxy."
"""How the names of the proxy's own operations begin: ``proxy.token`` hands out what works without the proxy."""


def match_glob(glob: str, operations: Iterable[str]) -> frozenset[str]:
    """The names that this operation name or wildcard means; ``*`` is any run of characters, dots included.

    What the proxy does itself is meant only by a wildcard that says so: who wrote ``*`` thought of the API.
    """
    pattern = re.compile(".*".join(map(re.escape, glob.split("*"))))
    return frozenset(
        name for name in operations if pattern.fullmatch(name) and (glob.startswith(OWN) or not name.startswith(OWN))
    )


class RouteTable:
    """Routes in order, and which one serves each operation."""

    def __init__(self, served: Mapping[str, Served], credentials: Mapping[str, Credential], all_of: Operations) -> None:
        self.served = served
        self.credentials = credentials
        self.operations = all_of
        self.routes: list[Route] = []
        self.by_operation: dict[str, Route] = {}

    def fill(self, reading: Reading, faults: list[Fault]) -> None:
        """Places every route of the configuration; says what is wrong with each."""
        if not reading.declares_routes:
            self._fill_default(reading, faults)
            return
        taken: set[str] = set()
        for index, entry in enumerate(reading.routes):
            if entry is None:
                continue
            left = self._left_for(entry, reading, taken)
            matched = _check_operations(entry, reading, left, self._catalogue_of(entry, reading), faults)
            route = self._route(f"routes[{index}]", entry, reading, faults)
            taken |= matched
            if route is not None:
                self._place(route, matched & left)

    def _fill_default(self, reading: Reading, faults: list[Fault]) -> None:
        if len(reading.credentials) > 1 or len(reading.upstreams) > 1:
            found = f"no routes, with {len(reading.credentials)} credentials and {len(reading.upstreams)} upstreams"
            remedy = 'say which serves what: `routes: [{operations: "*", credential: …, upstream: …}]`'
            faults.append(reading.document.fault(("routes",), found, remedy))
        elif self.served and self.credentials:
            (here,) = self.served.values()
            (credential,) = self.credentials.values()
            if here.upstream is not None:
                self._place(Route("default", here.upstream, credential), frozenset(self.operations))

    def _place(self, route: Route, operations: frozenset[str]) -> None:
        self.routes.append(route)
        for name in operations:
            self.by_operation.setdefault(name, route)

    def _catalogue_of(self, entry: Entry[RouteSettings], reading: Reading) -> Operations:
        """What the route's upstream serves; everything while it is not known which upstream that is."""
        name = entry.settings.upstream or (next(iter(reading.upstreams)) if len(reading.upstreams) == 1 else "")
        here = self.served.get(name)
        if here is None:
            return self.operations
        return {operation.name: operation for operation in here.catalogue.operations}

    def _left_for(self, entry: Entry[RouteSettings], reading: Reading, taken: set[str]) -> frozenset[str]:
        return frozenset(self._catalogue_of(entry, reading)) - taken

    def _route(self, name: str, entry: Entry[RouteSettings], reading: Reading, faults: list[Fault]) -> Route | None:
        settings = entry.settings
        document = reading.document
        if settings.credential and settings.credential not in reading.credentials:
            found = f"the credential {quoted(settings.credential)}, which is not declared"
            remedy = choose_from(settings.credential, reading.credentials)
            faults.append(document.fault((*entry.path, "credential"), found, remedy))
        upstream = settings.upstream
        if upstream is None and len(reading.upstreams) == 1:
            upstream = next(iter(reading.upstreams))
        elif upstream is None:
            if entry.whole:
                names = ", ".join(f"`{name}`" for name in reading.upstreams)
                remedy = f"add `upstream:` with one of {names}"
                faults.append(
                    document.fault(entry.path, "a route without `upstream`, with several to choose from", remedy)
                )
        elif upstream not in reading.upstreams:
            found = f"the upstream {quoted(upstream)}, which is not declared"
            faults.append(document.fault((*entry.path, "upstream"), found, choose_from(upstream, reading.upstreams)))
        here = self.served.get(upstream) if upstream is not None else None
        credential = self.credentials.get(settings.credential)
        if here is None or here.upstream is None or credential is None:
            return None
        return Route(name, here.upstream, credential)


def resolve_callers(
    reading: Reading, operations: Operations, routes: Mapping[str, Route], faults: list[Fault]
) -> tuple[dict[str, Caller], tuple[Recogniser, ...]]:
    """The declared callers by name, and the ways of recognising them."""
    callers: dict[str, Caller] = {}
    owners: dict[bytes, str] = {}
    shared_routes = MappingProxyType(dict(routes))
    document = reading.document
    for name, entry in reading.callers.items():
        if name == ANONYMOUS:
            remedy = "choose another name: it stands for everyone when no callers are declared"
            faults.append(document.fault(("callers", name), f"a caller named `{ANONYMOUS}`", remedy))
        if entry is None:
            continue
        _check_one_way(document, entry, faults)
        granted: set[str] = set()
        for index, glob in enumerate(entry.settings.allow):
            matched = match_glob(glob, operations)
            granted |= matched
            if not matched and operations:
                faults.append(_no_match(document, _item(document, entry.path, "allow", index), glob, operations))
        for index, digest in enumerate(entry.settings.token):
            owner = owners.setdefault(digest, name)
            if owner != name or digest in entry.settings.token[:index]:
                found = f"a digest that `{owner}` has already"
                remedy = "make a token of its own for each caller with `inworld-proxy token`"
                faults.append(document.fault(_item(document, entry.path, "token", index), found, remedy))
        limits = resolve_limits(entry.settings.limits, document, entry.path, faults)
        callers[name] = Caller(name, shared_routes, frozenset(granted), limits)
    recogniser = token_recogniser((digest, callers[name]) for digest, name in owners.items())
    return callers, (recogniser,) if callers else ()


def resolve_signed_callers(
    reading: Reading,
    callers: Mapping[str, Caller],
    around: Surroundings,
    faults: list[Fault],
    *,
    keep: Mapping[str, KeySetSource],
) -> tuple[tuple[Recogniser, ...], Mapping[str, KeySetSource]]:
    """The way of recognising those whose tokens an identity provider signs, and its key sets, if there are such."""
    if all(entry is None or entry.settings.jwt is None for entry in reading.callers.values()):
        return (), {}
    from proxy.settings.jwt_callers import resolve_jwt_callers  # noqa: PLC0415 - see there

    return resolve_jwt_callers(reading, callers, around, faults, keep=keep)


def _check_one_way(document: Document, entry: Entry[CallerSettings], faults: list[Fault]) -> None:
    settings = entry.settings
    ways = [name for name in ("token", "uid", "jwt") if getattr(settings, name)]
    if len(ways) > 1:
        remedy = "remove one of them, or declare two callers"
        found = f"a caller with both {' and '.join(f'`{name}`' for name in ways)}"
        faults.append(document.fault((*entry.path, ways[-1]), found, remedy))
    elif entry.whole and not ways:
        remedy = "add `token:` with a digest (`inworld-proxy token` makes one), `jwt:`, or on a unix socket `uid:`"
        faults.append(document.fault(entry.path, "a caller without `token` or `jwt`", remedy))


def _check_operations(
    entry: Entry[RouteSettings], reading: Reading, left: frozenset[str], catalogue: Operations, faults: list[Fault]
) -> frozenset[str]:
    """All that this route's globs match; says which globs cannot work."""
    document = reading.document
    matched: frozenset[str] = frozenset()
    credential = reading.credentials.get(entry.settings.credential)
    power = key_power(credential.settings) if credential is not None and credential.whole else None
    before = len(faults)
    for index, glob in enumerate(entry.settings.operations):
        here = match_glob(glob, catalogue)
        path = _item(document, entry.path, "operations", index)
        if not here and catalogue:
            faults.append(_no_match(document, path, glob, catalogue))
        elif power is not None:
            reason = _why_unserved(glob, here, here & left, catalogue, power, entry.settings.credential)
            if reason is not None:
                faults.append(document.fault(path, *reason))
        matched |= here
    usable = frozenset(name for name in matched if catalogue[name].permission is not Permission.MINT)
    if usable and not usable & left and len(faults) == before:
        found = "a route that is never reached: the routes above it match all of its operations"
        faults.append(document.fault(entry.path, found, "move it up, or remove it"))
    return matched


def _why_unserved(
    glob: str, matched: frozenset[str], left: frozenset[str], operations: Operations, power: KeyPower, credential: str
) -> tuple[str, str] | None:
    """Why this key serves none of what the glob names (or not all, for a realtime-only key), and what to write."""
    if all(operations[name].permission is Permission.MINT for name in matched):
        return f"`{glob}`, which only mints tokens", "remove it: token mints are refused to every caller"
    unserved = [name for name in sorted(matched) if not _serves(power, operations[name])]
    unserved = [name for name in unserved if operations[name].permission is not Permission.MINT]
    if power.type is KeyType.REALTIME_ONLY:
        if not unserved:
            return None
        realtime = sorted({o.family for o in operations.values() if o.permission is Permission.REALTIME})
        instead = " or ".join(f"`{family}.*`" for family in realtime)
        found = f"`{glob}` with the realtime-only key `{credential}`, which serves none of {_some(unserved)}"
        return found, f"write {instead} here, or name a standard key"
    wanted = (left or matched) - {name for name in matched if operations[name].permission is Permission.MINT}
    if not wanted or not all(name in unserved for name in wanted):
        return None
    permission = operations[min(wanted)].permission.value
    level = "read" if any(operations[name].methods & {"GET"} for name in wanted) else "write"
    found = f"`{glob}` with the key `{credential}`, whose declared permissions serve none of {_some(wanted)}"
    remedy = f"name another credential, or declare `permissions: {{{permission}: {level}}}` if the key has it"
    return found, remedy


def _serves(power: KeyPower, operation: Operation) -> bool:
    return any(check_power(power, operation, method, credential="") is None for method in operation.methods)


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")


_NAMED = 3
"""Operations named in one sentence."""


def _no_match(document: Document, path: KeyPath, glob: str, operations: Operations) -> Fault:
    families = sorted({f"{operation.family}.*" for operation in operations.values()})
    close = nearest(glob, families if "*" in glob else operations)
    remedy = f"write `{close}`" if close is not None else f"write `*`, or one of {', '.join(families)}"
    return document.fault(path, f"{quoted(glob)}, which matches no operation of the catalogue", remedy)


def _item(document: Document, path: KeyPath, key: str, index: int) -> KeyPath:
    """The path of one item, or of the key when it stands there without a list."""
    item = (*path, key, index)
    return item if item in document.places else item[:-1]
