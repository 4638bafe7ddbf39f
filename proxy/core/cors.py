"""What a browser needs to hear so that a page of an allowed origin can use the proxy (Fetch standard, CORS).

The proxy says it itself, for the origins of its own configuration; what the upstream says about origins never passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from proxy.core.headers import list_members

MAX_AGE = 600
"""Seconds for which a browser need not ask again; Chromium takes two hours at most, Firefox a day."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
MOST_FIELDS = 64
"""Names in one preflight; a page sends a handful."""


class Preflight(NamedTuple):
    """The answer to a preflight that may go ahead: complete field lines."""

    lines: bytes


def is_preflight(method: str, noted: dict[bytes, bytes]) -> bool:
    """Is this a browser's question before the request proper (it carries no credentials)?"""
    return method == "OPTIONS" and b"origin" in noted and b"access-control-request-method" in noted


def preflight_lines(origin: bytes, noted: dict[bytes, bytes], methods: Iterable[str]) -> bytes | None:
    """The lines of the answer for an allowed origin; None when the question is malformed."""
    fields = list_members(noted.get(b"access-control-request-headers", b""))
    if len(fields) > MOST_FIELDS or any(_TOKEN.fullmatch(field) is None for field in fields):
        return None
    lines = [
        b"Access-Control-Allow-Origin: " + origin,
        b"Access-Control-Allow-Methods: " + ", ".join(sorted(methods)).encode("ascii"),
        b"Access-Control-Max-Age: %d" % MAX_AGE,
        b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ]
    if fields:
        # The names are the page's own; that they may be sent says nothing about what passes on (core/headers.py does).
        lines.append(b"Access-Control-Allow-Headers: " + b", ".join(fields))
    if noted.get(b"access-control-request-private-network") == b"true":
        # The operator named this origin, so a page of it may reach the proxy in the operator's own network.
        lines.append(b"Access-Control-Allow-Private-Network: true")
    return b"".join(line + b"\r\n" for line in lines)


def response_lines(noted: dict[bytes, bytes], origins: frozenset[str]) -> bytes:
    """The lines that let a page of an allowed origin read an answer; none for anyone else."""
    origin = noted.get(b"origin")
    if origin is None or origin.decode("latin-1") not in origins:
        return b""
    return b"Access-Control-Allow-Origin: " + origin + b"\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"
