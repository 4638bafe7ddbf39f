"""One request on its way: from an Allow to the last byte of the response, or to the tunnel it becomes.

Everything runs in callbacks of the two connections. Only what must wait (a credential that is not fresh, a dial) gets
a task, and that task ends before the first byte moves. After the head has gone to the caller an error can only cut the
connection: a body that broke must look broken.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from proxy.core.cors import response_lines
from proxy.core.errors import MESSAGES, OUTCOMES, Code
from proxy.core.headers import forget_lines, has_member
from proxy.core.model import READ_METHODS, Allow, CredentialUnavailable, Deny, Kind
from proxy.core.trace import onward_lines, request_id_line
from proxy.credentials.reflection import without_credential
from proxy.credentials.refusal import says_refused, without_echo
from proxy.limits.gate import Gate, Refusal
from proxy.observe.record import GONE, Ending, Record
from proxy.observe.trail import LONGEST_KEPT
from proxy.wire.answer import (
    CONTINUE,
    answer,
    frame_for_caller,
    request_bytes,
    response_bytes,
    switch_bytes,
    upgrade_bytes,
)
from proxy.wire.asked import Asked
from proxy.wire.deadlines import NEVER
from proxy.wire.dial import DialError
from proxy.wire.framing import CHUNKED_END, BodyCursor, ChunkedCursor, FramingError, LengthCursor
from proxy.wire.head import CHUNKED, UNTIL_CLOSE, RequestParts, ResponseHead, response_length
from proxy.wire.pool import Pool, prepare
from proxy.wire.reading import read_in_pieces
from proxy.wire.refusal import MOST_HELD, HeldAnswer
from proxy.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from proxy.wire.caller import CallerConnection
    from proxy.wire.upstream import UpstreamConnection

MOST_EARLY = 65536
"""Body bytes held while a request waits for its turn or a connection; then the caller is paused."""

MOST_REPLAYED = 65536
"""Body bytes kept for the one case in which a request may be sent again: a refused token."""

_CLOSE = b"Connection: close\r\n"
_KEEP = b"Connection: keep-alive\r\n"


class Exchange:
    """One request and its response. Made by the caller's connection, which it tells when it is over."""

    __slots__ = (
        "_allow",
        "_authorization",
        "_caller",
        "_early",
        "_gate",
        "_head_sent",
        "_held",
        "_keep",
        "_over",
        "_parts",
        "_pool",
        "_record",
        "_repeats",
        "_replay",
        "_request_cursor",
        "_reusable",
        "_server",
        "_task",
        "_total",
        "_upstream",
        "_waiting",
        "caller_full",
        "request_done",
        "response_cursor",
    )

    def __init__(self, caller: CallerConnection, parts: RequestParts, allow: Allow, record: Record) -> None:
        self._caller = caller
        self._server = caller.server
        self._parts = parts
        self._allow = allow
        self._record = record
        self._pool: Pool = caller.server.pools[allow.route.upstream.name]
        self._upstream: UpstreamConnection | None = None
        self._gate: Gate | None = None
        self._waiting = False
        self._task: asyncio.Task[None] | None = None
        self._total: asyncio.TimerHandle | None = None
        self._authorization = b""
        self._early: list[bytes] = []
        self._held: HeldAnswer | None = None
        # What a minted token went out with may have to go out again; a static key never does, so nothing is kept.
        self._replay: list[bytes] | None = [] if allow.route.credential.renews else None
        self._head_sent = False
        self._repeats = False  # does the upstream's head repeat the credential?
        self.caller_full = False
        self._keep = parts.keep_alive
        self._reusable = True
        self._over = False
        self.response_cursor: BodyCursor | None = None  # there is one once the final head was read
        self._request_cursor: BodyCursor | None = None
        if parts.length == CHUNKED:
            self._request_cursor = ChunkedCursor(refuse_extensions=True)
        elif parts.length:
            self._request_cursor = LengthCursor(parts.length)
        self.request_done = parts.length == 0

    # -- the request --------------------------------------------------------------------------------------------------

    def enter(self, gate: Gate) -> Refusal | None:
        """Asks for a place within the caller's limits: has it, waits for it from ``start()`` on, or is told why not."""
        entered = gate.enter(self)
        if isinstance(entered, Refusal):
            return entered
        self._gate = gate
        self._waiting = not entered
        return None

    def start(self, body: bytes) -> bytes:
        """Sends the request, or starts what has to happen before that. Returns what came after its body."""
        rest = body
        total = self._pool.time.total
        if total is not None and self._allow.operation.kind is not Kind.WEBSOCKET:
            self._total = self._server.loop.call_later(total, self._fail, Code.TOTAL_TIMEOUT)
        if not self.request_done:
            if self._parts.length == CHUNKED:
                read_in_pieces(self._caller)  # a quarter of a megabyte of chunks of one byte takes 0.1 s to check
            limit = self._pool.most_body
            if limit is not None and self._parts.length > limit:
                self._fail(Code.BODY_TOO_LARGE)
                return b""
            if body:
                rest = self.on_request_data(body)
                if self._over:
                    return rest
            elif not (self._waiting and self._parts.expects_continue):
                self._ask_for_body()
        if not self._waiting:
            self._go()
        return rest

    def on_admitted(self, waited: float) -> None:
        """The gate's call: this request's turn has come."""
        self._waiting = False
        self._server.metrics.on_waited(self._allow.caller.name, waited)
        if self._parts.expects_continue and not self.request_done and not self._record.request_bytes:
            self._ask_for_body()
        self._go()

    def on_refused(self, refusal: Refusal, waited: float) -> None:
        """The gate's call: this request's turn did not come in time."""
        self._waiting = False
        self._gate = None
        self._server.metrics.on_waited(self._allow.caller.name, waited)
        self._fail(refusal.code, refusal.message, retry_after=refusal.retry_after)

    def _ask_for_body(self) -> None:
        if self._parts.expects_continue:
            self._caller.write(CONTINUE)
        self._caller.expect_more()

    def _go(self) -> None:
        authorization = self._allow.route.credential.authorization()
        connection = self._pool.take() if authorization is not None else None
        if authorization is None or connection is None:
            self._task = self._server.spawn(self._prepare())
        else:
            self._record.reused = True
            self._send(connection, authorization)

    def on_request_data(self, data: bytes) -> bytes:
        """The caller sent more of the body. Returns what came after it."""
        cursor = self._request_cursor
        assert cursor is not None  # noqa: S101 - for the type checker; only called while the body is open
        try:
            out, rest = cursor.feed(data)
        except FramingError:
            self._fail(Code.BAD_REQUEST, "The chunked request body is malformed (RFC 9112 section 7.1).")
            return b""
        self._record.request_bytes += len(out)
        limit = self._pool.most_body
        if limit is not None and self._record.request_bytes > limit:
            self._fail(Code.BODY_TOO_LARGE)
            return b""
        if self._replay is not None:
            self._replay.append(out)
            if self._record.request_bytes > MOST_REPLAYED:
                self._replay = None
        upstream = self._upstream
        if upstream is None:
            self._early.append(out)
            if self._record.request_bytes > MOST_EARLY:
                self._caller.hold("connecting")
        else:
            upstream.transport.write(out)
        if rest is None:
            self._caller.expect_more()
            return b""
        self.request_done = True
        self._caller.deadline = NEVER
        if upstream is not None:
            self._await_response(upstream)
        return rest

    async def _prepare(self) -> None:
        try:
            authorization, connection = await prepare(self._allow.route.credential, self._pool)
            self._task = None
            self._record.reused = connection.used > 1
            if connection.transport.is_closing():
                connection.discard()
                self._fail(Code.UPSTREAM_CLOSED)
            else:
                self._send(connection, authorization)
        except CredentialUnavailable as exc:
            self._task = None
            self._fail(Code.CREDENTIAL_UNAVAILABLE, retry_after=max(1, round(exc.retry_after)))
        except DialError as exc:
            self._task = None
            self._fail(exc.code)
        except Exception:
            # A bug: the task's owner logs it, and the caller is not left waiting.
            self._task = None
            self._fail(Code.INTERNAL)
            raise

    def _send(self, connection: UpstreamConnection, authorization: bytes) -> None:
        self._upstream = connection
        self._authorization = authorization
        connection.exchange = self
        allow, record, parts = self._allow, self._record, self._parts
        trace = onward_lines(
            parts.context, record.request_id, record.trace_id, record.span_id, recorded=record.recorded
        )
        if allow.operation.kind is Kind.WEBSOCKET:
            out = upgrade_bytes(parts.head, allow, self._pool.host_line, trace, authorization)
        else:
            out = request_bytes(parts, allow, self._pool.host_line, trace, authorization)
        if self._early:
            out = b"".join([out, *self._early])
            self._early = []
            self._caller.release("connecting")
        connection.transport.write(out)
        record.sent = now = time.monotonic()
        self._server.metrics.on_sent(now - record.received)
        if self.request_done:
            self._await_response(connection)

    def _await_response(self, connection: UpstreamConnection) -> None:
        connection.deadline = deadline = self._server.loop.time() + self._pool.time.first_byte
        if deadline < connection.looked_at:
            self._server.deadlines.watch(connection)

    # -- the response -------------------------------------------------------------------------------------------------

    def on_response_data(self, data: bytes) -> None:
        """The upstream sent more of the body."""
        cursor = self.response_cursor
        assert cursor is not None  # noqa: S101 - for the type checker; only called when it has begun
        try:
            out, rest = cursor.feed(data)
        except FramingError:
            self._fail(Code.UPSTREAM_INVALID_RESPONSE)
            return
        if out:
            self._record.response_bytes += len(out)
            self._caller.write(out)
        elif self._held is not None:
            self._on_held(self._held, rest)
            return
        if rest is not None:
            self._reusable = self._reusable and not rest
            self._finish()
            return
        upstream = self._upstream
        assert upstream is not None  # noqa: S101 - for the type checker; it called
        upstream.deadline = self._pool.idle_deadline()
        if isinstance(cursor, ChunkedCursor):
            upstream.relay(cursor, self._caller.transport)

    def on_response(self, response: ResponseHead, body: bytes) -> None:
        """The upstream's final head, and what arrived with it."""
        record = self._record
        record.first_byte = time.monotonic()
        self._look_through(response.raw)
        if response.status == 101:
            self._switch(response, body)
            return
        method = self._parts.head.method
        length = response_length(response, method)
        if length is None:
            self._fail(Code.UPSTREAM_INVALID_RESPONSE)
            return
        record.status = response.status
        noted = response.noted
        if response.status == 204 and noted.get(b"content-length", b"0") != b"0":
            self._reusable = False  # it has no body, says that it has one, and may send it later
        request_id = noted.get(b"x-inworld-request-id")
        if request_id is not None:
            record.inworld_request_id = request_id.decode("latin-1")
        if length == UNTIL_CLOSE or response.version == 10 or has_member(noted.get(b"connection"), b"close"):
            self._reusable = False
        if response.status >= 400:
            self._held = HeldAnswer(response, length)
            self.response_cursor = self._held
            self.on_response_data(body)
            return
        framing, cursor = frame_for_caller(response, length, modern=self._parts.head.version == 11)
        out = self._head_for_caller(response, framing, unbounded=length < 0)
        if cursor is None:
            self._caller.write(out)
            self._reusable = self._reusable and not body
            self._finish()
            return
        self.response_cursor = cursor
        rest: bytes | None = None
        if body:
            try:
                passed, rest = cursor.feed(body)
            except FramingError:
                self._head_sent = False  # nothing was written yet, so a clean 502 is still possible
                self._fail(Code.UPSTREAM_INVALID_RESPONSE)
                return
            record.response_bytes += len(passed)
            out += passed
        self._caller.write(out)
        if rest is None:
            upstream = self._upstream
            if upstream is not None:
                upstream.deadline = self._pool.idle_deadline()
                self._server.deadlines.watch(upstream)
        else:
            self._reusable = self._reusable and not rest
            self._finish()

    def _look_through(self, raw: bytes) -> None:
        """Does the upstream's head repeat the credential? What goes to the caller has no line of its that is not there,
        so it is looked through once."""
        unrepeated = without_credential(raw, self._authorization)
        self._repeats = unrepeated is not raw
        evidence = self._record.evidence
        if evidence is not None and len(unrepeated) <= LONGEST_KEPT:
            evidence.answered = unrepeated

    def _head_for_caller(self, response: ResponseHead, framing: bytes, *, unbounded: bool) -> bytes:
        """The head as it goes to the caller, after which nothing can be undone."""
        modern = self._parts.head.version == 11
        if not self.request_done and response.status >= 300:
            self._stop_upload()
        if not self.request_done or self._server.draining or (unbounded and not modern):
            self._keep = False
        connection = b"" if self._keep and modern else (_KEEP if self._keep else _CLOSE)
        self._head_sent = True
        more = request_id_line(self._record.request_id)
        if b"origin" in self._parts.head.noted:
            more += response_lines(self._parts.head.noted, self._server.snapshot.policy.origins)
        out = response_bytes(response, framing=framing, more=more, connection=connection)
        if self._repeats:
            out = self._scrub(out)
        evidence = self._record.evidence
        if evidence is not None and len(out) <= LONGEST_KEPT:
            evidence.returned = out
        return out

    def _scrub(self, data: bytes) -> bytes:
        """Without the credential, should the upstream have repeated it."""
        scrubbed = without_credential(data, self._authorization)
        if scrubbed is not data:
            forget_lines()
            self._server.metrics.on_reflection(self._allow.route.credential.name)
        return scrubbed

    def _on_held(self, held: HeldAnswer, rest: bytes | None) -> None:
        """More of an answer that may refuse the credential has arrived; ``rest`` is not None when it is whole."""
        upstream = self._upstream
        if rest is None and held.size <= MOST_HELD and upstream is not None:
            upstream.deadline = self._pool.idle_deadline()
            self._server.deadlines.watch(upstream)
            return
        self._held = None
        content = held.content
        if rest is None:
            self._pass_on(held, content)
            return
        self._reusable = self._reusable and not rest
        credential = self._allow.route.credential
        if says_refused(held.response.status, content):
            if credential.refused(self._authorization) and self._replay is not None:
                self._send_again(self._replay)
                return
            content = without_echo(content)
        content = self._scrub(content)
        length: bytes | None = b"%d" % len(content)
        if self._parts.head.method == "HEAD":
            length = held.response.noted.get(b"content-length")
        framing = b"" if length is None else b"Content-Length: " + length + b"\r\n"
        out = self._head_for_caller(held.response, framing, unbounded=False)
        self._record.response_bytes += len(content)
        self._caller.write(out + content)
        self._finish()

    def _pass_on(self, held: HeldAnswer, content: bytes) -> None:
        """Too long to be a refusal: what there is goes out, and the rest as it comes."""
        content = self._scrub(content)
        modern = self._parts.head.version == 11
        cursor = held.pass_on(chunked=modern)
        self.response_cursor = cursor
        framing = b"Transfer-Encoding: chunked\r\n" if modern else b""
        out = self._head_for_caller(held.response, framing, unbounded=True) + cursor.wrap(content)
        self._record.response_bytes += len(content)
        self._caller.write(out)

    def _send_again(self, body: list[bytes]) -> None:
        """The token was refused and nothing has gone to the caller: once more, with a fresh one."""
        self._record.retried = True
        self._replay = None
        self.response_cursor = None
        self._early = [*body]
        self._let_go()
        self._reusable = True  # of the connection that comes next
        self._task = self._server.spawn(self._prepare())

    def _switch(self, response: ResponseHead, early: bytes) -> None:
        """The upstream answered 101: to a WebSocket handshake it is a tunnel now, to anything else an error."""
        noted = response.noted
        if (
            self._allow.operation.kind is not Kind.WEBSOCKET
            or noted.get(b"upgrade", b"").lower() != b"websocket"
            or b"transfer-encoding" in noted
        ):
            self._fail(Code.UPSTREAM_INVALID_RESPONSE)
            return
        upstream = self._upstream
        assert upstream is not None  # noqa: S101 - for the type checker; it just answered
        self._record.status = 101
        self._over = True
        upstream.exchange = None
        self._pool.release(upstream)
        switch = switch_bytes(response, self._allow, request_id_line(self._record.request_id))
        if self._repeats:
            switch = self._scrub(switch)
        evidence = self._record.evidence
        if evidence is not None:
            if not self._server.trail.has_room_for_tunnel(len(self._server.tunnels)) or len(switch) > LONGEST_KEPT:
                self._record.evidence = None
            else:
                evidence.returned = switch
        self._caller.write(switch)
        transport, early_in = self._caller.leave_to_tunnel()
        shown = (self._allow.route.credential, self._authorization)
        gate, self._gate = self._gate, None
        asked = Asked.of(self._parts.head)
        Tunnel(self._server, self._record, transport, upstream.transport, shown, gate, asked).open(early_in, early)

    # -- the ends -----------------------------------------------------------------------------------------------------

    def on_upstream_end(self, exc: Exception | None) -> None:
        """The upstream closed, cleanly or not."""
        if self.response_cursor is not None:
            self._reusable = False
            if exc is None and self._held is not None and self._held.end():
                self._on_held(self._held, b"")
            elif exc is None and self.response_cursor.end():
                if self._parts.head.version == 11:
                    self._caller.write(CHUNKED_END)
                self._finish()
            else:
                self._fail(Code.UPSTREAM_CLOSED)
        elif self._may_retry():
            # The upstream closed an idle connection just as we used it; nothing was answered and nothing can have
            # happened twice, so a fresh connection gets the same request, once.
            self._record.retried = True
            self._drop_upstream()
            self._pool.drop_idle()
            self._task = self._server.spawn(self._prepare())
        else:
            self._fail(Code.UPSTREAM_INVALID_RESPONSE if self._has_partial_head() else Code.UPSTREAM_CLOSED)

    def _may_retry(self) -> bool:
        upstream = self._upstream
        return (
            self._record.reused
            and not self._record.retried
            and upstream is not None
            and not upstream.held
            and not upstream.interim
            and self._parts.length == 0
            and self._parts.head.method in READ_METHODS
        )

    def _has_partial_head(self) -> bool:
        return self._upstream is not None and bool(self._upstream.held)

    def on_invalid_response(self) -> None:
        """What the upstream sent is not a response."""
        self._fail(Code.UPSTREAM_INVALID_RESPONSE)

    def on_upstream_late(self) -> None:
        """A deadline passed: no first byte, silence in the middle, an upload not taken, or a caller that reads not."""
        if self.caller_full:
            code = Code.CALLER_STALLED
        elif self.response_cursor is not None:
            code = Code.UPSTREAM_IDLE_TIMEOUT
        else:
            code = Code.UPSTREAM_FIRST_BYTE_TIMEOUT if self.request_done else Code.UPSTREAM_WRITE_TIMEOUT
        self._fail(code)

    def on_upstream_full(self, *, full: bool) -> None:
        """The upstream reads slower than the caller sends, or caught up."""
        if full:
            self._caller.hold("upstream")
            read_in_pieces(self._caller)
        else:
            self._caller.release("upstream")
        upstream = self._upstream
        if upstream is not None and not self.request_done and self.response_cursor is None:
            # While the upstream takes nothing nobody reads the caller, so only this notices that both are stuck.
            upstream.deadline = self._pool.idle_deadline() if full else NEVER
            self._server.deadlines.watch(upstream)

    def on_caller_full(self, *, full: bool) -> None:
        """The caller reads slower than the upstream sends, or caught up."""
        self.caller_full = full
        upstream = self._upstream
        if upstream is None or upstream.transport.is_closing():
            return
        upstream.deadline = self._pool.idle_deadline()
        if full:
            upstream.transport.pause_reading()
            read_in_pieces(upstream)
        else:
            upstream.transport.resume_reading()

    def on_caller_gone(self) -> None:
        """The caller left: the upstream stops working for nobody at once."""
        if self._over:
            return
        self._record.ending = Ending.CALLER_GONE
        self._record.status = self._record.status or GONE
        self._end()

    def on_caller_late(self) -> None:
        """The caller stopped sending its body."""
        self._fail(Code.BODY_TIMEOUT)

    def abort(self) -> None:
        """Ends both sides at once: the process is going away."""
        if not self._over:
            self._record.ending = Ending.ABORTED
            self._record.code = Code.DRAINING
            self._record.status = self._record.status or OUTCOMES[Code.DRAINING].status
            self._end()
            self._cut()

    def _stop_upload(self) -> None:
        """The upstream answered before it had the whole body, and not to ask for it: the rest is not sent."""
        self._reusable = False
        self._caller.hold("refused")

    def _fail(self, code: Code, message: str | None = None, *, retry_after: int | None = None) -> None:
        """The exchange cannot go on. A clean answer if none has begun, else a connection that visibly breaks."""
        if self._over:
            return
        record = self._record
        record.code = code
        status = OUTCOMES[code].status
        if status >= 500:
            self._server.metrics.on_upstream_error(self._pool.upstream.name, code.value)
        if self._head_sent:
            record.ending = Ending.ABORTED
            self._end()
            self._cut()
            return
        record.ending = Ending.FAILED if status >= 500 else Ending.REFUSED
        record.status = status
        keep = self._keep and self.request_done and not self._server.draining
        operation = self._allow.operation
        deny = Deny(code, message or MESSAGES[code], operation, self._allow.caller, None, operation.errors)
        head_only = self._parts.head.method == "HEAD"
        more = request_id_line(record.request_id)
        more += response_lines(self._parts.head.noted, self._server.snapshot.policy.origins)
        answered = answer(deny, close=not keep, head_only=head_only, retry_after=retry_after, more=more)
        if record.evidence is not None:
            record.evidence.answer_here(answered, deny)
        self._caller.write(answered)
        self._end()
        self._caller.on_exchange_over(keep=keep)

    def _cut(self) -> None:
        """Where the end of the connection is the end of the body, an orderly end would make it look whole."""
        self._caller.abort(reset=self._parts.head.version == 10)

    def _finish(self) -> None:
        """The response is whole."""
        keep = self._keep and self.request_done
        self._let_go()
        self._end()
        self._caller.on_exchange_over(keep=keep)

    def _end(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._total is not None:
            self._total.cancel()
            self._total = None
        if self._upstream is not None:
            self._drop_upstream()
        self._server.finish(self._record)
        gate, self._gate = self._gate, None
        if gate is not None:
            self._leave(gate)

    def _leave(self, gate: Gate) -> None:
        """Makes room within the caller's limits, exactly once; a tunnel does it for the exchange that it was."""
        if self._waiting:
            self._waiting = False
            self._server.metrics.on_waited(self._allow.caller.name, gate.abandon(self))
        else:
            gate.leave()

    def _let_go(self) -> None:
        """The upstream has answered in full: back to the pool with its connection, if that is clean."""
        upstream = self._upstream
        clean = self._reusable and self.request_done
        if upstream is not None and clean and not upstream.transport.get_write_buffer_size():
            if self.caller_full:
                upstream.transport.resume_reading()  # nobody else will: the caller is told of no exchange any more
            self._upstream = None
            self._record.response_bytes += upstream.relayed()
            upstream.deadline = NEVER
            self._pool.give_back(upstream)
        else:
            self._drop_upstream()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._record.response_bytes += upstream.relayed()
            upstream.exchange = None
            upstream.discard()
