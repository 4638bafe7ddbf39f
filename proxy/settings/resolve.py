"""From the sections to what they name: catalogues and upstreams.

What belongs here: everything that needs a file, the environment or another section to be judged, except credentials
(``credentials.py``), routes and callers (``routing.py``). Faults are added to the list that is passed along, so that
all of them are found in one go.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.catalogue.load import BUILT_IN, Catalogue, load_built_in, load_catalogue
from proxy.core.model import Operation, Upstream
from proxy.core.target import OperationTree, TemplateError
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.sources import Source, parse_source, read_source
from proxy.document import Document, Fault, KeyPath, UnusableError, nearest, quoted
from proxy.settings.addresses import UpstreamUrl, parse_connect_proxy, parse_upstream_url
from proxy.settings.model import UpstreamSettings
from proxy.settings.reading import Entry, Reading

_ENDINGS = (".yaml", ".yml")


ReadKey = Callable[[Source, Mapping[str, str]], Secret]
"""Reads a credential's secret; ``explain`` puts a placeholder in its place, because it needs none."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the configuration may look at outside itself: its folder, for relative paths, the environment, secrets.

    ``files`` collects what was read, secrets aside.
    """

    folder: Path
    environ: Mapping[str, str]
    read_key: ReadKey = read_source
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Served:
    """An upstream and what it serves. The upstream is None when only its catalogue could be read."""

    upstream: Upstream | None
    catalogue: Catalogue


def resolve_upstreams(reading: Reading, around: Surroundings, faults: list[Fault]) -> dict[str, Served]:
    """The upstreams and their catalogues, as far as they could be made; the faults of the others are said."""
    served: dict[str, Served] = {}
    catalogues: dict[str, Catalogue | None] = {}
    for name, entry in reading.upstreams.items():
        if entry is None:
            continue
        settings = entry.settings
        if settings.catalogue not in catalogues:
            catalogues[settings.catalogue] = _catalogue(reading.document, entry, around, faults)
        catalogue = catalogues[settings.catalogue]
        ca = _ca_file(reading.document, entry, around, faults)
        upstream = _upstream(reading.document, name, entry, catalogue, around, faults)
        if catalogue is not None:
            if upstream is not None and ca is not None:
                upstream = replace(upstream, ca_file=ca[0], ca_digest=ca[1])
            served[name] = Served(upstream, catalogue)
    return served


def merge_catalogues(reading: Reading, served: Mapping[str, Served], faults: list[Fault]) -> dict[str, Operation]:
    """The operations of all upstreams by name. Two catalogues may share one only when they say the same about it."""
    operations: dict[str, Operation] = {}
    for name, here in served.items():
        path = ("upstreams", name, "catalogue")
        for operation in here.catalogue.operations:
            if operations.setdefault(operation.name, operation) != operation:
                found = f"a catalogue that says something else about {operation.name} than another upstream's"
                faults.append(reading.document.fault(path, found, "rename the operation in one of the two files"))
    return operations


def build_tree(reading: Reading, operations: Iterable[Operation], faults: list[Fault]) -> OperationTree:
    """The tree of all operations; a path that two catalogues claim under different names is a fault."""
    try:
        return OperationTree.of(operations)
    except TemplateError as exc:
        faults.append(
            reading.document.fault(("upstreams",), f"catalogues that do not fit together: {exc}", "change one")
        )
        return OperationTree.of(())


def _catalogue(
    document: Document, entry: Entry[UpstreamSettings], around: Surroundings, faults: list[Fault]
) -> Catalogue | None:
    name = entry.settings.catalogue
    if name in BUILT_IN:
        return load_built_in(name)
    path = (*entry.path, "catalogue")
    if "/" not in name and not name.endswith(_ENDINGS):
        remedy = f"write `{nearest(name, BUILT_IN) or BUILT_IN[0]}`, or the path of a catalogue file (`./my-api.yaml`)"
        faults.append(document.fault(path, f"{quoted(name)}, which is no built-in catalogue", remedy))
        return None
    text = read_text(document, path, around.folder / name, around, faults)
    if text is None:
        return None
    catalogue = load_catalogue(text, file=str(around.folder / name))
    if isinstance(catalogue, Catalogue):
        return catalogue
    faults.extend(catalogue)
    return None


def _upstream(
    document: Document,
    name: str,
    entry: Entry[UpstreamSettings],
    catalogue: Catalogue | None,
    around: Surroundings,
    faults: list[Fault],
) -> Upstream | None:
    connect_proxy, authorization = _connect_proxy(document, entry, around, faults)
    url = entry.settings.url
    if url is None and entry.whole and catalogue is not None:
        url = _default_url(document, entry.path, catalogue, faults)
    if url is None:
        return None
    return Upstream(
        name,
        url.scheme,
        url.host,
        url.port,
        url.authority,
        connect_proxy=connect_proxy,
        connect_proxy_authorization=authorization,
    )


def _default_url(document: Document, path: KeyPath, catalogue: Catalogue, faults: list[Fault]) -> UpstreamUrl | None:
    remedy = "add `url: https://…` here"
    if catalogue.url is None:
        faults.append(document.fault(path, "an upstream without `url`, and none in its catalogue", remedy))
        return None
    try:
        return parse_upstream_url(catalogue.url)
    except UnusableError as exc:
        faults.append(document.fault(path, f"an upstream without `url`, and in its catalogue {exc.found}", remedy))
        return None


def _connect_proxy(
    document: Document, entry: Entry[UpstreamSettings], around: Surroundings, faults: list[Fault]
) -> tuple[tuple[str, int] | None, str | None]:
    text = entry.settings.proxy
    if text is None:
        return None, None
    try:
        if text.startswith(("env:", "file:")):
            text = read_source(parse_source(text), around.environ).reveal()
        proxy = parse_connect_proxy(text)
    except (SecretError, UnusableError) as exc:
        faults.append(document.fault((*entry.path, "proxy"), exc.found, exc.remedy))
        return None, None
    return (proxy.host, proxy.port), proxy.authorization


def _ca_file(
    document: Document, entry: Entry[UpstreamSettings], around: Surroundings, faults: list[Fault]
) -> tuple[str, str] | None:
    """Its path and the digest of its content."""
    if entry.settings.ca is None:
        return None
    path = (*entry.path, "ca")
    file = around.folder / entry.settings.ca
    text = read_text(document, path, file, around, faults)
    if text is None:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        found = f"{quoted(str(file))}, which holds no usable certificate"
        faults.append(document.fault(path, found, "name a file of CA certificates in PEM form"))
        return None
    return str(file), hashlib.sha256(text.encode()).hexdigest()


def read_text(document: Document, path: KeyPath, file: Path, around: Surroundings, faults: list[Fault]) -> str | None:
    """A file's text; a fault at ``path`` and None where there is none."""
    around.files.append(file)
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        faults.append(document.fault(path, f"{quoted(str(file))}, which does not exist", "correct the path"))
    except UnicodeDecodeError:
        faults.append(document.fault(path, f"{quoted(str(file))}, which is not UTF-8 text", "correct the path"))
    except OSError:
        found = f"{quoted(str(file))}, which cannot be read"
        faults.append(document.fault(path, found, "let the user that runs the proxy read it, or correct the path"))
    return None
