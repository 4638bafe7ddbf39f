"""Recognising a caller by the user who connected, as the kernel says it: on unix sockets, without a token.

What belongs here: which user is which caller. What does not: asking the kernel (``wire/peer.py``), and whether a
request that shows a token is asked about its user at all (never: ``core/recognition.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.core.model import Caller, UserRecogniser

UNNAMED = 65534
"""What the kernel says in place of every user that has no number here (those of containers with users of their own, for
one; /proc/sys/kernel/overflowuid): it would be all of them, and nobody in particular."""

HIGHEST = 2**32 - 2
"""The number after it means "no user" to the kernel."""


def user_recogniser(users: Mapping[int, Caller]) -> UserRecogniser:
    """Recognises these callers by the numbers of their users."""
    return dict(users).get
