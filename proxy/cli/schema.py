"""``inworld-proxy schema``: the JSON Schema of the configuration, for editors and for checks elsewhere."""

from __future__ import annotations

from importlib import resources

import click

_EXAMPLES = """
\b
Examples:
  inworld-proxy schema > inworld-proxy.schema.json
                           then make this the first line of the configuration, for editors with a YAML language
                           server (VS Code, Neovim, Emacs, JetBrains):
                           # yaml-language-server: $schema=./inworld-proxy.schema.json
  inworld-proxy schema | python3 -m json.tool --indent 1
"""


@click.command("schema", epilog=_EXAMPLES)
def command() -> None:
    """Print the JSON Schema (2020-12) of the configuration, with every key, its default and what it means.

    An editor that knows it completes and checks the file while it is written. `check` finds more: it knows what fits
    together, and which variables and files are there.
    """
    # The file that is shipped, which a test holds to the models: making it anew takes half a second.
    click.echo(resources.files("proxy.settings").joinpath("schema.json").read_text(encoding="utf-8"), nl=False)
