"""The types of configuration fields: how each kind of value is spelled, read and described to an editor.

What belongs here: one value on its own. What does not: which keys exist (``model.py``) and whether a value fits the
others (``resolve.py``, ``routing.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from proxy.callers.token import DIGEST_OF_NOTHING, parse_digest
from proxy.core.model import LOG_FIELDS, Address, KeyType, Level, LogFormat, LogLevel, Mode
from proxy.credentials.iw1 import VARIANTS
from proxy.credentials.kinds import KINDS
from proxy.credentials.secret import SecretError
from proxy.credentials.sources import EVERY, ExecSource, Source, parse_command, parse_source, parse_variable
from proxy.document import UnusableError, choose_from, describe, nearest, quoted
from proxy.settings import collector
from proxy.settings.addresses import (
    KeySetUrl,
    UpstreamUrl,
    parse_address,
    parse_host_name,
    parse_key_set_url,
    parse_origin,
    parse_socket_mode,
    parse_upstream_url,
)
from proxy.settings.claims import Claims, parse_claim_text, parse_claims, parse_key_source, parse_leeway
from proxy.settings.units import (
    parse_count,
    parse_count_or_none,
    parse_duration,
    parse_duration_or_none,
    parse_rate,
    parse_size,
    parse_size_or_none,
)
from proxy.settings.users import parse_user

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Names of upstreams, credentials and callers: they become metric labels and, with Basic, a user name."""

_GLOB = re.compile(r"[a-z0-9_.*]+")

_WORKSPACE = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SIGNED_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_EXEC_KEYS = ("exec", "every", "environment")

SHORTEST_PERIOD = 10.0
"""Seconds between two runs of a command that prints a secret."""


class FailOpen(Enum):
    """What happens to callers with a rate while nobody can say what is left of it."""

    OPEN = "open"
    CLOSED = "closed"


T = TypeVar("T")
E = TypeVar("E", bound=Enum)

UNUSABLE = "unusable"
"""The pydantic error type that carries our own sentences in its context."""


def _checked(parse: Callable[[object], T]) -> PlainValidator:
    """Pydantic's way of calling one of our parsers: its sentences travel in the error's context."""

    def validate(value: object) -> T:
        try:
            return parse(value)
        except (UnusableError, SecretError) as exc:
            raise PydanticCustomError(UNUSABLE, UNUSABLE, {"found": exc.found, "remedy": exc.remedy}) from exc

    return PlainValidator(validate)


def _one_of(values: type[E]) -> PlainValidator:
    known = {str(member.value): member for member in values}

    def parse(value: object) -> E:
        if isinstance(value, str) and value in known:
            return known[value]
        raise UnusableError(quoted(value), choose_from(value if isinstance(value, str) else "", known))

    return _checked(parse)


def _parse_kind(value: object) -> str:
    if isinstance(value, str) and value in KINDS:
        return value
    raise UnusableError(f"{quoted(value)}, which is no kind of credential", choose_from(str(value), KINDS))


def _parse_variant(value: object) -> str:
    if isinstance(value, str) and value in VARIANTS:
        return value
    raise UnusableError(quoted(value), choose_from(value if isinstance(value, str) else "", VARIANTS))


def _parse_secret_source(value: object) -> Source:
    """A source as a text, or a command with its options as a mapping."""
    if not isinstance(value, dict) or "exec" not in value:
        return parse_source(value)
    if any(key not in _EXEC_KEYS for key in value):
        raise UnusableError("an unknown key beside `exec`", "write only `exec`, `every` and `environment`")
    environment = value.get("environment", [])
    if not isinstance(environment, list):
        raise UnusableError(describe(environment), "write the names of variables as a list: `[VAULT_ADDR]`")
    every = parse_duration(value.get("every", EVERY))
    if every < SHORTEST_PERIOD:
        remedy = f"write `every: {SHORTEST_PERIOD:g}s` or more; it is also run when what it printed is refused"
        raise UnusableError("a period that is too short for a command", remedy)
    return ExecSource(parse_command(value["exec"]), every, tuple(map(parse_variable, environment)))


def _parse_workspace(value: object) -> str:
    if isinstance(value, str) and _WORKSPACE.fullmatch(value):
        return value
    raise UnusableError(describe(value), "write the id alone, without `workspaces/`")


def _parse_signed_host(value: object) -> str:
    if isinstance(value, str) and _SIGNED_HOST.fullmatch(value):
        return value
    raise UnusableError(describe(value), "write a host, with its port if that is signed too: `api.example:8443`")


def _parse_glob(value: object) -> str:
    if isinstance(value, str) and _GLOB.fullmatch(value):
        return value
    raise UnusableError(quoted(value), "write an operation or a wildcard: `tts.synthesize`, `tts.*` or `*`")


def _parse_reference(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(NAME, value):
        return value
    raise UnusableError(describe(value), "write the name that it has in this file")


def _parse_path(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise UnusableError(describe(value), "write the path of a file")


def _parse_digest(value: object) -> bytes:
    digest = parse_digest(value) if isinstance(value, str) else None
    if digest is None:
        found = "something that is not the digest of a token (not shown: it may be the token itself)"
        raise UnusableError(found, "write `sha256:` and 64 hexadecimal digits; `inworld-proxy token` makes one")
    if digest == DIGEST_OF_NOTHING:
        raise UnusableError("the digest of an empty token", "make another with `inworld-proxy token`")
    return digest


def _parse_secret_text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise UnusableError(describe(value), "write `http://host:port`, or `env:NAME` or `file:/path` that holds it")


def _parse_redis_text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise UnusableError(describe(value), "write `redis://host:6379/0`, or `env:NAME` or `file:/path` that holds it")


def _parse_log_field(value: object) -> str:
    if isinstance(value, str) and value in LOG_FIELDS:
        return value
    close = nearest(value, LOG_FIELDS) if isinstance(value, str) else None
    hint = f"write `{close}`" if close is not None else f"write the name of a log field: {', '.join(LOG_FIELDS)}"
    raise UnusableError(quoted(value), hint)


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _choices(values: Iterable[object]) -> WithJsonSchema:
    return WithJsonSchema({"enum": list(values)})


def _enum(values: type[Enum]) -> WithJsonSchema:
    return _choices(member.value for member in values)


def _text(pattern: str | None = None) -> WithJsonSchema:
    return WithJsonSchema({"type": "string"} if pattern is None else {"type": "string", "pattern": pattern})


def _one_or_more(pattern: str) -> WithJsonSchema:
    one = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})


_DURATION: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^[0-9.]+ ?(ms|s|m|h|d)$"}, {"type": "number"}]
}  # a JSON Schema
_SIZE: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": r"^[0-9.]+ ?(B|[KMG]i?B)$"}, {"type": "integer"}]}
_NONE = {"const": "none"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}  # a JSON Schema
_ARGV: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1}  # a JSON Schema
_SECRET_SOURCE: dict[str, Any] = {  # a JSON Schema
    "anyOf": [
        {"type": "string", "pattern": r"^(env:|file:/|exec:)"},
        {
            "type": "object",
            "properties": {
                "exec": _ARGV,
                "every": _DURATION,
                "environment": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["exec"],
            "additionalProperties": False,
        },
    ]
}

_CLAIMS: dict[str, Any] = {  # a JSON Schema
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    },
}

_HEADERS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^(env:|file:/)"}}
_USER_OF_MACHINE: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[A-Za-z_]"}]
}  # a JSON Schema

Listen = Annotated[Address, _checked(parse_address), _text(r"^(.+:[0-9]+|unix:/.+)$")]
SocketMode = Annotated[int, _checked(parse_socket_mode), _text(r"^06[06][06]$")]
User = Annotated[int | str, _checked(parse_user)]
Users = Annotated[
    tuple[User, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(
        {"anyOf": [*_USER_OF_MACHINE["anyOf"], {"type": "array", "items": _USER_OF_MACHINE, "minItems": 1}]}
    ),
]
Glob = Annotated[str, _checked(_parse_glob), _text(r"^[a-z0-9_.*]+$")]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_listed), Field(min_length=1), _one_or_more(r"^[a-z0-9_.*]+$")]
Digest = Annotated[bytes, _checked(_parse_digest), _text(r"^sha256:[0-9a-fA-F]{64}$")]
Digests = Annotated[
    tuple[Digest, ...], BeforeValidator(_listed), Field(min_length=1), _one_or_more(r"^sha256:[0-9a-fA-F]{64}$")
]
Reference = Annotated[str, _checked(_parse_reference), _text(NAME)]
FilePath = Annotated[str, _checked(_parse_path), _text()]
Duration = Annotated[float, _checked(parse_duration), WithJsonSchema(_DURATION)]
DurationOrNone = Annotated[
    float | None, _checked(parse_duration_or_none), WithJsonSchema({"anyOf": [*_DURATION["anyOf"], _NONE]})
]
Size = Annotated[int, _checked(parse_size), WithJsonSchema(_SIZE)]
SizeOrNone = Annotated[int | None, _checked(parse_size_or_none), WithJsonSchema({"anyOf": [*_SIZE["anyOf"], _NONE]})]
Rate = Annotated[float, _checked(parse_rate), _text(r"^[0-9.]+ ?/ ?(s|m|h)$")]
Count = Annotated[int, _checked(parse_count), WithJsonSchema(_COUNT)]
CountOrNone = Annotated[int | None, _checked(parse_count_or_none), WithJsonSchema({"anyOf": [_COUNT, _NONE]})]
KeyLevel = Annotated[Level, _one_of(Level), _enum(Level)]
TypeOfKey = Annotated[KeyType, _one_of(KeyType), _enum(KeyType)]
CredentialKind = Annotated[str, _checked(_parse_kind), _choices(KINDS)]
SecretSource = Annotated[Source, _checked(_parse_secret_source), WithJsonSchema(_SECRET_SOURCE)]
MintVariantName = Annotated[str, _checked(_parse_variant), _choices(VARIANTS)]
WorkspaceId = Annotated[str, _checked(_parse_workspace), _text()]
SignedHost = Annotated[str, _checked(_parse_signed_host), _text()]
BaseUrl = Annotated[UpstreamUrl, _checked(parse_upstream_url), _text(r"^https?://")]
KeySetAddress = Annotated[KeySetUrl, _checked(parse_key_set_url), _text(r"^https?://")]
KeySource = Annotated[Source, _checked(parse_key_source), _text(r"^(env:|file:/)")]
ClaimText = Annotated[str, _checked(parse_claim_text), _text()]
ClaimValues = Annotated[Claims, _checked(parse_claims), WithJsonSchema(_CLAIMS)]
Leeway = Annotated[float, _checked(parse_leeway), WithJsonSchema(_DURATION)]
ProxyText = Annotated[str, _checked(_parse_secret_text), _text()]
RedisText = Annotated[str, _checked(_parse_redis_text), _text()]
FailureChoice = Annotated[FailOpen, _one_of(FailOpen), _enum(FailOpen)]
CollectorAddress = Annotated[collector.CollectorUrl, _checked(collector.parse_collector_url), _text(r"^https?://")]
CollectorHeaders = Annotated[collector.Headers, _checked(collector.parse_collector_headers), WithJsonSchema(_HEADERS)]
ServiceName = Annotated[str, _checked(collector.parse_service_name), _text()]
Share = Annotated[
    float, _checked(collector.parse_share), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})
]
HostName = Annotated[str, _checked(parse_host_name), _text()]
Origin = Annotated[str, _checked(parse_origin), _text(r"^https?://")]
ModeName = Annotated[Mode, _one_of(Mode), _enum(Mode)]
Format = Annotated[LogFormat, _one_of(LogFormat), _enum(LogFormat)]
LevelOfLog = Annotated[LogLevel, _one_of(LogLevel), _enum(LogLevel)]
LogField = Annotated[str, _checked(_parse_log_field), _choices(LOG_FIELDS)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
