"""``inworld-proxy token``: make a caller's token; it is shown once, the configuration holds its digest."""

from __future__ import annotations

import re
import secrets

import click

TOKEN_BYTES = 32
"""256 bits: guessing one is out of reach whatever the rate."""

_EXAMPLES = """
\b
Examples:
  inworld-proxy token storefront                the token, and the lines for the configuration
  inworld-proxy token storefront > token.txt    the token alone in the file, the lines on the screen
"""


@click.command("token", epilog=_EXAMPLES)
@click.argument("name", default="my-application")
def command(name: str) -> None:
    """Make a token for the caller NAME, and the lines that let it in.

    The token is shown once and kept nowhere; the configuration holds its SHA-256 digest, from which it cannot be made.
    While a token is being replaced, `token:` may be a list of two digests.
    """
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.callers.token import digest_token, spell_digest  # noqa: PLC0415 - see above
    from proxy.settings.fields import NAME  # noqa: PLC0415
    from proxy.settings.reading import HOW_NAMED  # noqa: PLC0415
    from proxy.settings.routing import ANONYMOUS  # noqa: PLC0415

    if re.fullmatch(NAME, name) is None or name == ANONYMOUS:
        reason = "it stands for everyone when no callers are declared" if name == ANONYMOUS else HOW_NAMED
        raise click.UsageError(f"A caller cannot be named {name!r}: {reason}.")
    token = f"ip_{secrets.token_urlsafe(TOKEN_BYTES)}"
    click.echo(f"Give this to {name}, to be used where an Inworld key would go. It is shown this once:\n", err=True)
    click.echo(token)
    click.echo("\nPut this into the configuration, with the operations it may use:\n", err=True)
    click.echo(
        f'callers:\n  {name}:\n    token: {spell_digest(digest_token(token.encode()))}\n    allow: ["tts.*"]', err=True
    )
