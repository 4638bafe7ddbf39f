"""Pronunciation dictionaries: what is remembered, their limits, and the etag that keeps two writers apart.

What belongs here: the rules. What does not: HTTP (``pronunciations.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from proxy.sandbox.errors import Refusal, invalid, not_found
from proxy.sandbox.shapes import JsonObject, new_uuid, rfc3339

MAX_NAME = 64
"""Documented: Unicode code points of a display name."""
MAX_ENTRIES = 1_000
"""Invented: the reference says that there is a limit."""


@dataclass(frozen=True, slots=True)
class Dictionary:
    """One dictionary, as it was after its last change."""

    workspace: str
    identifier: str
    display_name: str
    pronunciations: tuple[JsonObject, ...]
    created: float
    updated: float
    version: int

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return hashlib.sha256(f"{self.identifier}/{self.version}".encode()).hexdigest()[:16]

    def as_json(self) -> JsonObject:
        """The dictionary as the API writes it."""
        return {
            "name": f"workspaces/{self.workspace}/pronunciationDictionaries/{self.identifier}",
            "displayName": self.display_name,
            "pronunciations": list(self.pronunciations),
            "etag": self.etag,
            "createTime": rfc3339(self.created),
            "updateTime": rfc3339(self.updated),
        }


class DictionaryStore:
    """The dictionaries of all workspaces."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._dictionaries: dict[tuple[str, str], Dictionary] = {}

    def all(self, workspace: str) -> list[Dictionary]:
        """A workspace's dictionaries, oldest first."""
        return [dictionary for dictionary in self._dictionaries.values() if dictionary.workspace == workspace]

    def get(self, workspace: str, identifier: str) -> Dictionary:
        """One of them; raises ``Refusal``."""
        dictionary = self._dictionaries.get((workspace, identifier))
        if dictionary is None:
            raise not_found(f"pronunciation dictionary not found: {identifier}")
        return dictionary

    def create(self, workspace: str, display_name: str, pronunciations: tuple[JsonObject, ...]) -> Dictionary:
        """A new dictionary. There is no idempotency key: asking twice makes two."""
        now = self._clock()
        checked = _checked(pronunciations)
        return self._keep(Dictionary(workspace, new_uuid(), _named(display_name), checked, now, now, 1))

    def update(
        self,
        dictionary: Dictionary,
        etag: str,
        *,
        display_name: str | None,
        pronunciations: tuple[JsonObject, ...] | None,
    ) -> Dictionary:
        """The dictionary with some of its fields replaced; 409 if somebody else changed it first."""
        _current(dictionary, etag)
        entries = dictionary.pronunciations if pronunciations is None else _checked(pronunciations)
        return self._keep(
            Dictionary(
                dictionary.workspace,
                dictionary.identifier,
                dictionary.display_name if display_name is None else _named(display_name),
                entries,
                dictionary.created,
                self._clock(),
                dictionary.version + 1,
            )
        )

    def delete(self, workspace: str, identifier: str, etag: str, *, allow_missing: bool) -> None:
        """Forgets a dictionary; the etag is required even if it need not exist, as documented."""
        if not etag:
            raise invalid("etag is required")
        if allow_missing and (workspace, identifier) not in self._dictionaries:
            return
        _current(self.get(workspace, identifier), etag)
        del self._dictionaries[workspace, identifier]

    def _keep(self, dictionary: Dictionary) -> Dictionary:
        self._dictionaries[dictionary.workspace, dictionary.identifier] = dictionary
        return dictionary


def _current(dictionary: Dictionary, etag: str) -> None:
    if not etag:
        raise invalid("etag is required")
    if etag != dictionary.etag:
        # Documented: 409. Invented: gRPC code 10 (ABORTED) and the sentence.
        raise Refusal(409, "etag is stale: the dictionary was changed since it was read")


def _named(display_name: str) -> str:
    if not display_name.strip() or len(display_name) > MAX_NAME:
        raise invalid(f"displayName must not be blank and at most {MAX_NAME} characters long")
    return display_name


def _checked(pronunciations: tuple[JsonObject, ...]) -> tuple[JsonObject, ...]:
    if len(pronunciations) > MAX_ENTRIES:
        raise invalid(f"a dictionary holds at most {MAX_ENTRIES} pronunciations")
    # Invented: which entries count as the same one. The real service compares them as words of their language.
    seen = {json.dumps(entry, sort_keys=True).lower() for entry in pronunciations}
    if len(seen) != len(pronunciations):
        raise invalid("two pronunciations match the same text")
    return pronunciations
