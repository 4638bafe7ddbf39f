"""``inworld-proxy doctor``: what is wrong, and what to do about it.

What belongs here: the command line and how findings are shown. What does not: the checks (``proxy/doctor/``).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy import __version__
from proxy.cli.options import key_options, upstream_options
from proxy.cli.sandbox_process import SandboxProcess
from proxy.doctor.finding import Finding, State, exit_code
from proxy.hardening import harden

if TYPE_CHECKING:
    from proxy.settings.load import Overrides

LIMIT = 5.0
"""Seconds for each check."""

_EPILOG = """
\b
Examples:
  inworld-proxy doctor                        with INWORLD_API_KEY set: the way to api.inworld.ai
  inworld-proxy doctor --config egress.yaml   every upstream and credential of a configuration
  inworld-proxy doctor --sandbox              whether this machine can run the proxy at all
  inworld-proxy doctor --json | jq .overall

\b
Exit status: 0 all is well, 1 there are warnings, 2 something does not work (or a fault in this command line).

\b
Each credential is tried with one read, one mint if it is a session token, and one WebSocket that is opened and
closed. Nothing is made, changed or synthesized; no secret and no token is shown.
"""


@click.command("doctor", epilog=_EPILOG)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@click.option("--listen", metavar="HOST:PORT", help="Where callers would connect.  [default: 127.0.0.1:8080]")
@click.option("--admin", metavar="HOST:PORT", help="Where metrics would be.  [default: 127.0.0.1:9464]")
@upstream_options
@key_options
@click.option("--sandbox", is_flag=True, help="In front of the built-in sandbox.")
@click.option(
    "--timeout", "limit", type=click.FloatRange(0.1, 600), default=LIMIT, show_default=True, help="Seconds for a check."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Path | None,
    listen: str | None,
    admin: str | None,
    upstream: str | None,
    ca: str | None,
    voices: str | None,
    router: str | None,
    key_type: str | None,
    limit: float,
    *,
    sandbox: bool,
    as_json: bool,
) -> None:
    """Try everything that the proxy needs, and say what is wrong with it.

    In this order: the configuration, its secrets; for each upstream its name, a connection, its certificate; for each
    credential the clock, an authenticated read, a token mint, a WebSocket; then the addresses to listen on, the
    certificate that callers are shown, Redis and the limit of open files. What depends on something that failed is
    skipped.
    """
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.credentials.api_key import ENVIRONMENT_VARIABLE  # noqa: PLC0415 - see above
    from proxy.settings.load import Overrides  # noqa: PLC0415

    # What the data path would log about the same faults is said here once, with what to do.
    logging.getLogger("proxy").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    harden()
    if sandbox and (config is not None or upstream is not None):
        raise click.UsageError("--sandbox is an upstream of its own; leave out --config and --upstream.")
    overrides = Overrides(listen, admin, upstream, ca, voices, router, key_type)
    if sandbox:
        with SandboxProcess() as child:
            environ = {**os.environ, ENVIRONMENT_VARIABLE: child.key_for(voices, router, key_type)}
            findings = _examine(None, environ, replace(overrides, upstream_url=child.url), limit, as_json=as_json)
    else:
        findings = _examine(config, os.environ, overrides, limit, as_json=as_json)
    if as_json:
        click.echo(_as_json(findings))
    raise SystemExit(exit_code(findings))


def _examine(
    config: Path | None, environ: Mapping[str, str], overrides: Overrides, limit: float, *, as_json: bool
) -> list[Finding]:
    from proxy import app  # noqa: PLC0415 - as in command()
    from proxy.doctor.examination import examine  # noqa: PLC0415
    from proxy.doctor.settings import Told  # noqa: PLC0415

    async def all_of_them() -> list[Finding]:
        findings = []
        async for finding in examine(Told(config, environ, overrides, limit)):
            findings.append(finding)
            if not as_json:
                _show(finding)
        return findings

    return app.run(all_of_them())


def _show(finding: Finding) -> None:
    click.echo(f"{finding.state.value:<4}  {finding.name:<22}  {finding.detail}")
    if finding.remedy and finding.state in (State.WARN, State.FAIL):
        click.echo(f"      {'':<22}  -> {finding.remedy}")


def _as_json(findings: list[Finding]) -> str:
    whole = {
        "version": __version__,
        "overall": ("ok", "warn", "fail")[exit_code(findings)],
        "checks": [
            {
                "name": finding.name,
                "state": finding.state.value,
                "detail": finding.detail,
                "remedy": finding.remedy or None,
                "ms": round(finding.seconds * 1000, 1),
            }
            for finding in findings
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)
