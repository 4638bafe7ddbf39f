"""What the callers, the proxies and the upstream of the benchmark agree on: paths, keys, bodies. No behaviour."""

from __future__ import annotations

import base64
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

KEY = base64.b64encode(b"bench:secret-of-the-benchmark").decode()
"""As `INWORLD_API_KEY` has it. Made up; it opens nothing."""

INJECTED = f"Basic {KEY}"
"""The only Authorization that the upstream accepts."""

TOKEN = "ip_token-of-the-caller-in-the-benchmark"  # noqa: S105 - made up, and accepted by nothing else
SHOWN = f"Bearer {TOKEN}"
"""What callers show to a proxy. It must never arrive at the upstream."""

VOICES = "/voices/v1/voices"
SPEAK = "/tts/v1/voice"
STREAM = "/tts/v1/voice:stream"
SOCKET = "/tts/v1/voice:streamBidirectional"
UPLOAD = "/stt/v1/transcribe"
REPORT = "/router/v1/routers"
"""Answered with what the upstream saw of the credentials; asked in verification only."""

PAIRS = (("GET", VOICES), ("GET", REPORT), ("GET", SOCKET), ("POST", SPEAK), ("POST", STREAM), ("POST", UPLOAD))
"""What every proxy lets through; the rest it refuses with 4xx."""

UNKNOWN = "/voices/v2/unknown"
"""A path that the upstream answers with 200 whatever it carries, so that a proxy that lets it through is seen."""

ANSWER = b'{"voices":"' + b"v" * 1011 + b'"}'
"""The 1 KB that VOICES and SPEAK are answered with."""

MIB = 2**20
DOWN, UP = 64 * MIB, 8 * MIB
"""Bytes of a large answer and of an upload."""

EVERY = 0.05
"""Seconds between two chunks of a stream."""

CHUNK = 256
"""Bytes of a chunk: when it was written and which it is, then padding, then a line end."""

CHUNK_HEAD = b'{"t":%019d,"n":%06d,"audio":"'
CHUNK_TAIL = b'"}\n'


def chunk(written: int, number: int) -> bytes:
    """A chunk's content. ``written`` is of the monotonic clock, which all processes of a machine share."""
    head = CHUNK_HEAD % (written, number)
    return head + b"A" * (CHUNK - len(head) - len(CHUNK_TAIL)) + CHUNK_TAIL
