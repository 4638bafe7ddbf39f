"""The callers of `make endure`: what they ask, no two heads the same, and whether the answer is right.

What belongs here: one request, as its caller sees it. What does not: how many, and on which connection (``load.py``).
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from script import DO, SHORTEST, Order, answer
from wire import Head, chunk

JWT_SECRET, ISSUER, AUDIENCE = "endure-endure-endure-endure-endure", "https://id.endure.test", "endure"
FREE, PLAIN, QUEUED, LIMITED, LITTLE = "free", "plain", "queued", "limited", "little"
TOKENS = {name: f"ip_endure_{name}_token" for name in (FREE, PLAIN, QUEUED, LIMITED, LITTLE)}

_GENEROUS = {"requests": "5000/s", "concurrent": 1000, "queue": "10s"}
_GRANTS: dict[str, dict[str, Any]] = {
    FREE: {"allow": ["*"]},
    PLAIN: {"allow": ["*"], "limits": _GENEROUS},
    QUEUED: {"allow": ["*"], "limits": {"requests": "100/s", "concurrent": 4, "queue": "10s"}},
    LIMITED: {"allow": ["*"], "limits": {"requests": "5/s", "concurrent": 2}},
    LITTLE: {"allow": ["models.list"]},
}
CALLERS: dict[str, dict[str, Any]] = {
    **{
        name: {"token": f"sha256:{hashlib.sha256(TOKENS[name].encode()).hexdigest()}", **grant}
        for name, grant in _GRANTS.items()
    },
    "signed": {"jwt": {"key": "env:JWT_SECRET", "issuer": ISSUER, "audience": AUDIENCE}, "allow": ["*"]},
}
"""The section of the configuration."""

READS = (
    "/voices/v1/voices/{0}", "/voices/v1/workspaces/{0}/voices/{1}", "/v1/responses/{0}",
    "/llm/v1alpha/models?page={0}", "/lro/v1alpha/workspaces/{0}/ttsAsyncJobs/{1}/operations/{0}",
    "/router/v1/routers/{0}",
)  # fmt: skip
WRITES = (
    "/v1/chat/completions", "/v1/responses/{0}/cancel", "/tts/v1/voice", "/voices/v1/voices/{0}:publish",
    "/v1/responses",
)  # fmt: skip
STREAMS = ("/tts/v1/voice:stream", "/v1/messages", "/v1/chat/completions")


@dataclass
class Ask:
    """One request. ``may``: the proxy's refusals (status and code) with which it may, or must, be answered."""

    kind: str
    identity: str
    method: str
    target: str
    order: Order
    caller: str = FREE
    host: str = "127.0.0.1"
    token: str = ""
    body: bytes = b""
    chunked: bool = False
    faulty: bool = False
    must: str = ""
    may: tuple[str, ...] = ()
    more: list[str] = field(default_factory=list)

    def write(self, chance: random.Random) -> bytes:
        """As it is sent. The token goes wherever a client may put it."""
        token = self.token or TOKENS[self.caller]
        basic = base64.b64encode(f":{token}".encode()).decode()
        shown = chance.choice(
            (f"Authorization: Bearer {token}", f"Authorization: Basic {basic}", f"X-Api-Key: {token}")
        )
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", shown, f"X-Request-Id: {self.identity}"]
        lines += [f"{DO}: {self.order.write()}", *self.more]
        if self.faulty:
            lines.append("Content-Length: many")
        elif self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.method != "GET":
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        if not self.chunked:
            return head + self.body
        half = len(self.body) // 2
        return head + chunk(self.body[:half]) + chunk(self.body[half:]) + chunk(b"")

    def judge(self, head: Head, body: bytes) -> str:
        """What is wrong with this answer, if anything."""
        code = head.get("proxy-status").rpartition("details=")[2].strip('"')
        got = f"{head.status} {code}".strip()
        if self.must or code:
            return (
                "" if got == self.must or got in self.may else f"answered {got}, not {self.must or 'by the upstream'}"
            )
        status = 503 if self.order.how == "error" else 200
        if head.status != status:
            return f"answered {head.status}, not {status}"
        right = answer(self.identity, self.method, self.target, self.body, self.order.size)
        return "" if body == right else f"{len(body)} bytes that are not the {len(right)} of its answer"


Make = Callable[["Asker"], Ask]


class Asker:
    """Makes requests, each its own."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"{seed}/asker")  # noqa: S311 - repeatable, not secret
        self._count = 0
        self._signed = ""

    def next(self) -> Ask:
        """One of any kind, by their weights."""
        make = self.chance.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
        return make(self)

    def identity(self) -> str:
        """A new one, as clients make them."""
        self._count += 1
        return f"{self.chance.getrandbits(64):016x}-{self._count}"

    def sign(self) -> str:
        """A token of the identity provider's, unlike any before."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 3600, "jti": self.identity()}
        return jwt.encode(claims, JWT_SECRET, algorithm="HS256")

    def read(self) -> Ask:
        """A GET for something that has a name of its own."""
        return self._as_somebody(self.made("read", "GET", READS, Order("whole", self._size(20_000))))

    def write(self) -> Ask:
        """A POST whose length is known."""
        ask = self._as_somebody(self.made("write", "POST", WRITES, Order("whole", self._size(20_000))))
        ask.body = self.chance.randbytes(self._size(30_000))
        return ask

    def upload(self) -> Ask:
        """A POST in chunks."""
        ask = self.made("upload", "POST", ("/stt/v1/transcribe",), Order("whole", self._size(2000)))
        ask.body, ask.chunked = self.chance.randbytes(self._size(200_000)), True
        return ask

    def large(self) -> Ask:
        """An answer that does not fit into any buffer."""
        return self.made("large", "GET", READS, Order("whole", self.chance.randint(200_000, 600_000)))

    def stream(self) -> Ask:
        """An answer in pieces, over a second or so."""
        return self.made("stream", "POST", STREAMS, self._pieces("pieces"))

    def left(self) -> Ask:
        """The same, but its caller leaves after the first piece."""
        return self.made("left", "POST", STREAMS, self._pieces("pieces", size=50_000, pause=100))

    def cut(self) -> Ask:
        """The same, but the upstream leaves before the end."""
        return self.made("cut", "POST", STREAMS, self._pieces("cut"))

    def last(self) -> Ask:
        """The upstream closes its connection after the answer."""
        return self.made("last", "GET", READS, Order("last", self._size(5000)))

    def error(self) -> Ask:
        """The upstream refuses."""
        return self.made("error", "GET", READS, Order("error"))

    def limited(self) -> Ask:
        """One of more than the caller may have."""
        ask = self.made("limited", "GET", READS, Order("whole", SHORTEST))
        ask.caller, ask.may = LIMITED, ("429 rate_limited", "429 concurrency_limited")
        return ask

    def refused(self) -> Ask:
        """What the proxy answers itself."""
        ask = self.made("refused", "GET", READS, Order("whole", SHORTEST))
        match self.chance.randrange(7):
            case 0:
                ask.token, ask.must = f"stranger-{ask.identity}", "401 unknown_caller"
            case 1:
                ask.caller, ask.target, ask.must = LITTLE, f"/v1/responses/{ask.identity}", "403 operation_not_granted"
            case 2 | 3:
                ask.target, ask.must = f"/nothing/{ask.identity}", "404 no_operation"
            case 4:
                ask.method, ask.target, ask.must = "POST", "/auth/v1/tokens", "403 token_mint_refused"
            case 5:
                ask.host, ask.must = f"host-{ask.identity}.test", "421 host_not_allowed"
            case _:
                ask.method, ask.faulty, ask.must = "POST", True, "400 bad_request"
        return ask

    def made(self, kind: str, method: str, paths: tuple[str, ...], order: Order) -> Ask:
        """A request of this kind, with a name, a path and sometimes a field that were never there before."""
        identity, other = self.identity(), f"{self.chance.getrandbits(40):x}"
        ask = Ask(kind, identity, method, self.chance.choice(paths).format(other, identity), order)
        if self.chance.random() < 0.3:
            ask.more.append(f"X-{other}: {identity}")
        return ask

    def _as_somebody(self, ask: Ask) -> Ask:
        who = self.chance.random()
        if who < 0.2:
            if not self._signed or self.chance.random() < 0.2:
                self._signed = self.sign()
            ask.token = self._signed
        else:
            ask.caller = PLAIN if who < 0.4 else QUEUED if who < 0.5 else FREE
        if ask.caller == QUEUED:
            ask.may = ("429 rate_limited", "429 concurrency_limited")
        return ask

    def _size(self, most: int) -> int:
        return SHORTEST + int((most - SHORTEST) * self.chance.random() ** 4)

    def _pieces(self, how: str, size: int = SHORTEST, pause: int = 10) -> Order:
        return Order(how, size + self._size(20_000), self.chance.randint(5, 20), self.chance.randint(pause, 100))


KINDS: tuple[tuple[Make, int], ...] = (
    (Asker.read, 40), (Asker.write, 25), (Asker.stream, 10), (Asker.upload, 4), (Asker.large, 1), (Asker.left, 2),
    (Asker.cut, 1), (Asker.last, 3), (Asker.error, 2), (Asker.limited, 4), (Asker.refused, 8),
)  # fmt: skip
"""And how many of a hundred."""
