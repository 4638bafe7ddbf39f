"""What is asked of callers' tokens, as people write it: claims, a leeway, a key. Pure; faults never quote a secret."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxy.credentials.sources import ExecSource, Source, parse_source
from proxy.document import UnusableError, describe, quoted
from proxy.settings.units import parse_duration

Claims = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of claims, each with the values of which a token must have one."""

MOST_LEEWAY = 60.0
"""Seconds that two clocks may differ by. More would keep tokens alive that have ended."""

_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "iss": "write it as `issuer`",
        "aud": "write it as `audience`",
        **dict.fromkeys(("exp", "nbf", "iat"), "remove it: it is checked in every token"),
    }
)


def parse_claims(value: object) -> Claims:
    """Values by name, each a text or a list of texts."""
    if not isinstance(value, dict) or not value:
        found = "no claims" if value == {} else describe(value)
        raise UnusableError(found, "write names with values: `{team: studio}`")
    for name in value:
        if name in _ELSEWHERE:
            raise UnusableError(f"the claim `{name}`", _ELSEWHERE[name])
    return tuple((name, _parse_values(wanted)) for name, wanted in value.items())


def parse_claim_text(value: object) -> str:
    """A text that a token must say."""
    if isinstance(value, str) and value:
        return value
    raise UnusableError(describe(value), "write the text that the token says, in quotes if it looks like a number")


def parse_leeway(value: object) -> float:
    """Seconds, from none to what two clocks may differ by."""
    if value in (0, "0s") and value is not False:
        return 0.0
    seconds = parse_duration(value)
    if seconds > MOST_LEEWAY:
        remedy = f"write at most `{MOST_LEEWAY:g}s`, or set the clocks right"
        raise UnusableError(f"a leeway of {quoted(value)}", remedy)
    return seconds


def parse_key_source(value: object) -> Source:
    """A source of a key that is read once. Raises ``SecretError`` too."""
    source = parse_source(value)
    if isinstance(source, ExecSource):
        raise UnusableError("a command", "write `env:NAME` or `file:/absolute/path`")
    return source


def _parse_values(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and not value:
        raise UnusableError("a claim without values", "write at least one value")
    return tuple(map(parse_claim_text, value if isinstance(value, list) else [value]))
