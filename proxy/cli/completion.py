"""``inworld-proxy completion``: the script with which a shell completes this program's command lines.

The scripts are click's own: at each request of the shell they start the program, which answers with candidates
(``completing.py``) instead of doing anything.
"""

from __future__ import annotations

import click

PROGRAM = "inworld-proxy"
_ASKED = "_INWORLD_PROXY_COMPLETE"
"""The variable by which click knows that the shell asks; it derives the same one from the program's name."""

SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = """
\b
Examples:
  inworld-proxy completion bash > ~/.local/share/bash-completion/completions/inworld-proxy
                                  bash 4.4 or newer, with the package bash-completion
  inworld-proxy completion bash   without it: add eval "$(inworld-proxy completion bash)" to ~/.bashrc
  inworld-proxy completion zsh > ~/.zfunc/_inworld-proxy
                                  with fpath+=(~/.zfunc) before compinit in ~/.zshrc
  inworld-proxy completion fish > ~/.config/fish/completions/inworld-proxy.fish
"""


@click.command("completion", epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, files, operations and callers.

    A shell that is started after the script was put into its place completes.
    """
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415 - for this command alone

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - for the type checker; click has all three
    # ShellComplete's own: the one for bash starts a bash to ask for its version, and here it may be another's.
    click.echo(ShellComplete.source(kind(ctx.find_root().command, {}, PROGRAM, _ASKED)), nl=False)
