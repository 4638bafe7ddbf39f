"""``inworld-proxy run``: a command beside a proxy of its own.

What belongs here: the command line. What does not: what it leads to (``running.py``, ``proxy/session/``).
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from proxy.cli.completing import complete_caller
from proxy.cli.options import key_options, upstream_options
from proxy.cli.sandbox_process import SandboxProcess
from proxy.hardening import harden
from proxy.inherited import fill_standard_descriptors

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


@click.command(
    "run", epilog=_EPILOG, context_settings={"allow_interspersed_args": False}, options_metavar="[OPTIONS] --"
)
@click.option(
    "--as",
    "name",
    metavar="CALLER",
    shell_complete=complete_caller,
    help="With the grants and limits of this caller of the configuration.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@upstream_options
@key_options
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
    # Here, because `--help` and the shell's completion do not wait for them.
    from proxy.cli.running import Report, run_command  # noqa: PLC0415 - see above
    from proxy.credentials.api_key import ENVIRONMENT_VARIABLE  # noqa: PLC0415
    from proxy.session.child import read_soft_limits  # noqa: PLC0415
    from proxy.settings.load import Overrides  # noqa: PLC0415

    fill_standard_descriptors()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if quiet:
        logging.getLogger("proxy").setLevel(logging.CRITICAL)
    limits = read_soft_limits()
    harden(hard_limit=False)
    if sandbox and (config is not None or upstream is not None):
        raise click.UsageError("--sandbox is an upstream of its own; leave out --config and --upstream.")
    report = Report(quiet, form, summary_file, _open_log(log))
    overrides = Overrides(upstream_url=upstream, ca=ca, voices=voices, router=router, key_type=key_type)
    if not sandbox and (config is not None or upstream is not None or os.environ.get(ENVIRONMENT_VARIABLE)):
        code = run_command(words, name, config, overrides, os.environ, limits, report, in_sandbox=False)
    else:
        with SandboxProcess() as child:
            environ = {**os.environ, ENVIRONMENT_VARIABLE: child.key_for(voices, router, key_type)}
            overrides = replace(overrides, upstream_url=child.url)
            code = run_command(words, name, None, overrides, environ, limits, report, in_sandbox=True)
    sys.exit(code)


def _open_log(path: Path | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.UsageError(f"--log {path}: {error.strerror}.") from None
