"""Enumerations whose members are as near as any attribute."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

_E = TypeVar("_E", bound=type[Enum])


def at_hand(cls: _E) -> _E:
    """Puts the members where they are looked for first.

    Python 3.11 runs a function for each ``Kind.HTTP``, 0.28 us where an attribute takes 0.05, and a request needs ten
    or twenty (2026-11-22). In Python 3.12 they are there already.
    """
    for name, member in cls.__members__.items():
        type.__setattr__(cls, name, member)
    return cls
