"""Notices that a caller left while nobody reads what it sends.

A loop that does not read a connection does not hear of its end either: a caller who left in the middle of an upload
that the upstream does not take would hold both connections until a time limit. Linux tells with ``EPOLLRDHUP``,
whatever is still unread; elsewhere the time limit it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import Protocol


class Unread(Protocol):
    """A connection that nobody reads now."""

    def on_left(self) -> None:
        """The other end has closed or reset it. Called at most once for each ``watch()``."""


class LeaveWatch:
    """Watches connections that are not being read. One per loop."""

    __slots__ = ("_by_number", "_loop", "_numbers", "_poll")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._poll = select.epoll() if hasattr(select, "epoll") else None
        if self._poll is not None:
            loop.add_reader(self._poll.fileno(), self._on_event)
        self._numbers: dict[Unread, int] = {}
        self._by_number: dict[int, Unread] = {}

    def watch(self, unread: Unread, descriptor: int) -> None:
        """From now on, until ``forget()``."""
        if self._poll is None or descriptor < 0:
            return
        self._numbers[unread] = descriptor
        self._by_number[descriptor] = unread
        try:
            self._poll.register(descriptor, select.EPOLLRDHUP)
        except FileExistsError:
            self._poll.modify(descriptor, select.EPOLLRDHUP)

    def forget(self, unread: Unread) -> None:
        """It is read again, or gone."""
        descriptor = self._numbers.pop(unread, None)
        # A descriptor that was closed left the poll by itself, and its number may be another connection's by now.
        if descriptor is not None and self._by_number.get(descriptor) is unread:
            del self._by_number[descriptor]
            if self._poll is not None:
                with contextlib.suppress(OSError):
                    self._poll.unregister(descriptor)

    def close(self) -> None:
        """Watches nothing any more."""
        self._numbers.clear()
        self._by_number.clear()
        if self._poll is not None:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def _on_event(self) -> None:
        if self._poll is None:
            return
        for descriptor, _ in self._poll.poll(0):
            unread = self._by_number.get(descriptor)
            if unread is not None:
                self.forget(unread)
                unread.on_left()
