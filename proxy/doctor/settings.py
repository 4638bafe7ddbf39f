"""The configuration and the secrets that it names: can they be read, and may only those read them who need to?

The secrets are read here, once; the configuration is then made with these. A placeholder stands for each that cannot
be read, so that everything else can still be looked at.
"""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from proxy.core.model import Credential, Snapshot
from proxy.credentials.api_key import ApiKey
from proxy.credentials.definition import Definition
from proxy.credentials.kinds import KINDS
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import FileSource, Source, check_readers, read_source
from proxy.doctor.finding import Finding, State, within
from proxy.document import Fault
from proxy.settings.load import Overrides, SettingsError, load_settings

_PLACEHOLDER = base64.b64encode(b"doctor:a-placeholder-for-a-key").decode()


class Told(NamedTuple):
    """What the command line says."""

    config: Path | None
    environ: Mapping[str, str]
    overrides: Overrides
    limit: float


class Loaded(NamedTuple):
    """The configuration, and which of its credentials have their secret. None: it has faults."""

    snapshot: Snapshot | None
    usable: frozenset[str]
    findings: list[Finding]


async def examine_settings(told: Told) -> Loaded:
    """Loads the configuration, reading every secret once."""
    try:
        plain = load_settings(told.config, told.environ, told.overrides, read_key=_placeholder)
    except SettingsError as error:
        return Loaded(None, frozenset(), [_fault(fault) for fault in error.faults])
    counts = (_count(len(plain.upstreams), "upstream"), _count(len(plain.credentials), "credential"))
    callers = _count(len(plain.callers), "caller") if plain.callers else "no callers declared"
    detail = f"{plain.source}: {', '.join(counts)}, {callers}"
    findings = [Finding("configuration", State.OK, detail)]
    secrets: dict[Source, Secret] = {}
    usable = set()
    for name, credential in plain.credentials.items():
        definition = definition_of(credential)
        if definition is None:
            continue
        found = await within(told.limit, f"secret {name}", _read(definition, told.environ, secrets))
        findings.append(found)
        if found.state is not State.FAIL:
            usable.add(name)

    def known(source: Source, environ: Mapping[str, str]) -> Secret:
        return secrets.get(source) or _placeholder(source, environ)

    try:
        snapshot = load_settings(told.config, told.environ, told.overrides, read_key=known)
    except SettingsError as error:  # it has changed in the meantime
        return Loaded(None, frozenset(), [*findings, *(_fault(fault) for fault in error.faults)])
    return Loaded(snapshot, frozenset(usable), findings)


def definition_of(credential: Credential) -> Definition | None:
    """What the configuration says about it."""
    return credential.definition if isinstance(credential, ApiKey | SessionToken) else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _placeholder(source: Source, environ: Mapping[str, str]) -> Secret:  # noqa: ARG001 - it reads neither
    return Secret(_PLACEHOLDER)


def _fault(fault: Fault) -> Finding:
    where = fault.file if fault.line is None else f"{fault.file}:{fault.line}"
    subject = f"{fault.path}: " if fault.path else ""
    return Finding("configuration", State.FAIL, f"{where}: {subject}{fault.found}", fault.remedy)


async def _read(definition: Definition, environ: Mapping[str, str], secrets: dict[Source, Secret]) -> Finding:
    name, source = f"secret {definition.name}", definition.source
    stop = threading.Event()
    try:
        secret = await asyncio.to_thread(read_source, source, environ, stop)
        KINDS[definition.kind].check(secret)
    except SecretError as exc:
        return Finding(name, State.FAIL, exc.found, exc.remedy)
    finally:
        stop.set()  # ends a command when the time is up
    secrets[source] = secret
    if isinstance(source, FileSource) and not source.private:
        try:
            check_readers(source.path, source.path.stat(), os.geteuid())
        except SecretError as exc:
            remedy = f"chmod 600 {source.path}, and take out `allow_readable: true`"
            return Finding(name, State.WARN, f"{exc.found}; `allow_readable` accepts that", remedy)
    return Finding(name, State.OK, f"{source}: a key of the right form")
