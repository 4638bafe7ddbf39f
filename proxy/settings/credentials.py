"""From the section of a credential to the credential: its secret, its power, and where its tokens are minted.

What belongs here: what needs the environment, the routes or another key of the section to be judged. What does not:
what a secret must look like, which each kind of credential says for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from proxy.core.model import Credential, KeyPower, KeyType, Level, Upstream
from proxy.credentials.api_key import ENVIRONMENT_VARIABLE
from proxy.credentials.definition import Definition
from proxy.credentials.iw1 import VARIANTS
from proxy.credentials.kinds import KINDS, Predecessors
from proxy.credentials.live import LiveSecret
from proxy.credentials.secret import SecretError
from proxy.credentials.sources import EnvironmentSource, FileSource, Source
from proxy.document import Document, Fault
from proxy.settings.model import CredentialSettings
from proxy.settings.reading import Entry, Reading
from proxy.settings.resolve import Served, Surroundings

_NO_KEY = "set it to the key that the Portal's Base64 copy action gives, or name a configuration file with --config"
_OF_A_MINT = ("mint", "workspace", "signed_host")


def resolve_credentials(
    reading: Reading,
    served: Mapping[str, Served],
    around: Surroundings,
    faults: list[Fault],
    *,
    keep: Mapping[str, Credential] = MappingProxyType({}),
) -> dict[str, Credential]:
    """The credentials that could be made. One that could not is missing, and its faults are said.

    One of ``keep`` whose definition is the same is taken as it is, and its secret is not read: it follows its source.
    """
    credentials: dict[str, Credential] = {}
    before = Predecessors(keep, reading.credentials)
    for name, entry in reading.credentials.items():
        if entry is None:
            continue
        settings = entry.settings
        kind = KINDS[settings.kind]
        _check_permissions(reading.document, entry, faults)
        _check_mint(reading.document, entry, faults)
        source = _source(reading.document, entry, faults)
        upstream = _mint_upstream(name, entry, reading, served, faults) if kind.mints else None
        definition = Definition(
            name,
            settings.kind,
            source,
            key_power(settings),
            upstream,
            VARIANTS[settings.mint],
            settings.workspace,
            settings.signed_host,
        )
        same = before.same(definition)
        if same is not None:
            credentials[name] = same
            continue
        live = _live(name, source, reading.document, entry, around, faults)
        if live is not None and (upstream is not None or not kind.mints):
            credentials[name] = kind.make(definition, live)
            before.bequeath(credentials[name])
    return credentials


def key_power(settings: CredentialSettings) -> KeyPower:
    """What the key may do, as declared. A realtime-only key has no permissions whatever the defaults say."""
    if settings.type is KeyType.REALTIME_ONLY:
        return KeyPower(settings.type, Level.NONE, Level.NONE)
    return KeyPower(settings.type, settings.permissions.voices, settings.permissions.router)


def _source(document: Document, entry: Entry[CredentialSettings], faults: list[Fault]) -> Source:
    settings = entry.settings
    source: Source = settings.secret
    if isinstance(source, FileSource):
        return replace(source, private=not settings.allow_readable)
    if settings.allow_readable:
        found = "`allow_readable` for a secret that is not in a file"
        faults.append(document.fault((*entry.path, "allow_readable"), found, "remove it"))
    return source


def _live(
    name: str,
    source: Source,
    document: Document,
    entry: Entry[CredentialSettings],
    around: Surroundings,
    faults: list[Fault],
) -> LiveSecret | None:
    settings = entry.settings
    path = (*entry.path, "secret")
    try:
        secret = around.read_key(source, around.environ)
        return LiveSecret(name, source, secret, check=KINDS[settings.kind].check, environ=around.environ)
    except SecretError as exc:
        from_nothing = document.place(path).line is None and source == EnvironmentSource(ENVIRONMENT_VARIABLE)
        remedy = _NO_KEY if from_nothing and not around.environ.get(ENVIRONMENT_VARIABLE) else exc.remedy
        faults.append(document.fault(path, exc.found, remedy))
        return None


def _mint_upstream(
    name: str,
    entry: Entry[CredentialSettings],
    reading: Reading,
    served: Mapping[str, Served],
    faults: list[Fault],
) -> Upstream | None:
    """The one upstream that this credential is for: its tokens are minted there, and sent nowhere else."""
    only = next(iter(reading.upstreams)) if len(reading.upstreams) == 1 else None
    routes = [route.settings for route in reading.routes if route is not None and route.settings.credential == name]
    named = {route.upstream or only for route in routes} or {only}
    if len(named - {None}) > 1:
        found = f"a session token for {len(named)} upstreams"
        faults.append(reading.document.fault(entry.path, found, "declare one credential for each of them"))
        return None
    if not routes and only is None and reading.upstreams:
        found = "a session token that no route uses, with several upstreams to mint it at"
        faults.append(reading.document.fault(entry.path, found, "use it in a route with `upstream:`, or remove it"))
        return None
    upstream = next((each for each in named if each is not None), None)
    here = served.get(upstream) if upstream is not None else None
    return here.upstream if here is not None else None


def _check_mint(document: Document, entry: Entry[CredentialSettings], faults: list[Fault]) -> None:
    settings = entry.settings
    if not KINDS[settings.kind].mints:
        for key in _OF_A_MINT:
            if key in settings.model_fields_set:
                found = f"`{key}` for a credential that is not minted"
                faults.append(document.fault((*entry.path, key), found, "remove it, or write `kind: session-token`"))
        return
    needs = VARIANTS[settings.mint].needs_workspace
    if needs and settings.workspace is None and entry.whole:
        found = f"`mint: {settings.mint}` without a workspace"
        remedy = "add `workspace:` with its id (what follows `workspaces/`)"
        faults.append(document.fault((*entry.path, "mint"), found, remedy))
    if not needs and settings.workspace is not None:
        found = f"a workspace, which `mint: {settings.mint}` does not ask for"
        faults.append(document.fault((*entry.path, "workspace"), found, "remove it, or write `mint: samples`"))


def _check_permissions(document: Document, entry: Entry[CredentialSettings], faults: list[Fault]) -> None:
    settings = entry.settings
    if settings.type is not KeyType.REALTIME_ONLY or "permissions" not in settings.model_fields_set:
        return
    permissions = settings.permissions
    if permissions.voices is not Level.NONE or permissions.router is not Level.NONE:
        path = (*entry.path, "permissions")
        faults.append(document.fault(path, "permissions of a realtime-only key", "remove them: such a key has none"))
