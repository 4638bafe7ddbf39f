"""The caller's connection: heads out of a stream of bytes, one request after the other."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

from proxy.core.cors import is_preflight, response_lines
from proxy.core.errors import MESSAGES, OUTCOMES, Code
from proxy.core.model import Allow, Caller, Deny, Kind, Local, Operation
from proxy.core.policy import decide, decide_preflight
from proxy.core.trace import NOTHING_SAID, request_id_line
from proxy.observe.record import Ending, Record
from proxy.wire.answer import answer, preflight_answer
from proxy.wire.deadlines import NEVER
from proxy.wire.exchange import Exchange
from proxy.wire.framing import LengthCursor
from proxy.wire.head import RequestParts, read_request
from proxy.wire.memo import Memo, remember
from proxy.wire.peer import peer_user
from proxy.wire.reading import LARGE, read_at_once, read_in_pieces
from proxy.wire.token import TokenRequest

if TYPE_CHECKING:
    from proxy.wire.server import DataServer

WRITE_HIGH = 65536
"""Bytes that may wait for a slow caller before the upstream is paused."""

MOST_PENDING = 65536
"""Bytes of later requests held while one is being served; then the connection is not read any more."""

MOST_DISCARDED = 65536
"""A refused request's body up to this size is read and dropped, so that the connection can be kept."""

LINGER = 2.0
"""Seconds for which a closing connection still reads: closing with unread data would destroy the answer on its way."""

SLOW = 60.0
"""Seconds in which a caller must take some of an answer that is ready for it; nginx's send_timeout is the same."""

MOST_AT_ONCE = 8
"""Pipelined requests answered before other connections get their turn."""

logger = logging.getLogger("proxy")

_NO_LINGER = struct.pack("ii", 1, 0)

_CANONICAL_PREFIX = re.compile(r"(?:/[A-Za-z0-9\-._~:=@!$&'()*+,]+)*/?")
"""What of a refused target is logged: nothing of an absolute form, which may carry a user name and a password."""

LONGEST_LOGGED_PATH = 256


def _too_much(code: Code, operation: Operation, caller: Caller) -> Deny:
    return Deny(code, MESSAGES[code], operation, caller, None, operation.errors)


class CallerConnection:
    """One connection of a caller. ``exchange`` is the request being served, None between requests."""

    __slots__ = (
        "_discard",
        "_due",
        "_head_begun",
        "_held",
        "_lingering",
        "_memo",
        "_pending",
        "_reading",
        "_unsent",
        "_write_full",
        "deadline",
        "exchange",
        "in_pieces",
        "looked_at",
        "peer",
        "server",
        "transport",
        "uid",
    )

    def __init__(self, server: DataServer) -> None:
        self.server = server
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else can happen
        self.exchange: Exchange | TokenRequest | None = None
        self.in_pieces = False
        self.peer = ""
        self.uid: int | None = None
        self.deadline = NEVER
        self.looked_at = NEVER
        self._due = False
        self._head_begun = False
        self._pending = b""
        self._discard: LengthCursor | None = None
        self._held: tuple[str, ...] = ()
        self._lingering = False
        self._memo: Memo | None = None
        self._reading = False
        self._unsent = 0
        self._write_full = False

    # -- asyncio's callbacks ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH)
        self.server.listener.look(transport.get_extra_info("socket").fileno())
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = peer[0]
        else:
            self.uid = peer_user(transport.get_extra_info("socket"))
            self.peer = "unix" if self.uid is None else f"unix:{self.uid}"
        self.server.connections.add(self)
        code = self.server.on_connection(self.peer)
        if code is None:
            self._await_request()
        else:
            self._turn_away(code)

    def data_received(self, data: bytes) -> None:
        """Asyncio's callback."""
        exchange = self.exchange
        if exchange is not None:
            if exchange.request_done:
                self._keep_for_later(data)
            else:
                rest = exchange.on_request_data(data)
                if len(data) > LARGE and self.exchange is exchange:
                    read_in_pieces(self)
                if rest:
                    self._keep_for_later(rest)
                    if self.exchange is None:
                        self._read()  # it was answered at once
        elif not self._lingering:
            self._pending = self._pending + data if self._pending else data
            self._read()

    def wants_more(self) -> bool:
        """See ``Reader``."""
        return not self._held

    def eof_received(self) -> bool:
        """Asyncio's callback: the caller has nothing more to send, which for HTTP means that it left (as in nginx)."""
        self.on_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio's callback."""
        if self.exchange is not None:
            self.exchange.on_caller_gone()
            self.exchange = None
        self._lingering = True
        self.server.leaving.forget(self)
        self.server.deadlines.forget(self)
        self.server.connections.discard(self)
        self.server.on_connection_gone(self.peer)

    def pause_writing(self) -> None:
        """Asyncio's callback: the caller reads slower than we write."""
        self._write_full = True
        if self.exchange is not None:
            self.exchange.on_caller_full(full=True)

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self._write_full = False
        if self.exchange is not None:
            self.exchange.on_caller_full(full=False)
        elif self._pending:
            self._read()

    def on_deadline(self) -> None:
        """The caller took too long: with its body, with its head, with its next request, or with going away."""
        if self._lingering:
            self._linger()
        elif self.exchange is not None:
            if self._held:
                self.expect_more()  # it is we who do not read
            else:
                self.exchange.on_caller_late()
        elif self._pending and self._discard is None:
            self._refuse_unread(Code.HEAD_TIMEOUT)
        else:
            self._close()

    def on_left(self) -> None:
        """See ``Unread``."""
        if self.exchange is not None:
            self.exchange.on_caller_gone()
            self.exchange = None
            self.abort()

    # -- for the exchange ---------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Sends to the caller."""
        self.transport.write(data)

    def hold(self, reason: str) -> None:
        """Stops reading from the caller until every reason is released."""
        if not self._held:
            self.transport.pause_reading()
            self.server.leaving.watch(self, self.transport.get_extra_info("socket").fileno())
        if reason not in self._held:
            self._held = (*self._held, reason)

    def release(self, reason: str) -> None:
        """This reason not to read is gone."""
        if reason in self._held:
            self._held = tuple(held for held in self._held if held != reason)
            if not self._held:
                self.server.leaving.forget(self)
                if not self.transport.is_closing():
                    self.transport.resume_reading()

    def expect_more(self) -> None:
        """The caller has to send more of its body in time."""
        self.deadline = self.server.loop.time() + self.server.snapshot.time.body_idle
        self.server.deadlines.watch(self)

    def abort(self, *, reset: bool = False) -> None:
        """Cuts the connection: whatever was being sent is visibly broken. ``reset``: with a reset, not an end."""
        self._lingering = True
        if reset and not self.transport.is_closing():
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def leave_to_tunnel(self) -> tuple[asyncio.Transport, bytes]:
        """This protocol is done with the transport. Returns it, and what arrived and was not read."""
        self.exchange = None
        self.server.deadlines.forget(self)
        pending, self._pending = self._pending, b""
        for reason in self._held:
            self.release(reason)
        self.server.connections.discard(self)
        return self.transport, pending

    def on_exchange_over(self, *, keep: bool) -> None:
        """The response is whole; ``keep``: the connection may serve another request."""
        self.exchange = None
        if not keep:
            self._close()
            return
        if self.in_pieces:
            read_at_once(self)
        if self._held:
            for reason in self._held:
                self.release(reason)
        self._await_request()
        if self._pending:
            self._read()

    def close_if_idle(self) -> None:
        """The process is going away: a connection on which nobody asks is closed, a busy one after its response."""
        if self.exchange is None and not self._pending and not self._lingering:
            self._close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _await_request(self) -> None:
        self._head_begun = False
        self.deadline = deadline = self.server.loop.time() + self.server.snapshot.time.keep_alive
        if deadline < self.looked_at:
            self.server.deadlines.watch(self)

    def _keep_for_later(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > MOST_PENDING:
            self.hold("pipeline")

    def _read(self) -> None:
        """Serves what has arrived, until a request has to wait or a head is incomplete."""
        if self._reading:
            return
        if self._due:  # its next turn is coming; with a second one beside it turns would become longer and longer
            if len(self._pending) > MOST_PENDING:
                self.hold("pipeline")
            return
        self._reading = True
        count = 0
        while self._pending and self.exchange is None and not self._lingering and not self._write_full:
            if count == MOST_AT_ONCE:
                self._due = True
                self.server.loop.call_soon(self._read_on)
                break
            count += 1
            if not self._read_one():
                break
        self._reading = False
        if len(self._pending) > MOST_PENDING and (count == MOST_AT_ONCE or self._write_full):
            self.hold("pipeline")  # a caller who sends faster than it is answered, or does not read its answers
        elif self._held and self.exchange is None:
            self.release("pipeline")

    def _read_on(self) -> None:
        self._due = False
        self._read()

    def _read_one(self) -> bool:
        data = self._pending
        if self._discard is not None:
            _, rest = self._discard.feed(data)
            self._pending = rest or b""
            if rest is None:
                return False
            self._discard = None
            self._await_request()
            return True
        if data.startswith(b"\r\n"):
            self._pending = data[2:]  # RFC 9112 section 2.2: an empty line before a request is ignored
            return True
        end = data.find(b"\r\n\r\n")
        size = self.server.snapshot.size
        if end < 0 or end > size.head:
            return self._await_head(data, size.line, size.head)
        if end > size.line and data.find(b"\r\n", 0, size.line + 2) < 0:
            self._refuse_unread(Code.TARGET_TOO_LONG)
            return False
        self._pending = data[end + 4 :]
        try:
            self._begin(data[: end + 4])
        except Exception:
            # The one boundary of a request: a bug in judging or sending it must not take the caller's answer with it.
            logger.exception("a request failed inside the proxy")
            self._fail_on_bug()
        return True

    def _await_head(self, data: bytes, longest_line: int, longest_head: int) -> bool:
        """The head is incomplete or too long. Bounds it in size and time."""
        if len(data) > longest_line and data.find(b"\r\n", 0, longest_line + 2) < 0:
            self._refuse_unread(Code.TARGET_TOO_LONG)
        elif len(data) > longest_head:
            self._refuse_unread(Code.HEAD_TOO_LARGE)
        elif b"\n\n" in data or b"\n\r\n" in data.replace(b"\r\n", b""):
            self._refuse_unread(Code.BAD_REQUEST, "A line of the head does not end in CR LF.")
        elif not self._head_begun:
            # Set once per head: each further byte of a slow one does not move it.
            self._head_begun = True
            self.deadline = self.server.loop.time() + self.server.snapshot.time.head
            self.server.deadlines.watch(self)
        return False

    def _begin(self, raw: bytes) -> None:
        server = self.server
        snapshot = server.snapshot
        received, moment = time.monotonic(), time.time()
        second = int(moment)
        server.metrics.on_begin()
        memo = self._memo
        parts = memo.recall(raw, snapshot, second) if memo is not None else None
        if parts is not None and memo is not None:
            self._serve(memo.own(raw), parts, memo.allow, received, moment)
            return
        self._memo = None
        read = read_request(raw, self.uid)
        if isinstance(read, Deny):
            record = self._strange(raw, received, moment)
            self._refuse(record, read, None, head_only=raw.startswith(b"HEAD "))
            return
        if is_preflight(read.head.method, read.head.noted):
            self._answer_preflight(raw, read, received, moment)
            return
        decision = decide(snapshot.policy, read.head, moment)
        if isinstance(decision, Deny):
            record = self._record(raw, read, None, received, moment)
            record.caller = None if decision.caller is None else decision.caller.name
            record.operation = None if decision.operation is None else decision.operation.name
            self._refuse(record, decision, read)
            return
        if isinstance(decision, Local):
            self._serve_local(raw, read, decision, received, moment)
            return
        self._memo = remember(raw, snapshot, second, read, decision)
        self._serve(raw, read, decision, received, moment)

    def _record(
        self, raw: bytes, parts: RequestParts, decision: Allow | Local | None, received: float, moment: float
    ) -> Record:
        head = parts.head
        record = Record(received, moment, head.method, head.target.partition("?")[0], self.peer)
        self.server.tracing.begin(record, parts.context)
        trail = self.server.trail
        if trail.on:
            record.evidence = trail.evidence(raw, head, decision, parts.length)
        return record

    def _strange(self, raw: bytes, received: float, moment: float) -> Record:
        """Of a request whose head says nothing that can be relied on; ``raw`` is what there is of it."""
        record = Record(received, moment, "OTHER", "", self.peer)
        self.server.tracing.begin(record, NOTHING_SAID)
        trail = self.server.trail
        if trail.on:
            record.evidence = trail.evidence(raw, None, None, 0)
        return record

    def _fail_on_bug(self) -> None:
        if self.exchange is not None:
            self.exchange.abort()
            self.exchange = None
        elif not self._lingering:
            record = self._strange(b"", time.monotonic(), time.time())
            self._refuse(record, Deny(Code.INTERNAL, MESSAGES[Code.INTERNAL]), None)

    def _serve_local(self, raw: bytes, parts: RequestParts, local: Local, received: float, moment: float) -> None:
        record = self._record(raw, parts, local, received, moment)
        record.caller = local.caller.name
        record.operation = local.operation.name
        code = self.server.no_room_for(record)
        if code is not None:
            self._refuse(record, _too_much(code, local.operation, local.caller), parts, retry_after=1)
            return
        desk = self.server.snapshot.desk
        assert desk is not None  # noqa: S101 - for the type checker; the operation exists only with its desk
        self._start(TokenRequest(self, parts, local, record, desk))

    def _answer_preflight(self, raw: bytes, parts: RequestParts, received: float, moment: float) -> None:
        record = self._record(raw, parts, None, received, moment)
        preflight = decide_preflight(self.server.snapshot.policy, parts.head)
        if isinstance(preflight, Deny) or parts.length:
            deny = preflight if isinstance(preflight, Deny) else Deny(Code.BAD_REQUEST, "A preflight has no body.")
            self._refuse(record, deny, parts)
            return
        record.status = 204
        keep = parts.keep_alive and not self.server.draining
        out = preflight_answer(preflight, close=not keep, more=request_id_line(record.request_id))
        if record.evidence is not None:
            record.evidence.answer_here(out)
        self.write(out)
        self._finish(record, keep=keep)

    def _serve(self, raw: bytes, parts: RequestParts, allow: Allow, received: float, moment: float) -> None:
        record = self._record(raw, parts, allow, received, moment)
        record.caller = allow.caller.name
        record.operation = allow.operation.name
        record.upstream = allow.route.upstream.name
        record.credential = allow.route.credential.name
        if allow.audited is not None:
            record.would_refuse = allow.audited.code
        caller = allow.caller
        record.websocket = allow.operation.kind is Kind.WEBSOCKET
        code = self.server.no_room_for(record)
        if code is not None:
            self._refuse(record, _too_much(code, allow.operation, caller), parts, retry_after=1)
            return
        exchange = Exchange(self, parts, allow, record)
        if caller.limits is not None:
            refusal = exchange.enter(self.server.gates.of(caller.name, caller.limits))
            if refusal is not None:
                deny = Deny(refusal.code, refusal.message, allow.operation, caller, None, allow.operation.errors)
                self._refuse(record, deny, parts, retry_after=refusal.retry_after)
                return
        self._start(exchange)

    def _start(self, exchange: Exchange | TokenRequest) -> None:
        """Gives the connection over to what serves this request, with what has arrived of its body."""
        self.deadline = NEVER
        self.exchange = exchange
        body, self._pending = self._pending, b""
        rest = exchange.start(body)
        if rest:
            self._pending = rest + self._pending
            if len(self._pending) > MOST_PENDING:
                self.hold("pipeline")

    # -- refusing and closing -----------------------------------------------------------------------------------------

    def _refuse(
        self,
        record: Record,
        deny: Deny,
        parts: RequestParts | None,
        *,
        retry_after: int | None = None,
        head_only: bool = False,
    ) -> None:
        """Answers a request that goes nowhere, and finds the next one if its body allows."""
        record.code = deny.code
        record.status = OUTCOMES[deny.code].status
        record.ending = Ending.FAILED if deny.code is Code.INTERNAL else Ending.REFUSED
        match = _CANONICAL_PREFIX.match(record.path)
        record.path = match.group()[:LONGEST_LOGGED_PATH] if match else ""
        keep = parts is not None and parts.keep_alive and not self.server.draining
        if parts is not None and keep and parts.length:
            keep = 0 < parts.length <= MOST_DISCARDED and not parts.expects_continue
            self._discard = LengthCursor(parts.length) if keep else None
        head_only = head_only or (parts is not None and parts.head.method == "HEAD")
        more = request_id_line(record.request_id)
        if parts is not None:
            more += response_lines(parts.head.noted, self.server.snapshot.policy.origins)
        out = answer(deny, close=not keep, head_only=head_only, retry_after=retry_after, more=more)
        if record.evidence is not None:
            record.evidence.answer_here(out, deny)
        self.write(out)
        self._finish(record, keep=keep)

    def _finish(self, record: Record, *, keep: bool) -> None:
        """A request was answered right here."""
        self.server.finish(record)
        if keep:
            self._await_request()
        else:
            self._close()

    def _turn_away(self, code: Code) -> None:
        """One connection too many: it is told so before it asks, and closed."""
        self.server.metrics.on_connection_refused(code.value)
        if self.server.trail.on:
            self.server.trail.count_reason(code, None, moment=time.time())
        self.write(answer(Deny(code, MESSAGES[code]), close=True, head_only=False, retry_after=1))
        self._close()

    def _refuse_unread(self, code: Code, message: str | None = None) -> None:
        """Refuses a request whose head never became readable."""
        self._pending = b""
        self.server.metrics.on_begin()
        record = self._strange(b"", time.monotonic(), time.time())
        self._refuse(record, Deny(code, message or MESSAGES[code]), None)

    def _close(self) -> None:
        """Ends the connection so that the last answer arrives: says goodbye, then reads and drops for a moment."""
        self._lingering = True
        self._pending = b""
        for reason in self._held:
            self.release(reason)
        if self.transport.is_closing():
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.server.loop.time() + (SLOW if self._unsent else LINGER)
        self.server.deadlines.watch(self)

    def _linger(self) -> None:
        """The time to go has come, unless the caller is still reading what it was sent."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent < self._unsent:
            self._unsent = unsent
            self.deadline = self.server.loop.time() + SLOW
        else:
            self.abort()
