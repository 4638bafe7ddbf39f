"""``load_settings()``: file, environment and command line in; one frozen ``Snapshot`` or all the faults out.

What belongs here: the order of the steps, and what is assumed when nothing is said. What does not: how a section or a
value is read (``reading.py``, ``fields.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from proxy.catalogue.load import BUILT_IN
from proxy.core.browser import LOOPBACK_NAMES
from proxy.core.model import PRIVATE, Address, Caller, Limits, LogSettings, Policy, SizeLimits, Snapshot, TimeLimits
from proxy.credentials.api_key import ENVIRONMENT_VARIABLE
from proxy.credentials.sources import read_source
from proxy.document import Document, Fault, KeyPath, Place, read_document
from proxy.settings.credentials import resolve_credentials
from proxy.settings.inspector import resolve_inspector
from proxy.settings.limits import resolve_shared_limits
from proxy.settings.listeners import ANY, check_addresses, check_listeners
from proxy.settings.otel import resolve_spans
from proxy.settings.reading import Reading, read_sections
from proxy.settings.resolve import (
    ReadKey,
    Surroundings,
    build_tree,
    merge_catalogues,
    resolve_upstreams,
)
from proxy.settings.routing import ANONYMOUS, RouteTable, resolve_callers, resolve_signed_callers
from proxy.settings.tls import resolve_tls
from proxy.settings.tokens import TOKEN_OPERATION, offers_tokens, resolve_desk
from proxy.settings.user_callers import resolve_user_callers

ENVIRONMENT = "environment"
"""How faults and the snapshot name the source when there is no file."""

COMMAND_LINE = "command line"
DEFAULT_CREDENTIAL = "default"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says. Each stands before the file and is read, and found fault with, in the same way.

    ``knows_users``: callers connect to an inherited unix socket, too. ``listens``: without, nobody will connect, and
    what callers would be shown is not read.
    """

    listen: str | None = None
    admin: str | None = None
    upstream_url: str | None = None
    ca: str | None = None
    voices: str | None = None
    router: str | None = None
    key_type: str | None = None
    log_format: str | None = None
    self_signed: bool = False
    knows_users: bool = False
    listens: bool = True


class SettingsError(Exception):
    """The configuration cannot be used. ``faults`` are all of them, in the order of the file.

    ``files`` are those that were looked at, secrets aside: when one changes, it may be usable.
    """

    def __init__(self, faults: tuple[Fault, ...], files: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
        self.files = files


def load_settings(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Overrides = Overrides(),
    *,
    read_key: ReadKey = read_source,
    keep: Snapshot | None = None,
) -> Snapshot:
    """Reads and validates everything. Raises ``SettingsError`` with every fault that can be found at once.

    Without a file, the environment variable ``INWORLD_API_KEY`` is all that is needed. Relative paths in the file
    start at the file's folder. ``read_key`` reads the credentials' secrets.

    ``keep`` is what is in force, when this is to take its place: what both say in the same words goes on as it is, with
    its tokens and keys. Nothing of it is changed here.
    """
    document = _read_file(path) if path is not None else Document(ENVIRONMENT, {}, {(): Place(ENVIRONMENT)})
    files = () if path is None else (str(path.absolute()),)
    if not document.readable:
        raise SettingsError(document.faults, files)
    faults = list(document.faults)
    if keep is not None and path is not None and not document.value:
        # Whoever writes a file empties it first; and a pipe can be read once only. Nobody means "everything default".
        faults.append(Fault(document.file, "", "an empty configuration file", "write the configuration into it"))
    document = _with_overrides(_with_defaults(document), overrides, faults)
    folder = path.absolute().parent if path is not None else Path.cwd()
    around = Surroundings(folder, environ, read_key, [*map(Path, files)])
    reading = read_sections(document, faults)
    if keep is not None:
        check_addresses(reading, keep, faults)
    snapshot = _build(reading, around, overrides, faults, keep)
    if faults:
        order = {
            fault: (fault.file != document.file, fault.file, fault.line or 0, fault.column or 0) for fault in faults
        }
        raise SettingsError(tuple(sorted(dict.fromkeys(faults), key=order.__getitem__)), _names(around))
    return snapshot


def _names(around: Surroundings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, around.files)))


def _build(
    reading: Reading, around: Surroundings, overrides: Overrides, faults: list[Fault], keep: Snapshot | None
) -> Snapshot:
    options = reading.options.settings
    served = resolve_upstreams(reading, around, faults)
    operations = merge_catalogues(reading, served, faults)
    if offers_tokens(reading):
        operations[TOKEN_OPERATION.name] = TOKEN_OPERATION
    tree = build_tree(reading, operations.values(), faults)
    credentials = resolve_credentials(reading, served, around, faults, keep=keep.credentials if keep else {})
    table = RouteTable(served, credentials, operations)
    table.fill(reading, faults)
    callers, recognisers = resolve_callers(reading, operations, table.by_operation, faults)
    jwt_recognisers, key_sets = resolve_signed_callers(
        reading, callers, around, faults, keep=keep.key_sets if keep else {}
    )
    tls = resolve_tls(reading, around, faults, keep=keep.tls if keep else None) if overrides.listens else None
    check_listeners(reading, faults)
    _check_sizes(reading, faults)
    by_operation = MappingProxyType(table.by_operation)
    policy = Policy(
        tree=tree,
        operations=MappingProxyType(operations),
        anonymous=None if reading.callers else Caller(ANONYMOUS, by_operation),
        recognisers=(*recognisers, *jwt_recognisers),
        hosts=accepted_hosts(options.listen, options.hosts),
        origins=frozenset(options.origins),
        mode=options.mode,
        recognise_user=resolve_user_callers(reading, callers, faults, knows_users=overrides.knows_users),
        default_errors=tuple(dict.fromkeys(pair for here in served.values() for pair in here.catalogue.default_errors)),
    )
    return Snapshot(
        listen=options.listen,
        admin=options.admin,
        policy=policy,
        upstreams=MappingProxyType({name: here.upstream for name, here in served.items() if here.upstream}),
        credentials=MappingProxyType(credentials),
        callers=MappingProxyType(callers),
        routes=tuple(table.routes),
        desk=resolve_desk(reading, credentials, table.by_operation, faults, keep=keep.desk if keep else None),
        key_sets=MappingProxyType(key_sets),
        time=TimeLimits(**options.time.model_dump()),
        size=SizeLimits(**options.size.model_dump()),
        limits=Limits(
            options.limits.connections,
            options.limits.connections_per_address,
            options.limits.in_flight,
            options.limits.tunnels,
        ),
        shared_limits=resolve_shared_limits(reading, around, faults),
        admin_token=options.admin_token,
        inspector=resolve_inspector(reading, faults),
        log=LogSettings(options.log.format, options.log.level, frozenset(options.log.omit)),
        spans=resolve_spans(reading, around, faults),
        source=reading.document.file,
        files=_names(around),
        listen_mode=options.listen_mode or PRIVATE,
        tls=tls,
    )


def accepted_hosts(listen: Address, configured: tuple[str, ...]) -> frozenset[str] | None:
    """The Host names that are answered, so that a web page cannot point its own name here (DNS rebinding).

    None, any name, only for a listener beyond loopback without configured names: pods are reached by many names, and
    every request has to show a caller's token there.
    """
    if not listen.is_loopback and not configured:
        return None
    own = (
        frozenset()
        if listen.host in ANY or listen.path is not None
        else frozenset({f"[{listen.host}]" if ":" in listen.host else listen.host})
    )
    return LOOPBACK_NAMES | own | frozenset(configured)


def _read_file(path: Path) -> Document:
    file = str(path)
    try:
        return read_document(path.read_text(encoding="utf-8-sig"), file=file)
    except FileNotFoundError:
        fault = Fault(file, "", "the configuration file does not exist", "correct the path given with --config")
    except UnicodeDecodeError:
        fault = Fault(file, "", "the configuration file is not UTF-8 text", "save it as UTF-8")
    except OSError:
        fault = Fault(file, "", "the configuration file cannot be read", "correct the path, or who may read it")
    return Document(file, {}, {}, (fault,), readable=False)


def _with_defaults(document: Document) -> Document:
    """Names what is assumed, so that it goes through the same checks as what is written."""
    if not isinstance(document.value, dict):
        return document
    if "upstreams" not in document.value:
        name = BUILT_IN[0]
        document = document.with_value(("upstreams", name), {}, Place(document.file))
    if isinstance(document.value, dict) and "credentials" not in document.value:
        settings = {"kind": "api-key", "secret": f"env:{ENVIRONMENT_VARIABLE}"}
        place = Place(ENVIRONMENT, label="")
        document = document.with_value(("credentials", DEFAULT_CREDENTIAL), settings, place)
    return document


def _with_overrides(document: Document, overrides: Overrides, faults: list[Fault]) -> Document:
    ca = str(Path(overrides.ca).absolute()) if overrides.ca else overrides.ca
    direct: tuple[tuple[str, str | None, KeyPath], ...] = (
        ("--listen", overrides.listen, ("listen",)),
        ("--admin", overrides.admin, ("admin",)),
        ("--log-format", overrides.log_format, ("log", "format")),
    )
    within: tuple[tuple[str, str | None, str, KeyPath], ...] = (
        ("--upstream", overrides.upstream_url, "upstreams", ("url",)),
        ("--ca", ca, "upstreams", ("ca",)),
        ("--key-type", overrides.key_type, "credentials", ("type",)),
        ("--voices", overrides.voices, "credentials", ("permissions", "voices")),
        ("--router", overrides.router, "credentials", ("permissions", "router")),
    )
    for option, value, path in direct:
        if value is not None:
            document = document.with_value(path, value, Place(COMMAND_LINE, label=option))
    if overrides.self_signed:
        document = document.with_value(("tls",), {"self_signed": True}, Place(COMMAND_LINE, label="--tls"))
    for option, value, section, path in within:
        entries = document.value.get(section) if isinstance(document.value, dict) else None
        if value is None or not isinstance(entries, dict):
            continue
        if len(entries) != 1:
            found = f"an option for one of {len(entries)} {section}"
            faults.append(Fault(COMMAND_LINE, option, found, f"say it in {document.file}, for the one that is meant"))
            continue
        if isinstance(entries[next(iter(entries))], dict):
            whole_path = (section, next(iter(entries)), *path)
            document = document.with_value(whole_path, value, Place(COMMAND_LINE, label=option))
    return document


def _check_sizes(reading: Reading, faults: list[Fault]) -> None:
    size = reading.options.settings.size
    if reading.options.whole and size.line > size.head:
        path = ("size", "line") if ("size", "line") in reading.document.places else ("size", "head")
        found = f"a request line of {size.line} bytes in a head of {size.head}"
        faults.append(reading.document.fault(path, found, "make `head` at least as large as `line`: it contains it"))
