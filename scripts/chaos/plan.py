"""What callers and upstreams of `make chaos` agree on: what a request carries, what is done to it, what is secret.

What belongs here: plain functions and tables, the same in every process. What does not: sockets. A fault is a function
of the seed and the request's id, so that the caller knows what its upstream is going to do, and judges by that.
"""

from __future__ import annotations

import base64
import hashlib
import random
from enum import Enum
from typing import NamedTuple

ID, NONCE, SIZE, DIGEST, FORBIDDEN = (
    "x-chaos-id",
    "x-chaos-nonce",
    "x-chaos-size",
    "x-chaos-digest",
    "x-chaos-forbidden",
)
"""Fields of a request: who it is, what its answer is made from and how long that is, and what its body must be.

The last one marks what must never arrive at an upstream."""


class End(Enum):
    """What may become of a request to which a fault is done."""

    WHOLE = "whole"
    """Its answer arrives, exact."""
    BROKEN = "broken"
    """The answer breaks after its head: a 502, or visibly cut."""
    NONE = "none"
    """There is no usable head: a 502 and nothing else."""
    EITHER = "either"
    """Depends on the time limits of that moment: whole and exact, a refusal in words, or visibly cut."""


class Fault(NamedTuple):
    """One thing that an upstream does. ``where``: "" for anything, else only to uploads, or only at one upstream."""

    name: str
    weight: float
    end: End
    upload: bool = False
    where: str = ""


FAULTS = (
    Fault("well", 72, End.WHOLE),
    Fault("close-before-head", 1.5, End.NONE),
    Fault("reset-before-head", 1.5, End.NONE),
    Fault("half-head", 1.5, End.NONE),
    Fault("garbage", 1.5, End.NONE),
    Fault("two-lengths", 1, End.NONE),
    Fault("interim-flood", 1, End.NONE),
    Fault("short-length", 1.5, End.BROKEN),
    Fault("reset-length", 1.5, End.BROKEN),
    Fault("reset-chunked", 1.5, End.BROKEN),
    Fault("bad-chunk", 1.5, End.BROKEN),
    Fault("interim-few", 1.5, End.WHOLE),
    Fault("extra-after", 1.5, End.WHOLE),
    Fault("until-close", 1.5, End.WHOLE),
    Fault("slow-drip", 1.5, End.WHOLE),
    Fault("server-error", 2, End.WHOLE),
    Fault("close-after", 3, End.WHOLE),
    # A reset takes with it what the other side has not read yet.
    Fault("reset-after", 1.5, End.EITHER),
    Fault("pause", 1.5, End.EITHER),
    Fault("pause-before-head", 1, End.EITHER),
    Fault("early-413", 6, End.WHOLE, upload=True),
    Fault("early-401", 4, End.WHOLE, upload=True, where="a"),
    Fault("unknown-key", 1, End.WHOLE, where="a"),
)  # fmt: skip

SOCKET_FAULTS = (
    Fault("well", 70, End.WHOLE),
    Fault("goodbye", 8, End.WHOLE),
    Fault("cut", 8, End.BROKEN),
    Fault("refused-403", 5, End.NONE),
    Fault("refused-500", 3, End.NONE),
    Fault("closed", 3, End.NONE),
    Fault("not-a-101", 3, End.NONE),
)
"""What happens to a WebSocket: the upstream says goodbye or cuts it after some messages, or never opens it."""

STATUSES = {"server-error": 500, "early-413": 413, "early-401": 401, "unknown-key": 403}
"""Of the faults that are answers."""

ECHOED = b'{"code":7,"message":"API key does not exist or was deleted: \\"%b***\\"","details":[]}'
"""As the API says it, with four characters of what it was shown; the proxy must make them unreadable."""

REFUSED = b'{"code":16,"message":"authentication is required","details":[{"errorType":"SESSION_TOKEN_INVALID"}]}'
"""As the API refuses a token."""


def fault_of(seed: int, identity: str, *, upstream: str, upload: bool) -> Fault:
    """What is done to this request."""
    possible = [fault for fault in FAULTS if (upload or not fault.upload) and fault.where in ("", upstream)]
    return _drawn(possible, seed, identity)


def socket_fault_of(seed: int, identity: str) -> Fault:
    """What is done to this WebSocket."""
    return _drawn(list(SOCKET_FAULTS), seed, identity)


def _drawn(possible: list[Fault], seed: int, identity: str) -> Fault:
    chance = random.Random(f"{seed}/fault/{identity}")  # noqa: S311 - repeatable, not secret
    return chance.choices(possible, [fault.weight for fault in possible])[0]


def size_of(fault: Fault, size: int) -> int:
    """How long the answer is. What comes after an answer must come with it: else it would be the next one's fault."""
    return 1 + size % 8000 if fault.name == "extra-after" else size


def content(identity: str, nonce: str, size: int) -> bytes:
    """What the answer to this request is made of: nobody else's answer has a byte in common with it but by chance."""
    return random.Random(f"{identity}/{nonce}").randbytes(size)  # noqa: S311 - repeatable, not secret


def digest(body: bytes) -> str:
    """What a body that was sent up is verified by."""
    return hashlib.sha256(body).hexdigest()


def answer_of(fault: Fault, identity: str, nonce: str, size: int) -> bytes:
    """The whole body that the caller must get, if it gets one."""
    if fault.name == "unknown-key":
        return ECHOED % b"****"
    if fault.name == "early-401":
        return REFUSED
    return content(identity, nonce, size_of(fault, size))


# -- secrets ----------------------------------------------------------------------------------------------------------
# Every secret has a word in it by which it is found, as it is or anywhere within Base64.


def caller_token(name: str, generation: int) -> str:
    """A caller's token."""
    return f"TokenOfCaller-{name}-{generation}-{random.SystemRandom().randbytes(8).hex()}"


def upstream_key(upstream: str, generation: int) -> str:
    """A key as it is configured: the Base64 of id and secret."""
    secret = random.SystemRandom().randbytes(8).hex()
    return base64.b64encode(f"{key_id(upstream, generation)}:SecretOf{upstream}-{secret}".encode()).decode()


def key_id(upstream: str, generation: int) -> str:
    """The id of that key, by which a mint names it."""
    return f"KeyOf{upstream}-{generation}"


def minted_token(number: int) -> str:
    """A session token of upstream b."""
    return f"TokenMintedAtb-{number}-{random.SystemRandom().randbytes(8).hex()}"


def _found_by(*words: str) -> list[bytes]:
    """The words themselves, and what is left of them in the Base64 of any text around them."""
    found = []
    for word in words:
        found.append(word.encode())
        for before in range(3):
            # Of the first and of the last character some bits belong to what stands beside the word.
            begin, length = -(-before * 8 // 6), (before + len(word)) * 8 // 6
            found.append(base64.b64encode(b"x" * before + word.encode() + b"x" * 3)[begin:length])
    return found


_OF_CALLERS = _found_by("TokenOfCaller")
# With the character after the letter that tells them apart, or else some bits of that letter would be left out too.
_OF_A = _found_by("KeyOfa-", "SecretOfa-")
_OF_B = _found_by("SecretOfb-", "TokenMintedAtb-")
NEVER_AT = {
    "a": [*_OF_CALLERS, *_OF_B, *_found_by("KeyOfb-")],
    # A key's id is what a mint names it by; its secret only signs.
    "b": [*_OF_CALLERS, *_OF_A, *_found_by("SecretOfb-")],
    "caller": [*_OF_CALLERS, *_OF_A, *_OF_B],
}
"""What must not be in what arrives there."""
