"""What ``inworld-proxy run`` does once its command line is read; apart from it, so that ``--help`` does not wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from proxy import __version__, app
from proxy.cli.faults import print_faults
from proxy.core.model import Caller, Snapshot
from proxy.credentials.api_key import ENVIRONMENT_VARIABLE
from proxy.document import nearest
from proxy.session.child import NotStartedError, SoftLimits
from proxy.session.environment import Secrets, WatchedEnvironment, make_environment
from proxy.session.grants import make_token, session_caller, session_snapshot
from proxy.session.life import Session, run_session
from proxy.session.summary import summary_json, summary_lines
from proxy.settings.load import Overrides, SettingsError, load_settings

STANDARD_ERROR = 2

NO_PROXY_TO_RUN = 125
"""The exit code when the proxy itself cannot run, as ``env`` and ``timeout`` have it: commands use the lower ones."""


class Report(NamedTuple):
    """What is said beside the command, and where."""

    quiet: bool
    form: str
    file: Path | None
    log: int | None


def run_command(
    words: tuple[str, ...],
    name: str | None,
    config: Path | None,
    overrides: Overrides,
    environ: Mapping[str, str],
    limits: SoftLimits,
    report: Report,
    *,
    in_sandbox: bool,
) -> int:
    """Runs the command to its end, says what it did, and returns the exit code."""
    secrets = Secrets()
    watched = WatchedEnvironment(environ)
    try:
        snapshot = load_settings(config, watched, overrides, read_key=secrets.read)
    except SettingsError as error:
        print_faults(error.faults)
        return NO_PROXY_TO_RUN
    secrets.add_asked(watched)
    if real := os.environ.get(ENVIRONMENT_VARIABLE):
        secrets.add(real)  # whichever was used
    token = make_token()
    snapshot = session_snapshot(snapshot, _find_caller(snapshot, name), token, logs=report.log is not None)

    def environment(url: str) -> Mapping[str, str]:
        _say(_announcement(snapshot, url, in_sandbox=in_sandbox), report)
        return make_environment(os.environ, secrets, url=url, token=token)

    log = STANDARD_ERROR if report.log is None else report.log  # without a file nothing is logged
    try:
        session = app.run(run_session(snapshot, words, environment, limits=limits, log=log))
    except NotStartedError as error:
        click.echo(f"inworld-proxy: {error}", err=True)
        return error.code
    except OSError as error:
        click.echo(f"inworld-proxy: the proxy cannot run: {error.strerror or error}", err=True)
        return NO_PROXY_TO_RUN
    _summarise(session, snapshot, report)
    return session.code


def _find_caller(snapshot: Snapshot, name: str | None) -> Caller:
    try:
        return session_caller(snapshot, name)
    except KeyError:
        pass
    if not snapshot.callers:
        raise click.UsageError(f"No callers are declared ({snapshot.source}), so leave out --as {name}.")
    close = nearest(str(name), snapshot.callers)
    others = f"Did you mean {close}?" if close is not None else f"There are {', '.join(sorted(snapshot.callers))}."
    raise click.UsageError(f"There is no caller {name} in {snapshot.source}. {others}")


def _announcement(snapshot: Snapshot, url: str, *, in_sandbox: bool) -> str:
    where = ", ".join(f"{upstream.scheme}://{upstream.authority}" for upstream in snapshot.upstreams.values())
    if in_sandbox:
        where = "the built-in sandbox: nothing leaves this machine"
    return f"inworld-proxy {__version__} on {url} -> {where}"


def _summarise(session: Session, snapshot: Snapshot, report: Report) -> None:
    text = summary_json(session, snapshot) if report.form == "json" else "\n".join(summary_lines(session, snapshot))
    if report.file is not None:
        try:
            report.file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            click.echo(f"inworld-proxy: the summary cannot be written to {report.file}: {error.strerror}", err=True)
    else:
        _say(text, report)


def _say(text: str, report: Report) -> None:
    if not report.quiet:
        # Whoever read standard error may be gone (`2>&1 | head`): how the command ends does not depend on it. Not
        # through Python's own buffer, which would be flushed once more at the end and make that an exit code of 120.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, f"{text}\n".encode("utf-8", "backslashreplace"))
