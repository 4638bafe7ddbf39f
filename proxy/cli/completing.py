"""What the shell offers for the values of options and arguments, when it is asked to complete a command line.

What belongs here: candidates, each a function of click's form (context, parameter, what is typed so far). What does
not: the script that asks (``completion.py``). A key pressed is answered within a tenth of a second or so: nothing here
imports the models of a configuration, and a file that cannot be read offers nothing instead of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from proxy.catalogue.load import Catalogue

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def one_of(*words: str) -> Complete:
    """Completes to one of these words."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:  # noqa: ARG001 - click's form
        return _fitting(words, typed)

    return complete


complete_level = one_of("none", "read", "write")
complete_key_type = one_of("standard", "realtime-only")
complete_log_format = one_of("auto", "json", "text", "off")
complete_method = one_of("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def complete_caller(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:  # noqa: ARG001 - click's form
    """The callers that the file named with ``--config`` declares."""
    from proxy.document import read_document  # noqa: PLC0415 - see the top

    file = ctx.params.get("config")
    try:
        text = file.read_text(encoding="utf-8-sig") if file is not None else ""
    except (OSError, UnicodeDecodeError):
        return []
    top = read_document(text, file=str(file)).value
    callers = top.get("callers") if isinstance(top, dict) else None
    return _fitting(callers if isinstance(callers, dict) else (), typed)


def complete_operation(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:  # noqa: ARG001 - click's form
    """The operations of the built-in catalogue, and the families that they are in."""
    operations = _built_in().operations
    families = dict.fromkeys(operation.family for operation in operations)
    # Families first; once one is typed, what is in it.
    return _fitting(families if "." not in typed else (), typed) + _fitting((each.name for each in operations), typed)


def complete_path(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:  # noqa: ARG001 - click's form
    """The paths of the built-in catalogue at which the method before this word does something."""
    method = ctx.params.get("method")
    found = (each.template for each in _built_in().operations if method is None or method in each.methods)
    return _fitting(dict.fromkeys(found), typed)


def _built_in() -> Catalogue:
    from proxy.catalogue.load import BUILT_IN, load_built_in  # noqa: PLC0415 - see the top

    return load_built_in(BUILT_IN[0])


def _fitting(words: Iterable[str], typed: str) -> list[str]:
    return [word for word in words if word.startswith(typed)]
