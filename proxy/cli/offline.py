"""A configuration as it is read by commands that serve nothing: without its keys, and with every fault on the screen.

What belongs here: what ``explain``, ``routes`` and ``suggest`` ask of a configuration alike. No key is needed for that
and none is read: a placeholder stands in for each, so they can be run where the keys are not.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.faults import print_faults

if TYPE_CHECKING:
    from proxy.core.model import Caller, Snapshot
    from proxy.credentials.secret import Secret
    from proxy.credentials.sources import Source
    from proxy.settings.load import Overrides

_PLACEHOLDER = base64.b64encode(b"explain:a-placeholder-for-any-key").decode()


def load_offline(config: Path | None, overrides: Overrides | None = None) -> Snapshot:
    """What the file says; without one, what the environment does. With faults they are printed: exit status 2."""
    # Here, because `--help` and the shell's completion do not wait for the models of a configuration.
    from proxy.settings.load import Overrides, SettingsError, load_settings  # noqa: PLC0415 - see above

    overrides = replace(overrides or Overrides(), listens=False)
    try:
        return load_settings(config, os.environ, overrides, read_key=_placeholder)
    except SettingsError as exc:
        print_faults(exc.faults)
        raise SystemExit(2) from None


def find_caller(snapshot: Snapshot, name: str | None) -> Caller:
    """The caller that ``--as`` names; everyone, where no callers are declared. Raises ``click.UsageError``."""
    from proxy.document import nearest  # noqa: PLC0415 - as above

    anonymous = snapshot.policy.anonymous
    if anonymous is not None:
        if name is not None and name != anonymous.name:
            raise click.UsageError(f"No callers are declared ({snapshot.source}), so leave out --as {name}.")
        return anonymous
    if name is None:
        raise click.UsageError(f"Say who asks with --as: {', '.join(sorted(snapshot.callers))}.")
    caller = snapshot.callers.get(name)
    if caller is None:
        close = nearest(name, snapshot.callers)
        others = f"Did you mean {close}?" if close is not None else f"There are {', '.join(sorted(snapshot.callers))}."
        raise click.UsageError(f"There is no caller {name} in {snapshot.source}. {others}")
    return caller


def _placeholder(source: Source, environ: Mapping[str, str]) -> Secret:  # noqa: ARG001 - it reads neither
    from proxy.credentials.secret import Secret  # noqa: PLC0415 - as above

    return Secret(_PLACEHOLDER)
