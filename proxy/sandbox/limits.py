"""How much is too much, and which requests fail on purpose.

What belongs here: counting and dice. What does not: the answers that follow.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.sandbox.options import FaultRule, SandboxOptions

MINT_PERIOD = 60.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class Limits:
    """Requests per second and workspace, sockets per workspace, one-time tokens per minute and key."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._clock: Callable[[], float] = options.clock
        self._buckets: dict[str, _Bucket] = {}
        self._mints: dict[str, deque[float]] = {}
        self._sockets: dict[str, int] = {}

    def may_request(self, workspace: str) -> bool:
        """Takes one request out of the workspace's bucket, which holds one second's worth."""
        rate = self._options.rate_limit
        if rate is None:
            return True
        now = self._clock()
        burst = max(1.0, rate)
        bucket = self._buckets.setdefault(workspace, _Bucket(burst, now))
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.filled) * rate)
        bucket.filled = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def may_mint(self, key_id: str) -> bool:
        """Counts a one-time token against its key's minute."""
        now = self._clock()
        minted = self._mints.setdefault(key_id, deque())
        while minted and minted[0] <= now - MINT_PERIOD:
            minted.popleft()
        if len(minted) >= self._options.mints_per_minute:
            return False
        minted.append(now)
        return True

    @contextmanager
    def socket(self, workspace: str) -> Iterator[bool]:
        """Holds one of the workspace's TTS sockets while the block runs; yields False if there is none left."""
        held = self._sockets.get(workspace, 0)
        if held >= self._options.tts_sockets:
            yield False
            return
        self._sockets[workspace] = held + 1
        try:
            yield True
        finally:
            self._sockets[workspace] -= 1


class Dice:
    """Decides, from a seed, which requests fail."""

    def __init__(self, options: SandboxOptions) -> None:
        self._random = random.Random(options.seed)  # noqa: S311 - dice, not secrets: they must fall the same again.
        mints = (FaultRule("auth.*", 503, options.mint_failures),)
        self._rules: tuple[FaultRule, ...] = options.faults + (mints if options.mint_failures else ())

    def fault(self, operation: str) -> int | str | None:
        """The status or word with which this request of the operation fails; None if it does not."""
        for rule in self._rules:
            if rule.covers(operation) and self._random.random() < rule.probability:
                return rule.effect
        return None
