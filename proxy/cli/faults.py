"""How faults of a configuration are shown, by every command that loads one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from proxy.document import Fault


def print_faults(faults: Sequence[Fault]) -> None:
    """Prints every fault and how many there are, on standard error."""
    for fault in faults:
        click.echo(str(fault), err=True)
    click.echo(f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}", err=True)
