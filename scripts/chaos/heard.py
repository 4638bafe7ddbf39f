"""What the callers of `make chaos` asked and heard, and whether each answer was the right one.

What belongs here: a request as its caller sees it, the judgement of its answer, and the callers' half of the accounts.
What does not: sockets (``callers.py``).
"""

from __future__ import annotations

import base64
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from plan import (
    DIGEST,
    ID,
    NONCE,
    REFUSED,
    SIZE,
    STATUSES,
    End,
    Fault,
    answer_of,
    caller_token,
    digest,
    fault_of,
)
from wire import Head, chunk

MOST_TOLD = 20
"""Sentences kept of each kind of fault."""

OF_CALLER = frozenset({"unknown_caller", "operation_not_granted"})
"""How a caller is refused whose grant was taken, or who was taken out altogether."""

_OF_LIMITS = frozenset({"rate_limited", "concurrency_limited"})
_AT_ANY_TIME = frozenset({"upstream_connect_failed", "upstream_closed", "credential_unavailable"})
"""Listeners and mints fail, and a connection may close just as a request that is sent only once goes out on it."""

_OF_END = {
    End.WHOLE: frozenset[str](),
    End.BROKEN: frozenset({"upstream_invalid_response"}),
    End.NONE: frozenset({"upstream_invalid_response"}),
    End.EITHER: frozenset({"upstream_first_byte_timeout", "upstream_idle_timeout"}),
}
_DETAILS = re.compile(r'^inworld-proxy; error=\w+; details="?(\w+)"?$')


@dataclass
class Caller:
    """One caller of the proxy. ``token`` is what it shows from now on, ``showing`` how often each is in use."""

    number: int
    flapping: bool = False
    limited: bool = False
    generation: int = 1
    token: str = ""
    showing: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.token = caller_token(self.name, self.generation)

    @property
    def name(self) -> str:
        """As it is configured."""
        return f"caller{self.number:03}"

    @contextmanager
    def show(self) -> Iterator[str]:
        """Its token, which is in use meanwhile."""
        token = self.token
        self.showing[token] += 1
        try:
            yield token
        finally:
            self.showing[token] -= 1


def token_lines(name: str, token: str, chance: random.Random) -> bytes:
    """The token where the proxy looks for it, and sometimes where it must only be taken out."""
    basic = base64.b64encode(f"{name}:{token}".encode()).decode()
    lines = [chance.choice([f"Authorization: Bearer {token}", f"Authorization: Basic {basic}", f"X-Api-Key: {token}"])]
    if chance.random() < 0.3:
        lines += chance.sample(
            [
                f"Cookie: token={token}",
                f"Grpc-Metadata-Authorization: Bearer {token}",
                f"Proxy-Authorization: Basic {basic}",
                f"X_Api_Key: {token}",
                f"X-Forwarded-Authorization: {token}",
                f"Connection: keep-alive, X-Mine\r\nX-Mine: {token}",
            ],
            2,
        )
    return "".join(f"{line}\r\n" for line in lines).encode()


@dataclass(frozen=True)
class Asked:
    """One request. ``may``: further codes with which the proxy may refuse it; ``must``: those with which it has to."""

    identity: str
    nonce: str
    method: str
    path: str
    upstream: str
    size: int
    body: bytes
    chunked: bool
    fault: Fault
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    version: str = "1.1"

    def head(self, port: int, lines: bytes, more: bytes = b"") -> bytes:
        """The head as it is sent; ``lines`` are the credential's."""
        fields = {"Host": f"127.0.0.1:{port}", ID: self.identity, NONCE: self.nonce, SIZE: self.size}
        if self.method == "POST":
            framing = {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": len(self.body)}
            fields |= {"Content-Type": "application/octet-stream", DIGEST: digest(self.body), **framing}
        first = f"{self.method} {self.path} HTTP/{self.version}\r\n"
        return (
            (first + "".join(f"{name}: {value}\r\n" for name, value in fields.items())).encode()
            + lines
            + more
            + (b"\r\n")
        )

    def pieces(self, chance: random.Random) -> Iterator[bytes]:
        """The body as it is sent, piece by piece."""
        position = 0
        while position < len(self.body):
            size = chance.randint(1, 60_000)
            piece = self.body[position : position + size]
            yield chunk(piece) if self.chunked else piece
            position += size
        if self.chunked:
            yield chunk(b"")


@dataclass
class Heard:
    """The accounts. Every list in ``wrong`` is of sentences about what should not have happened."""

    asked: int = 0
    left: int = 0
    cut: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tunnels: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {
            name: [] for name in ("body", "stranger", "unbroken", "refused", "allowed", "lost", "secret", "tunnel")
        }
    )

    def tell(self, kind: str, sentence: str) -> None:
        """Keeps a sentence about what is wrong."""
        if len(self.wrong[kind]) < MOST_TOLD:
            self.wrong[kind].append(sentence)

    def on_whole(self, caller: Caller, asked: Asked, head: Head, body: bytes) -> None:
        """An answer ended cleanly."""
        self.statuses[head.status] += 1
        if head.get("set-cookie"):
            self.tell("secret", f"{asked.identity}: a cookie of the upstream's")
        said = head.get("proxy-status")
        if said:
            match = _DETAILS.match(said)
            self._on_code(caller, asked, match[1] if match else said, body)
        elif asked.must:
            self.tell("allowed", f"{asked.method} {asked.path}: {head.status} of the upstream's")
        elif head.get(ID) != asked.identity:
            if asked.upstream == "b" and head.status == 401 and body == REFUSED:
                self.faults["token refused, passed on"] += 1
            else:
                self.tell("stranger", f"{asked.identity} ({asked.fault.name}) got {head.get(ID)!r}, {head.status}")
        elif asked.fault.end in (End.BROKEN, End.NONE):
            self.tell("unbroken", f"{asked.identity}, HTTP/{asked.version}: {asked.fault.name} arrived whole")
        else:
            self._compare(asked, head.status, body)

    def on_cut(self, asked: Asked, *, begun: bool, why: str) -> None:
        """The connection ended before the answer did."""
        self.cut += 1
        self.faults[f"{asked.fault.name}: cut"] += 1
        if asked.must or not begun or asked.fault.end not in (End.BROKEN, End.EITHER):
            when = "in the middle of its answer" if begun else "without an answer"
            self.tell("lost", f"{asked.identity} ({asked.method} {asked.fault.name}) was cut {when}: {why}")

    def _on_code(self, caller: Caller, asked: Asked, code: str, body: bytes) -> None:
        self.codes[code] += 1
        self.faults[f"{asked.fault.name}: refused"] += not asked.must
        if code.encode() not in body and asked.method != "HEAD":
            self.tell("body", f"{asked.identity}: {code} is not in its own answer")
        if asked.must:
            if code not in asked.must:
                self.tell("allowed", f"{asked.method} {asked.path}: {code} instead of {sorted(asked.must)}")
            return
        may = asked.may | _AT_ANY_TIME | _OF_END[asked.fault.end]
        if caller.limited:
            may |= _OF_LIMITS
        if caller.flapping:
            may |= OF_CALLER
        if code not in may:
            kind = "refused" if code in OF_CALLER else "lost"
            self.tell(kind, f"{asked.identity} ({asked.method} {asked.fault.name}): {code}")

    def _compare(self, asked: Asked, status: int, body: bytes) -> None:
        self.faults[f"{asked.fault.name}: whole"] += 1
        right = b"" if asked.method == "HEAD" else answer_of(asked.fault, asked.identity, asked.nonce, asked.size)
        if body != right or status != STATUSES.get(asked.fault.name, 200):
            sizes = f"{len(body)} bytes instead of {len(right)}"
            self.tell("body", f"{asked.identity} ({asked.fault.name}, HTTP/{asked.version}): {status}, {sizes}")


READS = {
    "a": ("/llm/v1alpha/models", "/tts/v1/voices", "/tts/v1/voice:preview?voice=x"),
    "b": ("/v1/responses/one", "/v1/responses/two/input_items", "/v1/realtime/ice-servers"),
}
WRITES = {
    "a": ("/tts/v1/voice", "/tts/v1/voice:stream", "/stt/v1/transcribe", "/v1/audio/speech"),
    "b": ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/realtime/calls"),
}


class Asker:
    """Makes the requests of one caller, each with an id of its own."""

    def __init__(self, seed: int, caller: Caller) -> None:
        self._seed = seed
        self._caller = caller
        self._count = 0
        self.last = ""

    def ask(
        self,
        chance: random.Random,
        *,
        method: str = "",
        path: str = "",
        sizes: tuple[int, int] = (2, 300_000),
        may: frozenset[str] = frozenset(),
        must: frozenset[str] = frozenset(),
        version: str = "1.1",
    ) -> Asked:
        """The next request: random where nothing is said, and mostly small."""
        self._count += 1
        self.last = identity = f"{self._caller.name}-{self._count}"
        upstream = "a" if path else chance.choice("ab")
        method = method or chance.choice(("GET", "POST"))
        upload = method == "POST"
        path = path or chance.choice((WRITES if upload else READS)[upstream])
        if chance.random() < 0.1 and not must:
            path += f"{'&' if '?' in path else '?'}token={self._caller.token}"
        return Asked(
            identity=identity,
            nonce=f"{chance.getrandbits(64):x}",
            method=method,
            path=path,
            upstream=upstream,
            size=_mostly_small(chance, sizes),
            body=chance.randbytes(_mostly_small(chance, sizes)) if upload else b"",
            chunked=upload and version == "1.1" and chance.random() < 0.5,
            fault=fault_of(self._seed, identity, upstream=upstream, upload=upload),
            may=may,
            must=must,
            version=version,
        )


def _mostly_small(chance: random.Random, sizes: tuple[int, int]) -> int:
    least, most = sizes
    return least + int((most - least) * chance.random() ** 4)
