"""The rules of a token's life as plain functions: how long it is used, when it is replaced, how failures are spaced.

What belongs here: arithmetic with its reasons. What does not: clocks, tasks and tokens (``session_token.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.credentials.token_endpoint import MintFailure

MARGIN = 5.0
"""Seconds before its end from which a token is not sent any more: it has to arrive, and to be looked at, in time."""

AHEAD = 10.0
"""Seconds that a refresh begins before the end at the least: time for several attempts, back-off included."""

LONGEST_LIFE = 86_400.0
"""Seconds. Documented is "a few hours"; an end in the year 9999 is a mistake, and must not mean never refreshed."""

SHORTEST_USE = 0.5
"""Seconds between two mints that succeed, whatever an endpoint says about the life of its tokens."""

PATIENCE = 1.0
"""Seconds. A pause up to this is waited out by requests; from here on Retry-After says it better than waiting does."""

GROWTH = 1.4
"""Of the pause after each failure. With PAUSES, eight attempts in the first three seconds or so, all waited for by the
requests of that time (an endpoint that fails one time in three then loses one refresh in 6,600), then ever rarer."""

SKEW_THAT_EXPLAINS = 30.0
"""Seconds. A refused signature whose clock was wrong by more is tried again at once with the right time."""

YOUNG = 30.0
"""Seconds. A token refused sooner counts towards a pause: minting for every refusal would be a storm of mints."""

MOST_DOUBTS = 3
"""Tunnels that end early before the token is replaced; any one of them may have its own reasons."""

DOUBTS_APART = 60.0
"""Seconds between two tokens replaced on mere doubt."""

PAUSES = {
    # A hiccup is over soon: the first pauses are short enough that requests wait through them.
    MintFailure.UNAVAILABLE: (0.1, 30.0),
    MintFailure.INVALID: (1.0, 60.0),
    # A refused key is refused again, until somebody replaces it; the source says when, and that ends the pause.
    MintFailure.REFUSED: (5.0, 60.0),
}
"""Seconds of the first pause and of the longest, by what failed."""


@dataclass(frozen=True, slots=True)
class Life:
    """``until`` and ``refresh_at`` by the monotonic clock, ``until_wall`` and ``ends`` by the wall clock, both ours.

    A token is sent before ``until`` by both: one stands still while a laptop sleeps, the other can be set back.
    """

    ends: float
    until: float
    until_wall: float
    refresh_at: float


def plan_life(expires: float, *, skew: float, wall: float, monotonic: float, chance: float) -> Life | None:
    """The life of a token that ends at ``expires`` by a clock ``skew`` ahead of ours. None when it is over already.

    It is refreshed when a fifth of its life is left, a tenth earlier at most by chance: so a token endpoint may be down
    for a fifth of a life before anything is felt, and processes that began together do not mint together for long.
    """
    life = min(expires - skew - wall, LONGEST_LIFE)
    if life <= 0:
        return None
    used = life - min(MARGIN, life / 4)
    ahead = max(life / 5, min(AHEAD, life / 2)) + chance * life / 10
    return Life(ends=wall + life, until=monotonic + used, until_wall=wall + used, refresh_at=monotonic + life - ahead)


def pause_after(failures: int, failure: MintFailure, *, chance: float) -> float:
    """Seconds to wait after this many failures in a row (1 is the first), give or take a fifth."""
    first, longest = PAUSES[failure]
    # Bounded before it is raised: a failure that goes on for weeks must not overflow.
    return min(longest, first * GROWTH ** min(failures - 1, 64)) * (0.8 + 0.4 * chance)
