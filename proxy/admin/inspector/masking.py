"""Heads as they may be shown: every field by its name, and of the values those that cannot be a secret.

What belongs here: what of a field, a subprotocol or a query is shown. What does not: which heads there are
(``detail.py``). A list of what is harmless, not of what is secret: a field that nobody thought of is shown as `…`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from proxy.core.recognition import TOKEN_PROTOCOLS, read_presented

MASK = "…"

Pairs = list[tuple[str, str]]
"""Names and values of fields, in the order and spelling in which they came."""

SHORTEST = 8
"""Characters of a shown secret that are looked for in all other places too; shorter ones stand in harmless texts."""

LONG_ENOUGH = 32
"""Characters of a bearer token whose last four give nothing away, and tell an operator which of two it was."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_SCHEMES = frozenset({"basic", "bearer", "digest", "negotiate", "token"})

_HARMLESS = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "alt-svc",
        "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
        "access-control-allow-origin", "access-control-allow-private-network", "access-control-expose-headers",
        "access-control-max-age", "access-control-request-headers", "access-control-request-method",
        "access-control-request-private-network", "cache-control", "cf-cache-status", "cf-ray", "connection",
        "content-disposition", "content-encoding", "content-language", "content-length", "content-range",
        "content-type", "cross-origin-resource-policy", "date", "expect", "expires", "forwarded", "grpc-status",
        "host", "if-modified-since", "if-unmodified-since", "keep-alive", "last-modified", "openai-beta",
        "openai-processing-ms",
        "openai-version", "origin", "pragma", "priority", "proxy-connection", "proxy-status", "range", "retry-after",
        "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-websocket-extensions",
        "sec-websocket-version", "server", "server-timing", "strict-transport-security", "te", "trailer",
        "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "vary", "via", "x-accel-buffering",
        "x-client-ip", "x-content-type-options", "x-envoy-upstream-service-time", "x-forwarded-for",
        "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-inworld-request-id", "x-real-ip",
        "x-request-id", "x-stainless-arch", "x-stainless-async", "x-stainless-helper-method", "x-stainless-lang",
        "x-stainless-os", "x-stainless-package-version", "x-stainless-poll-helper", "x-stainless-read-timeout",
        "x-stainless-retry-count", "x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-timeout",
        "x-trace-id", "traceparent", "anthropic-version", "anthropic-beta",
    }
)  # fmt: skip
_HARMLESS_PREFIXES = ("x-ratelimit-", "sec-ch-ua")
_PLACES = frozenset({"access-control-allow-origin", "forwarded", "host", "origin", "x-forwarded-host"})
"""Of the harmless ones those that name a host, before which there may be a user and a password."""
_ADDRESSES = frozenset({"content-location", "location", "referer", "x-original-uri", "x-original-url", "x-rewrite-url"})

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_PLAIN = re.compile(r"[0-9]{1,6}|true|false", re.IGNORECASE)
_PROTOCOL = re.compile(r"[a-z][a-z.\-]{0,23}[a-z](?:[.\-]v[0-9]{1,2})?")
"""A subprotocol that is a name: `realtime`, `graphql-ws`, `openai-beta.realtime-v1`."""
_TELLING = re.compile(
    r"(?i)\b(bearer|basic|token|key|secret|password)([ =:]+)[^\s,;]+|eyJ[\w\-]{8,}\.[\w\-.]+|\bsk-[\w\-]{8,}"
)
"""A secret in a field where none belongs: a scheme with its token, a JWT, an OpenAI key."""
_SECRET_WORDS = re.compile(
    r"(?i:key|token|auth|access|secret|pass|pwd|otp|sig|cred|session|jwt|code|%)|(?i:pin)(?![a-z])"
)
"""In the name of a parameter. ``pin`` and ``userPin``, not ``pinned`` and ``ping``."""
_PARAMETER = re.compile(r"[A-Za-z0-9._~\-]{1,8}")


def mask_head(raw: bytes, secrets: Iterable[str] = ()) -> Pairs:
    """The fields of a head, its first line aside. ``secrets`` are made unreadable wherever they stand."""
    known = tuple(secrets)
    lines = raw.decode("latin-1").split("\r\n")[1:]
    return [_mask_line(line, known) for line in lines if line]


def shown_secrets(noted: dict[bytes, bytes]) -> tuple[str, ...]:
    """What a caller showed in one of the places for it, in every spelling in which that may come again."""
    found = {presented.token.decode("latin-1") for presented in read_presented(noted)}
    return tuple(sorted((each for each in found if len(each) >= SHORTEST), key=len, reverse=True))


def mask_target(path: str, target: str, secrets: Iterable[str] = ()) -> str:
    """This path, and the query of the target with what may be a secret in it masked."""
    query = target.partition("?")[2]
    shown = "&".join(map(_mask_parameter, query.split("&"))) if query else ""
    return _without(f"{path}?{shown}" if shown else path, secrets)


def mask_value(name: str, value: str) -> str:
    """What is shown of the value of this field."""
    lower = name.lower()
    if lower in _CREDENTIALS:
        return _mask_credential(value)
    if lower == "sec-websocket-protocol":
        return ", ".join(_mask_protocol(member.strip()) for member in value.split(","))
    if lower in _ADDRESSES:
        return _mask_address(value)
    if lower in _PLACES and "@" in value:
        return MASK
    if lower in _HARMLESS or lower.startswith(_HARMLESS_PREFIXES):
        return _TELLING.sub(_mask_telling, value)
    return value if _PLAIN.fullmatch(value) else MASK


def _mask_line(line: str, secrets: tuple[str, ...]) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or _NAME.fullmatch(name) is None:
        return MASK, MASK  # nothing is known of what this is
    return _without(name, secrets), _without(mask_value(name, value.strip(" \t")), secrets)


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _mask_credential(value: str) -> str:
    scheme, blank, secret = value.partition(" ")
    if not blank or scheme.lower() not in _SCHEMES:
        return MASK
    # The end of a Basic value is the end of a password, and that may be short.
    tail = secret[-4:] if scheme.lower() == "bearer" and len(secret) >= LONG_ENOUGH else ""
    return f"{scheme} {MASK}{tail}"


def _mask_protocol(member: str) -> str:
    for prefix in TOKEN_PROTOCOLS:
        if member.startswith(prefix.decode()):
            return prefix.decode() + MASK
    return member if _PROTOCOL.fullmatch(member) else MASK


def _mask_address(value: str) -> str:
    # A fragment is where OAuth's implicit flow puts a token (RFC 6749 section 4.2.2).
    address, hash_, _ = value.partition("#")
    before, mark, _ = address.partition("?")
    if "@" in before:
        return MASK  # perhaps a user and a password
    return (mask_target(before, address) if mark else before) + (f"#{MASK}" if hash_ else "")


def _mask_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return name if _PARAMETER.fullmatch(name) else MASK
    if "%" in name or _NAME.fullmatch(name) is None or unquote(name) != name:
        return f"{MASK}={MASK}"
    harmless = _SECRET_WORDS.search(name) is None and _PARAMETER.fullmatch(value) is not None
    return f"{name}={value if harmless else MASK}"


def _mask_telling(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{MASK}" if match[1] else MASK
