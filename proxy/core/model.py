"""The words of the product as frozen values: operation, key, caller, route, policy, decision.

Values only: nothing here waits, reads a file or looks at a clock. Values that are made for every request are
``NamedTuple`` (made in a third of the time of a frozen dataclass); values made once at load are frozen dataclasses.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.core.enums import at_hand

if TYPE_CHECKING:
    from proxy.core.errors import Code
    from proxy.core.target import OperationTree

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Everything that is not one of these is a write (Inworld's documentation, "API keys")."""

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""The only methods that are ever looked up; TRACE, CONNECT and inventions are 405 without contacting anyone."""


@at_hand
class Kind(Enum):
    """How an operation moves bytes. ``LOCAL``: it does not; the proxy answers itself."""

    HTTP = "http"
    WEBSOCKET = "websocket"
    LOCAL = "local"


@at_hand
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


@at_hand
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


@at_hand
class KeyType(Enum):
    """Fixed when the key is made in Inworld's Portal; nothing on the wire reveals it."""

    STANDARD = "standard"
    REALTIME_ONLY = "realtime-only"


@at_hand
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


class RunningTask(Protocol):
    """What is known of a task that somebody else keeps: that it can be ended."""

    def cancel(self) -> object:
        """Ends it at its next wait."""


Spawn = Callable[[Coroutine[None, None, None]], RunningTask]
"""Starts a task, keeps it until it is over, cancels it at the end of the process, and sees its failure."""


@dataclass(frozen=True, slots=True)
class CredentialState:
    """How a credential is, for metrics and health. Nothing in it is secret.

    ``ready``: a request can be authenticated at once. ``source`` is where its secret comes from (``env``, ``file``,
    ``exec``), ``place`` that with its name (``env:NAME``, ``file:/path``, ``exec:command``), ``source_reads`` how often
    it was read again by result (``changed``, ``same``, ``failed``), and ``fault`` what is wrong with it now, in words;
    the secret read before stays in use. ``refused``: the upstream, or its token endpoint, refuses what is shown now;
    ``refusals`` counts. ``succeeded_at`` (Unix seconds) is when the secret was last read or a token last minted.

    Only for minted tokens: ``expires_at`` (Unix seconds, our clock), ``mints`` by result, ``mint_seconds`` spent on all
    of them and ``last_mint_seconds`` on the last, and ``skew``: how far the token endpoint's clock is ahead of ours in
    seconds, 0 when it cannot be told from none, None when never seen.
    """

    ready: bool
    source: str
    succeeded_at: float
    source_reads: Mapping[str, int]
    refused: bool = False
    refusals: int = 0
    fault: str | None = None
    expires_at: float | None = None
    mints: Mapping[str, int] = field(default_factory=dict)
    mint_seconds: float = 0.0
    last_mint_seconds: float | None = None
    skew: float | None = None
    place: str = ""


class Credential(Protocol):
    """What is shown to the upstream. One implementation per kind under ``credentials/``.

    ``authorization()`` is on the hot path: it never waits. It returns the complete field line
    (``b"Authorization: Basic …\\r\\n"``), or None when nothing fresh is at hand; then ``await refresh()`` gets one or
    raises ``CredentialUnavailable``. ``start()`` is called once, before the first request, ``close()`` at the end; what
    runs in between belongs to whoever gave ``spawn``.
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

    @property
    def renews(self) -> bool:
        """Can a refused one be replaced by a fresh one? Then a request is kept, up to a bound, to be sent again."""

    def authorization(self) -> bytes | None:
        """The field line to send, with its line end; None when a fresh one has to be fetched first."""

    async def refresh(self) -> None:
        """Get a fresh one, shared by all who wait. Raises ``CredentialUnavailable``."""

    def refused(self, line: bytes) -> bool:
        """The upstream refused this field line. True when trying once more with ``authorization()`` makes sense."""

    def doubted(self, line: bytes) -> None:
        """A tunnel opened with this field line ended so early that the line may be why."""

    def start(self, spawn: Spawn) -> None:
        """Begins to keep itself fresh."""

    def close(self) -> None:
        """Stops. What it gave out stays valid; who waits for a fresh one gets ``CredentialUnavailable``."""

    def state(self) -> CredentialState:
        """How it is now."""


class CredentialUnavailable(Exception):  # noqa: N818 - it names a state of the world, as in the refusal code
    """Nothing valid can be shown to the upstream now. ``retry_after`` is in seconds."""

    def __init__(self, credential: str, retry_after: float = 1.0) -> None:
        super().__init__(credential)
        self.credential = credential
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class KeySetState:
    """How a key set that callers' tokens are verified with is, for metrics and health. Nothing in it is secret.

    ``ready``: it has keys; until then the tokens that need it are unknown. ``fetched_at`` (Unix seconds) is when it was
    last fetched, ``fetches`` counts by result (``success``, ``failed``), and ``fault`` is what is wrong with it now, in
    words; the keys fetched before stay in use.
    """

    ready: bool
    keys: int
    fetched_at: float | None
    fetches: Mapping[str, int]
    fault: str | None = None


class KeySetSource(Protocol):
    """A published key set that keeps itself fresh. It lives as a credential does, and never keeps a request waiting."""

    @property
    def name(self) -> str:
        """The first caller in the configuration whose tokens need it."""

    def start(self, spawn: Spawn) -> None:
        """Fetches the set, and again and again."""

    def close(self) -> None:
        """Stops fetching. The keys at hand stay."""

    def state(self) -> KeySetState:
        """How it is now."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where exchanges go: fixed at load, never built from anything a caller sent.

    ``authority`` is what the Host field says (the port only when it is not the scheme's own). ``ca_file`` adds to the
    system's trust, it does not replace it; ``ca_digest`` (hex SHA-256) is of its content when it was read.
    ``connect_proxy`` is ``(host, port)`` of an HTTP CONNECT proxy; ``connect_proxy_authorization`` the complete value
    of its ``Proxy-Authorization``.
    """

    name: str
    scheme: str
    host: str
    port: int
    authority: str
    ca_file: str | None = None
    ca_digest: str | None = None
    connect_proxy: tuple[str, int] | None = None
    connect_proxy_authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Which upstream and credential serve a set of operations. ``name`` is its place in the list: ``routes[0]``."""

    name: str
    upstream: Upstream
    credential: Credential


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """How much one caller may ask for: ``rate`` in requests per second, ``concurrent`` in requests at once.

    Each None where there is no limit. ``queue`` is for how many seconds a request over them waits for its turn; 0
    refuses it at once. Streams and WebSockets count as in flight until they end.
    """

    rate: float | None = None
    concurrent: int | None = None
    queue: float = 0.0

    @property
    def burst(self) -> int:
        """Requests that may come at once after a pause: one second's worth."""
        return 1 if self.rate is None else max(1, ceil(self.rate))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``operations`` are the names granted; None grants all of the catalogue.

    ``routes`` maps each operation's name to the route that serves it for this caller (first match wins, resolved at
    load), so an operation without an entry has no route.
    """

    name: str
    routes: Mapping[str, Route] = field(repr=False)
    operations: frozenset[str] | None = None
    limits: CallerLimits | None = None


class Presented(NamedTuple):
    """A secret a caller showed: from which field, in clear, and the user name beside it (Basic), if any."""

    place: str
    token: bytes
    user: str | None = None

    def __repr__(self) -> str:
        return f"Presented(place={self.place!r}, token=…, user=…)"


Recogniser = Callable[[Presented, float], Caller | None]
"""One way of recognising a caller: given what was presented and the wall clock (Unix seconds), who is it?"""

UserRecogniser = Callable[[int], Caller | None]
"""Recognising a caller that presents nothing, by the user who connected (a number) as the kernel says it."""


@at_hand
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
    ``recognise_user`` is asked about requests on unix sockets that show no token.
    """

    tree: OperationTree
    operations: Mapping[str, Operation]
    anonymous: Caller | None
    recognisers: tuple[Recogniser, ...]
    hosts: frozenset[str] | None
    origins: frozenset[str] = frozenset()
    mode: Mode = Mode.ENFORCE
    default_errors: tuple[tuple[str, ErrorShape], ...] = ()
    recognise_user: UserRecogniser | None = None


class RequestHead(NamedTuple):
    """One request head, read once.

    ``target`` is the request-target exactly as it arrived (ASCII). ``kept`` are the field lines that may cross, in
    order and as they were spelled, each with its line end; ``noted`` the fields that decide something, by lower-case
    name (several lines of a list field are joined by ``, ``). ``version`` is 10 or 11. ``uid`` is the user who
    connected, where the kernel says it (unix sockets): not among the fields, so that no field can be taken for it.
    """

    method: str
    target: str
    version: int
    kept: list[bytes]
    noted: dict[bytes, bytes]
    uid: int | None = None

    def __repr__(self) -> str:
        # The query and the fields may hold the caller's token.
        path = self.target.partition("?")[0]
        return f"RequestHead({self.method!r}, {path!r}, {len(self.kept)} lines kept, {len(self.noted)} noted)"


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


class Local(NamedTuple):
    """This caller may do this operation, and the proxy itself does it."""

    caller: Caller
    operation: Operation


Decision = Allow | Deny | Local


class IssuedToken(NamedTuple):
    """A token for a caller to use elsewhere. ``expires`` is Unix seconds; ``once``: it is good for one request."""

    token: str
    expires: float
    once: bool

    def __repr__(self) -> str:
        return "IssuedToken(…)"


class TokenDesk(Protocol):
    """Hands out tokens to callers, each purpose from the key that the configuration chose for it."""

    @property
    def purposes(self) -> tuple[str, ...]:
        """What tokens can be asked for."""

    def wait(self, caller: str) -> float:
        """Takes one from the caller's rate: 0, or in how many seconds there is one."""

    async def issue(self, purpose: str, caller: str) -> IssuedToken:
        """A fresh token. Raises ``CredentialUnavailable``."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds. None means no limit. Defaults suit voice: streams last hours, heads do not."""

    head: float = 10.0
    keep_alive: float = 75.0
    body_idle: float = 60.0
    connect: float = 5.0
    tls: float = 5.0
    first_byte: float = 120.0
    idle: float = 300.0
    total: float | None = None
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


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one process carries at once, whoever asks. Each None where there is no limit.

    ``connections`` of callers, in all and from one address; requests ``in_flight``, WebSockets included; ``tunnels``,
    handshakes included.
    """

    connections: int | None = None
    connections_per_address: int | None = None
    in_flight: int | None = None
    tunnels: int | None = None


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """The Redis server in which several processes count the callers' rates together.

    ``fail_open``: while it cannot be asked, each process counts for itself; otherwise limited callers are refused.
    """

    url: str = field(repr=False)
    fail_open: bool = True


class SharedLimitsState(NamedTuple):
    """How counting rates together goes, for metrics and health. Nothing in it is secret.

    ``up``: Redis answers. ``fault`` is why it does not, in words. ``leases`` counts by result (``granted``,
    ``exhausted``, ``failed``), ``fallback`` the requests meanwhile by choice: let through (``open``) or refused
    (``closed``).
    """

    up: bool
    fault: str | None
    leases: Mapping[str, int]
    fallback: Mapping[str, int]


@at_hand
class LogFormat(Enum):
    """``auto`` is readable on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    OFF = "off"


@at_hand
class LogLevel(Enum):
    """``all`` requests, only ``refused`` and failed ones, or only what ``failed`` at the upstream or here (5xx)."""

    ALL = "all"
    REFUSED = "refused"
    FAILED = "failed"


LOG_FIELDS = (
    "time", "method", "path", "operation", "caller", "status", "ending", "duration_ms", "first_byte_ms", "overhead_ms",
    "request_bytes", "response_bytes", "upstream", "credential", "reused", "code", "would_refuse", "messages_in",
    "messages_out", "retried", "request_id", "trace_id", "inworld_request_id", "peer",
)  # fmt: skip
"""The fields of a line, in order; those that are unknown or do not apply are left out."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How requests are logged. ``omit`` are names of ``LOG_FIELDS`` to leave out."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.ALL
    omit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """Where finished requests are told as OTLP spans. ``endpoint`` is the whole URL, ``headers`` secrets by name.

    ``sample`` is the share that is exported of the traces that begin here; ``follow_callers``: in the others the
    caller's sampled flag decides, and not the share.
    """

    endpoint: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    service_name: str = "inworld-proxy"
    sample: float = 1.0
    follow_callers: bool = True


LONGEST_SOCKET_PATH = 103
"""Bytes that the address of a unix socket has room for on macOS; on Linux there are four more."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a TCP address, or the ``path`` of a unix socket (then without host, and with port 0)."""

    host: str
    port: int
    path: str | None = None

    @classmethod
    def of_socket(cls, path: str) -> Address | None:
        """The unix socket at this path; None when it is not a whole path in its one spelling, or too long for one."""
        plain = path.startswith("/") and path != "/" and not path.startswith("//") and path.isprintable()
        if not plain or posixpath.normpath(path) != path or len(path.encode()) > LONGEST_SOCKET_PATH:
            return None
        return cls("", 0, path)

    @property
    def is_loopback(self) -> bool:
        """True for 127.0.0.0/8, ::1, localhost and unix sockets: nobody beyond this machine reaches it."""
        return self.path is not None or self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


PRIVATE = 0o600
"""The mode of a unix socket that its owner alone may connect to."""


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """TLS where callers connect.

    ``context`` is an ``ssl.SSLContext``, which nothing here needs to know; it holds the key. ``certificates`` is what
    is shown, in PEM, the proxy's own first, and ``names`` are those of that one. ``expires`` is when it does (Unix
    seconds). ``self_signed``: it was made by this process.
    """

    context: object = field(repr=False)
    certificates: str = field(repr=False)
    expires: float
    self_signed: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One complete, validated configuration. Replaced whole, never edited; taken once per request.

    ``admin_token`` is the SHA-256 digest of what the admin listener asks for before it changes anything. ``files`` are
    those that it was read from, secrets aside: when one changes, so may this. ``listen_mode`` is that of the unix
    socket where callers connect, if it is one. ``tls``: callers have to speak TLS. ``inspector`` is how many of the
    last requests it keeps; 0: it is off.
    """

    listen: Address
    admin: Address
    policy: Policy
    upstreams: Mapping[str, Upstream]
    credentials: Mapping[str, Credential]
    callers: Mapping[str, Caller]
    routes: tuple[Route, ...]
    desk: TokenDesk | None = None
    key_sets: Mapping[str, KeySetSource] = field(default_factory=dict)
    time: TimeLimits = field(default_factory=TimeLimits)
    size: SizeLimits = field(default_factory=SizeLimits)
    limits: Limits = field(default_factory=Limits)
    shared_limits: SharedLimits | None = None
    admin_token: bytes | None = field(default=None, repr=False)
    log: LogSettings = field(default_factory=LogSettings)
    spans: SpanSettings | None = None
    inspector: int = 0
    source: str = "environment"
    files: tuple[str, ...] = ()
    listen_mode: int = PRIVATE
    tls: ListenerTls | None = None

    @property
    def kept(self) -> list[Credential | KeySetSource]:
        """What has a life of its own, from its start to its close."""
        return [*self.credentials.values(), *self.key_sets.values()]
