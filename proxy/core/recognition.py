"""Who asks: every place of a head where a token may be shown, and then who the kernel says has connected.

What belongs here: what counts as shown, and in which order the ways of recognising a caller are asked. What does not:
those ways (``proxy/callers/``), and what the caller may do (``policy.py``).
"""

from __future__ import annotations

import base64
import binascii

from proxy.core.errors import Code
from proxy.core.headers import list_members
from proxy.core.model import Caller, Policy, Presented, RequestHead

TOKEN_PROTOCOLS = (b"bearer_", b"openai-insecure-api-key.")
"""Subprotocols in which a browser sends a key, because it can set no header (Inworld one-time tokens; OpenAI)."""

_TOKEN_FIELDS = (b"authorization", b"x-api-key")
_LONGEST_TOKEN = 8192


def recognise(policy: Policy, head: RequestHead, now: float) -> Caller | tuple[Code, str]:
    """The caller whose request this is, or why it is nobody's. ``now`` is Unix time in seconds."""
    caller = None
    every = read_presented(head.noted)
    for presented in every:
        if len(presented.token) > _LONGEST_TOKEN:
            continue
        for known in policy.recognisers:
            found = known(presented, now)
            if found is not None and caller is not None and found.name != caller.name:
                return Code.UNKNOWN_CALLER, "The request carries the tokens of two callers. Send one."
            caller = caller or found
    if caller is not None:
        return caller
    if every:
        message = (
            "The token in this request belongs to no caller of this proxy. Use the caller token that its operator "
            "gave out (not an Inworld key)."
        )
        return Code.UNKNOWN_CALLER, message
    return _recognise_user(policy, head)


def _recognise_user(policy: Policy, head: RequestHead) -> Caller | tuple[Code, str]:
    """Who shows no token is the user who connected, where the kernel says who that is and the user is a caller."""
    message = (
        "This proxy knows its callers. Send a caller token where the Inworld key would go (Authorization: Bearer)."
    )
    if head.uid is None or policy.recognise_user is None:
        return Code.CALLER_REQUIRED, message
    caller = policy.recognise_user(head.uid)
    empty = next((name for name in _TOKEN_FIELDS if name in head.noted), None)
    if caller is None:
        return Code.CALLER_REQUIRED, f"{message} The user who connected, {head.uid}, is none of them."
    if empty is not None:
        # An application that lost its token must not become somebody else, who may be granted more.
        message = (
            f"{message} Or leave out the field {empty.decode()}: with it, the user who connected is not looked at."
        )
        return Code.CALLER_REQUIRED, message
    return caller


def read_presented(noted: dict[bytes, bytes]) -> list[Presented]:
    """Every secret in every place where an Inworld client can put a key, as caller tokens to try."""
    found: list[Presented] = []
    authorization = noted.get(b"authorization")
    if authorization:
        scheme, _, value = authorization.partition(b" ")
        value = value.strip()
        scheme = scheme.lower()
        if scheme == b"bearer":
            found.append(Presented("authorization", value))
        elif scheme == b"basic":
            found.append(Presented("authorization", value))
            user, colon, password = _decode_basic(value).partition(b":")
            if colon:
                found.append(Presented("authorization", password, user.decode("utf-8", "replace")))
    api_key = noted.get(b"x-api-key")
    if api_key:
        found.append(Presented("x-api-key", api_key))
    protocols = noted.get(b"sec-websocket-protocol")
    if protocols:
        found += [
            Presented("sec-websocket-protocol", protocol[len(prefix) :])
            for protocol in list_members(protocols)
            for prefix in TOKEN_PROTOCOLS
            if protocol.startswith(prefix)
        ]
    return found


def _decode_basic(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
