"""A key set that is published at one URL: fetched, kept, and fetched again.

What belongs here: the HTTP, its limits, and when it is done. What does not: what a key set says, which whoever made it
reads with a function handed in, and who is recognised by it (``callers/``).

One task fetches and nobody else, so there is never more than one fetch in flight, nor two within ``APART``: a stranger
who invents key ids can cause no more. Redirects are not followed and nothing in the environment is looked at: keys come
from the URL in the configuration, and from nowhere that a token or an answer names.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Generic, Protocol, TypeVar

from proxy import __version__
from proxy.core.model import KeySetState, RunningTask, Spawn, Upstream
from proxy.credentials.clock import Clock
from proxy.tls import tls_context

APART = 60.0
"""Seconds between the beginnings of two fetches, whatever asks for them."""

EVERY = 600.0
"""Seconds until a set that was fetched is fetched again. A key that was withdrawn is accepted for no longer, unless
fetches fail."""

TIME_LIMIT = 10.0
"""Seconds for a whole fetch."""

LARGEST_SET = 262_144
"""Bytes. A set of a hundred keys with their certificates has less."""

logger = logging.getLogger("proxy")


class FetchError(Exception):
    """No key set. ``reason`` is a fixed sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReadableSet(Protocol):
    """All that is asked of a key set here: how many keys it has, and why others of its keys are not used."""

    @property
    def refused(self) -> tuple[str, ...]:
        """A sentence for each key that is not used."""

    def __len__(self) -> int: ...


S = TypeVar("S", bound=ReadableSet)


@dataclass(frozen=True, slots=True)
class KeySetEndpoint:
    """Where a set is published: a host, trusted by the same rules as an upstream, and the path and query there."""

    host: Upstream
    path: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, host: Upstream, path: str) -> KeySetEndpoint:
        """Raises ``OSError`` or ``ssl.SSLError`` when the host's CA file cannot be used."""
        # Here, while a configuration is read, and not on the loop that serves.
        import aiohttp  # noqa: F401, PLC0415 - a quarter of a start, for those who fetch nothing

        return cls(host, path, tls_context(host))

    @property
    def address(self) -> str:
        """The whole URL: two configurations that say the same mean the same key set."""
        return f"{self.host.scheme}://{self.host.authority}{self.path}"

    async def __call__(self) -> bytes:
        """The set as it is published now. Raises ``FetchError``."""
        import aiohttp  # noqa: PLC0415 - see of()

        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        ssl=self.tls or True, resolver=aiohttp.ThreadedResolver(), use_dns_cache=False, force_close=True
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
                    trust_env=False,
                    auto_decompress=False,
                ) as session,
                session.get(
                    self.address,
                    headers={
                        "Accept": "application/jwk-set+json, application/json",
                        "Accept-Encoding": "identity",
                        "User-Agent": f"inworld-proxy/{__version__}",
                    },
                    allow_redirects=False,
                ) as response,
            ):
                if 300 <= response.status < 400:
                    raise FetchError("the key set's address redirects, which is not followed")
                if response.status != 200:
                    raise FetchError(f"the key set's address answered {response.status}")
                whole = bytearray()
                async for piece in response.content.iter_any():
                    whole += piece
                    if len(whole) > LARGEST_SET:
                        raise FetchError("the key set is too large")
                return bytes(whole)
        except TimeoutError:
            raise FetchError("the key set's address did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise FetchError("the key set's address could not be reached") from None


@dataclass(slots=True)
class _Fetched(Generic[S]):
    """What came of the fetches up to now. ``began`` is when the last one did, by the monotonic clock."""

    current: S | None = None
    fetched_at: float | None = None
    fault: str | None = None
    fetches: dict[str, int] = field(default_factory=lambda: {"success": 0, "failed": 0})
    began: float = -inf


class FetchedKeys(Generic[S]):
    """A key set that keeps itself fresh between ``start()`` and ``close()``. Implements ``KeySetSource``.

    ``read`` makes a set of what is published, or raises ``ValueError`` with a fixed sentence. What cannot be fetched or
    read changes nothing: the set before stays in use. One that can be read replaces it, even if it has fewer keys, or
    none: that is how its issuer withdraws them.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[bytes]],
        read: Callable[[bytes], S],
        *,
        address: str = "",
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        self.name = name
        self.address = address
        self._fetch = fetch
        self._read = read
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._now: _Fetched[S] = _Fetched()
        self._asked = asyncio.Event()
        self._task: RunningTask | None = None
        self._predecessor: FetchedKeys[S] | None = None

    def current(self) -> S | None:
        """The set that was read last; None until there was one."""
        return self._now.current

    def wanted(self) -> None:
        """Fetches it again as soon as that may be."""
        self._asked.set()

    def inherit(self, old: FetchedKeys[S]) -> None:
        """Begins, once it starts, with the keys of another for the same address, and when those were fetched."""
        self._predecessor = old

    def hand_on(self) -> _Fetched[S]:
        """What a successor begins with."""
        return replace(self._now, fetches=dict(self._now.fetches))

    async def fetch_first(self) -> None:
        """Fetches it before it starts, so that its callers are known from the first request on. At most a moment."""
        if self._predecessor is None and self._now.began == -inf:
            await self._attempt()

    def start(self, spawn: Spawn) -> None:
        """Fetches the set, unless that was done, and again and again."""
        old, self._predecessor = self._predecessor, None
        if old is not None:
            self._now = old.hand_on()
        self._task = spawn(self._keep())

    def close(self) -> None:
        """Stops fetching. The set at hand stays."""
        if self._task is not None:
            self._task.cancel()

    def state(self) -> KeySetState:
        """How it is now."""
        keys = len(self._now.current) if self._now.current is not None else 0
        return KeySetState(keys > 0, keys, self._now.fetched_at, dict(self._now.fetches), self._now.fault)

    async def _keep(self) -> None:
        while True:
            if self._now.began != -inf:
                if self._now.fault is None:
                    await self._until_due()
                # Asked meanwhile or not, after a failure or not: never sooner than this.
                await asyncio.sleep(max(0.0, self._now.began + APART - self._monotonic()))
            await self._attempt()

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._now.began + EVERY - self._monotonic())):
                await self._asked.wait()
        except TimeoutError:
            return

    async def _attempt(self) -> None:
        self._asked.clear()
        self._now.began = self._monotonic()
        try:
            found = self._read(await self._fetch())
        except (FetchError, ValueError) as exc:
            self._now.fetches["failed"] += 1
            if self._now.fault is None:
                kept = "the keys before stay in use" if self._now.current is not None else "its tokens are unknown"
                logger.warning("key set %s: %s; %s", self.name, exc, kept)
            self._now.fault = str(exc)
            return
        self._now.fetches["success"] += 1
        self._now.fault = None
        self._now.fetched_at = self._wall()
        if found == self._now.current:
            return  # the same object stays, and with it what was verified by it
        for sentence in dict.fromkeys(found.refused):
            logger.warning("key set %s: not used: %s", self.name, sentence)
        logger.info("key set %s: %d keys", self.name, len(found))
        self._now.current = found
