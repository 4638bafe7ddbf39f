"""What became of every credential that was shown, and how many mints ran at once: counts, for soaks to ask about.

What belongs here: counting. What does not: deciding (``authentication.py``) and showing (``inspection.py``). The last
requests themselves are in ``seen.py``; a soak makes more of them than are remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.sandbox.shapes import JsonObject


class Tally:
    """Counts since the start; nothing is forgotten."""

    def __init__(self) -> None:
        self._accepted: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._mints: Counter[int] = Counter()
        self._minting: Counter[str] = Counter()
        self._most_minting: Counter[str] = Counter()

    def accept(self, key: str, kind: str) -> None:
        """A credential of this kind, of this key, was recognised."""
        self._accepted[key, kind] += 1

    def refuse(self, reason: str) -> None:
        """A credential was not: expired, invalid, unknown, missing, or of a key that may not do this."""
        self._refused[reason] += 1

    @contextmanager
    def minting(self, signer: str) -> Iterator[None]:
        """A mint asked for with this key's id, for as long as the block runs."""
        self._minting[signer] += 1
        self._most_minting[signer] = max(self._most_minting[signer], self._minting[signer])
        try:
            yield
        finally:
            self._minting[signer] -= 1

    def minted(self, status: int) -> None:
        """A mint was answered."""
        self._mints[status] += 1

    def as_json(self) -> JsonObject:
        """The counts as ``GET /_sandbox/tally`` shows them."""
        accepted: dict[str, dict[str, int]] = {}
        for (key, kind), count in self._accepted.items():
            accepted.setdefault(key, {})[kind] = count
        return {
            "accepted": accepted,
            "refused": dict(self._refused),
            "mints": {str(status): count for status, count in self._mints.items()},
            "mostMintsAtOnce": dict(self._most_minting),
        }
