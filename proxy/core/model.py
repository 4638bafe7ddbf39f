"""The words of the product as frozen values: operation, key, caller, route, policy, decision.

Values only: nothing here waits, reads a file or looks at a clock. Values that are made for every request are
``NamedTuple`` (made in a third of the time of a frozen dataclass); values made once at load are frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from proxy.core.errors import Code
    from proxy.core.target import OperationTree

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Everything that is not one of these is a write (Inworld's documentation, "API keys")."""

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""The only methods that are ever looked up; TRACE, CONNECT and inventions are 405 without contacting anyone."""


class Kind(Enum):
    """How an operation moves bytes."""

    HTTP = "http"
    WEBSOCKET = "websocket"


class Permission(Enum):
    """What an operation asks of the key that serves it.

    ``VOICES`` and ``ROUTER`` are gated by method (read or write); ``REALTIME`` is what a realtime-only key serves;
    ``MINT`` hands over the parent key's whole power and is refused to every caller; ``NONE`` is ungated.
    """

    NONE = "none"
    VOICES = "voices"
    ROUTER = "router"
    REALTIME = "realtime"
    MINT = "mint"


class ErrorShape(Enum):
    """The JSON that an operation's own clients parse when something is refused."""

    GRPC = "grpc"
    GRPC_STREAM = "grpc-stream"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the catalogue: a path template, the methods it answers to, and what it asks of the key.

    ``template`` is literal segments, ``{name}`` for one segment, ``{name=**}`` last for the rest of the path, and
    after the last segment optionally a custom verb (``:clone``). ``keeps_query`` names the query parameters that look
    like credentials elsewhere and are not here.
    """

    name: str
    family: str
    methods: frozenset[str]
    template: str
    kind: Kind
    permission: Permission
    errors: ErrorShape
    keeps_query: frozenset[str] = frozenset()


class KeyType(Enum):
    """Fixed when the key is made in Inworld's Portal; nothing on the wire reveals it."""

    STANDARD = "standard"
    REALTIME_ONLY = "realtime-only"


class Level(Enum):
    """How far a key's permission on an API goes."""

    NONE = "none"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class KeyPower:
    """What the key behind a credential may do, as declared in the configuration."""

    type: KeyType = KeyType.STANDARD
    voices: Level = Level.READ
    router: Level = Level.READ


class Credential(Protocol):
    """What is shown to the upstream. One implementation per kind under ``credentials/``.

    ``authorization()`` is on the hot path: it never waits. It returns the complete field line
    (``b"Authorization: Basic …\\r\\n"``), or None when nothing fresh is at hand; then ``await refresh()`` gets one or
    raises ``CredentialUnavailable``.
    """

    @property
    def name(self) -> str:
        """The key of this credential in the configuration."""

    @property
    def kind(self) -> str:
        """``api-key`` or another kind of the configuration."""

    @property
    def power(self) -> KeyPower:
        """What the key behind it may do, as declared."""

    def authorization(self) -> bytes | None:
        """The field line to send, with its line end; None when a fresh one has to be fetched first."""

    async def refresh(self) -> None:
        """Get a fresh one, shared by all who wait. Raises ``CredentialUnavailable``."""


class CredentialUnavailable(Exception):  # noqa: N818 - it names a state of the world, as in the refusal code
    """Nothing valid can be shown to the upstream now. ``retry_after`` is in seconds."""

    def __init__(self, credential: str, retry_after: float = 1.0) -> None:
        super().__init__(credential)
        self.credential = credential
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where exchanges go: fixed at load, never built from anything a caller sent.

    ``authority`` is what the Host field says (the port only when it is not the scheme's own). ``ca_file`` adds to the
    system's trust, it does not replace it. ``connect_proxy`` is ``(host, port)`` of an HTTP CONNECT proxy;
    ``connect_proxy_authorization`` the complete value of its ``Proxy-Authorization``.
    """

    name: str
    scheme: str
    host: str
    port: int
    authority: str
    ca_file: str | None = None
    connect_proxy: tuple[str, int] | None = None
    connect_proxy_authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Which upstream and credential serve a set of operations. ``name`` is its place in the list: ``routes[0]``."""

    name: str
    upstream: Upstream
    credential: Credential


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``operations`` are the names granted; None grants all of the catalogue.

    ``routes`` maps each operation's name to the route that serves it for this caller (first match wins, resolved at
    load), so an operation without an entry has no route.
    """

    name: str
    routes: Mapping[str, Route] = field(repr=False)
    operations: frozenset[str] | None = None


class Presented(NamedTuple):
    """A secret a caller showed: from which field, in clear, and the user name beside it (Basic), if any."""

    place: str
    token: bytes
    user: str | None = None


Recogniser = Callable[[Presented, float], Caller | None]
"""One way of recognising a caller: given what was presented and the wall clock (Unix seconds), who is it?"""


class Mode(Enum):
    """``audit`` suspends the callers' grants only, and says what ``enforce`` would have refused."""

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything ``decide()`` needs, resolved at load.

    ``anonymous`` is who everyone is when no callers are declared; with callers it is None. ``hosts`` are the accepted
    Host names in lower case without port (None: any well-formed one); ``origins`` the browser origins that may call.
    ``default_errors`` are (path prefix, shape) pairs for refusals before an operation is known; first match wins.
    """

    tree: OperationTree
    operations: Mapping[str, Operation]
    anonymous: Caller | None
    recognisers: tuple[Recogniser, ...]
    hosts: frozenset[str] | None
    origins: frozenset[str] = frozenset()
    mode: Mode = Mode.ENFORCE
    default_errors: tuple[tuple[str, ErrorShape], ...] = ()


class RequestHead(NamedTuple):
    """One request head, read once.

    ``target`` is the request-target exactly as it arrived (ASCII). ``kept`` are the field lines that may cross, in
    order and as they were spelled, each with its line end; ``noted`` the fields that decide something, by lower-case
    name (several lines of a list field are joined by ``, ``). ``version`` is 10 or 11.
    """

    method: str
    target: str
    version: int
    kept: list[bytes]
    noted: dict[bytes, bytes]


class Allow(NamedTuple):
    """This caller may do this operation with this key. ``target`` is what goes on the wire.

    ``audited`` is what enforce mode would have refused. ``select_protocol`` is the subprotocol the proxy itself must
    select towards the client when the upstream selects none (a browser fails the handshake otherwise);
    ``protocols`` what is left to offer upstream once the caller's token has been taken out.
    """

    caller: Caller
    operation: Operation
    route: Route
    target: str
    audited: Deny | None = None
    protocols: bytes | None = None
    select_protocol: bytes | None = None


class Deny(NamedTuple):
    """Refused: the code, a sentence for the caller, and as much as was known by then."""

    code: Code
    message: str
    operation: Operation | None = None
    caller: Caller | None = None
    route: Route | None = None
    shape: ErrorShape = ErrorShape.GRPC
    allow: str | None = None


Decision = Allow | Deny


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. None means no limit. Defaults suit voice: streams last hours, heads do not."""

    head: float = 10.0
    keep_alive: float = 75.0
    body_idle: float = 60.0
    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 300.0
    tunnel_idle: float | None = None
    upstream_keep_alive: float = 15.0
    upstream_max_age: float = 600.0
    drain: float = 30.0


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Bytes. A head over ``head`` is 431, a request line over ``line`` is 414, a body over ``body`` is 413."""

    line: int = 8192
    head: int = 32768
    body: int | None = None


class LogFormat(Enum):
    """``auto`` is readable on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    OFF = "off"


class LogLevel(Enum):
    """``all`` requests, only ``refused`` and failed ones, or only what ``failed`` at the upstream or here (5xx)."""

    ALL = "all"
    REFUSED = "refused"
    FAILED = "failed"


LOG_FIELDS = (
    "time", "method", "path", "operation", "caller", "status", "ending", "duration_ms", "first_byte_ms", "overhead_ms",
    "request_bytes", "response_bytes", "upstream", "credential", "reused", "code", "would_refuse", "messages_in",
    "messages_out", "retried", "inworld_request_id", "peer",
)  # fmt: skip
"""The fields of a line, in order; those that are unknown or do not apply are left out."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How requests are logged. ``omit`` are names of ``LOG_FIELDS`` to leave out."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.ALL
    omit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True for 127.0.0.0/8, ::1 and localhost: nobody beyond this machine reaches it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One complete, validated configuration. Replaced whole, never edited; taken once per request."""

    listen: Address
    admin: Address
    policy: Policy
    upstreams: Mapping[str, Upstream]
    credentials: Mapping[str, Credential]
    callers: Mapping[str, Caller]
    routes: tuple[Route, ...]
    time: TimeLimits = field(default_factory=TimeLimits)
    size: SizeLimits = field(default_factory=SizeLimits)
    log: LogSettings = field(default_factory=LogSettings)
    source: str = "environment"
