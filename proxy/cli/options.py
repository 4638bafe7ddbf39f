"""Options that several commands have: where the API is, and what the key may do. Each is a decorator of a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from proxy.cli.completing import complete_key_type, complete_level

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def upstream_options(command: _Decorated) -> _Decorated:
    """``--upstream`` and ``--ca``, as ``upstream`` and ``ca``."""
    ca = click.option("--ca", metavar="FILE", help="Certificates to trust beside the system's (PEM).")
    url = click.option("--upstream", metavar="URL", help="The API itself.  [default: https://api.inworld.ai]")
    return url(ca(command))


def key_options(command: _Decorated) -> _Decorated:
    """``--voices``, ``--router`` and ``--key-type``, as ``voices``, ``router`` and ``key_type``."""
    voices = click.option(
        "--voices",
        metavar="LEVEL",
        shell_complete=complete_level,
        help="What the key may do on the Voice API: none, read or write.",
    )
    router = click.option(
        "--router",
        metavar="LEVEL",
        shell_complete=complete_level,
        help="What the key may do on the Router API: none, read or write.",
    )
    key_type = click.option(
        "--key-type",
        metavar="TYPE",
        shell_complete=complete_key_type,
        help="The type the key was made with: standard or realtime-only.",
    )
    return voices(router(key_type(command)))
