"""The token endpoint of upstream b in `make chaos`, and what its tokens are worth. It fails now and then, by plan.

What belongs here: mints and the life of what was minted. What does not: the requests that show it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from plan import minted_token
from wire import Head, read_body

MINT_PATH = "/v1/sessionTokens/token:generate"
LIFE = 20.0
"""Seconds a token lives: refreshed when half of it is over, so a short run sees that too."""

LATE = 5.0
"""Seconds after the first refusal of a token in which others may still arrive with it: they were on their way."""

TROUBLES = (
    ("", 76.0), ("503", 8.0), ("slow", 5.0), ("no JSON", 3.0), ("no end", 3.0), ("close", 3.0), ("too large", 2.0),
)  # fmt: skip
_SIGNATURE = re.compile(r"IW1-HMAC-SHA256 ApiKey=([^,]+),DateTime=\d{14},Nonce=[0-9a-f]+,Signature=[0-9a-f]{64}")


class Mint:
    """Gives tokens to whoever names a key that is in use, and knows them again."""

    def __init__(self, seed: int, tell: Callable[[str, str], None]) -> None:
        self.keys: set[str] = set()
        self.calm = False
        self.minted: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self._tell = tell
        self._chance = random.Random(f"{seed}/mint")  # noqa: S311 - repeatable, not secret
        self._ends: dict[str, float] = {}
        self._revoked: dict[str, float | None] = {}

    def revoke(self) -> None:
        """Whatever was minted so far is refused from now on."""
        self._revoked |= {token: None for token in self._ends if token not in self._revoked}

    def judge(self, token: str) -> tuple[str, bool]:
        """What is wrong with showing this token now, and whether it is refused."""
        now = time.time()
        if token not in self._ends:
            return "a token that was never minted here", True
        if now > self._ends[token]:
            return "a token after its end", True
        if token not in self._revoked:
            return "", False
        first = self._revoked[token]
        if first is None:
            first = self._revoked[token] = now
        return ("a token long after it was refused" if now - first > LATE else ""), True

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One mint."""
        named = json.loads(await read_body(reader, head))
        match = _SIGNATURE.fullmatch(head.get("authorization"))
        if match is None or len(head.all("authorization")) != 1 or named != {"api_key": match[1]}:
            self._tell("authorization", "a mint that is not signed as it should be")
        key = "" if match is None else match[1]
        if key not in self.keys:
            self._tell("authorization", f"a mint from {key}, which is not in use, or no more")
        trouble = "" if self.calm else self._chance.choices(*zip(*TROUBLES, strict=True))[0]
        self.answers[trouble or "well"] += 1
        if trouble == "close":
            return
        if trouble == "slow":
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))
        status, body = self._answer(trouble, key)
        writer.write(
            b"HTTP/1.1 %d Mint\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        await writer.drain()

    def _answer(self, trouble: str, key: str) -> tuple[int, bytes]:
        if trouble == "503":
            return 503, b'{"code":14,"message":"unavailable"}'
        if trouble == "no JSON":
            return 200, b"<html>"
        if trouble == "too large":
            return 200, b'{"padding":"' + b"x" * 100_000 + b'"}'
        token = minted_token(len(self._ends))
        answer = {"token": token, "type": "Bearer", "sessionId": "default:chaos"}
        if trouble != "no end":
            self._ends[token] = end = time.time() + LIFE
            self.minted[key] += 1
            answer["expirationTime"] = datetime.fromtimestamp(end, UTC).isoformat()
        return 200, json.dumps(answer).encode()
