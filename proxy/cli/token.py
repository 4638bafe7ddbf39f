"""``inworld-proxy token``: make a caller's token; it is shown once, the configuration holds its digest."""

from __future__ import annotations

import secrets

import click

from proxy.callers.token import digest_token, spell_digest

TOKEN_BYTES = 32
"""256 bits: guessing one is out of reach whatever the rate."""


@click.command("token")
@click.argument("name", default="my-application")
def command(name: str) -> None:
    """Make a token for the caller NAME, and the lines that let it in.

    \b
    Example:
      inworld-proxy token storefront
    """
    token = f"ip_{secrets.token_urlsafe(TOKEN_BYTES)}"
    click.echo(f"Give this to {name}, to be used where an Inworld key would go. It is shown this once:\n", err=True)
    click.echo(token)
    click.echo("\nPut this into the configuration, with the operations it may use:\n", err=True)
    click.echo(
        f'callers:\n  {name}:\n    token: {spell_digest(digest_token(token.encode()))}\n    allow: ["tts.*"]', err=True
    )
