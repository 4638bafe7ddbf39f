"""``decide()``: the only place where a request is allowed or refused.

A plain function from a policy and a request head to ``Allow`` or ``Deny``; ``explain`` on the command line, the
permission matrix of the tests and the data path all ask it. Allow is said in one place, at the end; every other way
out is a Deny with the sentence that says what is missing and where to change it.
"""

from __future__ import annotations

import re
from typing import assert_never

from proxy.core.browser import check_silence, check_site, judge_host
from proxy.core.cors import Preflight, preflight_lines
from proxy.core.errors import Code
from proxy.core.headers import has_member, list_members
from proxy.core.model import (
    METHODS,
    READ_METHODS,
    Allow,
    Caller,
    Decision,
    Deny,
    ErrorShape,
    KeyPower,
    KeyType,
    Kind,
    Level,
    Local,
    Mode,
    Operation,
    Permission,
    Policy,
    RequestHead,
)
from proxy.core.recognition import TOKEN_PROTOCOLS, recognise
from proxy.core.target import read_target, strip_query

_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_AMBIGUOUS = (
    "The request target is not in its one canonical form. Send an absolute path without //, dot segments, "
    "; \\ or #, and percent-encode only what needs it, in upper case."
)
_MINT_MESSAGE = (
    "Minting a token hands over all the power of the key behind this proxy, so no caller may do it. "
    "The proxy itself authenticates every request; point the client at it instead."
)
_ALL_METHODS = ", ".join(sorted(METHODS))


def decide(policy: Policy, head: RequestHead, now: float, *, caller: Caller | None = None) -> Decision:
    """May this be done, by whom, through which route?

    ``now`` is Unix time in seconds. A ``caller`` given stands for the one that would be recognised (``explain``). The
    order is the promise: what cannot be read is refused before anyone is asked who they are, and who is not known is
    refused before any route is looked up. Never raises for anything in ``head``.
    """
    method = head.method
    if method not in METHODS:
        return Deny(
            Code.METHOD_NOT_ALLOWED,
            "This proxy passes on GET, HEAD, OPTIONS, POST, PUT, PATCH and DELETE only.",
            allow=_ALL_METHODS,
        )
    target = read_target(head.target)
    if target is None:
        return Deny(Code.AMBIGUOUS_TARGET, _AMBIGUOUS)
    path, query = target
    refused = _check_origin(policy, head)
    if refused is not None:
        return Deny(refused[0], refused[1], shape=_default_shape(policy, path))
    if caller is None:
        recognised = policy.anonymous or recognise(policy, head, now)
        if isinstance(recognised, tuple):
            code, message = recognised
            return Deny(code, message, shape=_default_shape(policy, path))
        caller = recognised
    methods = policy.tree.find(path)
    if methods is None:
        return Deny(
            Code.NO_OPERATION,
            f"{path} is not in this proxy's catalogue of operations, so it is not passed on. "
            "`inworld-proxy explain` shows what is.",
            caller=caller,
            shape=_default_shape(policy, path),
        )
    operation = methods.get(method)
    if operation is None:
        allowed = ", ".join(sorted(methods))
        message = f"{method} is not an operation at this path; {allowed} is."
        shape = _default_shape(policy, path)
        return Deny(Code.METHOD_NOT_ALLOWED, message, caller=caller, shape=shape, allow=allowed)
    onward = head.target  # byte for byte, a "?" without anything behind it included
    if query:
        kept = strip_query(query, operation.keeps_query)
        if kept != query:
            onward = f"{path}?{kept}" if kept else path
    return _judge(policy, head, onward, caller, operation)


def decide_preflight(policy: Policy, head: RequestHead) -> Preflight | Deny:
    """May a page of this origin send the request that its browser asks about? Asked before ``decide()``, of nobody.

    A preflight carries no credentials, so who asks is not known; what it allows is decided when the request comes.
    """
    target = read_target(head.target)
    if target is None:
        return Deny(Code.AMBIGUOUS_TARGET, _AMBIGUOUS)
    shape = _default_shape(policy, target[0])
    refused = _check_origin(policy, head)
    if refused is not None:
        return Deny(refused[0], refused[1], shape=shape)
    methods = policy.tree.find(target[0])
    if methods is None:
        return Deny(Code.NO_OPERATION, f"{target[0]} is not in this proxy's catalogue of operations.", shape=shape)
    lines = preflight_lines(head.noted[b"origin"], head.noted, methods)
    if lines is None:
        return Deny(Code.BAD_REQUEST, "Access-Control-Request-Headers is not a list of field names.", shape=shape)
    return Preflight(lines)


def _judge(policy: Policy, head: RequestHead, target: str, caller: Caller, operation: Operation) -> Decision:
    """``target`` is what goes on the wire if it may."""
    route = caller.routes.get(operation.name)
    if operation.permission is Permission.MINT:
        return Deny(Code.TOKEN_MINT_REFUSED, _MINT_MESSAGE, operation, caller, route, operation.errors)
    audited = None
    if caller.operations is not None and operation.name not in caller.operations:
        message = f"The caller '{caller.name}' is not granted {operation.name}; add it to callers.{caller.name}.allow."
        audited = Deny(Code.OPERATION_NOT_GRANTED, message, operation, caller, route, operation.errors)
        if policy.mode is Mode.ENFORCE:
            return audited
    if operation.kind is Kind.LOCAL:
        # Audit mode tries grants out; it does not hand tokens to those who have none.
        return audited or Local(caller, operation)
    if route is None:
        message = f"No route serves {operation.name}. Add one under `routes`."
        return Deny(Code.NO_ROUTE, message, operation, caller, None, operation.errors)
    lack = check_power(route.credential.power, operation, head.method, credential=route.credential.name)
    if lack is not None:
        return Deny(lack[0], lack[1], operation, caller, route, operation.errors)
    allow = Allow(caller, operation, route, target, audited)
    if operation.kind is Kind.WEBSOCKET:
        return _allow_websocket(head, allow)
    if b"upgrade" in head.noted and has_member(head.noted[b"upgrade"], b"websocket"):
        message = f"{operation.name} is not a WebSocket; send the request without `Upgrade`."
        return Deny(Code.UPGRADE_NOT_ALLOWED, message, operation, caller, route, operation.errors)
    return allow


def check_power(power: KeyPower, operation: Operation, method: str, *, credential: str) -> tuple[Code, str] | None:
    """What the key lacks for this operation, with the sentence that says so; None when it may."""
    permission = operation.permission
    if power.type is KeyType.REALTIME_ONLY and permission is not Permission.REALTIME:
        message = (
            f"The key '{credential}' is realtime-only and serves nothing but the realtime operations; its type was "
            f"fixed when it was made. Route {operation.name} to a standard key."
        )
        return Code.KEY_IS_REALTIME_ONLY, message
    match permission:
        case Permission.VOICES:
            return _check_level(power.voices, "Voice", "voices", method, credential)
        case Permission.ROUTER:
            return _check_level(power.router, "Router", "router", method, credential)
        case Permission.NONE | Permission.REALTIME:
            return None
        case Permission.MINT:
            return Code.TOKEN_MINT_REFUSED, _MINT_MESSAGE
        case _:
            assert_never(permission)


def _check_level(level: Level, api: str, setting: str, method: str, credential: str) -> tuple[Code, str] | None:
    if level is Level.WRITE or (level is Level.READ and method in READ_METHODS):
        return None
    if method in READ_METHODS:
        code, need = Code.READ_NOT_PERMITTED, "read"
    else:
        code, need = Code.WRITE_NOT_PERMITTED, "write"
    message = (
        f"{method} here needs {need} permission on the {api} API, and the key '{credential}' is declared with "
        f"`{setting}: {level.value}`. If the key has it in Inworld's Portal, set credentials.{credential}.permissions."
        f"{setting}: {need} (or start with --{setting} {need}); otherwise route this operation to a key that has it."
    )
    return code, message


def _allow_websocket(head: RequestHead, allow: Allow) -> Decision:
    noted = head.noted
    operation, caller, route = allow.operation, allow.caller, allow.route
    if (
        head.version != 11
        or noted.get(b"upgrade", b"").lower() != b"websocket"
        or not has_member(noted.get(b"connection"), b"upgrade")
        or noted.get(b"sec-websocket-version") != b"13"
        or _WEBSOCKET_KEY.fullmatch(noted.get(b"sec-websocket-key", b"")) is None
    ):
        message = f"{operation.name} is a WebSocket. Connect with a WebSocket client (RFC 6455, version 13)."
        return Deny(Code.UPGRADE_REQUIRED, message, operation, caller, route, operation.errors)
    if b"transfer-encoding" in noted or noted.get(b"content-length", b"0") != b"0":
        message = "A WebSocket handshake has no body; send it without Content-Length and Transfer-Encoding."
        return Deny(Code.BAD_REQUEST, message, operation, caller, route, operation.errors)
    offered = list_members(noted.get(b"sec-websocket-protocol", b""))
    others = [protocol for protocol in offered if not protocol.startswith(TOKEN_PROTOCOLS)]
    if len(others) == len(offered):
        return allow._replace(protocols=noted.get(b"sec-websocket-protocol"))
    select = others[0] if others else offered[0]
    return allow._replace(protocols=b", ".join(others) or None, select_protocol=select)


def _check_origin(policy: Policy, head: RequestHead) -> tuple[Code, str] | None:
    """Host allow-list (DNS rebinding), and what browsers say about where a request comes from."""
    noted = head.noted
    host = noted.get(b"host")
    told = False
    if host is not None:
        refused, told = judge_host(host, policy.hosts)
        if refused is not None:
            return refused
    elif head.version == 11:
        return Code.BAD_REQUEST, "An HTTP/1.1 request needs a Host field (RFC 9112 section 3.2)."
    origin, site = noted.get(b"origin"), noted.get(b"sec-fetch-site")
    if origin is not None or site is not None:
        return check_site(origin, site, policy.origins)
    # A page cannot show a token without asking first (CORS), so where one is needed silence gives nothing away.
    return None if told or policy.anonymous is None else check_silence(head.kept)


def _default_shape(policy: Policy, path: str) -> ErrorShape:
    for prefix, shape in policy.default_errors:
        if path.startswith(prefix):
            return shape
    return ErrorShape.GRPC
