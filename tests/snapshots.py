"""Configurations made by hand: one operation of every kind, one upstream, one key that may do everything."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

from proxy.callers.token import digest_token, token_recogniser
from proxy.core.model import (
    Address,
    Caller,
    CallerLimits,
    ErrorShape,
    KeyPower,
    Kind,
    Level,
    LogFormat,
    LogSettings,
    Operation,
    Permission,
    Policy,
    Route,
    Snapshot,
    Upstream,
)
from proxy.core.target import OperationTree
from proxy.credentials.api_key import ApiKey
from proxy.credentials.secret import Secret
from tests.wires import request

KEY = base64.b64encode(b"key-id:key-secret").decode()
AUTHORIZATION = f"Basic {KEY}"
"""What must arrive upstream, once, whatever the caller sent."""

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
TOKEN = "a-shared-token-of-the-storefront"


def _operation(
    name: str,
    methods: str,
    template: str,
    *,
    permission: Permission = Permission.NONE,
    kind: Kind = Kind.HTTP,
    errors: ErrorShape = ErrorShape.GRPC,
    keeps_query: frozenset[str] = frozenset(),
) -> Operation:
    return Operation(
        name, name.partition(".")[0], frozenset(methods.split()), template, kind, permission, errors, keeps_query
    )


OPERATIONS = (
    _operation("tts.synthesize", "POST", "/tts/v1/voice"),
    _operation("tts.synthesize_stream", "POST", "/tts/v1/voice:stream", errors=ErrorShape.GRPC_STREAM),
    _operation("models.list", "GET HEAD OPTIONS", "/llm/v1alpha/models"),
    _operation("things.any", "GET HEAD OPTIONS POST PUT PATCH DELETE", "/things"),
    _operation("llm.chat", "POST", "/v1/chat/completions", errors=ErrorShape.OPENAI),
    _operation("voices.list", "GET HEAD", "/voices/v1/voices", permission=Permission.VOICES),
    _operation("voices.get", "GET HEAD", "/voices/v1/voices/{voice_id}", permission=Permission.VOICES),
    _operation("voices.delete", "DELETE", "/voices/v1/voices/{voice_id}", permission=Permission.VOICES),
    _operation("voices.clone", "POST", "/voices/v1/voices:clone", permission=Permission.VOICES),
    _operation("router.list", "GET", "/router/v1/routers", permission=Permission.ROUTER),
    _operation("router.create", "POST", "/router/v1/routers", permission=Permission.ROUTER),
    _operation("operations.get", "GET HEAD", "/lro/v1alpha/{name=**}"),
    _operation("auth.create_token", "POST", "/auth/v1/tokens", permission=Permission.MINT),
    _operation("stt.transcribe_ws", "GET", "/stt/v1/transcribe:streamBidirectional", kind=Kind.WEBSOCKET),
    _operation(
        "realtime.session", "GET", "/api/v1/realtime/session", permission=Permission.REALTIME, kind=Kind.WEBSOCKET,
        errors=ErrorShape.OPENAI, keeps_query=frozenset({"key"}),
    ),
)  # fmt: skip

SOCKET = "/api/v1/realtime/session"
READ_ONLY = KeyPower(voices=Level.READ, router=Level.READ)
ALL_POWERS = KeyPower(voices=Level.WRITE, router=Level.WRITE)


def upstream_at(port: int, *, scheme: str = "http", host: str = "127.0.0.1", name: str = "inworld") -> Upstream:
    return Upstream(name, scheme, host, port, f"{host}:{port}")


def make_snapshot(
    upstream: Upstream,
    *,
    power: KeyPower = READ_ONLY,
    tokens: Mapping[str, str] | None = None,
    limits: CallerLimits | None = None,
) -> Snapshot:
    """A snapshot for this upstream. ``tokens`` are shared tokens by caller name; without them everyone is served.

    ``limits`` are those of each caller.
    """
    credential = ApiKey("workspace", Secret(KEY), power)
    route = Route("routes[0]", upstream, credential)
    routes = {operation.name: route for operation in OPERATIONS}
    callers = {name: Caller(name, routes, limits=limits) for name in tokens or {}}
    recogniser = token_recogniser(
        (digest_token(token.encode()), callers[name]) for name, token in (tokens or {}).items()
    )
    policy = Policy(
        tree=OperationTree.of(OPERATIONS),
        operations={operation.name: operation for operation in OPERATIONS},
        anonymous=None if tokens else Caller("anonymous", routes),
        recognisers=(recogniser,) if tokens else (),
        hosts=HOSTS,
        default_errors=(("/v1/", ErrorShape.OPENAI),),
    )
    return Snapshot(
        listen=Address("127.0.0.1", 0),
        admin=Address("127.0.0.1", 0),
        policy=policy,
        upstreams={upstream.name: upstream},
        credentials={credential.name: credential},
        callers=callers,
        routes=(route,),
        log=LogSettings(format=LogFormat.OFF),
        source="tests",
    )


def with_policy(snapshot: Snapshot, **changes: object) -> Snapshot:
    return replace(snapshot, policy=replace(snapshot.policy, **changes))  # type: ignore[arg-type]


HANDSHAKE = request(
    f"GET {SOCKET}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
"""A handshake at that socket, and an upstream's answer to it, as bytes."""

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
