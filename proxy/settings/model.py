"""The configuration as pydantic models: its keys, their defaults and their descriptions.

What belongs here: which keys each section has. What does not: how one value is spelled (``fields.py``), and anything
that needs another section, a file or the environment (``resolve.py`` and ``routing.py``). The JSON Schema and
docs/reference.md are made from these models.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from proxy.core.model import Address, KeyType, Level, Limits, LogSettings, Mode, SizeLimits, TimeLimits
from proxy.credentials.iw1 import DOCUMENTED
from proxy.settings.fields import (
    BaseUrl,
    ClaimText,
    ClaimValues,
    CollectorAddress,
    CollectorHeaders,
    Count,
    CountOrNone,
    CredentialKind,
    Digest,
    Digests,
    Duration,
    DurationOrNone,
    FailOpen,
    FailureChoice,
    FilePath,
    Format,
    Globs,
    HostName,
    KeyLevel,
    KeySetAddress,
    KeySource,
    Leeway,
    LevelOfLog,
    Listen,
    LogField,
    MintVariantName,
    ModeName,
    Name,
    Origin,
    ProxyText,
    Rate,
    RedisText,
    Reference,
    SecretSource,
    ServiceName,
    Share,
    SignedHost,
    Size,
    SizeOrNone,
    SocketMode,
    TypeOfKey,
    Users,
    WorkspaceId,
)

_TIME = TimeLimits()
_SIZES = SizeLimits()
_LIMITS = Limits()
_LOG = LogSettings()


class Section(BaseModel):
    """What all sections share: an unknown key is a fault, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UpstreamSettings(Section):
    """Where requests go."""

    url: BaseUrl | None = Field(
        default=None,
        description="Scheme and host of the API, without a path; `http://` only to this machine. "
        "Default: what the catalogue says.",
        examples=["https://api.inworld.ai"],
    )
    catalogue: FilePath = Field(
        default="inworld",
        description="What the API looks like: `inworld` (built in), or the path of a catalogue file of your own.",
        examples=["inworld"],
    )
    proxy: ProxyText | None = Field(
        default=None,
        description="Reach it through this CONNECT proxy: `http://[user:password@]host:port`, "
        "or `env:NAME` or `file:/path` that holds such a URL.",
        examples=["http://egress.corp.example:3128"],
    )
    ca: FilePath | None = Field(
        default=None,
        description="A file of CA certificates (PEM) to trust in addition to the system's.",
        examples=["/etc/ssl/corp-ca.pem"],
    )


class PermissionSettings(Section):
    """What the key may do, as set when it was made. Nothing on the wire reveals it, so it is declared here."""

    voices: KeyLevel = Field(
        default=Level.READ,
        description="The key's permission on the Voice and Pronunciation APIs: none, read or write.",
        examples=["read"],
    )
    router: KeyLevel = Field(
        default=Level.READ,
        description="The key's permission on the Router API: none, read or write.",
        examples=["read"],
    )


class CredentialSettings(Section):
    """What is shown to the upstream."""

    kind: CredentialKind = Field(
        description="`api-key`: sent as `Authorization: Basic`, exactly as given. `session-token`: a short-lived token "
        "is minted from the key, kept fresh, and sent as `Bearer`.",
        examples=["api-key"],
    )
    secret: SecretSource = Field(
        description="Where the key is: `env:NAME`, `file:/absolute/path` (read again when it changes), "
        '`exec:["command", "argument"]`, or a mapping of `exec`, `every` (how often it is run again, default `1h`) and '
        "`environment` (names of variables that it sees besides PATH, HOME, LANG and XDG_*). Never the key itself.",
        examples=["env:INWORLD_API_KEY"],
    )
    allow_readable: bool = Field(
        default=False,
        description="Accept a key file that everyone on the machine, or the whole group of its owner, can read.",
        examples=[True],
    )
    mint: MintVariantName = Field(
        default=DOCUMENTED.name,
        description="Of a session token: at the `documented` endpoint, or at the one that the vendor's `samples` use.",
        examples=["documented"],
    )
    workspace: WorkspaceId | None = Field(
        default=None, description="For `mint: samples`: the id of the key's workspace.", examples=["my-workspace"]
    )
    signed_host: SignedHost | None = Field(
        default=None,
        description="Of a session token: the host that the mint's signature names. Default: as the vendor documents it "
        "for this upstream.",
        examples=["api.inworld.ai"],
    )
    type: TypeOfKey = Field(
        default=KeyType.STANDARD,
        description="The key's type, fixed when it was made: standard, or realtime-only.",
        examples=["standard"],
    )
    permissions: PermissionSettings = Field(
        default_factory=PermissionSettings,
        description="The key's permissions; a realtime-only key has none.",
        examples=[{"voices": "read", "router": "read"}],
    )


class RouteSettings(Section):
    """Which credential, and which upstream, serve which operations."""

    operations: Globs = Field(
        description="Operations of the catalogue, by name or wildcard; one or a list.", examples=["tts.*"]
    )
    credential: Reference = Field(description="A name under `credentials`.", examples=["workspace"])
    upstream: Reference | None = Field(
        default=None, description="A name under `upstreams`; needed when there are several.", examples=["inworld"]
    )


class LimitSettings(Section):
    """How much a caller may ask for. What is over a limit waits in the caller's own queue, or is refused with 429."""

    requests: Rate | None = Field(
        default=None,
        description="Requests per second, minute or hour; one second's worth may come at once. More is "
        "`rate_limited`. Default: no limit.",
        examples=["50/s"],
    )
    concurrent: Count | None = Field(
        default=None,
        description="Requests in flight at once, streams and WebSockets included. More is `concurrency_limited`. "
        "Default: no limit.",
        examples=[20],
    )
    queue: Duration | None = Field(
        default=None,
        description="A request over a limit waits for its turn this long before it is refused; at most 1000 do. "
        "Default: refused at once.",
        examples=["2s"],
    )


class JwtSettings(Section):
    """Tokens that an identity provider signs: which of them are a caller's. `exp` is needed in every one."""

    jwks: KeySetAddress | None = Field(
        default=None,
        description="Where the issuer publishes its keys (a JWK set), by https. Fetched again every 10 minutes, and "
        "for a key that is not known, at most once a minute. Either this or `key`.",
        examples=["https://id.example.com/keys"],
    )
    key: KeySource | None = Field(
        default=None,
        description="One key, as `env:NAME` or `file:/absolute/path`: a public one (PEM), or a secret of at least 32 "
        "bytes that the issuer shares (HS256).",
        examples=["file:/etc/inworld-proxy/issuer.pem"],
    )
    issuer: ClaimText = Field(
        description="Who signs the tokens: their `iss`, exactly.", examples=["https://id.example.com"]
    )
    audience: ClaimText = Field(
        description="Whom the tokens are for: their `aud`, or one of it.", examples=["inworld-proxy"]
    )
    claims: ClaimValues = Field(
        default_factory=tuple,
        description="What else the tokens must say, by name: a text, or a list of which one is enough. A claim that is "
        "a list must have it.",
        examples=[{"team": "studio"}],
    )
    leeway: Leeway = Field(
        default_factory=float,
        description="How far the issuer's clock may be off, up to `60s`. Default: not at all.",
        examples=["30s"],
    )


class CallerSettings(Section):
    """An application that may use the proxy, and what it may do."""

    token: Digests = Field(
        default_factory=tuple,
        description="SHA-256 digest of the caller's token, or a list of them while one is being replaced. "
        "One of this, `jwt` and `uid`.",
        examples=["sha256:…"],
    )
    jwt: JwtSettings | None = Field(
        default=None,
        description="The caller's tokens are signed by an identity provider.",
        examples=[{"jwks": "https://id.example.com/keys"}],
    )
    uid: Users = Field(
        default_factory=tuple,
        description="The caller is a user of this machine, by number or name, or a list of them: who connects to a "
        "unix socket without showing a token. Needs `listen: unix:/…`.",
        examples=[1001],
    )
    allow: Globs = Field(
        description="Operations granted, by name or wildcard; one or a list. Everything else is refused.",
        examples=[["tts.*"]],
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings,
        description="How much this caller may ask for. Each process counts for itself; `requests` are counted together "
        "where there is `limits.shared`.",
        examples=[{"requests": "50/s", "concurrent": 20, "queue": "2s"}],
    )


class TokenSettings(Section):
    """Tokens of one kind, and the key they are minted from."""

    credential: Reference | None = Field(
        default=None,
        description="Which credential they are minted from; without it, the one of the kind with the least power.",
        examples=["live"],
    )
    allow_write: bool = Field(
        default=False,
        description="Mint from a key with write permission: whoever holds such a token may write.",
        examples=[True],
    )


class OneTimeTokenSettings(TokenSettings):
    """Tokens for one request each: TTS, STT and LLM, not Realtime. From an `api-key`."""

    lifetime: Duration = Field(
        default=300.0, description="How long one may wait to be used, up to `1h`.", examples=["5m"]
    )


class TokensSettings(Section):
    """`POST /token`: tokens for browsers and mobile apps, for callers granted `proxy.token`. Off by default."""

    realtime: TokenSettings | None = Field(
        default=None,
        description="Session tokens for Realtime, from a `session-token` credential.",
        examples=[{"credential": "live"}],
    )
    one_time: OneTimeTokenSettings | None = Field(
        default=None,
        description="One-time tokens for TTS, STT and LLM, from an `api-key`; the upstream mints 60 a minute a key.",
        examples=[{"credential": "workspace", "lifetime": "5m"}],
    )
    per_minute: Count = Field(
        default=30, description="Tokens that one caller may have in a minute, of all kinds together.", examples=[30]
    )


class TimeSettings(Section):
    """Limits in time. Whatever fails for one of them says in its code which it was."""

    head: Duration = Field(
        default=_TIME.head,
        description="For a request head to arrive complete, and for a caller's TLS handshake.",
        examples=["10s"],
    )
    keep_alive: Duration = Field(
        default=_TIME.keep_alive, description="An idle caller connection is kept for this long.", examples=["75s"]
    )
    body_idle: Duration = Field(
        default=_TIME.body_idle, description="Between two pieces of a request body.", examples=["60s"]
    )
    connect: Duration = Field(
        default=_TIME.connect,
        description="For a connection to the upstream: its name, TCP, and the CONNECT proxy if there is one.",
        examples=["5s"],
    )
    tls: Duration = Field(default=_TIME.tls, description="For the TLS handshake with the upstream.", examples=["5s"])
    first_byte: Duration = Field(
        default=_TIME.first_byte,
        description="For the first byte of the upstream's answer, after the request went out.",
        examples=["2m"],
    )
    idle: Duration = Field(
        default=_TIME.idle,
        description="Between two pieces of the upstream's answer, or of an upload that the upstream takes.",
        examples=["5m"],
    )
    total: DurationOrNone = Field(
        default=_TIME.total,
        description="From a request's head to the end of its answer; WebSockets are not meant. `none`: streams may go "
        "on for hours.",
        examples=["1h"],
    )
    tunnel_idle: DurationOrNone = Field(
        default=_TIME.tunnel_idle,
        description="Without a byte either way in a WebSocket; `none` leaves that to the two ends.",
        examples=["30m"],
    )
    upstream_keep_alive: Duration = Field(
        default=_TIME.upstream_keep_alive,
        description="An idle upstream connection is kept for this long.",
        examples=["15s"],
    )
    upstream_max_age: Duration = Field(
        default=_TIME.upstream_max_age,
        description="An upstream connection is not used again after this, so that a change of DNS is noticed.",
        examples=["10m"],
    )
    drain: Duration = Field(
        default=_TIME.drain, description="For requests and WebSockets to finish when the proxy stops.", examples=["30s"]
    )


class SizeSettings(Section):
    """Limits in bytes."""

    line: Size = Field(default=_SIZES.line, description="The request line; more is 414.", examples=["8KiB"])
    head: Size = Field(default=_SIZES.head, description="The whole request head; more is 431.", examples=["32KiB"])
    body: SizeOrNone = Field(
        default=_SIZES.body,
        description="A request body; more is 413. `none`: bodies are streamed, so their size costs no memory.",
        examples=["512MB"],
    )


class LimitsSection(Section):
    """How much one process carries at once, whoever asks, and where the callers' rates are counted."""

    connections: CountOrNone = Field(
        default=_LIMITS.connections,
        description="Connections of callers. More are told 503 and closed. `none`: as many as there are file "
        "descriptors; then the listener pauses.",
        examples=[10000],
    )
    connections_per_address: CountOrNone = Field(
        default=_LIMITS.connections_per_address,
        description="Of those, from one address, or on a unix socket by one user. More are told 429 and closed. Behind "
        "a load balancer all come from its addresses.",
        examples=[100],
    )
    in_flight: CountOrNone = Field(
        default=_LIMITS.in_flight,
        description="Requests being served, WebSockets included. More are refused with 503.",
        examples=[2000],
    )
    tunnels: CountOrNone = Field(
        default=_LIMITS.tunnels, description="WebSockets open at once. More are refused with 503.", examples=[1000]
    )
    shared: RedisText | None = Field(
        default=None,
        description="A Redis server in which several processes count the callers' `requests` together: "
        "`redis://host:6379/0`, or `env:NAME` or `file:/path` that holds such a URL. Needs the extra `redis`. "
        "Default: each process counts for itself.",
        examples=["redis://127.0.0.1:6379/0"],
    )
    shared_failure: FailureChoice = Field(
        default=FailOpen.OPEN,
        description="While Redis cannot be asked: `open`: each process counts for itself; `closed`: callers with a "
        "rate are refused with 503.",
        examples=["open"],
    )


class LogSection(Section):
    """One line per request on standard output; never a query string, a credential or a body."""

    format: Format = Field(
        default=_LOG.format, description="`auto` is `text` on a terminal and `json` elsewhere.", examples=["json"]
    )
    level: LevelOfLog = Field(
        default=_LOG.level,
        description="`all` requests, `refused` and failed ones, or only what `failed` upstream or here (5xx).",
        examples=["all"],
    )
    omit: tuple[LogField, ...] = Field(default=(), description="Names of log fields to leave out.", examples=[["path"]])


class OtelSection(Section):
    """One span for each request, told to a collector by OTLP over HTTP. Needs the extra `otel`. Off by default."""

    endpoint: CollectorAddress | None = Field(
        default=None,
        description="The collector's address; `/v1/traces` is added. Needs the extra `otel`. Default: no spans.",
        examples=["http://127.0.0.1:4318"],
    )
    headers: CollectorHeaders = Field(
        default_factory=tuple,
        description="What the collector is shown, by name: `env:NAME` or `file:/absolute/path`, never the value. "
        "Only over https, or to this machine.",
        examples=[{"authorization": "env:OTLP_AUTHORIZATION"}],
    )
    service_name: ServiceName = Field(
        default="inworld-proxy", description="The `service.name` of the spans.", examples=["inworld-proxy"]
    )
    sample: Share = Field(
        default=1.0, description="Which share of the traces that begin here has spans, from 0 to 1.", examples=[0.1]
    )
    follow_callers: bool = Field(
        default=True,
        description="In a trace that a caller began its sampled flag decides; `false`: `sample` does there too.",
        examples=[False],
    )


class TlsSettings(Section):
    """TLS where applications connect: 1.2 or newer, HTTP/1.1. Read again when a file changes."""

    cert: FilePath | None = Field(
        default=None,
        description="A file of certificates (PEM): the listener's own first, after each the one that issued it.",
        examples=["/etc/inworld-proxy/fullchain.pem"],
    )
    key: FilePath | None = Field(
        default=None,
        description="The file of its private key (PEM, without a passphrase), which only the proxy's user may read.",
        examples=["/etc/inworld-proxy/key.pem"],
    )
    allow_readable: bool = Field(
        default=False,
        description="Accept a key file that everyone on the machine, or the whole group of its owner, can read.",
        examples=[True],
    )
    self_signed: bool = Field(
        default=False,
        description="For development, instead of files: a certificate made at the start, as by `--tls self-signed`.",
        examples=[True],
    )


class InspectorSection(Section):
    """`/inspector` on the admin listener: a page that shows live traffic, without bodies and with secrets masked."""

    enabled: bool | None = Field(
        default=None,
        description="Whether there is one. Default: only where nobody beyond this machine reaches `admin`; elsewhere "
        "it needs an `admin_token`, too.",
        examples=[True],
    )
    keep: Count = Field(
        default=500, description="How many of the last requests it keeps in memory, up to 5000.", examples=[500]
    )


class Configuration(Section):
    """The configuration of the proxy."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 8080),
        description="Where applications connect: an address, or a unix socket (`unix:/run/inworld-proxy/proxy.sock`). "
        "An address that others can reach needs `callers`.",
        examples=["127.0.0.1:8080"],
    )
    listen_mode: SocketMode | None = Field(
        default=None,
        description='Who may connect to the unix socket of `listen`, as for chmod and in quotes: `"0660"` is the group '
        'too, `"0666"` every user of this machine. Default: only the user that runs the proxy.',
        examples=["0660"],
    )
    tls: TlsSettings | None = Field(
        default=None,
        description="TLS where applications connect. Default: plain HTTP.",
        examples=[{"cert": "/etc/inworld-proxy/fullchain.pem", "key": "/etc/inworld-proxy/key.pem"}],
    )
    admin: Listen = Field(
        default=Address("127.0.0.1", 9464),
        description="Where metrics and health are: an address, or a unix socket that only the proxy's user may "
        "connect to. Never that of `listen`.",
        examples=["127.0.0.1:9464"],
    )
    mode: ModeName = Field(
        default=Mode.ENFORCE,
        description="`audit` suspends the callers' grants, and only those, and records what `enforce` would refuse.",
        examples=["enforce"],
    )
    hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names that requests may use for this proxy, besides its own address and localhost. "
        "A listener that others can reach accepts any name when this is empty.",
        examples=[["inworld-proxy.internal"]],
    )
    origins: tuple[Origin, ...] = Field(
        default=(), description="Web pages that may call, by origin.", examples=[["https://app.example.com"]]
    )
    upstreams: dict[Name, UpstreamSettings] = Field(
        default_factory=dict, description="Where requests go, by name. Default: one, as the built-in catalogue says."
    )
    credentials: dict[Name, CredentialSettings] = Field(
        default_factory=dict,
        description="What is shown to the upstream, by name. Default: `default`, the key in `INWORLD_API_KEY`.",
    )
    routes: list[RouteSettings] = Field(
        default_factory=list,
        description="Which credential and upstream serve which operations; the first that matches wins. "
        "Default: the only credential serves all that it can.",
    )
    callers: dict[Name, CallerSettings] = Field(
        default_factory=dict,
        description="Who may use the proxy. Default: everyone who reaches a loopback address or the unix socket.",
    )
    time: TimeSettings = Field(default_factory=TimeSettings, description="Limits in time.")
    size: SizeSettings = Field(default_factory=SizeSettings, description="Limits in size.")
    limits: LimitsSection = Field(default_factory=LimitsSection, description="Limits of the whole process.")
    admin_token: Digest | None = Field(
        default=None,
        description="SHA-256 digest of the token that `POST /reload` and the inspector on the admin listener ask for. "
        "Without one, only an admin listener on loopback has them.",
        examples=["sha256:…"],
    )
    inspector: InspectorSection = Field(
        default_factory=InspectorSection, description="`/inspector` on the admin listener: live traffic, in a browser."
    )
    tokens: TokensSettings = Field(
        default_factory=TokensSettings,
        description="`POST /token`: tokens for browsers and mobile apps.",
        examples=[{"realtime": {"credential": "live"}}],
    )
    log: LogSection = Field(default_factory=LogSection, description="The request log.")
    otel: OtelSection = Field(
        default_factory=OtelSection,
        description="Spans for a collector of OpenTelemetry.",
        examples=[{"endpoint": "http://127.0.0.1:4318"}],
    )
