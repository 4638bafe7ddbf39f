"""Is each credential good at its upstream? A read, a mint, a WebSocket: through a proxy as callers would meet it.

What belongs here: what is asked, and what an answer means. What does not: how the proxy is built (``examination.py``).
Nothing is asked that makes or changes anything, or that an upstream charges for.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from proxy.core.errors import MESSAGES, PROXY_NAME, Code
from proxy.core.model import Credential, Kind, Operation, Permission, Route, Snapshot
from proxy.core.policy import check_power
from proxy.credentials.session_token import SessionToken
from proxy.credentials.token_endpoint import MOST_SKEW, MintError, MintFailure, measure_skew
from proxy.credentials.token_life import SKEW_THAT_EXPLAINS
from proxy.doctor.finding import Finding, State

_READS = (Permission.VOICES, Permission.ROUTER, Permission.REALTIME, Permission.NONE)
"""Which read says most: one that needs a permission shows that the key has it; and every key is asked for by these."""

GATED = frozenset({Permission.VOICES, Permission.ROUTER})

_SOCKETS = (Permission.REALTIME, Permission.NONE)
"""The realtime socket looks at the credential before it says 101; the speech sockets say it in a first frame."""

_CODE = re.compile(rf'{PROXY_NAME};.*details="(\w+)"')


class Pair(NamedTuple):
    """A credential and an upstream that routes bring together, and the operations that go that way."""

    credential: Credential
    upstream: str
    operations: tuple[Operation, ...]
    title: str


class Door(NamedTuple):
    """Where the proxy is, the token that opens it, and an HTTP client that goes there and nowhere else."""

    url: str
    token: str
    http: aiohttp.ClientSession

    @property
    def fields(self) -> Mapping[str, str]:
        """What a caller sends to be known."""
        return {"Authorization": f"Bearer {self.token}"}


class Answer(NamedTuple):
    """What came of a request: the status, the proxy's own code if it refused or failed, and the upstream's clock."""

    status: int
    code: Code | None
    skew: float | None
    has_date: bool


def pairs_of(snapshot: Snapshot) -> list[Pair]:
    """Every credential with every upstream that it is used for."""
    (caller,) = snapshot.callers.values()
    found: dict[tuple[str, str], tuple[Route, list[Operation]]] = {}
    for name, route in caller.routes.items():
        key = (route.credential.name, route.upstream.name)
        found.setdefault(key, (route, []))[1].append(snapshot.policy.operations[name])
    several = len({upstream for _, upstream in found}) > 1
    return [
        Pair(route.credential, upstream, tuple(operations), f"{credential} at {upstream}" if several else credential)
        for (credential, upstream), (route, operations) in found.items()
    ]


def choose_reads(pair: Pair) -> list[Operation]:
    """The lists that the credential may read and that are at one fixed path; the one that says most is the first."""
    candidates = [
        each
        for each in pair.operations
        if each.kind is Kind.HTTP
        and "GET" in each.methods
        and "{" not in each.template
        and ":" not in each.template  # a verb: it may make something
        and each.permission in _READS
        and check_power(pair.credential.power, each, "GET", credential="") is None
    ]
    return sorted(candidates, key=lambda each: (_READS.index(each.permission), each.name))


def choose_socket(pair: Pair) -> Operation | None:
    """A WebSocket that the credential may open."""
    candidates = [
        each
        for each in pair.operations
        if each.kind is Kind.WEBSOCKET
        and each.permission in _SOCKETS
        and check_power(pair.credential.power, each, "GET", credential="") is None
    ]
    return min(candidates, key=lambda each: (_SOCKETS.index(each.permission), each.name), default=None)


async def check_mint(pair: Pair) -> tuple[Finding, float | None]:
    """Is a session token to be had? The other clock's skew is what the endpoint said."""
    name = f"mint {pair.title}"
    if not isinstance(pair.credential, SessionToken):
        return Finding(name, State.SKIP, "an api-key, which is sent as it is: nothing is minted"), None
    try:
        minted = await pair.credential.mint_another()
    except MintError as exc:
        here = f"credentials.{pair.credential.name}"
        remedy = {
            MintFailure.REFUSED: f"copy the key again from the Portal into {here}.secret; see the clock, and `mint:`",
            MintFailure.UNAVAILABLE: "see the lines about the way to it; try again later if they are all ok",
            MintFailure.INVALID: f"see whether upstreams.{pair.upstream}.url is the API, and {here}.mint",
        }[exc.failure]
        return Finding(name, State.FAIL, exc.reason, remedy), exc.skew
    minutes = (minted.expires - (minted.skew or 0.0) - time.time()) / 60
    if minutes <= 1:
        remedy = "see the clock; such tokens cannot be used"
        return Finding(name, State.FAIL, f"a token that is over in {minutes * 60:.0f} s", remedy), minted.skew
    return Finding(name, State.OK, f"a token for {minutes:.0f} minutes"), minted.skew


async def check_read(pair: Pair, door: Door) -> tuple[Finding, Answer | None]:
    """One authenticated GET; a second one where a 403 may mean two things."""
    name = f"read {pair.title}"
    reads = choose_reads(pair)
    if not reads:
        return Finding(name, State.SKIP, "no list that this key may read: its mint and WebSocket have to say it"), None
    operation = reads[0]
    began = time.monotonic()
    answer = await _get(operation, door)
    took = (time.monotonic() - began) * 1000
    if answer.status < 300:
        return Finding(name, State.OK, f"GET {operation.template}: {answer.status} in {took:.0f} ms"), answer
    state, found, remedy = judge(answer, pair)
    # The vendor says 403 of a key that it does not know, too: what needs no permission tells the two apart.
    free = next((each for each in reads if each.permission not in GATED), operation)
    if answer.status == 403 and free is not operation and (await _get(free, door)).status < 300:
        setting = operation.permission.value
        found = f"403: the key has no {setting} permission, though the configuration says so"
        here = f"credentials.{pair.credential.name}.permissions.{setting}"
        remedy = f"give the key that permission in the Portal, or declare {here}: none"
    return Finding(name, state, f"GET {operation.template}: {found}", remedy), answer


async def _get(operation: Operation, door: Door) -> Answer:
    sent = time.time()
    async with door.http.get(door.url + operation.template, headers=door.fields, allow_redirects=False) as response:
        return _read_answer(response.status, response.headers, sent)


async def check_socket(pair: Pair, door: Door, limit: float) -> tuple[Finding, Answer | None]:
    """One WebSocket, opened and closed."""
    name = f"websocket {pair.title}"
    operation = choose_socket(pair)
    if operation is None:
        return Finding(name, State.SKIP, "no WebSocket goes this way"), None
    query = {"key": f"doctor-{secrets.token_hex(8)}", "protocol": "realtime"} if operation.keeps_query else None
    sent = time.time()
    try:
        timeout = aiohttp.ClientWSTimeout(ws_close=limit)
        async with door.http.ws_connect(
            door.url + operation.template, headers=door.fields, params=query, timeout=timeout
        ) as socket:
            pass
    except aiohttp.WSServerHandshakeError as exc:
        answer = _read_answer(exc.status, exc.headers or {}, sent)
        state, found, remedy = judge(answer, pair)
        return Finding(name, state, f"{operation.template}: {found}", remedy), answer
    closed = "closed" if socket.close_code in (1000, 1005) else f"closed with {socket.close_code}"
    note = (
        "" if operation.permission is Permission.REALTIME else "; it says nothing of the key, which is looked at later"
    )
    return Finding(name, State.OK, f"{operation.template}: 101, and {closed}{note}"), None


def check_clock(upstream: str, skew: float | None, *, has_date: bool) -> Finding:
    """How far are the two clocks apart?"""
    name = f"clock {upstream}"
    if skew is None and not has_date:
        return Finding(name, State.SKIP, "the upstream said no time")
    remedy = (
        "set this machine's clock (NTP). Session tokens allow for it by themselves; certificates, callers' JWTs and "
        "what others sign do not"
    )
    if skew is None:
        return Finding(name, State.WARN, f"more than {MOST_SKEW / 3600:.0f} hours from the upstream's", remedy)
    if abs(skew) > SKEW_THAT_EXPLAINS:
        side = "behind" if skew > 0 else "ahead of"
        return Finding(name, State.WARN, f"{abs(skew):.0f} s {side} the upstream's", remedy)
    return Finding(name, State.OK, f"within {max(1.0, abs(skew)):.0f} s of the upstream's")


def judge(answer: Answer, pair: Pair) -> tuple[State, str, str]:
    """What an answer that is no success means: state, what was found, what to do."""
    here = f"credentials.{pair.credential.name}"
    if answer.code is not None:
        found = MESSAGES.get(answer.code, answer.code.value).rstrip(".")
        if answer.code is Code.CREDENTIAL_UNAVAILABLE:
            return State.FAIL, found, f"see the line `mint {pair.title}`"
        return State.FAIL, found, "see the lines about the way there; if they are all ok, the upstream is in trouble"
    match answer.status:
        case 401 | 403:
            found = f"{answer.status}: the upstream does not know the key, or does not let it"
            remedy = f"copy the key again from the Portal into {here}.secret; see its type and permissions there"
            return State.FAIL, found, remedy
        case 404:
            remedy = f"see whether upstreams.{pair.upstream}.url is the API that its catalogue describes"
            return State.FAIL, "404: the upstream does not know that path", remedy
        case 429:
            return State.WARN, "429: the key's own limit is used up", "try again in a minute; see who else uses the key"
        case status if status >= 500:
            return State.FAIL, f"{status}: the upstream is in trouble", "try again later, or ask its status page"
        case status:
            return State.FAIL, f"{status}, which is no success", f"see whether upstreams.{pair.upstream}.url is the API"


def _read_answer(status: int, fields: Mapping[str, str], sent: float) -> Answer:
    match = _CODE.search(fields.get("Proxy-Status", ""))
    code = next((code for code in Code if match is not None and code.value == match[1]), None)
    date = fields.get("Date") if code is None else None
    return Answer(status, code, measure_skew(date, sent, time.time()), date is not None)
