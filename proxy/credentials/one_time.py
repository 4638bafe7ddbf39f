"""One-time tokens: minted from a key for one authentication elsewhere, no faster than the upstream allows.

What belongs here: the request, the answer and the rate. What does not: who may have one (the caller's grants) and how
it is handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.credentials.clock import Clock
from proxy.credentials.mint import bearer_token, moment
from proxy.credentials.secret import Secret
from proxy.credentials.token_endpoint import TIME_LIMIT, MintError, MintFailure, TokenEndpoint

PATH = "/auth/v1/tokens"

PER_PERIOD = 60
PERIOD = 60.0
"""Documented: sixty of them a minute for each key."""

SPARE = 1.0
"""Seconds added to our minute, because the upstream counts when a request arrives and not when it is sent."""

LONGEST_LIFE = 3600
"""Seconds. Documented: from one second to one hour."""


@dataclass(frozen=True, slots=True)
class OneTimeToken:
    """A token, and when it ends at the latest (Unix seconds by the endpoint's clock)."""

    token: Secret
    expires: float


class Rate:
    """At most so many within any period of so many seconds, exactly: the moments of the last ones are kept.

    A token bucket of the same average would let through nearly twice as many in its worst minute.
    """

    __slots__ = ("_granted", "_period")

    def __init__(self, count: int, period: float) -> None:
        self._granted: deque[float] = deque(maxlen=count)
        self._period = period

    def take(self, now: float) -> float:
        """Takes one, or says in how many seconds there is one: 0 means taken."""
        granted = self._granted
        if len(granted) == granted.maxlen and (wait := granted[0] + self._period - now) > 0:
            return wait
        granted.append(now)
        return 0.0

    def resize(self, count: int) -> None:
        """Another count from now on. What was taken still counts."""
        if count != self._granted.maxlen:
            self._granted = deque(self._granted, maxlen=count)


class OneTimeMint:
    """Mints one-time tokens from one key. ``key`` gives that key as it is now, so a rotation is followed.

    ``rate`` is the key's own, where more than this counts in it.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        key: Callable[[], Secret],
        *,
        rate: Rate | None = None,
        clock: Clock | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        self._clock = clock or Clock()
        self._rate = rate or Rate(PER_PERIOD, PERIOD + SPARE)
        self._time_limit = time_limit

    async def mint(self, *, seconds: int, reference: str = "") -> OneTimeToken:
        """One token that lives so many ``seconds``. ``reference`` is at most 256 printable ASCII characters.

        Raises ``MintError``: with ``retry_after`` and without asking anybody when the key's minute is used up.
        """
        if not 1 <= seconds <= LONGEST_LIFE or len(reference) > 256 or not (reference + "-").isprintable():
            raise ValueError("a one-time token lives 1 to 3600 seconds; its reference is short and printable")
        wait = self._rate.take(self._clock.monotonic())
        if wait > 0:
            raise MintError(
                MintFailure.UNAVAILABLE, "this key has no one-time token left this minute", retry_after=wait
            )
        body: dict[str, object] = {"single_use": True, "ttl": f"{seconds}s"}
        if reference:
            body["client_reference_id"] = reference
        # Basic and nothing else: the endpoint refuses a token here, so that none can make another.
        reply = await self._endpoint.post(
            PATH, f"Basic {self._key().reveal()}", body, clock=self._clock, time_limit=self._time_limit
        )
        token = bearer_token(reply, "accessToken")
        expires = moment(reply.members, "expireTime")
        if expires is None:
            raise MintError(MintFailure.INVALID, "the token endpoint gave a token without an end", skew=reply.skew)
        return OneTimeToken(token, expires)
