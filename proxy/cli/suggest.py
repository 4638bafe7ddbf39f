"""``inworld-proxy suggest``: rules for callers from what they did, out of a log or a process that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.offline import load_offline

if TYPE_CHECKING:
    from proxy.cli.suggest_block import Known
    from proxy.cli.suggest_seen import Seen
    from proxy.core.model import Snapshot

DEFAULT_ADMIN = "http://127.0.0.1:9464"

_EXAMPLES = """
\b
Examples:
  inworld-proxy suggest proxy.log                             one file or several; - is standard input
  inworld-proxy suggest proxy.log --config egress.yaml        each caller keeps its token and limits
  kubectl logs -l app=inworld-proxy --tail=-1 --max-log-requests=20 | inworld-proxy suggest -
  inworld-proxy suggest --live                                asks http://127.0.0.1:9464, or `admin` of --config
  inworld-proxy suggest --live http://10.0.3.7:9464
"""


@click.command("suggest", epilog=_EXAMPLES)
@click.argument("logs", nargs=-1, type=click.Path(allow_dash=True), metavar="[LOG]...")
@click.option(
    "--live",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Ask the admin address of a process that runs, instead of reading a log.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration that is in force.")
@click.option("--exact", is_flag=True, help="Name every operation; no wildcards.")
def command(logs: tuple[str, ...], live: str | None, config: Path | None, *, exact: bool) -> None:
    """Print the smallest `callers:` block that lets through what was let through.

    LOG is the proxy's log in JSON. Run with `mode: audit` for a while, put the block that this prints in the place of
    `callers`, and remove `mode`. A wildcard is written only where it grants nothing beyond what was seen; an operation
    that a later catalogue adds would be covered by it, too (--exact names operations alone). What was refused, other
    than by a grant in audit mode, is listed in comments and not granted. Read the block before it is put in force: what
    a caller should not have done in audit mode is in it, too.

    With --config the block is complete. Without it the built-in catalogue is assumed, and a placeholder stands for each
    token, which `check` refuses. Exit status: 0; 1 when nothing was seen that could be granted; 2 when the command line
    or the configuration has a fault.
    """
    if (live is None) == (not logs):
        raise click.UsageError("Name a log (- is standard input), or ask a process that runs with --live.")
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.cli.suggest_block import suggest  # noqa: PLC0415 - see above
    from proxy.cli.suggest_seen import Seen  # noqa: PLC0415

    snapshot = None if config is None else load_offline(config)
    known = _known(config, snapshot)
    seen = Seen()
    if live is None:
        _read_logs(logs, seen)
    else:
        _read_live(live or _admin_of(snapshot), seen)
    suggestion = suggest(seen, known, exact=exact)
    if suggestion.grants or seen.refused or seen.allowed or seen.notes:
        click.echo(suggestion.text, nl=False)
    if not suggestion.grants:
        click.echo(_why_nothing(seen), err=True)
        raise SystemExit(1)


def _known(config: Path | None, snapshot: Snapshot | None) -> Known:
    from proxy.catalogue.load import BUILT_IN, load_built_in  # noqa: PLC0415 - as in command()
    from proxy.cli.suggest_block import Known  # noqa: PLC0415
    from proxy.cli.suggest_kept import kept_of  # noqa: PLC0415
    from proxy.settings.tokens import TOKEN_OPERATION  # noqa: PLC0415

    if config is None or snapshot is None:
        operations = {each.name: each for each in (*load_built_in(BUILT_IN[0]).operations, TOKEN_OPERATION)}
        return Known(operations, "the built-in catalogue (--config names another)", None)
    kept = kept_of(config.read_text(encoding="utf-8-sig")) if snapshot.callers else None
    if kept is not None and kept.keys() != snapshot.callers.keys():
        raise click.UsageError(f"{config} reads differently the second time; name a file, not a pipe.")
    return Known(snapshot.policy.operations, f"the catalogue of {config}", kept)


def _read_logs(logs: Sequence[str], seen: Seen) -> None:
    from proxy.cli.suggest_seen import read_log  # noqa: PLC0415 - as in command()

    for log in logs:
        try:
            with click.open_file(log, "rb") as lines:
                read_log(lines, seen)
        except OSError as exc:
            raise click.UsageError(f"{log} cannot be read: {exc.strerror or exc}.") from None
    for count, why in (
        (seen.foreign, "not JSON, or no request of this proxy."),
        (seen.text, "written for people. Set `log.format: json`."),
        *((count, f"without `{name}`. Take it out of `log.omit`.") for name, count in seen.lacking.items()),
    ):
        if count:
            click.echo(f"{count} {'line' if count == 1 else 'lines'} skipped: {why}", err=True)


def _read_live(url: str, seen: Seen) -> None:
    from proxy.cli.suggest_live import LiveError, read_live  # noqa: PLC0415 - as in command()

    try:
        read_live(url, seen)
    except LiveError as exc:
        raise click.UsageError(f"--live: {exc}.") from None


def _admin_of(snapshot: Snapshot | None) -> str:
    return DEFAULT_ADMIN if snapshot is None else str(snapshot.admin)


def _why_nothing(seen: Seen) -> str:
    if seen.allowed:
        return "Nothing was seen of the callers and operations of this configuration; see the comments."
    if seen.refused:
        return "Nothing was let through, only refused (`log.level: refused` leaves out of a log what went well)."
    return "No request was seen."
