"""``POST /token``: a caller gets a token for a browser or a mobile app, minted here and now.

The other thing, beside an exchange, that a caller's connection can be busy with: it reads a small body, mints, answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

from proxy.core.cors import response_lines
from proxy.core.errors import MESSAGES, OUTCOMES, Code
from proxy.core.model import CredentialUnavailable, Deny, IssuedToken, Local, TokenDesk
from proxy.core.trace import request_id_line
from proxy.observe.record import GONE, Ending, Record
from proxy.wire.answer import CONTINUE, answer, json_answer
from proxy.wire.deadlines import NEVER
from proxy.wire.framing import LengthCursor
from proxy.wire.head import RequestParts

if TYPE_CHECKING:
    from proxy.wire.caller import CallerConnection

LONGEST_BODY = 4096
"""Bytes; what is asked for is a word."""

ASK = 'Send a JSON object such as {"for": "%s"}; this proxy gives tokens for: %s.'


class TokenRequest:
    """One request for a token. Stands where an ``Exchange`` stands for everything else."""

    __slots__ = (
        "_body",
        "_caller",
        "_cursor",
        "_desk",
        "_local",
        "_over",
        "_parts",
        "_record",
        "_task",
        "request_done",
    )

    def __init__(
        self, caller: CallerConnection, parts: RequestParts, local: Local, record: Record, desk: TokenDesk
    ) -> None:
        self._caller = caller
        self._parts = parts
        self._local = local
        self._record = record
        self._desk = desk
        self._body = b""
        self._cursor = LengthCursor(max(parts.length, 0))
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self.request_done = parts.length == 0

    def start(self, body: bytes) -> bytes:
        """Reads the body, then mints. Returns what came after the body."""
        if not 0 <= self._parts.length <= LONGEST_BODY:
            # The body is not read; the connection ends after the answer.
            self._refuse(Code.BAD_REQUEST, self._usage())
            return b""
        if self.request_done:
            self._go()
            return body
        if body:
            return self.on_request_data(body)
        if self._parts.expects_continue:
            self._caller.write(CONTINUE)
        self._caller.expect_more()
        return b""

    def on_request_data(self, data: bytes) -> bytes:
        """The caller sent more of the body. Returns what came after it."""
        out, rest = self._cursor.feed(data)
        self._body += out
        self._record.request_bytes += len(out)
        if rest is None:
            self._caller.expect_more()
            return b""
        self.request_done = True
        self._caller.deadline = NEVER
        self._go()
        return rest

    def on_caller_full(self, *, full: bool) -> None:
        """The answer is a few hundred bytes; nothing has to be held back."""

    def on_caller_gone(self) -> None:
        """The caller left. The token that may be on its way is used by nobody."""
        if not self._over:
            self._record.ending = Ending.CALLER_GONE
            self._record.status = GONE
            self._end()

    def on_caller_late(self) -> None:
        """The caller stopped sending its body."""
        self._refuse(Code.BODY_TIMEOUT, MESSAGES[Code.BODY_TIMEOUT])

    def abort(self) -> None:
        """The process is going away."""
        if not self._over:
            self._record.ending = Ending.ABORTED
            self._record.code = Code.DRAINING
            self._record.status = OUTCOMES[Code.DRAINING].status
            self._end()
            self._caller.abort()

    def _go(self) -> None:
        purpose = self._purpose()
        if purpose is None:
            self._refuse(Code.BAD_REQUEST, self._usage())
            return
        wait = self._desk.wait(self._local.caller.name)
        if wait > 0:
            message = f"The caller '{self._local.caller.name}' has had its tokens for this minute (tokens.per_minute)."
            self._refuse(Code.RATE_LIMITED, message, retry_after=ceil(wait))
            return
        self._task = self._caller.server.spawn(self._issue(purpose))

    async def _issue(self, purpose: str) -> None:
        try:
            issued = await self._desk.issue(purpose, self._local.caller.name)
        except CredentialUnavailable as exc:
            self._task = None
            self._refuse(
                Code.CREDENTIAL_UNAVAILABLE,
                "The proxy could not get a token from the upstream right now. Try again shortly.",
                retry_after=max(1, ceil(exc.retry_after)),
            )
        except Exception:
            # A bug: the task's owner logs it, and the caller is not left waiting.
            self._task = None
            self._refuse(Code.INTERNAL, MESSAGES[Code.INTERNAL])
            raise
        else:
            self._task = None
            self._hand_out(purpose, issued)

    def _purpose(self) -> str | None:
        """What the token is for: what the body says, or the only thing there is."""
        purposes = self._desk.purposes
        if not self._body:
            return purposes[0] if len(purposes) == 1 else None
        try:
            asked = json.loads(self._body)
        except (ValueError, RecursionError):
            return None
        purpose = asked.get("for") if isinstance(asked, dict) else None
        return purpose if isinstance(purpose, str) and purpose in purposes else None

    def _usage(self) -> str:
        return ASK % (self._desk.purposes[0], ", ".join(self._desk.purposes))

    def _hand_out(self, purpose: str, issued: IssuedToken) -> None:
        expires = datetime.fromtimestamp(issued.expires, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        body = {"token": issued.token, "type": "Bearer", "for": purpose, "expiresAt": expires, "singleUse": issued.once}
        keep = self._keeps()
        content = json.dumps(body).encode() + b"\n"
        self._record.first_byte = time.monotonic()
        self._record.status = 200
        self._record.response_bytes = len(content)
        self._finish(json_answer(content, close=not keep, more=self._more()), None, keep=keep)

    def _refuse(self, code: Code, message: str, *, retry_after: int | None = None) -> None:
        if self._over:
            return
        operation = self._local.operation
        self._record.code = code
        self._record.status = OUTCOMES[code].status
        self._record.ending = Ending.FAILED if self._record.status >= 500 else Ending.REFUSED
        keep = self._keeps() and self.request_done
        deny = Deny(code, message, operation, self._local.caller, None, operation.errors)
        out = answer(deny, close=not keep, head_only=False, retry_after=retry_after, more=self._more())
        self._finish(out, deny, keep=keep)

    def _keeps(self) -> bool:
        return self._parts.keep_alive and not self._caller.server.draining

    def _more(self) -> bytes:
        return request_id_line(self._record.request_id) + response_lines(
            self._parts.head.noted, self._caller.server.snapshot.policy.origins
        )

    def _finish(self, out: bytes, denied: Deny | None, *, keep: bool) -> None:
        if self._record.evidence is not None:
            self._record.evidence.answer_here(out, denied)
        self._caller.write(out)
        self._end()
        self._caller.on_exchange_over(keep=keep)

    def _end(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._caller.server.finish(self._record)
