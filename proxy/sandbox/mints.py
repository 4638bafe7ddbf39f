"""The three endpoints that make tokens: both variants of the session-token mint, and the one-time mint.

What belongs here: what they ask for and answer. What does not: the signature's algorithm (``signature.py``) and the
tokens themselves (``tokens.py``).
"""

from __future__ import annotations

import re

from aiohttp import web

from proxy.sandbox import signature
from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import read_message
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import Refusal, invalid, unauthenticated
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.keys import SandboxKey
from proxy.sandbox.shapes import JsonObject, from_rfc3339, new_uuid, rfc3339, text_of
from proxy.sandbox.tokens import ONE_TIME, SESSION

# Documented: the signed host differs from the request's host in the older variant.
DOCUMENTED_HOST = "api.inworld.ai"
DOCUMENTED_METHOD = "ai.inworld.engine.v1.SessionTokens/GenerateSessionToken"
SAMPLES_HOST = "api-engine.inworld.ai"
SAMPLES_METHOD = "ai.inworld.engine.WorldEngine/GenerateToken"

BAD_SIGNATURE = "invalid authorization signature"
"""The message that the vendor's sample application documents for a 403."""

DEFAULT_ONE_TIME_TTL = 900.0
MAX_ONE_TIME_TTL = 3600.0
_TTL = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s")
_REFERENCE = re.compile(r"[ -~]{0,256}")


async def documented_session_token(exchange: Exchange) -> web.Response:
    """``POST /v1/sessionTokens/token:generate`` with ``{"api_key": …}``."""
    body = await read_message(exchange)
    key = _signer(exchange, DOCUMENTED_HOST, DOCUMENTED_METHOD, text_of(body, "apiKey"))
    return _session_token(exchange, key)


async def samples_session_token(exchange: Exchange) -> web.Response:
    """``POST /auth/v1/tokens/token:generate`` with ``{"key": …, "resources": […]}``."""
    body = await read_message(exchange)
    key = _signer(exchange, SAMPLES_HOST, SAMPLES_METHOD, text_of(body, "key"))
    return _session_token(exchange, key)


def _signer(exchange: Exchange, host: str, method: str, named: str) -> SandboxKey:
    """The key that signed this request; raises ``Refusal``."""
    options = exchange.sandbox.options
    header = signature.read_header(exchange.request.headers.get("Authorization", ""))
    if header is None:
        raise unauthenticated()
    key = exchange.sandbox.keys.by_id(header.key_id)
    if key is None:
        raise Refusal(403, BAD_SIGNATURE)
    own = exchange.request.host
    # Invented: accepting the sandbox's own Host, because clients that sign the host they talk to would otherwise fail.
    hosts = (host, own, signature.without_port_443(own), *options.signed_hosts)
    if not signature.signed_by(header, key.secret, hosts=hosts, method=method):
        raise Refusal(403, BAD_SIGNATURE)
    try:
        moment = header.moment()
    except ValueError as exc:
        raise Refusal(403, BAD_SIGNATURE) from exc
    # Invented: that a signature ages, and that a nonce counts once. The real windows are undocumented.
    if abs(moment - options.clock()) > options.signature_skew:
        raise Refusal(403, f"{BAD_SIGNATURE}: DateTime is too far from the server's clock")
    if not exchange.sandbox.tokens.first_use(key.key_id, header.nonce, moment + 2 * options.signature_skew):
        raise Refusal(403, f"{BAD_SIGNATURE}: Nonce was used before")
    # Invented: comparing the key named in the body, which is not signed, with the one in the header.
    if named and named != key.key_id:
        raise invalid("the key in the body is not the key that signed the request")
    exchange.record.credential = key.name
    exchange.record.credential_kind = "iw1-signature"
    return key


def _session_token(exchange: Exchange, key: SandboxKey) -> web.Response:
    options = exchange.sandbox.options
    expires = options.clock() + options.token_lifetime
    text, _token = exchange.sandbox.tokens.issue(SESSION, key.key_id, expires)
    answer: JsonObject = {
        "token": text,
        "type": "Bearer",
        "expirationTime": rfc3339(expires),
        "sessionId": f"default:{new_uuid()}",
    }
    return json_answer(answer)


async def one_time_token(exchange: Exchange) -> web.Response:
    """``POST /auth/v1/tokens``: a token that authenticates once."""
    body = await read_message(exchange)
    if body.get("singleUse") is not True:
        raise invalid("single_use must be true")
    reference = text_of(body, "clientReferenceId")
    if not _REFERENCE.fullmatch(reference):
        raise invalid("client_reference_id must be at most 256 printable ASCII characters")
    now = exchange.sandbox.options.clock()
    expires = _expiry(body, now)
    if not exchange.sandbox.limits.may_mint(exchange.key.key_id):
        raise Refusal(429, "too many tokens were created with this API key; try again in a minute")
    text, token = exchange.sandbox.tokens.issue(ONE_TIME, exchange.key.key_id, expires)
    answer: JsonObject = {
        "name": f"tokens/{token.identifier}",
        "accessToken": text,
        "expireTime": rfc3339(expires),
        "singleUse": True,
        "clientReferenceId": reference,
        "createTime": rfc3339(now),
        "apiKey": exchange.key.resource,
    }
    return json_answer(answer)


def _expiry(body: JsonObject, now: float) -> float:
    ttl, moment = text_of(body, "ttl"), text_of(body, "expireTime")
    if ttl and moment:
        raise invalid("ttl and expire_time exclude each other")
    lifetime = DEFAULT_ONE_TIME_TTL
    if ttl:
        match = _TTL.fullmatch(ttl)
        if match is None:
            raise invalid('ttl must be a duration such as "300s"')
        lifetime = float(match[1])
    if moment:
        lifetime = from_rfc3339(moment) - now
    if not 1 <= lifetime <= MAX_ONE_TIME_TTL:
        raise invalid("a token lives from one second to one hour")
    return now + lifetime


ENDPOINTS = (
    Endpoint(
        "auth.mint_session_token",
        "POST",
        "/v1/sessionTokens/token:generate",
        documented_session_token,
        admission=Admission.SIGNATURE,
    ),
    Endpoint(
        "auth.mint_session_token_worldengine",
        "POST",
        "/auth/v1/tokens/token:generate",
        samples_session_token,
        admission=Admission.SIGNATURE,
    ),
    Endpoint("auth.create_one_time_token", "POST", "/auth/v1/tokens", one_time_token, admission=Admission.BASIC),
)
