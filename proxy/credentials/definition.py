"""What a credential is made from, its secret aside: two configurations that say the same mean the same credential.

What belongs here: what makes two credentials one, and what makes a token of one good for the other. What does not:
finding them (``kinds.py``) and what each kind takes over from the one before it (``inherit()`` there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.model import KeyPower, Upstream
from proxy.credentials.iw1 import DOCUMENTED, MintVariant
from proxy.credentials.sources import Source


class Place(NamedTuple):
    """Where, and as what, a credential's tokens are made. How that place is reached and trusted is not in it."""

    kind: str
    address: tuple[str, str, int] | None
    variant: MintVariant
    workspace: str | None
    signed_host: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """One credential of a configuration. Only minted tokens have an upstream, a variant and what it asks for."""

    name: str
    kind: str
    source: Source
    power: KeyPower
    upstream: Upstream | None = None
    variant: MintVariant = DOCUMENTED
    workspace: str | None = None
    signed_host: str | None = None

    @property
    def place(self) -> Place:
        """With the same key, what was minted at the same place is good for both: the name and the power are ours."""
        upstream = self.upstream
        address = (upstream.scheme, upstream.host, upstream.port) if upstream is not None else None
        return Place(self.kind, address, self.variant, self.workspace, self.signed_host)
