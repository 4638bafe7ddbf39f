"""The command line: ``inworld-proxy COMMAND`` and ``python -m proxy COMMAND`` are the same program."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from proxy import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "serve": "Run the proxy.",
    "run": "Run a command beside a proxy of its own.",
    "check": "Say everything that is wrong with a configuration.",
    "doctor": "Try everything that the proxy needs, and say what is wrong.",
    "explain": "Say whether a request would be allowed, and why.",
    "sandbox": "Run the stand-in Inworld API alone.",
    "routes": "List the operations, and which key serves each.",
    "suggest": "Make rules for callers from what they did.",
    "token": "Make a token for a caller.",
    "schema": "Print the JSON Schema of the configuration.",
    "completion": "Print the completion script of a shell.",
}
"""Each is ``command`` in ``proxy/cli/NAME.py``, imported when asked for: the proxy starts faster without the rest."""


class _Commands(click.Group):
    """Loads a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"proxy.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - see above
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - for a shell that asks

        # click's own imports every command to learn whether it is hidden.
        commands = [CompletionItem(name, help=says) for name, says in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


_EXAMPLES = """
\b
Examples:
  inworld-proxy serve                                in front of the API, or without a key of the sandbox
  inworld-proxy serve --config egress.yaml           with callers, routes and limits of your own
  inworld-proxy routes 'tts.*'                       what can be asked for, and what it needs of the key
  inworld-proxy COMMAND --help                       has examples of each command
"""


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's signature
    if asked and not ctx.resilient_parsing:
        from proxy.core.build import BUILD  # noqa: PLC0415 - looks at what is compiled, for whoever asks

        click.echo(f"inworld-proxy, version {__version__} ({BUILD})")
        ctx.exit()


@click.group(cls=_Commands, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """An authenticating reverse proxy for the Inworld voice and language APIs.

    Applications point their base URL at the proxy and hold no Inworld key: the proxy decides whether a request may be
    made, puts the right Authorization on it, and moves the bytes both ways.
    """


if __name__ == "__main__":
    main(prog_name="inworld-proxy")
