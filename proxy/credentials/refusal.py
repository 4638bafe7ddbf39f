"""What the upstream says when it does not know a key or token, and how to keep its echo of the key from callers.

What belongs here: recognising such an answer in bytes. What does not: what is done about it (``wire/``).
"""

from __future__ import annotations

import re

LONGEST_REFUSAL = 4096
"""Bytes of a body that are worth reading for this: such an answer has 130."""

_UNKNOWN_KEY = re.compile(rb'(API key does not exist or was deleted: \\?")([^"\\]*)')
"""Observed: gRPC code 7, echoing the first four characters of what was presented and ``***``."""


def says_refused(status: int, body: bytes) -> bool:
    """True when this answer means that the credential was refused, rather than what it was used for.

    Every 401; of the 403s only this one, because a key that lacks a permission is answered 403 as well.
    """
    return status == 401 or (status == 403 and _UNKNOWN_KEY.search(body) is not None)


def without_echo(body: bytes) -> bytes:
    """The body with what it quotes of the key made unreadable; as long as before, so that its framing stays true."""
    return _UNKNOWN_KEY.sub(lambda found: found[1] + b"*" * len(found[2]), body)
