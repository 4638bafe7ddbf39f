"""``inworld-proxy explain``: would this request be allowed, by which rule, and what would go out? Offline.

Asks the same ``decide()`` that the data path asks. No key is needed for that and none is read (``offline.py``).
"""

from __future__ import annotations

import base64
import difflib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import assert_never

import click

from proxy.cli.completing import complete_caller, complete_method, complete_path
from proxy.cli.offline import find_caller, load_offline
from proxy.cli.options import key_options
from proxy.core.errors import OUTCOMES, Code
from proxy.core.headers import sort_request_lines
from proxy.core.model import (
    READ_METHODS,
    Allow,
    Caller,
    Decision,
    Deny,
    KeyPower,
    KeyType,
    Kind,
    Operation,
    Permission,
    Policy,
    RequestHead,
    Route,
    Snapshot,
)
from proxy.core.policy import decide
from proxy.core.target import read_target

Facts = dict[str, object]
"""What is explained, as ``--json`` prints it; None where there is nothing to say."""

_NEAR = 3
"""Operations named when there is none at the path."""

_HANDSHAKE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + base64.b64encode(b"inworld-proxy-16"),
)


_EXAMPLES = """
\b
Examples:
  inworld-proxy explain POST /v1/audio/speech
  inworld-proxy explain POST /v1/audio/speech --config egress.yaml --as storefront
  inworld-proxy explain DELETE /voices/v1/voices/mine --voices write --json
"""


@click.command("explain", epilog=_EXAMPLES)
@click.argument("method", shell_complete=complete_method)
@click.argument("path", shell_complete=complete_path)
@click.option(
    "--as",
    "name",
    metavar="CALLER",
    shell_complete=complete_caller,
    help="Whose request it is; needed when callers are declared.",
)
@click.option("--uid", "user", metavar="USER", help="The user, by number or name, who asks on the unix socket.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@key_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(  # noqa: PLR0913 - one parameter per option
    method: str,
    path: str,
    name: str | None,
    user: str | None,
    config: Path | None,
    voices: str | None,
    router: str | None,
    key_type: str | None,
    *,
    as_json: bool,
) -> None:
    """Say whether a request would be allowed, and why.

    Nothing is contacted and no key is needed. PATH may have a query. Exit status: 0 allowed, 1 refused, 2 when the
    configuration or the command line has a fault.
    """
    from proxy.settings.load import Overrides  # noqa: PLC0415 - not for `--help`: see load_offline()

    snapshot = load_offline(config, Overrides(voices=voices, router=router, key_type=key_type))
    head = make_head(snapshot.policy, method, path)
    if user is None:
        caller: Caller | None = find_caller(snapshot, name)
        decision = decide(snapshot.policy, head, time.time(), caller=caller)
    else:
        decision = decide(snapshot.policy, head._replace(uid=_find_user(snapshot, user, name)), time.time())
        caller = decision.caller
    facts = explain(snapshot, decision, method, path, caller=caller)
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(facts)))
    raise SystemExit(1 if isinstance(decision, Deny) else 0)


def make_head(policy: Policy, method: str, path: str) -> RequestHead:
    """The head that a client of this operation would send: to an accepted host, with the handshake of a WebSocket."""
    host = min(policy.hosts) if policy.hosts else "localhost"
    lines = [f"Host: {host}".encode()]
    operation = _operations_at(policy, path).get(method)
    if operation is not None and operation.kind is Kind.WEBSOCKET:
        lines += _HANDSHAKE
    fields = sort_request_lines(lines)
    assert fields is not None  # noqa: S101 - for the type checker; the lines are ours
    return RequestHead(method, path, 11, fields[0], fields[1])


def explain(snapshot: Snapshot, decision: Decision, method: str, path: str, *, caller: Caller | None) -> Facts:
    """The decision and the rule it follows from, without any secret. No caller: nobody was recognised."""
    operation = decision.operation
    local = operation is not None and operation.kind is Kind.LOCAL
    route = caller.routes.get(operation.name) if caller is not None and operation is not None and not local else None
    deny = decision if isinstance(decision, Deny) else None
    return {
        "decision": "allow" if deny is None else "deny",
        "code": None if deny is None else deny.code.value,
        "status": None if deny is None else OUTCOMES[deny.code].status,
        "message": None if deny is None else deny.message,
        "caller": None if caller is None else caller.name,
        "operation": None if operation is None else _describe_operation(operation),
        "needs": None if operation is None else _describe_need(operation, method),
        "route": None if route is None else _describe_route(route),
        "sends": _describe_sending(decision, method) if isinstance(decision, Allow) else None,
        "audited": _describe_audited(decision) if isinstance(decision, Allow) else None,
        "instead": _instead(snapshot.policy, decision, path) if isinstance(decision, Deny) else None,
        "notes": list(_notes(snapshot)),
    }


def _find_user(snapshot: Snapshot, user: str, name: str | None) -> int:
    from proxy.document import UnusableError  # noqa: PLC0415 - as in command()
    from proxy.settings.users import find_user, parse_user  # noqa: PLC0415

    if name is not None:
        raise click.UsageError("Say who asks with --as or with --uid, not both.")
    if snapshot.policy.anonymous is not None:
        raise click.UsageError(f"No callers are declared ({snapshot.source}), so leave out --uid {user}.")
    try:
        found = find_user(parse_user(int(user) if user.isascii() and user.isdigit() else user))
    except UnusableError as exc:
        raise click.UsageError(f"--uid: {exc.found}; {exc.remedy}.") from None
    if found is None:
        raise click.UsageError(f"There is no user {user} on this machine.")
    return found


def _operations_at(policy: Policy, path: str) -> Mapping[str, Operation]:
    target = read_target(path)
    return {} if target is None else policy.tree.find(target[0]) or {}


def _describe_operation(operation: Operation) -> Facts:
    return {
        "name": operation.name,
        "family": operation.family,
        "methods": sorted(operation.methods),
        "path": operation.template,
        "kind": operation.kind.value,
        "permission": operation.permission.value,
    }


def _describe_need(operation: Operation, method: str) -> str:
    permission = operation.permission
    if operation.kind is Kind.LOCAL:
        return "no key of the caller's: it is minted from the key of `tokens`"
    match permission:
        case Permission.NONE:
            return "no permission of a standard key"
        case Permission.VOICES | Permission.ROUTER:
            return f"{permission.value} {'read' if method in READ_METHODS else 'write'}"
        case Permission.REALTIME:
            return "no permission; a realtime-only key serves it too"
        case Permission.MINT:
            return "more than any key may: mints are refused to every caller"
        case _:
            assert_never(permission)


def _describe_route(route: Route) -> Facts:
    power = route.credential.power
    return {
        "name": route.name,
        "upstream": {"name": route.upstream.name, "url": f"{route.upstream.scheme}://{route.upstream.authority}"},
        "credential": {
            "name": route.credential.name,
            "kind": route.credential.kind,
            "type": power.type.value,
            "voices": power.voices.value,
            "router": power.router.value,
            "has": _describe_power(power),
        },
    }


def _describe_power(power: KeyPower) -> str:
    if power.type is KeyType.REALTIME_ONLY:
        return "a realtime-only key"
    return f"a standard key with voices {power.voices.value}, router {power.router.value}"


def _describe_sending(allow: Allow, method: str) -> Facts:
    return {
        "method": method,
        "target": allow.target,
        "host": allow.route.upstream.authority,
        "websocket": allow.operation.kind is Kind.WEBSOCKET,
    }


def _describe_audited(allow: Allow) -> Facts | None:
    return None if allow.audited is None else {"code": allow.audited.code.value, "message": allow.audited.message}


def _instead(policy: Policy, deny: Deny, path: str) -> list[str] | None:
    """The operations that may have been meant: those at this path, or those at the nearest ones."""
    if deny.operation is not None or deny.code not in {Code.NO_OPERATION, Code.METHOD_NOT_ALLOWED}:
        return None
    found = set(_operations_at(policy, path).values())
    if not found:
        templates: dict[str, set[Operation]] = {}
        for operation in policy.operations.values():
            templates.setdefault(operation.template, set()).add(operation)
        near = difflib.get_close_matches(path.partition("?")[0], templates, n=_NEAR)
        found = {operation for template in near for operation in templates[template]}
    lines = (f"{', '.join(sorted(one.methods))} {one.template} is {one.name}" for one in found)
    return sorted(lines) or None


def _notes(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.source == "environment":
        yield (
            "Without --config the key is taken for a standard key with voices read and router read, which is what "
            "`serve` assumes when it is not told otherwise."
        )


def _lines(facts: Facts) -> Iterator[str]:
    """The same for a person."""
    if facts["decision"] == "allow":
        yield "allowed"
    else:
        yield f"refused: {facts['code']} ({facts['status']})"
        yield f"  {facts['message']}"
    match facts["audited"]:
        case {"code": code, "message": message}:
            yield f"  Only because the mode is audit: enforce would refuse it with {code}. {message}"
    yield f"caller      {facts['caller'] or 'nobody that is known'}"
    match facts["operation"]:
        case {"name": name, "family": family, "methods": [*methods], "path": path}:
            yield f"operation   {name}: {', '.join(methods)} {path} (family {family})"
            yield f"needs       {facts['needs']}"
    match facts["route"]:
        case {"name": name, "upstream": {"name": upstream, "url": url}, "credential": {"name": key, "has": has}}:
            yield f"route       {name}"
            yield f"upstream    {upstream}, {url}"
            yield f"credential  {key}, {has}"
    if facts["decision"] == "allow" and facts["sends"] is None:
        yield "sends       nothing: answered by the proxy itself"
    match facts["sends"]:
        case {"method": method, "target": target, "host": host, "websocket": websocket}:
            yield f"sends       {method} {target} to {host}{', as a WebSocket handshake' if websocket else ''}"
    match facts["instead"]:
        case [*operations]:
            yield from (f"instead     {operation}" for operation in operations)
    match facts["notes"]:
        case [*notes]:
            yield from (f"note        {note}" for note in notes)
