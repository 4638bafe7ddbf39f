"""What is asked of a place where the rates of several processes are counted, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Ask(NamedTuple):
    """What is asked for one caller: so many more, and so many unused ones given back."""

    name: str
    interval: float
    burst: int
    wanted: int
    back: int


class Answer(NamedTuple):
    """How many were granted, and in how many seconds there is one more."""

    granted: int
    ready_in: float


class StoreError(Exception):
    """Nobody answers, or not with an answer. ``reason`` is a fixed sentence: no URL, and nothing that was received."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Store(Protocol):
    """Where it is counted. Every method may raise ``StoreError``, ``close()`` excepted."""

    @property
    def where(self) -> str:
        """Its address in words, without user and password."""

    async def open(self) -> None:
        """Connects, and asks something that needs all that later questions need."""

    async def lease(self, asks: Sequence[Ask]) -> list[Answer]:
        """One round trip: an answer to each. Without asks it only sees whether there is an answer."""

    async def close(self) -> None:
        """Ends the connection, if there is one."""
