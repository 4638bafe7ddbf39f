"""What a request of `make endure` orders of the upstream, and the one right answer to it; the accounts of a run.

What belongs here: what callers and upstream must agree on. What does not: sockets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

ID, DO = "x-request-id", "x-do"
MOST_TOLD = 20
"""Sentences kept about what went wrong; more say nothing new."""

SHORTEST = 300
"""Bytes of an answer: its words fit in."""

KEY = "ZW5kdXJlOnRoZS1rZXktdGhhdC1zdGF5cy1oZXJl"


class Order(NamedTuple):
    """What the upstream shall do. ``how``: ``whole``, ``pieces``, ``last`` (and close, as it says), ``error``, ``cut``
    (pieces, but for the end), or for a WebSocket who ends it: ``caller``, ``caller-left``, ``upstream``,
    ``upstream-cut``. ``size`` in bytes; ``pieces`` or messages; ``pause`` in milliseconds before each."""

    how: str
    size: int = SHORTEST
    pieces: int = 1
    pause: int = 0

    def write(self) -> str:
        """As the field that carries it."""
        return " ".join(map(str, self))

    @classmethod
    def read(cls, text: str) -> Order:
        """From that field."""
        how, size, pieces, pause = text.split()
        return cls(how, int(size), int(pieces), int(pause))


def answer(identity: str, method: str, target: str, body: bytes, size: int) -> bytes:
    """The body that this request must get: whoever was given another's would see it."""
    words = f"{identity} {method} {target} {hashlib.sha256(body).hexdigest()};".encode()
    return (words * (size // len(words) + 1))[:size]


@dataclass
class Accounts:
    """What happened, as callers and upstream saw it."""

    asked: int = 0
    late: int = 0
    connections: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    tunnels: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    slowest: float = 0.0
    wrongs: int = 0
    wrong: list[str] = field(default_factory=list)
    served: int = 0
    open: int = 0

    def tell(self, sentence: str) -> None:
        """Something was not as it must be."""
        self.wrongs += 1
        if len(self.wrong) < MOST_TOLD:
            self.wrong.append(sentence)
