"""Responses that were created and can be asked about again.

What belongs here: what is remembered. What does not: HTTP (``responses.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from proxy.sandbox.errors import Refusal, not_found
from proxy.sandbox.shapes import JsonObject

_REMEMBERED = 1000
IN_PROGRESS = "in_progress"
COMPLETED = "completed"
CANCELLED = "cancelled"


@dataclass(slots=True)
class StoredResponse:
    """One response and what it answered."""

    workspace: str
    response: JsonObject
    items: list[JsonObject]
    polls_left: int = 0
    """A background response is in progress for this many questions more."""

    def now(self) -> JsonObject:
        """The response as it is at the moment."""
        if self.polls_left > 0:
            return self.response | {"status": IN_PROGRESS, "output": [], "usage": None}
        return self.response


class ResponseStore:
    """The responses of all workspaces; the oldest are forgotten."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, StoredResponse] = OrderedDict()

    def add(self, stored: StoredResponse) -> None:
        """Remembers a response."""
        self._stored[stored.response["id"]] = stored
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)

    def get(self, workspace: str, identifier: str) -> StoredResponse:
        """One of them; raises ``Refusal``."""
        stored = self._stored.get(identifier)
        if stored is None or stored.workspace != workspace:
            raise not_found(f"Response with id '{identifier}' not found.")
        return stored

    def poll(self, workspace: str, identifier: str) -> JsonObject:
        """The response as it is now, counting the question."""
        stored = self.get(workspace, identifier)
        shown = stored.now()
        stored.polls_left = max(0, stored.polls_left - 1)
        return shown

    def cancel(self, workspace: str, identifier: str) -> JsonObject:
        """Cancels a background response that is still in progress."""
        stored = self.get(workspace, identifier)
        if stored.response["background"] is not True:
            raise Refusal(400, "Cannot cancel a synchronous response.")
        if stored.polls_left > 0:
            stored.response = stored.now() | {"status": CANCELLED}
            stored.polls_left = 0
        return stored.response

    def delete(self, workspace: str, identifier: str) -> None:
        """Forgets a response; raises ``Refusal`` if there is none."""
        self.get(workspace, identifier)
        del self._stored[identifier]
