"""``inworld-proxy routes``: the catalogue as a table; with a configuration, which key serves each operation.

What belongs here: choosing operations and what is said of each. Whether a key or a caller may is asked of
``core/policy.py``, as on the data path.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import click

from proxy.cli.completing import complete_caller, complete_operation
from proxy.cli.offline import find_caller, load_offline
from proxy.cli.table import align, terminal_width

if TYPE_CHECKING:
    from proxy.core.model import Caller, Operation, Route, Snapshot

Row = dict[str, object]
"""One operation, as ``--json`` prints it."""

Operations = Mapping[str, "Operation"]

_HEADINGS = {
    "operation": "OPERATION",
    "methods": "METHODS",
    "path": "PATH",
    "kind": "KIND",
    "needs": "NEEDS",
    "credential": "CREDENTIAL",
    "upstream": "UPSTREAM",
    "verdict": "VERDICT",
    "callers": "CALLERS",
}
OK = "ok"

_CUT = ("path", "callers", "upstream")
"""Columns that give way where a terminal is narrow, the first one first."""

_EXAMPLES = """
\b
Examples:
  inworld-proxy routes                                   the built-in catalogue
  inworld-proxy routes 'tts.*' realtime                  by name, wildcard or family
  inworld-proxy routes POST /v1/audio/speech             by method and path: what is it?
  inworld-proxy routes --config egress.yaml              which key serves each, may it, and for whom
  inworld-proxy routes --config egress.yaml --as studio  what one caller gets
  inworld-proxy routes voices --json
"""


@click.command("routes", epilog=_EXAMPLES)
@click.argument("wanted", nargs=-1, metavar="[FILTER]...", shell_complete=complete_operation)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@click.option(
    "--as",
    "name",
    metavar="CALLER",
    shell_complete=complete_caller,
    help="What this caller of the configuration gets.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(wanted: tuple[str, ...], config: Path | None, name: str | None, *, as_json: bool) -> None:
    """List the operations: the built-in catalogue, or those of a configuration and what serves them.

    FILTER is an operation, a wildcard (`tts.*`), a family (`tts`), a method (`POST`) or a path (`/v1/audio/speech`;
    with `*`, the form of one: `/voices/*`). Of filters of the same sort any may fit, of different sorts all must.

    With --config, VERDICT is what the key says (`ok`, or the code of the refusal), and with --as what the caller gets.
    Nothing is contacted and no key is needed. Exit status: 0; 1 when no operation fits; 2 when the configuration or the
    command line has a fault.
    """
    if name is not None and config is None:
        raise click.UsageError("--as names a caller of a configuration; say which with --config.")
    snapshot = None if config is None else load_offline(config)
    operations = _catalogue() if snapshot is None else snapshot.policy.operations
    chosen = choose(operations, wanted)
    caller = None if snapshot is None or name is None else find_caller(snapshot, name)
    rows = [_row(operation, snapshot, caller) for operation in chosen]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        click.echo("\n".join(_table(rows, snapshot)))
    if not rows:
        click.echo(f"No operation is {' '.join(wanted)}.", err=True)
        raise SystemExit(1)


def choose(operations: Operations, wanted: Iterable[str]) -> list[Operation]:
    """The operations that these filters mean, in the catalogue's order."""
    from proxy.core.model import METHODS  # noqa: PLC0415 - not for `--help`: see load_offline()

    methods, paths, names = set[str](), list[str](), list[str]()
    for word in wanted:
        if word.upper() in METHODS:
            methods.add(word.upper())
        else:
            (paths if word.startswith("/") else names).append(word)
    at_paths = _at(operations, paths)
    named = _named(operations, names)
    return [
        each
        for each in operations.values()
        if (not methods or methods & each.methods)
        and (not paths or each.name in at_paths)
        and (not names or each.name in named)
    ]


def _at(operations: Operations, paths: Iterable[str]) -> set[str]:
    from proxy.core.target import OperationTree, read_target  # noqa: PLC0415 - as above

    tree = OperationTree.of(operations.values())
    found: set[str] = set()
    for path in paths:
        target = read_target(path)
        exact = {} if target is None else tree.find(target[0]) or {}
        found |= {each.name for each in exact.values()}
        found |= {each.name for each in operations.values() if _fits(each.template, path)}
    return found


def _named(operations: Operations, names: Iterable[str]) -> set[str]:
    families = {each.family for each in operations.values()}
    patterns = [f"{name}.*" if name in families else name for name in names]
    return {name for name in operations for pattern in patterns if _fits(name, pattern)}


def _fits(text: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


def _catalogue() -> Operations:
    from proxy.catalogue.load import BUILT_IN, load_built_in  # noqa: PLC0415 - as in choose()

    return {each.name: each for name in BUILT_IN for each in load_built_in(name).operations}


def _row(operation: Operation, snapshot: Snapshot | None, caller: Caller | None) -> Row:
    row: Row = {
        "operation": operation.name,
        "family": operation.family,
        "methods": sorted(operation.methods),
        "path": operation.template,
        "kind": operation.kind.value,
        "permission": operation.permission.value,
        "needs": _need(operation),
    }
    if snapshot is None:
        return row
    someone = snapshot.policy.anonymous or next(iter(snapshot.callers.values()))  # routes do not depend on the caller
    route = someone.routes.get(operation.name) if operation.kind.value != "local" else None
    verdicts = _verdicts(snapshot, operation, route, caller)
    return row | {
        "route": None if route is None else route.name,
        "credential": None if route is None else route.credential.name,
        "upstream": None if route is None else route.upstream.name,
        "verdict": verdicts,
        "callers": None if snapshot.policy.anonymous is not None else _granted(snapshot, operation),
    }


def _need(operation: Operation) -> str | None:
    """What the key needs: nothing, a level on an API, to be of any type that serves Realtime; or what no key has."""
    from proxy.core.model import READ_METHODS, Permission  # noqa: PLC0415 - as in choose()

    match operation.permission:
        case Permission.NONE:
            return None
        case Permission.VOICES | Permission.ROUTER:
            levels = ("read" if method in READ_METHODS else "write" for method in operation.methods)
            return f"{operation.permission.value} {' or '.join(sorted(set(levels)))}"
        case Permission.REALTIME | Permission.MINT:
            return str(operation.permission.value)
        case _:
            assert_never(operation.permission)


def _granted(snapshot: Snapshot, operation: Operation) -> list[str]:
    may = (each for each in snapshot.callers.values() if each.operations is None or operation.name in each.operations)
    return [each.name for each in may]


def _verdicts(snapshot: Snapshot, operation: Operation, route: Route | None, caller: Caller | None) -> dict[str, str]:
    """By method: `ok`, or the code of the refusal; of the key alone where no caller is given."""
    return {
        method: _of_key(operation, route, method) if caller is None else _of_caller(snapshot, operation, method, caller)
        for method in sorted(operation.methods)
    }


def _of_key(operation: Operation, route: Route | None, method: str) -> str:
    from proxy.core.errors import Code  # noqa: PLC0415 - not for `--help`: see load_offline()
    from proxy.core.model import Kind, Permission  # noqa: PLC0415
    from proxy.core.policy import check_power  # noqa: PLC0415

    if operation.kind is Kind.LOCAL:
        return OK
    if operation.permission is Permission.MINT:
        return Code.TOKEN_MINT_REFUSED.value
    if route is None:
        return Code.NO_ROUTE.value
    lack = check_power(route.credential.power, operation, method, credential=route.credential.name)
    return OK if lack is None else lack[0].value


def _of_caller(snapshot: Snapshot, operation: Operation, method: str, caller: Caller) -> str:
    from proxy.cli.explain import make_head  # noqa: PLC0415 - as in _of_key()
    from proxy.core.model import Allow, Deny  # noqa: PLC0415
    from proxy.core.policy import decide  # noqa: PLC0415

    path = re.sub(r"\{[^}]*\}", "x", operation.template)
    decision = decide(snapshot.policy, make_head(snapshot.policy, method, path), time.time(), caller=caller)
    if isinstance(decision, Deny):
        return decision.code.value
    audited = decision.audited if isinstance(decision, Allow) else None
    return OK if audited is None else f"{OK}, audited: {audited.code.value}"


def _table(rows: list[Row], snapshot: Snapshot | None) -> list[str]:
    # A column that can only say one thing is left out.
    dull = set[str]()
    if snapshot is not None:
        dull = {"upstream"} if len(snapshot.upstreams) == 1 else dull
        dull = dull if snapshot.callers else dull | {"callers"}
    keys = [key for key in _HEADINGS if key in rows[0] and key not in dull]
    lines = [[_HEADINGS[key] for key in keys], *([_cell(row[key]) for key in keys] for row in rows)]
    return align(lines, width=terminal_width(), cut=[keys.index(key) for key in _CUT if key in keys])


def _cell(value: object) -> str:
    match value:
        case None | []:
            return "-"
        case [*words]:
            return ", ".join(map(str, words))
        case {**by_method}:
            # Most operations are one to the key, whatever the method.
            verdicts = [*dict.fromkeys(map(str, by_method.values()))]
            alike = len(verdicts) == 1
            return verdicts[0] if alike else ", ".join(f"{method} {says}" for method, says in by_method.items())
        case _:
            return str(value)
