"""What there is to a session token at one moment: the token, the next mint, and what was counted.

What belongs here: the values, kept together because they are handed on together when another configuration goes on
with the same key. What does not: what happens to them (``session_token.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

from proxy.credentials.token_endpoint import MintFailure
from proxy.credentials.token_life import Life

SUCCESS = "success"
DISCARDED = "discarded"


def _no_mints() -> dict[str, int]:
    return {SUCCESS: 0, DISCARDED: 0} | {failure.value: 0 for failure in MintFailure}


@dataclass(slots=True)
class TokenState:
    """``line`` is sent before ``until`` and ``until_wall``; the next mint is not before ``not_before``.

    ``wanted``: one is wanted before the token asks for it. ``in_row`` counts tokens that were refused young.
    """

    line: bytes | None = field(default=None, repr=False)
    until: float = -inf
    until_wall: float = -inf
    life: Life | None = None
    minted_at: float = -inf
    minted_wall: float = 0.0
    not_before: float = -inf
    wanted: bool = False
    failures: int = 0
    failure: MintFailure | None = None
    in_row: int = 0
    doubts: int = 0
    doubted_at: float = -inf
    skew: float | None = None
    refusals: int = 0
    mints: dict[str, int] = field(default_factory=_no_mints)
    seconds: float = 0.0
    last_seconds: float | None = None

    def drop(self) -> None:
        """The token is not sent any more."""
        self.line = self.life = None
        self.until = self.until_wall = -inf

    def hand_on(self) -> TokenState:
        """All of it, for a successor. Who has this one goes on for those who wait, and mints nothing ahead of time."""
        successor = replace(self, mints=dict(self.mints))
        self.wanted = False
        if self.life is not None:
            self.life = replace(self.life, refresh_at=inf)
        return successor
