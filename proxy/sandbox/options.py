"""Everything about the sandbox that can be set, with its default. The command line fills exactly these fields.

What belongs here: settings as values, and reading the ones that are written as text. What does not: what they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from proxy.sandbox.keys import DEMO_KEYS, SandboxKey

RESET = "reset"
STALL = "stall"
CUT = "cut"
FAULT_WORDS = (RESET, STALL, CUT)
"""Failures that are not a status: drop the connection before the head, never answer, or break off inside the body."""

_FIRST_ERROR_STATUS = 400
_LAST_STATUS = 599


@dataclass(frozen=True, slots=True)
class FaultRule:
    """Operations matching ``pattern`` fail with ``effect`` (a status, or one of ``FAULT_WORDS``) this often."""

    pattern: str
    effect: int | str
    probability: float = 1.0

    def covers(self, operation: str) -> bool:
        """True if this rule speaks about the operation, by exact name or glob (``tts.*``)."""
        return fnmatchcase(operation, self.pattern)


def fault_from_text(text: str) -> FaultRule:
    """Reads ``tts.synthesize=503:0.3`` (or ``llm.*=reset``); raises ``ValueError`` with a sentence."""
    pattern, equals, rest = text.partition("=")
    word, _, probability = rest.partition(":")
    effect: int | str = int(word) if word.isdigit() else word
    known = _FIRST_ERROR_STATUS <= effect <= _LAST_STATUS if isinstance(effect, int) else effect in FAULT_WORDS
    if not equals or not pattern or not known:
        raise ValueError(f"a failure is written OPERATION=STATUS[:PROBABILITY]; STATUS is 400-599 or {FAULT_WORDS}")
    share = float(probability) if probability else 1.0
    if not 0 <= share <= 1:
        raise ValueError("a probability is a number from 0 to 1")
    return FaultRule(pattern, effect, share)


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The sandbox's settings. Times are in seconds unless a name says otherwise."""

    keys: tuple[SandboxKey, ...] = DEMO_KEYS

    # Pace. Nothing is delayed unless asked, so that tests are quick.
    latency_first: float = 0.0
    """Before the first byte of an answer that the real service would have to compute."""
    latency_between: float = 0.0
    """Between the chunks of such an answer."""
    chunk_bytes: int = 16 * 1024
    """Audio bytes per streamed chunk."""
    chunk_words: int = 2
    """Words per streamed piece of text."""

    # Trouble.
    faults: tuple[FaultRule, ...] = ()
    mint_failures: float = 0.0
    """How often one of the three token mints answers 503."""
    mint_seconds: float = 0.0
    """How long a mint of a session token takes: two that overlap can then be seen."""
    seed: int = 1
    """Of the dice that decide which requests fail: the same requests in the same order fail again."""
    rate_limit: float | None = None
    """Requests per second and workspace; more are 429. The real limits are per account, shared by its keys."""
    tts_sockets: int = 20
    """Concurrent TTS sockets per workspace; the documented limit. One more is 429 at the handshake."""

    # Tokens.
    token_lifetime: float = 4 * 3600.0
    """Of a session token. Documented only as "a few hours"."""
    signature_skew: float = 300.0
    """Invented: how far the DateTime of a signed mint may be from this clock; the real window is undocumented."""
    signed_hosts: tuple[str, ...] = ()
    """Hosts accepted in a mint signature besides the documented one and the sandbox's own Host."""
    mints_per_minute: int = 60
    """Documented: one-time tokens per minute and key."""

    # Sockets.
    explain_bad_key: bool = False
    """Answer a bad key on a TTS or STT socket with an error frame. The real ones were seen to stay silent."""
    socket_idle: float = 600.0
    """Documented: the TTS socket closes after ten minutes without a message. Applied to all three here."""

    # Long-running operations.
    operation_polls: int = 1
    """How many polls answer "not done" before one answers "done"."""
    operation_seconds: float = 0.0
    """And how long an operation takes at least."""

    # Inspection.
    seen_limit: int = 1000
    """How many requests ``GET /_sandbox/seen`` remembers."""
    clock: Callable[[], float] = field(default=time.time, repr=False)
    """Where "now" comes from; a test puts its own here."""
