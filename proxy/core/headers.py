"""What may cross the proxy, each way, decided field by field; the credential goes in last.

Outbound heads are built from nothing: what may cross is copied, everything else stays here, ours is added, and the
credential is the last line of all, so that nothing a caller sent (``Connection``: RFC 9110 section 7.6.1) removes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final

from proxy.core.enums import at_hand


@at_hand
class Role(IntEnum):
    """What happens to a field: KEEP crosses, NOTE is read here and stays, BOTH is read and crosses, DROP vanishes."""

    KEEP = 0
    NOTE = 1
    BOTH = 2
    DROP = 3


# Role's values, as a compiler can put them where they are needed (tests/core/test_headers.py compares them).
_KEEP: Final = 0
_NOTE: Final = 1
_BOTH: Final = 2
_DROP: Final = 3
_NO_NAME: Final = 4

REQUEST_ROLES: dict[bytes, int] = {
    # Read here: framing, routing, identity, the browser's own word about where a request comes from.
    b"host": _NOTE,
    b"connection": _NOTE,
    b"content-length": _NOTE,
    b"transfer-encoding": _NOTE,
    b"expect": _NOTE,
    b"upgrade": _NOTE,
    b"authorization": _NOTE,
    b"x-api-key": _NOTE,
    b"origin": _NOTE,
    b"sec-fetch-site": _NOTE,
    b"access-control-request-method": _NOTE,
    b"access-control-request-headers": _NOTE,
    b"access-control-request-private-network": _NOTE,
    b"sec-websocket-protocol": _NOTE,
    b"sec-websocket-key": _BOTH,
    b"sec-websocket-version": _BOTH,
    # Made anew, of what a caller says where that is usable (core/trace.py).
    b"x-request-id": _NOTE,
    b"traceparent": _NOTE,
    b"tracestate": _NOTE,
    # Hop by hop (RFC 9110 section 7.6.1 and the older lists).
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authenticate": _DROP,
    b"proxy-authorization": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"http2-settings": _DROP,
    # A client's own credentials, in every place where one was seen.
    b"api-key": _DROP,
    b"x-goog-api-key": _DROP,
    b"cookie": _DROP,
    b"cookie2": _DROP,
    # What a backend may take for another method or another target (grpc-gateway honours the first).
    b"x-http-method-override": _DROP,
    b"x-http-method": _DROP,
    b"x-method-override": _DROP,
    b"x-original-url": _DROP,
    b"x-original-uri": _DROP,
    b"x-rewrite-url": _DROP,
    # Who the caller is inside this network is nobody's business upstream.
    b"forwarded": _DROP,
    b"x-real-ip": _DROP,
    b"x-client-ip": _DROP,
    b"true-client-ip": _DROP,
    b"via": _DROP,
    b"referer": _DROP,
    b"baggage": _DROP,  # instrumentation fills it by itself, for this network's own services
}
_REQUEST_PREFIXES = (b"grpc-metadata-", b"x-forwarded-", b"sec-fetch-", b"access-control-", b"proxy-")

RESPONSE_ROLES: dict[bytes, int] = {
    b"connection": _NOTE,
    b"content-length": _NOTE,
    b"transfer-encoding": _NOTE,
    b"upgrade": _NOTE,
    b"sec-websocket-protocol": _NOTE,
    b"x-inworld-request-id": _BOTH,  # for the log line
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authenticate": _DROP,
    b"proxy-authentication-info": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    # They would bind the caller's browser to facts about the upstream's host, told under the proxy's name.
    b"alt-svc": _DROP,
    b"strict-transport-security": _DROP,
    b"set-cookie": _DROP,
    b"set-cookie2": _DROP,
    b"clear-site-data": _DROP,
    # Only the proxy says what it did; and only its own configuration opens it to another origin.
    b"proxy-status": _DROP,
    # A request has one id, which stands in our log and was sent upstream.
    b"x-request-id": _DROP,
}
_RESPONSE_PREFIXES = (b"access-control-",)

TRACE_FIELDS = frozenset({b"x-request-id", b"traceparent", b"tracestate"})
"""What of a head only names it: noted, and never decided by."""

_LIST_FIELDS = TRACE_FIELDS | {
    b"access-control-request-headers", b"connection", b"upgrade", b"sec-websocket-protocol", b"expect",
}  # fmt: skip
"""Fields whose lines may be joined (RFC 9110 section 5.3). Any other noted field may come once. Of the first two trace
fields several are none, as their values then are: with a comma in it neither is one."""

_CONNECTION_OPTIONS = frozenset({b"keep-alive", b"close", b"upgrade"})


_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
"""RFC 9110 section 5.6.2. At most 256 characters, because names are remembered and must not fill the memory."""
_NO_TEXT = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
"""What may not be in a value (RFC 9110 section 5.5)."""
_PUNCTUATION = re.compile(rb"[^a-z0-9-]")

Fields = tuple[list[bytes], dict[bytes, bytes], bytes | None]
"""Sorted fields: kept lines complete with their line ends; noted values by lower-case name; and the name of a noted
field that came twice and must not (None: all well). A plain tuple: it is unpacked where it is made."""


def request_role(name: bytes) -> tuple[int, bytes]:
    """The role of a request field and its lower-case name."""
    lower = name.lower()
    # CGI-style backends read X_Api_Key and X.Api.Key as X-Api-Key: a name with any punctuation but hyphens may be the
    # twin of one that is guarded.
    twin = _PUNCTUATION.search(lower) is not None
    return _DROP if twin else _role(lower, REQUEST_ROLES, _REQUEST_PREFIXES), lower


def response_role(name: bytes) -> tuple[int, bytes]:
    """The role of a response field and its lower-case name."""
    lower = name.lower()
    return _role(lower, RESPONSE_ROLES, _RESPONSE_PREFIXES), lower


def _role(lower: bytes, roles: dict[bytes, int], prefixes: tuple[bytes, ...]) -> int:
    role = roles.get(lower)
    if role is not None:
        return role
    return _DROP if lower.startswith(prefixes) else _KEEP


MOST_NAMES = 2048
"""Spelled names are few; the bound is for those who invent them."""


class _Roles(dict[bytes, tuple[int, bytes]]):
    """The answers of a function, by name: a look-up of half the price of ``lru_cache``'s, nine times a request.

    What is no name of a field at all has a role of its own, which is not remembered.
    """

    def __init__(self, role_of: Callable[[bytes], tuple[int, bytes]]) -> None:
        super().__init__()
        self._role_of = role_of

    def __missing__(self, name: bytes) -> tuple[int, bytes]:
        if _NAME.fullmatch(name) is None:
            return _NO_NAME, name
        answer = self._role_of(name)
        if len(self) < MOST_NAMES:
            self[name] = answer
        return answer


_REQUEST, _RESPONSE = _Roles(request_role), _Roles(response_role)


def sort_request_lines(lines: Iterable[bytes]) -> Fields | None:
    """Sorts what a caller sent (field lines without their ends) into what crosses, as it was, and what is read here.

    None when one has no colon, or no name before it; what a value consists of is not looked at.
    """
    kept: list[bytes] = []
    noted: dict[bytes, bytes] = {}
    repeated = None
    for line in lines:
        name, colon, value = line.partition(b":")
        role, lower = _REQUEST[name]
        if not colon or role == _NO_NAME:
            return None
        if role == _KEEP:
            kept.append(line + b"\r\n")
        elif role != _DROP:
            value = value.strip(b" \t")
            if lower in noted:
                repeated = _note_again(noted, lower, value) or repeated
            else:
                noted[lower] = value
                if role == _BOTH:
                    kept.append(line + b"\r\n")
    _drop_named(kept, noted)
    return kept, noted, repeated


def sort_response_lines(lines: Iterable[bytes]) -> Fields | None:
    """The same for what the upstream sent, values included: None when one has a control character in it.

    An upstream says the same again and again, so its lines are remembered, but for those that are dropped, which may be
    secret. Nothing a caller sends is.
    """
    kept: list[bytes] = []
    noted: dict[bytes, bytes] = {}
    repeated = None
    for line in lines:
        known = _LINES.get(line)
        if known is None:
            known = _read_response_line(line)
            if known is None:
                return None
        role, lower, value, whole = known
        if role == _KEEP:
            kept.append(whole)
        elif role != _DROP:
            if lower in noted:
                repeated = _note_again(noted, lower, value) or repeated
            else:
                noted[lower] = value
                if role == _BOTH:
                    kept.append(whole)
    _drop_named(kept, noted)
    return kept, noted, repeated


_LINES: Final[dict[bytes, tuple[int, bytes, bytes, bytes]]] = {}
"""What a line of the upstream's is: its role, its name in lower case, its value, and the line with its end."""
_MOST_LINES: Final = 256
_LONGEST_LINE: Final = 128
"""Lines that are remembered, and bytes of each: 170 KB at most. When that many are there, they are forgotten: most of
them were dates and numbers, and the others will be back soon."""


def forget_lines() -> None:
    """Of what answers said nothing is remembered any more: one of them has repeated a credential."""
    _LINES.clear()


def _read_response_line(line: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    name, colon, value = line.partition(b":")
    role, lower = _RESPONSE[name]
    if not colon or role == _NO_NAME or _NO_TEXT.search(value) is not None:
        return None
    read = (role, lower, value.strip(b" \t"), line + b"\r\n")
    if role != _DROP and len(line) <= _LONGEST_LINE:
        if len(_LINES) >= _MOST_LINES:
            _LINES.clear()
        _LINES[line] = read
    return read


def _note_again(noted: dict[bytes, bytes], lower: bytes, value: bytes) -> bytes | None:
    """Joins a further line of a list field; any other field that comes twice is named as repeated."""
    noted[lower] += b", " + value
    return None if lower in _LIST_FIELDS else lower


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated list field, trimmed; empty ones are ignored (RFC 9110 section 5.6.1)."""
    return [member for part in value.split(b",") if (member := part.strip(b" \t"))]


def has_member(value: bytes | None, member: bytes) -> bool:
    """Is this (lower-case) token in the list field's value, in any case?"""
    if value is None:
        return False
    lower = value.lower()
    return lower == member or (b"," in lower and member in list_members(lower))


def _drop_named(kept: list[bytes], noted: dict[bytes, bytes]) -> None:
    """Removes the fields that Connection names, in place (RFC 9110 section 7.6.1): they end at this hop."""
    connection = noted.get(b"connection")
    if connection is None or connection.lower() in _CONNECTION_OPTIONS:
        return
    named = {member.lower() for member in list_members(connection)} - _CONNECTION_OPTIONS
    if named:
        kept[:] = [line for line in kept if line.partition(b":")[0].lower() not in named]
        for name in named & TRACE_FIELDS:
            noted.pop(name, None)
