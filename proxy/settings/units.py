"""Durations, sizes and rates as people write them: ``10s``, ``8KiB``, ``50/s``. Pure; raises ``UnusableError``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from proxy.document import UnusableError, quoted

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(B|[KMG]i?B)")

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?/ ?(s|m|h)")

SECONDS: Mapping[str, float] = MappingProxyType({"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400})
BYTES: Mapping[str, int] = MappingProxyType(
    {"B": 1, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}
)
NO_LIMIT = "none"

_HOW_LONG = "write a duration such as `500ms`, `10s`, `2m` or `1h` (a number is seconds)"
_HOW_OFTEN = "write a rate such as `50/s`, `600/m` or `5000/h`"
_HOW_LARGE = "write a size such as `8KiB` or `512MB` (a number is bytes)"


def parse_duration(value: object) -> float:
    """Seconds, more than zero."""
    if value == NO_LIMIT:
        raise UnusableError("`none`, where a limit is needed", "write a long one, such as `1d`")
    seconds = _scaled(value, _DURATION, SECONDS)
    if seconds is None:
        raise UnusableError(quoted(value), _HOW_LONG)
    if seconds <= 0:
        raise UnusableError(f"{quoted(value)}, which leaves no time at all", "write more than zero")
    return seconds


def parse_duration_or_none(value: object) -> float | None:
    """Seconds, or None for ``none``: no limit."""
    return None if value == NO_LIMIT else parse_duration(value)


def parse_size(value: object) -> int:
    """Bytes, at least one."""
    if value == NO_LIMIT:
        raise UnusableError("`none`, where a limit is needed", "write a large one, such as `64KiB`")
    size = _scaled(value, _SIZE, BYTES)
    if size is None:
        raise UnusableError(quoted(value), _HOW_LARGE)
    if size < 1:
        raise UnusableError(f"{quoted(value)}, which leaves no room at all", "write more than zero")
    return int(size)


def parse_size_or_none(value: object) -> int | None:
    """Bytes, or None for ``none``: no limit."""
    return None if value == NO_LIMIT else parse_size(value)


def parse_rate(value: object) -> float:
    """Requests per second, more than zero."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnusableError(quoted(value), _HOW_OFTEN)
    rate = float(match[1]) / SECONDS[match[2]]
    if rate <= 0:
        remedy = "write more than zero; to refuse a caller altogether, remove it"
        raise UnusableError(f"{quoted(value)}, which lets nothing through", remedy)
    return rate


def parse_count(value: object) -> int:
    """A whole number, at least one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnusableError(quoted(value), "write a whole number, such as `20`")
    if value < 1:
        raise UnusableError(f"{quoted(value)}, which lets nothing through", "write at least 1")
    return value


def parse_count_or_none(value: object) -> int | None:
    """A whole number, at least one, or None for ``none``: no limit."""
    return None if value == NO_LIMIT else parse_count(value)


def spell_duration(seconds: float) -> str:
    """The shortest spelling that ``parse_duration`` reads as exactly this."""
    for unit in ("h", "m", "s", "ms"):
        count = seconds / SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds}s"


def spell_size(size: int) -> str:
    """The shortest spelling that ``parse_size`` reads as exactly this."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= BYTES[unit] and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def _scaled(value: object, spelling: re.Pattern[str], units: Mapping[str, float]) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = spelling.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    # Rounded, because 0.1 and 1.1 have no exact binary form: "1.1KiB" is a whole number of bytes, "300ms" is 0.3.
    return round(float(match[1]) * units[match[2]], 9)
