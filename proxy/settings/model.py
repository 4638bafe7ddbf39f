"""The configuration as pydantic models: its keys, their defaults and their descriptions.

What belongs here: which keys each section has. What does not: how one value is spelled (``fields.py``), and anything
that needs another section, a file or the environment (``resolve.py`` and ``routing.py``). The JSON Schema and the
README's tables are made from these models.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from proxy.core.model import Address, KeyType, Level, LogSettings, Mode, SizeLimits, TimeLimits
from proxy.settings.fields import (
    BaseUrl,
    CredentialKind,
    Digests,
    Duration,
    DurationOrNone,
    FilePath,
    Format,
    Globs,
    HostName,
    KeyLevel,
    LevelOfLog,
    Listen,
    LogField,
    ModeName,
    Name,
    Origin,
    ProxyText,
    Reference,
    SecretSource,
    Size,
    SizeOrNone,
    TypeOfKey,
)

_TIME = TimeLimits()
_SIZES = SizeLimits()
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
        description="`api-key`: sent as `Authorization: Basic`, exactly as given.", examples=["api-key"]
    )
    secret: SecretSource = Field(
        description="Where the secret is: `env:NAME` or `file:/absolute/path`. Never the secret itself.",
        examples=["env:INWORLD_API_KEY"],
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


class CallerSettings(Section):
    """An application that may use the proxy, and what it may do."""

    token: Digests = Field(
        description="SHA-256 digest of the caller's token, or a list of them while one is being replaced.",
        examples=["sha256:…"],
    )
    allow: Globs = Field(
        description="Operations granted, by name or wildcard; one or a list. Everything else is refused.",
        examples=[["tts.*"]],
    )


class TimeSettings(Section):
    """Limits in time. There is no limit on how long an exchange lasts in total: streams may go on for hours."""

    head: Duration = Field(default=_TIME.head, description="For a request head to arrive complete.", examples=["10s"])
    keep_alive: Duration = Field(
        default=_TIME.keep_alive, description="An idle caller connection is kept for this long.", examples=["75s"]
    )
    body_idle: Duration = Field(
        default=_TIME.body_idle, description="Between two pieces of a request body.", examples=["60s"]
    )
    connect: Duration = Field(
        default=_TIME.connect, description="For a connection to the upstream, TLS included.", examples=["5s"]
    )
    first_byte: Duration = Field(
        default=_TIME.first_byte,
        description="For the first byte of the upstream's answer, after the request went out.",
        examples=["2m"],
    )
    idle: Duration = Field(
        default=_TIME.idle, description="Between two pieces of the upstream's answer.", examples=["5m"]
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


class Configuration(Section):
    """The configuration of the proxy."""

    listen: Listen = Field(
        default=Address("127.0.0.1", 8080),
        description="Where applications connect. An address that others can reach needs `callers`.",
        examples=["127.0.0.1:8080"],
    )
    admin: Listen = Field(
        default=Address("127.0.0.1", 9464),
        description="Where metrics and health are; never the address of `listen`.",
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
        default_factory=dict, description="Who may use the proxy. Default: everyone who reaches a loopback address."
    )
    time: TimeSettings = Field(default_factory=TimeSettings, description="Limits in time.")
    size: SizeSettings = Field(default_factory=SizeSettings, description="Limits in size.")
    log: LogSection = Field(default_factory=LogSection, description="The request log.")
