"""The front door: every request to the API passes through here on its way to its handler.

What belongs here: recording, admitting, failing on purpose, and turning a refusal into an answer, in that order. What
does not: each of these things itself.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace

from aiohttp import WSCloseCode, web

from proxy.sandbox import signature
from proxy.sandbox.answers import json_answer
from proxy.sandbox.authentication import authorise, identify
from proxy.sandbox.channel import refuse_in_a_frame
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import Refusal, invalid, refuse
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.options import CUT, RESET
from proxy.sandbox.pacing import break_off
from proxy.sandbox.seen import ABORTED, FINISHED, Record
from proxy.sandbox.shapes import Malformed
from proxy.sandbox.state import SANDBOX, Sandbox

# The front end forwards these admissions without looking for a key.
_KEYLESS = (Admission.SIGNATURE, Admission.LINK)

_NO_GOODBYE = (None, WSCloseCode.ABNORMAL_CLOSURE)

_STARTED: web.RequestKey[float] = web.RequestKey("started", float)


async def answer(request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
    """The answer to a request that matched a row of the table."""
    request[_STARTED] = time.monotonic()
    sandbox = request.app[SANDBOX]
    record = _opened(request, sandbox)
    record.operation = endpoint.name
    outcome = ABORTED
    try:
        exchange = Exchange(request, sandbox, endpoint, record)
        response = await _admitted(exchange)
        outcome = _outcome(request, response, record)
        if outcome == FINISHED or response.prepared:
            record.status = response.status
    except asyncio.CancelledError:
        # After a goodbye, the connection may end while the handler still puts its contexts away.
        if record.close_code not in _NO_GOODBYE:
            outcome = FINISHED
        raise
    except ConnectionError:
        # The client left while it was being answered. There is nobody to tell, and nothing to report.
        response = web.Response()
    finally:
        sandbox.seen.close(record, outcome)
    return response


def _outcome(request: web.Request, response: web.StreamResponse, record: Record) -> str:
    if isinstance(response, web.WebSocketResponse):
        record.close_code = response.close_code
        return ABORTED if response.close_code in _NO_GOODBYE else FINISHED
    return ABORTED if request.transport is None or request.transport.is_closing() else FINISHED


async def unknown_path(request: web.Request) -> web.StreamResponse:
    """404 before any credential is looked at, as observed."""
    request[_STARTED] = time.monotonic()
    sandbox = request.app[SANDBOX]
    record = _opened(request, sandbox)
    response = json_answer({"code": 5, "message": "Not Found"}, status=404)
    record.status = response.status
    sandbox.seen.close(record, FINISHED)
    return response


def _opened(request: web.Request, sandbox: Sandbox) -> Record:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    return sandbox.seen.open(request.method, request.raw_path, headers)


async def _admitted(exchange: Exchange) -> web.StreamResponse:
    stack = exchange.endpoint.stack
    try:
        exchange = _recognised(exchange)
    except Refusal as refusal:
        if exchange.endpoint.admission is Admission.SOCKET:
            return await _refused_on_socket(exchange, refusal)
        return refuse(refusal, stack)
    try:
        return await _served(exchange)
    except Refusal as refusal:
        return refuse(refusal, stack)
    except Malformed as exc:
        return refuse(invalid(str(exc)), stack)


def _recognised(exchange: Exchange) -> Exchange:
    """The exchange with its caller; raises ``Refusal``."""
    endpoint, sandbox, record = exchange.endpoint, exchange.sandbox, exchange.record
    if endpoint.admission in _KEYLESS:
        return exchange
    try:
        identity = identify(exchange.request, sandbox, endpoint)
        record.credential, record.credential_kind = identity.key.name, identity.kind
        authorise(identity.key, endpoint)
    except Refusal as refusal:
        kinds = [str(detail["errorType"]) for detail in refusal.details if "errorType" in detail]
        sandbox.tally.refuse(" ".join([str(refusal.status), *kinds]))
        raise
    sandbox.tally.accept(identity.key.name, identity.kind)
    return replace(exchange, caller=identity.key)


async def _refused_on_socket(exchange: Exchange, refusal: Refusal) -> web.StreamResponse:
    try:
        return await refuse_in_a_frame(exchange, refusal)
    except Refusal:
        # Not an upgrade at all: then the refusal is an ordinary answer.
        return refuse(refusal, exchange.endpoint.stack)


async def _served(exchange: Exchange) -> web.StreamResponse:
    caller = exchange.caller
    if caller is not None and not exchange.sandbox.limits.may_request(caller.workspace):
        # Documented: 429, per account; no Retry-After is. Invented: the sentence.
        raise Refusal(429, "rate limit exceeded; retry with exponential backoff")
    return await (_minted(exchange) if exchange.endpoint.admission is Admission.SIGNATURE else _handled(exchange))


async def _minted(exchange: Exchange) -> web.StreamResponse:
    """A mint of a session token, counted while it runs: whether it succeeds, is refused or fails on purpose."""
    sandbox = exchange.sandbox
    header = signature.read_header(exchange.request.headers.get("Authorization", ""))
    with sandbox.tally.minting(header.key_id if header is not None else "unsigned"):
        await asyncio.sleep(sandbox.options.mint_seconds)
        try:
            response = await _handled(exchange)
        except Refusal as refusal:
            sandbox.tally.minted(refusal.status)
            raise
        sandbox.tally.minted(response.status)
        return response


async def _handled(exchange: Exchange) -> web.StreamResponse:
    fault = exchange.sandbox.dice.fault(exchange.endpoint.name)
    if isinstance(fault, int):
        raise Refusal(fault, "the sandbox was asked to fail this request")
    if fault == RESET:
        break_off(exchange.request)
        return web.Response()
    if fault == CUT:
        return await _cut_short(exchange)
    if fault is not None:
        # Stalled, until the client gives up.
        await asyncio.Event().wait()
    return await exchange.endpoint.handler(exchange)


async def _cut_short(exchange: Exchange) -> web.StreamResponse:
    """The answer up to its middle. A streaming handler breaks off by itself, after its first chunk."""
    whole = await exchange.endpoint.handler(replace(exchange, cut=True))
    if whole.prepared or not isinstance(whole, web.Response) or not isinstance(whole.body, bytes):
        return whole
    half = web.StreamResponse(status=whole.status, headers={"Content-Type": whole.headers["Content-Type"]})
    half.content_length = len(whole.body)
    await half.prepare(exchange.request)
    await half.write(whole.body[: len(whole.body) // 2])
    break_off(exchange.request)
    return half


async def dress(request: web.Request, response: web.StreamResponse) -> None:
    """The response headers that were seen on the real service."""
    response.headers["server"] = "istio-envoy"
    response.headers["via"] = "1.1 google"
    started = request.get(_STARTED, time.monotonic())
    response.headers["x-envoy-upstream-service-time"] = str(int(1000 * (time.monotonic() - started)))
    # Observed: the plain-text 401 of the chat stack has none.
    if not (response.status == 401 and response.content_type == "text/plain"):
        response.headers["x-inworld-request-id"] = secrets.token_hex(16)
