"""``inworld-proxy check``: everything that is wrong with a configuration, or what was understood of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy.cli.faults import print_faults
from proxy.core.model import KeyPower, KeyType, Kind, Mode, Permission, Snapshot, Upstream

_EXAMPLES = """
\b
Examples:
  inworld-proxy check                        what `serve` would do with INWORLD_API_KEY alone
  inworld-proxy check --config egress.yaml   before it is put in force; in CI, too
"""


@click.command("check", epilog=_EXAMPLES)
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file. Without it, what the environment says.",
)
def command(config: Path | None) -> None:
    """Check the configuration: print every fault (exit 1), or what was understood (exit 0)."""
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.settings.load import SettingsError, load_settings  # noqa: PLC0415 - see above

    try:
        snapshot = load_settings(config, os.environ)
    except SettingsError as exc:
        print_faults(exc.faults)
        raise SystemExit(1) from None
    for line in describe_snapshot(snapshot):
        click.echo(line)


def describe_snapshot(snapshot: Snapshot) -> Iterator[str]:
    """What the configuration means, in a few lines without any secret."""
    total = len(snapshot.policy.operations)
    routed = sum(1 for operation in snapshot.policy.operations.values() if operation.kind is not Kind.LOCAL)
    yield f"{snapshot.source}: no faults"
    mode = "" if snapshot.policy.mode is Mode.ENFORCE else f", mode {snapshot.policy.mode.value}"
    yield f"listen      {snapshot.listen}, admin {snapshot.admin}{mode}"
    if snapshot.tls is not None:
        until = datetime.fromtimestamp(snapshot.tls.expires, UTC)
        made = "self-signed, " if snapshot.tls.self_signed else ""
        yield f"tls         {made}for {', '.join(snapshot.tls.names)}, until {until:%Y-%m-%d %H:%M} UTC"
    for upstream in snapshot.upstreams.values():
        yield f"upstream    {upstream.name}: {_describe_upstream(upstream)}"
    for credential in snapshot.credentials.values():
        yield f"credential  {credential.name}: {credential.kind}, {_describe_power(credential.power)}"
    by_operation = _routes_by_operation(snapshot)
    for route in snapshot.routes:
        served = sum(1 for name in by_operation if by_operation[name] == route.name)
        way = f"{route.credential.name} to {route.upstream.name}"
        yield f"route       {route.name}: {served} of {routed} operations, {way}"
    if not snapshot.callers:
        unix = snapshot.listen.path is not None
        who = "may connect to the socket" if unix else "reaches this machine's loopback address"
        yield f"callers     none: everyone who {who}"
    for caller in snapshot.callers.values():
        granted = total if caller.operations is None else len(caller.operations)
        yield f"caller      {caller.name}: {granted} of {total} operations"
    if snapshot.desk is not None:
        yield f"tokens      {', '.join(snapshot.desk.purposes)}: at POST /token, for {_describe_granted(snapshot)}"


def _describe_granted(snapshot: Snapshot) -> str:
    local = {operation.name for operation in snapshot.policy.operations.values() if operation.kind is Kind.LOCAL}
    granted = [each.name for each in snapshot.callers.values() if each.operations is None or local & each.operations]
    return ", ".join(granted) or f"nobody: no caller is granted {' or '.join(sorted(local))}"


def _routes_by_operation(snapshot: Snapshot) -> dict[str, str]:
    callers = [snapshot.policy.anonymous] if snapshot.policy.anonymous is not None else [*snapshot.callers.values()]
    return {
        name: route.name
        for caller in callers[:1]  # routes do not depend on the caller
        for name, route in caller.routes.items()
        if snapshot.policy.operations[name].permission is not Permission.MINT
        and snapshot.policy.operations[name].kind is not Kind.LOCAL
    }


def _describe_upstream(upstream: Upstream) -> str:
    text = f"{upstream.scheme}://{upstream.authority}"
    if upstream.connect_proxy is not None:
        text += f" through {upstream.connect_proxy[0]}:{upstream.connect_proxy[1]}"
    if upstream.ca_file is not None:
        text += f", also trusting {upstream.ca_file}"
    return text


def _describe_power(power: KeyPower) -> str:
    if power.type is KeyType.REALTIME_ONLY:
        return "a realtime-only key"
    return f"a standard key (voices {power.voices.value}, router {power.router.value})"
