"""The count in Redis: one key per caller, and one script that leases from it.

Own script and not a rate-limiting library's. ``limits`` (5.8) says yes or no to so many at once: of 5 it grants none
when 2 are left, and not when there is one more, so a lease would be a search by round trips. Its windows are whole
seconds and let six a minute go at once; its moving window trusts the clocks of all replicas. This script is the
algorithm of ``pace.py`` with the server's own clock: the same burst, the same rate, whatever part of a lease is there,
and when there is more.

The client (``redis``, the extra of that name) is imported when a connection is opened: it takes a tenth of a second,
which nobody pays who does not count together. Its exceptions are told apart by name and never quoted.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from proxy.limits.store import Answer, Ask, StoreError

PREFIX = "inworld-proxy:"

CLOSING = 0.5
"""Seconds for the end of a connection; then it is left to the garbage collector."""

PROBE = PREFIX + "probe", Ask("", 1.0, 1, 0, 1)
"""Gives back what nobody took: that is always written, so it needs all that a lease needs."""

SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local answers = {}
for i, key in ipairs(KEYS) do
  local at = 4 * (i - 1)
  local interval, burst = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local wanted, back = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local full = now + burst * interval
  local spent = (tonumber(redis.call('GET', key)) or now) - back * interval
  spent = math.min(math.max(spent, now), full)
  local granted = math.max(0, math.min(wanted, math.floor((full - spent) / interval + 0.001)))
  if granted > 0 or back > 0 then
    spent = spent + granted * interval
    redis.call('SET', key, string.format('%.0f', spent), 'PX', math.ceil((spent - now) / 1000) + 1000)
  end
  answers[2 * i - 1], answers[2 * i] = granted, math.max(0, math.ceil(spent + interval - full))
end
return answers
"""
"""Leases from the budget at each key, which holds until when it is spent, in microseconds of the server's clock.

Given for each the interval (microseconds), the burst, how many are wanted and how many come back unused. Answers for
each how many are granted and in how many microseconds there is one. A value further ahead than a full burst is taken
for a full one, so a clock that was put back or a rate that was raised holds nobody up; that is why the rate is not part
of the key, and replicas with the old and the new configuration still count together. All callers go in one EVAL (a
pipeline of 50 costs us 61 µs for each, this 20) with the whole script: its kilobyte twenty times a second is
nothing, and no script is missing after a restart. Redis 5 or later.
"""

FAULTS = (
    ("AuthenticationError", "it does not accept the user and password of its URL, or wants some"),
    ("AuthenticationWrongNumberOfArgsError", "it does not accept the user and password of its URL, or wants some"),
    ("NoPermissionError", "its user may not run the script (`~inworld-proxy:* +eval +time +get +set`)"),
    ("ReadOnlyError", "it is a replica that cannot be written to"),
    ("OutOfMemoryError", "it has no memory left"),
    ("BusyLoadingError", "it is still loading its data"),
    ("MovedError", "it is a Redis Cluster, which this proxy does not speak to"),
    ("MaxConnectionsError", "it has no connection left"),
    ("ResponseError", "it answered with an error"),
    ("InvalidResponse", "it does not speak Redis' protocol"),
    ("TimeoutError", "it did not answer in time"),
)
"""By the name of the client's exception: what to say. The first that fits."""

UNREACHABLE = (
    (ssl.SSLError, "its TLS certificate or handshake is not acceptable"),
    (ConnectionRefusedError, "it refuses connections"),
    (socket.gaierror, "its name cannot be resolved"),
    (FileNotFoundError, "its socket does not exist"),
    (PermissionError, "its socket may not be used"),
)
"""By what lies under the client's exception."""


class RedisStore:
    """One connection to one Redis server. Implements ``Store``."""

    def __init__(self, url: str) -> None:
        self.where = f"Redis at {_address(url)}"
        self._url = url
        self._client: Any = None  # the client is optional, so its types are not there to be checked
        self._errors: tuple[type[Exception], ...] = ()

    def __repr__(self) -> str:
        return f"RedisStore({self.where!r})"

    async def open(self) -> None:
        """Connects, and asks something that needs all that later questions need."""
        try:
            module, client, retry, backoff = await asyncio.to_thread(_import_client)
        except ImportError:
            raise StoreError("its client is not installed: pip install 'inworld-proxy[redis]'") from None
        self._errors = (module.RedisError, OSError)
        try:
            # No attempt but ours: the client's own would keep whoever waits longer than they may.
            self._client = client.Redis.from_url(
                self._url,
                protocol=2,
                max_connections=1,
                retry=retry.Retry(backoff.NoBackoff(), 0),
                # Releases of the client before 6 take any name unless told.
                **(
                    {"ssl_cert_reqs": "required", "ssl_check_hostname": True} if self._url.startswith("rediss:") else {}
                ),
            )
        except ValueError:
            raise StoreError("its URL cannot be used") from None
        await self._evaluate([PROBE])

    async def lease(self, asks: Sequence[Ask]) -> list[Answer]:
        """One round trip: an answer to each."""
        if not asks:
            await self._evaluate([PROBE])
            return []
        return await self._evaluate([(f"{PREFIX}rate:{ask.name}", ask) for ask in asks])

    async def close(self) -> None:
        """Ends the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            # A server that is silent does not answer a goodbye either.
            with suppress(*self._errors, RuntimeError, TimeoutError):
                async with asyncio.timeout(CLOSING):
                    await client.aclose()

    async def _evaluate(self, asks: Sequence[tuple[str, Ask]]) -> list[Answer]:
        keys = [key for key, _ in asks]
        numbers = [
            number for _, ask in asks for number in (f"{ask.interval * 1e6:.6f}", ask.burst, ask.wanted, ask.back)
        ]
        try:
            found = await self._client.eval(SCRIPT, len(keys), *keys, *numbers)
        except self._errors as exc:
            raise StoreError(_reason(exc)) from None
        return [Answer(int(granted), int(wait) / 1e6) for granted, wait in zip(found[::2], found[1::2], strict=True)]


def _import_client() -> list[Any]:
    return [
        importlib.import_module(name) for name in ("redis", "redis.asyncio", "redis.asyncio.retry", "redis.backoff")
    ]


def _address(url: str) -> str:
    """Where a URL points to, without whatever in it may be secret."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return parts.path
        host = parts.hostname or "localhost"
        return f"[{host}]:{parts.port or 6379}" if ":" in host else f"{host}:{parts.port or 6379}"
    return "an address that cannot be read"


def _reason(exc: BaseException) -> str:
    """A fixed sentence for what went wrong."""
    names = {kind.__name__ for kind in type(exc).__mro__}
    if "ACL failure in script" in str(exc) or "can't run this command" in str(exc):
        names = {"NoPermissionError"}  # Redis has no code for it
    for name, reason in FAULTS:
        if name in names:
            return reason
    under: BaseException | None = exc
    while under is not None:
        for kind, reason in UNREACHABLE:
            if isinstance(under, kind):
                return reason
        under = under.__cause__ or under.__context__
    return "there is no connection to it, or it closed it"
