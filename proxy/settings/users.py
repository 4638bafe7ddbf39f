"""Users of this machine as people write them: a number, or a name that the system knows."""

from __future__ import annotations

import pwd
import re

from proxy.callers.user import HIGHEST
from proxy.document import UnusableError, quoted

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
"""What looks like a number is no name: it would be read as one by some programs and as the other by others."""


def parse_user(value: object) -> int | str:
    """A number, or a name that is not looked up yet."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST:
        return value
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise UnusableError(quoted(value), "write the number of a user of this machine, or the name: `1001` or `batch`")


def find_user(user: int | str) -> int | None:
    """The number of this user; None when there is none of this name."""
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
