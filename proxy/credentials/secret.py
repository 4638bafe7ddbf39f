"""A secret that cannot be shown by accident.

What belongs here: the type, and the fault of a secret that cannot be used. What does not: where secrets come from
(``sources.py``) and what they must look like (one file per kind of credential).
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

MASK: Final = "Secret(…)"


class SecretError(ValueError):
    """A secret that is missing or malformed: what was found, never quoting it, and what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found
        self.remedy = remedy


class Secret:
    """Text that only ``reveal()`` gives back.

    Its repr is a mask, so it may stand in a traceback, a log record or a failing assertion. ``str()``, ``format()``,
    copies and pickles raise ``TypeError``: a mask that went silently into a header would be a bug nobody sees.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """The secret in clear. The caller may put it on the wire and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> NoReturn:
        raise TypeError("a Secret cannot be turned into text; reveal() it where it is sent")

    def __format__(self, format_spec: str) -> NoReturn:
        raise TypeError("a Secret cannot be formatted; reveal() it where it is sent")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise TypeError("a Secret cannot be changed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # copy, deepcopy (so dataclasses.asdict too) and pickle all come through here.
        raise TypeError("a Secret cannot be copied or pickled")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> NoReturn:
        raise TypeError("a Secret has no hash, so that it cannot become a key")
