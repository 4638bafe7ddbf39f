"""One exchange with a token endpoint: a small JSON object there, a small JSON object back, nothing kept.

What belongs here: the HTTP, its limits, and the other clock. What does not: what is asked and what is answered
(``mint.py``, ``one_time.py``). An ordinary aiohttp client, set up so that nothing in the environment (``HTTP_PROXY``,
``.netrc``), no cookie, no redirect and no pooled connection can carry a credential anywhere else.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.core.model import Upstream
from proxy.credentials.clock import Clock
from proxy.tls import tls_context

if TYPE_CHECKING:
    import aiohttp
    from multidict import CIMultiDictProxy

TIME_LIMIT = 10.0
"""Seconds for the whole exchange. Longer than any healthy one; requests that wait for a token wait no longer either."""

LARGEST_ANSWER = 65_536
"""Bytes. A token with everything around it has two thousand."""

LONGEST_RETRY_AFTER = 60.0
"""Seconds. An endpoint that asks for more is asked again after this all the same."""


MOST_SKEW = 86_400.0
"""Seconds. A clock that is further off is broken, and believing it would stretch or end the life of every token."""


class MintFailure(Enum):
    """Why there is no token; the values are metric labels."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"


class MintError(Exception):
    """No token. ``reason`` is a fixed sentence; nothing that was sent or answered is in it, nor chained to it.

    ``skew`` is what could be learned of the other clock all the same, ``retry_after`` what the endpoint asked for.
    """

    def __init__(
        self, failure: MintFailure, reason: str, *, skew: float | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.skew = skew
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint answered with 200: a JSON object, and how far its clock is ahead of ours."""

    members: Mapping[str, object] = field(repr=False)
    skew: float | None


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Where mints are asked for: an upstream, trusted by the same rules as for requests."""

    upstream: Upstream
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, upstream: Upstream) -> TokenEndpoint:
        """Raises ``OSError`` or ``ssl.SSLError`` when the upstream's CA file cannot be used."""
        # Here, while a configuration is read, and not when a request waits for its token.
        import aiohttp  # noqa: F401, PLC0415 - a quarter of a start, for those who mint nothing

        return cls(upstream, tls_context(upstream))

    async def post(
        self,
        path: str,
        authorization: str,
        body: Mapping[str, object],
        *,
        clock: Clock,
        time_limit: float = TIME_LIMIT,
    ) -> Reply:
        """Sends one POST and reads its answer. Raises ``MintError``."""
        import aiohttp  # noqa: PLC0415 - see of()

        failure: MintError
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self.tls or True, resolver=aiohttp.ThreadedResolver(), use_dns_cache=False, force_close=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=time_limit),
                trust_env=False,
                auto_decompress=False,
            ) as session:
                return await self._ask(session, path, authorization, body, clock)
        except MintError as exc:
            failure = exc
        except TimeoutError:
            failure = MintError(MintFailure.UNAVAILABLE, "the token endpoint did not answer in time")
        except (aiohttp.ClientError, OSError, ValueError):
            failure = MintError(MintFailure.UNAVAILABLE, "the token endpoint could not be reached")
        # Raised here and not above: aiohttp's exceptions hold the request's headers, which no traceback may lead to.
        raise failure

    async def _ask(
        self, session: aiohttp.ClientSession, path: str, authorization: str, body: Mapping[str, object], clock: Clock
    ) -> Reply:
        upstream = self.upstream
        through = upstream.connect_proxy
        with_proxy = upstream.connect_proxy_authorization
        sent = clock.wall()
        async with session.post(
            f"{upstream.scheme}://{_bracketed(upstream.host)}:{upstream.port}{path}",
            data=json.dumps(body).encode(),
            headers={
                "Host": upstream.authority,
                "Authorization": authorization,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"inworld-proxy/{__version__}",
            },
            allow_redirects=False,
            proxy=None if through is None else f"http://{_bracketed(through[0])}:{through[1]}",
            proxy_headers=None if with_proxy is None else {"Proxy-Authorization": with_proxy},
        ) as response:
            skew = measure_skew(response.headers.get("Date"), sent, clock.wall())
            if response.status != 200:
                raise _failure(response.status, response.headers, skew)
            content = await _read(response.content, skew)
        return Reply(_members(content, skew), skew)


def measure_skew(date: str | None, sent: float, received: float) -> float | None:
    """Seconds that the clock behind a ``Date`` field is ahead of ours; None when there is no usable one.

    The field has whole seconds and was written at some moment in between, so it only bounds the difference. Where that
    leaves room for none, there is none: both clocks are set by NTP then. Else it is the bound on the other clock's
    later side, at which a token ends soonest. A difference of days is a broken clock and not believed.
    """
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    least, most = theirs - received, theirs + 1 - sent
    if least <= 0 <= most:
        return 0.0
    return most if abs(most) <= MOST_SKEW else None


async def _read(content: aiohttp.StreamReader, skew: float | None) -> bytes:
    whole = bytearray()
    async for piece in content.iter_any():
        whole += piece
        if len(whole) > LARGEST_ANSWER:
            raise MintError(MintFailure.INVALID, "the token endpoint's answer is too large", skew=skew)
    return bytes(whole)


def _members(content: bytes, skew: float | None) -> Mapping[str, object]:
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise MintError(MintFailure.INVALID, "the token endpoint's answer is not a JSON object", skew=skew)
    return members


def _failure(status: int, headers: CIMultiDictProxy[str], skew: float | None) -> MintError:
    if status in {401, 403}:
        return MintError(MintFailure.REFUSED, "the token endpoint refuses the key or its signature", skew=skew)
    if 300 <= status < 400:
        # Following it could carry the signature, or a key, to a host that nobody configured.
        return MintError(MintFailure.UNAVAILABLE, "the token endpoint redirects, which is not followed", skew=skew)
    after = headers.get("Retry-After", "")
    seconds = min(float(after), LONGEST_RETRY_AFTER) if after.isascii() and after.isdigit() else 0.0
    reason = f"the token endpoint answered {status}"
    return MintError(MintFailure.UNAVAILABLE, reason, skew=skew, retry_after=seconds)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
