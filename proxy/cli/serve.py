"""``inworld-proxy serve``: run the proxy; without a key, in front of the built-in sandbox."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import logging
import os
import shlex
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from proxy import __version__
from proxy.cli.completing import complete_log_format
from proxy.cli.faults import print_faults
from proxy.cli.options import key_options, upstream_options
from proxy.cli.sandbox_process import SandboxProcess
from proxy.hardening import harden
from proxy.inherited import Inherited, InheritedError, fill_standard_descriptors, take_inherited
from proxy.notify import Notifier

if TYPE_CHECKING:
    from proxy import app
    from proxy.core.model import ListenerTls, Snapshot
    from proxy.settings.load import Overrides

KEY = "INWORLD_API_KEY"

_EXAMPLES = """
\b
Examples:
  inworld-proxy serve                        with INWORLD_API_KEY set: in front of api.inworld.ai;
                                             without it: in front of the built-in sandbox
  inworld-proxy serve --tls self-signed      https and wss, and how to make a client trust it
  inworld-proxy serve --voices write         the key may change voices, and callers may use that
  inworld-proxy serve --config egress.yaml   with callers, routes and limits of your own
"""


_DEMO = """\
inworld-proxy {version} on {on} -> the built-in sandbox: {key} is not set, so nothing leaves this machine
metrics: {metrics}/metrics
{watch}
Try it:

  curl -s {proxy}/v1/audio/speech -H 'Content-Type: application/json' -o hello.wav \\
    -d '{{"model":"inworld-tts-1.5-max","voice":"Ashley","input":"Hello from the proxy.","response_format":"wav"}}'
                                                                  # audio: open hello.wav in any player

  curl -i {proxy}/voices/v1/voices:clone -d '{{}}'           # refused: 403, and why

  curl -s {admin}/metrics | grep ^inworld_proxy_requests  # what was counted
"""


class _Parent(NamedTuple):
    """What the process that started this one gave it."""

    inherited: Inherited
    notifier: Notifier


@click.command(epilog=_EXAMPLES)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (YAML).")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where callers connect; also unix:/PATH.  [default: 127.0.0.1:8080]"
)
@click.option("--admin", metavar="HOST:PORT", help="Where metrics and health are.  [default: 127.0.0.1:9464]")
@click.option("--fd", type=click.IntRange(0), metavar="N", help="Callers connect to this inherited listening socket.")
@click.option("--admin-fd", type=click.IntRange(0), metavar="N", help="The same for metrics and health.")
@upstream_options
@key_options
@click.option(
    "--log-format",
    metavar="FORMAT",
    shell_complete=complete_log_format,
    help="Request log: auto, json, text or off.",
)
@click.option("--tls", type=click.Choice(["self-signed"]), help="TLS, with a certificate made now, for development.")
@click.option("--sandbox", is_flag=True, help="Use the built-in sandbox even when INWORLD_API_KEY is set.")
def command(  # noqa: PLR0913, PLR0917 - one parameter per option
    config: Path | None,
    listen: str | None,
    admin: str | None,
    fd: int | None,
    admin_fd: int | None,
    upstream: str | None,
    ca: str | None,
    voices: str | None,
    router: str | None,
    key_type: str | None,
    log_format: str | None,
    tls: str | None,
    *,
    sandbox: bool,
) -> None:
    """Run the proxy until it is told to stop (Ctrl-C, SIGTERM).

    The configuration is read again when its file changes, on SIGHUP, and on POST /reload at the admin address: checked
    as a whole, then put in force without losing a request. With a fault in it, everything stays as it was, and the
    log, /readyz and the metric inworld_proxy_configuration_reload_failed say so. --listen and --admin need a restart.
    """
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.settings.load import Overrides  # noqa: PLC0415 - see above

    fill_standard_descriptors()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    harden()
    logging.getLogger("proxy.reload").setLevel(logging.INFO)  # who asks for a reload wants to see that it was done
    _refuse_slow_parser()
    if sandbox and (config is not None or upstream is not None):
        raise click.UsageError("--sandbox is an upstream of its own; leave out --config and --upstream.")
    parent = _Parent(_take_inherited(fd, admin_fd), Notifier.take(os.environ))
    listen = _only_one("--listen", listen, parent.inherited.listen_address)
    admin = _only_one("--admin", admin, parent.inherited.admin_address)
    overrides = Overrides(
        listen, admin, upstream, ca, voices, router, key_type, log_format,
        self_signed=tls is not None, knows_users=parent.inherited.knows_users,
    )  # fmt: skip
    environ: Mapping[str, str] = os.environ
    if not sandbox and (config is not None or upstream is not None or environ.get(KEY)):
        _serve(config, environ, overrides, parent, None)
        return
    with SandboxProcess() as child:
        environ = {**environ, KEY: child.key_for(voices, router, key_type)}
        overrides = replace(overrides, upstream_url=child.url)
        _serve(None, environ, overrides, parent, child)


def _take_inherited(fd: int | None, admin_fd: int | None) -> Inherited:
    try:
        return take_inherited(os.environ, fd, admin_fd)
    except InheritedError as error:
        click.echo(f"inworld-proxy: {error}.", err=True)
        sys.exit(1)


def _only_one(option: str, said: str | None, inherited: str | None) -> str | None:
    """The address that is inherited goes through the same checks as one that is said: may others reach it?"""
    if said is not None and inherited is not None:
        raise click.UsageError(f"{option} {said} names an address, and a socket on {inherited} is inherited: say one.")
    return said if inherited is None else inherited


def _serve(
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Overrides,
    parent: _Parent,
    child: SandboxProcess | None,
) -> None:
    from proxy import app  # noqa: PLC0415 - as in command()
    from proxy.credentials.sources import read_source  # noqa: PLC0415
    from proxy.settings.load import SettingsError, load_settings  # noqa: PLC0415

    try:
        snapshot = load_settings(config, environ, overrides)
    except SettingsError as error:
        print_faults(error.faults)
        sys.exit(1)

    def again(keep: Snapshot, stop: threading.Event) -> Snapshot:
        return load_settings(config, environ, overrides, read_key=partial(read_source, stop=stop), keep=keep)

    try:
        app.run(
            app.serve(
                snapshot,
                ready=lambda listening: _announce(snapshot, listening, child),
                inherited=parent.inherited,
                notifier=parent.notifier,
                load=again,
            )
        )
    except OSError as error:
        click.echo(f"inworld-proxy: cannot listen: {error.strerror or error}", err=True)
        click.echo(_advise(error, snapshot), err=True)
        sys.exit(1)


def _advise(error: OSError, snapshot: Snapshot) -> str:
    others = "choose other addresses with --listen and --admin."
    if error.errno == errno.EADDRINUSE:
        has = f"Another program (another inworld-proxy, perhaps) has {snapshot.listen} or {snapshot.admin}."
        return f"{has} Stop it, or {others}"
    return f"Put that right, or {others}"


def _announce(snapshot: Snapshot, listening: app.Listening, child: SandboxProcess | None) -> None:
    """Says where everything is, on standard error: standard output is for the request log."""
    trust: Path | None = None
    how = ""
    if snapshot.tls is not None and snapshot.tls.self_signed:
        from proxy.cli.self_signed import how_to_trust, keep_certificate  # noqa: PLC0415 - not for every start

        trust = keep_certificate(snapshot.tls, listening.data)
        how = how_to_trust(snapshot.tls, trust, _for_curl(listening.data, snapshot.tls, trust))
    proxy, admin = _url(listening.data, snapshot.tls), _url(listening.admin)
    ask_proxy, ask_admin = _for_curl(listening.data, snapshot.tls, trust), _for_curl(listening.admin)
    watch = f"inspector: {admin}/inspector\n" if snapshot.inspector and not admin.startswith("unix:") else ""
    if child is None:
        where = ", ".join(f"{upstream.scheme}://{upstream.authority}" for upstream in snapshot.upstreams.values())
        text = f"inworld-proxy {__version__} on {proxy} -> {where}\nmetrics: {admin}/metrics\n{watch}"
        for said, ask, path in ((proxy, ask_proxy, "/…"), (admin, ask_admin, "/metrics")):
            if said.startswith("unix:"):
                text += f"to {said}: curl {ask}{path}\n"
    else:
        text = _DEMO.format(
            version=__version__, on=proxy, metrics=admin, watch=watch, proxy=ask_proxy, admin=ask_admin, key=KEY
        )
    click.echo(f"{text}\n{how}\n" if how else text, err=True)


def _url(address: tuple[str, int], tls: ListenerTls | None = None) -> str:
    host, port = address
    if host.startswith("unix:"):
        return host
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _for_curl(address: tuple[str, int], tls: ListenerTls | None = None, trust: Path | None = None) -> str:
    """What curl is given to get there; a path may follow at once."""
    host, _ = address
    trusting = "" if trust is None else f"--cacert {shlex.quote(str(trust))} "
    if host.startswith("unix:"):
        # The name in the URL goes nowhere but into the Host field, and into what a certificate is compared with.
        scheme = "http" if tls is None else "https"
        return f"{trusting}--unix-socket {shlex.quote(host.removeprefix('unix:'))} {scheme}://localhost"
    return trusting + _url(address, tls)


def _refuse_slow_parser() -> None:
    """Five of aiohttp's smuggling advisories are of its pure-Python parser; the admin listener must not run on it."""
    # Asked of the folder: find_spec() of a module within it would import the package, for a quarter of the start.
    package = importlib.util.find_spec("aiohttp")
    folders = None if package is None else package.submodule_search_locations
    if folders is None or importlib.machinery.PathFinder.find_spec("aiohttp._http_parser", folders) is None:
        click.echo(
            "inworld-proxy: this aiohttp was built without its C parser, and the proxy does not run without it. "
            "Reinstall it from a wheel: pip install --force-reinstall --only-binary aiohttp aiohttp",
            err=True,
        )
        sys.exit(1)
