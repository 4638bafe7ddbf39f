"""How a backend may read a target and a method: thirteen readings of a path, and the overrides that some honour."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import parse_qsl, quote, unquote_to_bytes


def _decode(path: str) -> str:
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _clean(path: str) -> str:
    """Empty and dot segments resolved, as Go's ``path.Clean`` and most web servers do."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _reduce(target: str) -> str:
    """An absolute form's path."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", target) or "/"


def _without_parameters(path: str) -> str:
    return re.sub(r";[^/]*", "", path)


def _without_blanks(path: str) -> str:
    return re.sub(r"[\x00-\x20\x7f\x85\xa0]", "", path)


def _cut(path: str) -> str:
    """At a NUL, as C does; then dots and blanks at the ends of segments dropped, as some file systems do."""
    return re.sub(r"[. ]+(?=/|$)", "", path.partition("\0")[0])


def _lower(path: str) -> str:
    """As Unicode text, where K (Kelvin) becomes k."""
    text = path.encode("latin-1").decode("utf-8", "surrogateescape").lower()
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


READINGS: Mapping[str, Callable[[str], str]] = {
    "raw": lambda path: path,
    "decoded once": _decode,
    "decoded and cleaned": lambda path: _clean(_decode(path)),
    "cleaned raw": _clean,
    "absolute form reduced": _reduce,
    "backslash as slash": lambda path: _clean(_decode(path).replace("\\", "/")),
    "parameters removed before decoding": lambda path: _clean(_decode(_without_parameters(path))),
    "parameters removed after decoding": lambda path: _clean(_without_parameters(_decode(path))),
    "lower case": lambda path: _lower(_clean(_decode(path))),
    "decoded twice": lambda path: _clean(_decode(_decode(path))),
    "controls and blanks removed": lambda path: _clean(_without_blanks(_decode(path))),
    "cut at NUL, trailing dots dropped": lambda path: _clean(_cut(_decode(path))),
    "fragment read as path": lambda path: _clean(_decode(path.replace("#", "/"))),
}

_OVERRIDE = re.compile(r"_method|x_http_method(_override)?|x_method_override")


def paths(target: str) -> Iterator[tuple[str, str]]:
    """Each reading's name, and the path that it makes of the target."""
    raw = target.partition("?")[0]
    for name, read in READINGS.items():
        # A fragment hides the query from who reads it as path.
        yield name, read(target.replace("?", "/") if name == "fragment read as path" and "#" in target else raw)


def methods(method: str, target: str, fields: Mapping[str, str]) -> set[str]:
    """The method, and every other one that a backend may take it for."""
    said = {method, method.upper()}
    for name, value in fields.items():
        if _OVERRIDE.fullmatch(name.lower().replace("-", "_")):
            said.add(value.strip().upper())
    for separator in "&;":
        for name, value in parse_qsl(target.partition("?")[2].replace(";", separator), separator=separator):
            if _OVERRIDE.fullmatch(name.strip().lower().replace("-", "_")):
                said.add(value.strip().upper())
    return said


UNDECODED = frozenset({"raw", "cleaned raw", "absolute form reduced"})


def spell(name: str, path: str) -> str:
    """A path as this reading made it, as a target again: whatever cannot stand in one is escaped, and nothing else."""
    return quote(path.encode("latin-1"), safe="/-._~!$&'()*+,=:@" + "%" * (name in UNDECODED))
