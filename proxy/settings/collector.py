"""What is said of a collector of spans, as people write it: its address, headers, a share, a name. Pure.

Raises ``UnusableError`` or ``SecretError``. What may hold a password or a key is never quoted in one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.credentials.sources import Source
from proxy.document import UnusableError, describe, quoted
from proxy.settings.addresses import is_loopback, split_authority
from proxy.settings.claims import parse_key_source

Headers = tuple[tuple[str, Source], ...]
"""Names of fields, each with where its value is read from."""

_URL = re.compile(r"(https?)://([^/?#\s]+)(/[!-\"$-<>@-~]*)?", re.IGNORECASE)
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SERVICE = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_PATH = "/v1/traces"
"""OTLP's own, not of any API that is served here."""

_HOW = "write the collector's address for OTLP over HTTP: `http://127.0.0.1:4318`"


class CollectorUrl(NamedTuple):
    """The whole URL that spans are posted to. ``private``: nobody on the way reads them."""

    url: str
    private: bool


def parse_collector_url(value: object) -> CollectorUrl:
    """``http[s]://host[:port][/path]``, to which ``/v1/traces`` is added, as to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or "@" in match[2]:
        raise UnusableError("something that is no http or https URL", f"{_HOW}; a password is one of its `headers`")
    scheme, authority, path = match[1].lower(), match[2], (match[3] or "").rstrip("/")
    if path.endswith(_PATH):
        raise UnusableError(f"a URL with `{_PATH}`", "write it without: it is added")
    try:
        host, _ = split_authority(authority, value, scheme)
    except UnusableError:
        # Its words would quote what was written, and a path of some collectors is a key.
        raise UnusableError("a URL whose host is no name, or whose port is no port", _HOW) from None
    return CollectorUrl(f"{scheme}://{authority}{path}{_PATH}", scheme == "https" or is_loopback(host))


def parse_collector_headers(value: object) -> Headers:
    """Sources of secrets by the names of fields."""
    if not isinstance(value, dict) or not value:
        raise UnusableError(describe(value), "write names with sources: `{authorization: env:OTLP_AUTHORIZATION}`")
    for name in value:
        if _FIELD.fullmatch(name) is None:
            raise UnusableError(f"the name {quoted(name)}", "write the name of a header: letters, digits, `-` and `_`")
    return tuple((name, parse_key_source(source)) for name, source in value.items())


def parse_share(value: object) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UnusableError(quoted(value), "write a share from `0` to `1`: `0.1` is one in ten")
    return float(value)


def parse_service_name(value: object) -> str:
    """What the collector calls this service."""
    if isinstance(value, str) and _SERVICE.fullmatch(value):
        return value
    raise UnusableError(describe(value), "write a name in ASCII: `inworld-proxy`")
