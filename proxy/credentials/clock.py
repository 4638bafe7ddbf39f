"""Time and chance as the credentials see them, so that a test can put its own in their place."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """``wall`` is Unix seconds and may be set back; ``monotonic`` only goes on, but may stand while a laptop sleeps.

    ``chance`` is uniform in [0, 1). It spreads refreshes in time and decides nothing that has to be secret.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
