"""``inworld-proxy run``: a command beside a proxy of its own.

What belongs here: the command line, what is said at the start and the end, and exit codes. What does not: the session
(``proxy/session/``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from proxy import __version__, app
from proxy.cli.faults import print_faults
from proxy.cli.sandbox_process import SandboxProcess
from proxy.core.model import Caller, Snapshot
from proxy.credentials.api_key import ENVIRONMENT_VARIABLE
from proxy.document import nearest
from proxy.hardening import harden
from proxy.inherited import fill_standard_descriptors
from proxy.session.child import NotStartedError, SoftLimits, read_soft_limits
from proxy.session.environment import Secrets, WatchedEnvironment, make_environment
from proxy.session.grants import make_token, session_caller, session_snapshot
from proxy.session.life import Session, run_session
from proxy.session.summary import summary_json, summary_lines
from proxy.settings.load import Overrides, SettingsError, load_settings

STANDARD_ERROR = 2

NO_PROXY_TO_RUN = 125
"""The exit code when the proxy itself cannot run, as ``env`` and ``timeout`` have it: commands use the lower ones."""

_EPILOG = """
\b
Examples:
  inworld-proxy run -- python app.py            in front of api.inworld.ai with INWORLD_API_KEY set,
                                                of the built-in sandbox without it
  inworld-proxy run --sandbox -- pytest -q      nothing leaves this machine
  inworld-proxy run --config egress.yaml --as storefront -- node server.js
  inworld-proxy run --quiet --summary json --summary-file calls.json -- make test

\b
COMMAND finds the proxy in INWORLD_BASE_URL, INWORLD_API_BASE, OPENAI_BASE_URL and ANTHROPIC_BASE_URL, and a
token for this session in INWORLD_API_KEY, OPENAI_API_KEY and ANTHROPIC_API_KEY. The real key is not in its
environment, nor is any other variable that the configuration reads a secret from.

\b
Exit status: COMMAND's own; 128 and the signal's number when a signal ended it; 127 not found, 126 not
executable, 125 when the proxy cannot run, 2 for a fault in this command line.

\b
The proxy ends when COMMAND does: WebSockets that are open then are closed. A COMMAND that goes into the
background (a daemon) loses the proxy when the process that was started here ends; give it an
`inworld-proxy serve` instead. SIGTERM, SIGHUP, SIGUSR1 and the like are passed on to COMMAND; Ctrl-C
reaches it from the terminal itself.
"""


class _Report(NamedTuple):
    """What is said beside the command, and where."""

    quiet: bool
    form: str
    file: Path | None
    log: int | None


@click.command(
    "run", epilog=_EPILOG, context_settings={"allow_interspersed_args": False}, options_metavar="[OPTIONS] --"
)
@click.option("--as", "name", metavar="CALLER", help="With the grants and limits of this caller of the configuration.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@click.option("--upstream", metavar="URL", help="The API itself.  [default: https://api.inworld.ai]")
@click.option("--ca", metavar="FILE", help="Certificates to trust beside the system's (PEM).")
@click.option("--voices", metavar="LEVEL", help="What the key may do on the Voice API: none, read or write.")
@click.option("--router", metavar="LEVEL", help="What the key may do on the Router API: none, read or write.")
@click.option("--key-type", metavar="TYPE", help="The type the key was made with: standard or realtime-only.")
@click.option("--sandbox", is_flag=True, help="Use the built-in sandbox even when INWORLD_API_KEY is set.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append the request log to this file.")
@click.option(
    "--summary",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What COMMAND called and what was refused, when it has ended.",
)
@click.option(
    "--summary-file", type=click.Path(path_type=Path), metavar="FILE", help="Write it here, not to standard error."
)
@click.option("--quiet", is_flag=True, help="Say nothing on standard error, but why COMMAND did not start.")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(  # noqa: PLR0913, PLR0917 - one parameter per option
    name: str | None,
    config: Path | None,
    upstream: str | None,
    ca: str | None,
    voices: str | None,
    router: str | None,
    key_type: str | None,
    log: Path | None,
    form: str,
    summary_file: Path | None,
    words: tuple[str, ...],
    *,
    sandbox: bool,
    quiet: bool,
) -> None:
    """Run COMMAND beside a proxy of its own, with the environment that points known clients at it.

    The proxy listens on a free port of this machine and answers only who shows the token of this session. COMMAND has
    this terminal: standard input, output and error are its own. What it called and what was refused is said at the end.
    """
    fill_standard_descriptors()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if quiet:
        logging.getLogger("proxy").setLevel(logging.CRITICAL)
    limits = read_soft_limits()
    harden(hard_limit=False)
    if sandbox and (config is not None or upstream is not None):
        raise click.UsageError("--sandbox is an upstream of its own; leave out --config and --upstream.")
    report = _Report(quiet, form, summary_file, _open_log(log))
    overrides = Overrides(upstream_url=upstream, ca=ca, voices=voices, router=router, key_type=key_type)
    if not sandbox and (config is not None or upstream is not None or os.environ.get(ENVIRONMENT_VARIABLE)):
        code = _run(words, name, config, overrides, os.environ, limits, report, in_sandbox=False)
    else:
        with SandboxProcess() as child:
            environ = {**os.environ, ENVIRONMENT_VARIABLE: child.key_for(voices, router, key_type)}
            overrides = replace(overrides, upstream_url=child.url)
            code = _run(words, name, None, overrides, environ, limits, report, in_sandbox=True)
    sys.exit(code)


def _run(
    words: tuple[str, ...],
    name: str | None,
    config: Path | None,
    overrides: Overrides,
    environ: Mapping[str, str],
    limits: SoftLimits,
    report: _Report,
    *,
    in_sandbox: bool,
) -> int:
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


def _summarise(session: Session, snapshot: Snapshot, report: _Report) -> None:
    text = summary_json(session, snapshot) if report.form == "json" else "\n".join(summary_lines(session, snapshot))
    if report.file is not None:
        try:
            report.file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            click.echo(f"inworld-proxy: the summary cannot be written to {report.file}: {error.strerror}", err=True)
    else:
        _say(text, report)


def _say(text: str, report: _Report) -> None:
    if not report.quiet:
        # Whoever read standard error may be gone (`2>&1 | head`): how the command ends does not depend on it. Not
        # through Python's own buffer, which would be flushed once more at the end and make that an exit code of 120.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, f"{text}\n".encode("utf-8", "backslashreplace"))


def _open_log(path: Path | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.UsageError(f"--log {path}: {error.strerror}.") from None
