"""One head in, one head out, each read strictly; nothing of one message decides about another, no parser to confuse.

The grammar is RFC 9112 without any of its leniencies: CR LF only, one blank in the request line, no folding, no NUL or
other control, no blank before the colon, HTTP/1.0 and 1.1 only. tests/wire/test_head_grammar.py has it as one regular
expression and holds this to it. What it accepts, aiohttp's hardened parser accepts and reads alike (but for fields that
decide nothing here and came twice): test_head_corpus.py and test_head_differential.py hold it to that. In return
nothing of aiohttp's private interface is used, and nothing that followed an earlier head (a trailer, a pipelined byte)
can survive into the next one.

Cut at its line ends, then line by line; an answer's lines are mostly known (core/headers.py). An answer's head of 286
bytes takes 4.2 us, where that expression and sorting took 12; a request's of 275 takes 9 as before, and compiled 6.3
instead of 8.5 (2026-11-22).
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.errors import MESSAGES, Code
from proxy.core.headers import has_member, sort_request_lines, sort_response_lines
from proxy.core.model import METHODS, Deny, RequestHead
from proxy.core.trace import TraceContext, read_context

_TEXT: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""What may stand in a line (RFC 9112 section 5, RFC 9110 section 5.5)."""

_METHODS = frozenset(method.encode() for method in METHODS)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_TABBED_CODING = re.compile(rb"(?:^|\n)transfer-encoding:[^\r]*\t", re.IGNORECASE)
"""RFC 9110 allows a tab around a value, and readers differ on it beside a coding (aiohttp refuses such a request, and
takes such an answer for one that is not chunked). Whoever stands beside this proxy must see its framing."""

_STATUS_LINES: dict[bytes, tuple[int, int, bytes]] = {}
"""Version, status and reason of lines that came before: an upstream has a handful."""
_MOST_STATUS_LINES = 64
_LONGEST_STATUS_LINE = 64
_MOST_DIGITS: Final = 18
"""Of a length: what fits into 64 bits whatever the digits are."""

MOST_FIELDS = 128
"""Fields in a caller's head (Apache and Envoy have 100). Each costs time of its own: reading 2,900 short ones of 30 KiB
took 7 ms, refusing them takes 0.5 (2026-11-22)."""

CHUNKED = -1
"""As a length: the body is chunked."""
UNTIL_CLOSE = -2
"""As a length: the body ends with the connection (responses only)."""


class RequestParts:
    """A caller's head and how its body is framed: ``length`` in bytes, or ``CHUNKED``.

    A class and not a ``NamedTuple``, like the next: no dearer to make, and compiled a third of it to make and to read.
    """

    __slots__ = ("context", "expects_continue", "head", "keep_alive", "length", "onward")

    def __init__(self, head: RequestHead, length: int, *, keep_alive: bool, expects_continue: bool) -> None:
        self.head = head
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.context: TraceContext = read_context(head.noted)
        self.onward = b""
        """What goes to the upstream before a length and the credential, once it was built (``answer.py``)."""

    def with_length(self, length: int) -> RequestParts:
        """The same, for a body of another length."""
        parts = RequestParts(self.head, length, keep_alive=self.keep_alive, expects_continue=self.expects_continue)
        parts.onward = self.onward
        return parts


class ResponseHead:
    """The upstream's head: ``kept`` lines may cross, ``noted`` are read here, ``raw`` is all of it as it came.

    ``version`` is 10 or 11.
    """

    __slots__ = ("kept", "noted", "raw", "reason", "status", "version")

    def __init__(
        self, raw: bytes, version: int, status: int, reason: bytes, kept: list[bytes], noted: dict[bytes, bytes]
    ) -> None:
        self.raw = raw
        self.version = version
        self.status = status
        self.reason = reason
        self.kept = kept
        self.noted = noted


def read_request(data: bytes, uid: int | None = None) -> RequestParts | Deny:
    """Reads one complete head, up to and including its empty line. Whatever is wrong with it is a Deny.

    ``uid`` is what the kernel says about the connection; it is not in the bytes.
    """
    lines = _cut(data)
    # What is left without the text has to be the ends of lines and nothing else: a CR or LF of its own is one too many.
    if lines is None or data.translate(None, _TEXT) != b"\r\n" * (len(lines) + 1):
        return _explain(data)
    if len(lines) > MOST_FIELDS + 1:
        return Deny(Code.HEAD_TOO_LARGE, f"The request head has more than {MOST_FIELDS} fields.")
    words = lines[0].split(b" ")
    if len(words) != 3:
        return _explain(data)
    method, target, protocol = words
    version = 11 if protocol == b"HTTP/1.1" else 10
    if (
        (version == 10 and protocol != b"HTTP/1.0")
        or (method not in _METHODS and _TOKEN.fullmatch(method) is None)
        or not target
        or target.find(b"\t") >= 0
    ):
        return _explain(data)
    fields = sort_request_lines(lines[1:])
    if fields is None:
        return _explain(data)
    kept, noted, repeated = fields
    if repeated is not None:
        return _bad(f"The field {repeated.decode('latin-1')} was sent twice.")
    # Latin-1 never fails; what is not ASCII in a target is refused by the grammar of core/target.py.
    head = RequestHead(method.decode("latin-1"), target.decode("latin-1"), version, kept, noted, uid)
    length = 0
    coding = noted.get(b"transfer-encoding")
    declared = noted.get(b"content-length")
    if coding is not None:
        if version != 11 or coding.lower() != b"chunked" or declared is not None or _has_tabbed_coding(data):
            return _bad("Transfer-Encoding must be `chunked`, without Content-Length, on HTTP/1.1.")
        length = CHUNKED
    elif declared is not None:
        if not _is_length(declared):
            return _bad("Content-Length must be one decimal number.")
        length = int(declared)
    expect = noted.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return _bad("The only expectation this proxy knows is 100-continue.")
    expects = expect is not None and version == 11 and length != 0
    return RequestParts(head, length, keep_alive=_keeps_alive(head), expects_continue=expects)


def read_response(data: bytes) -> ResponseHead | None:
    """Reads one complete response head; None when it is not valid HTTP/1.x or repeats what may come once."""
    lines = _cut(data)
    if lines is None:
        return None
    first = _STATUS_LINES.get(lines[0]) or _read_status_line(lines[0])
    fields = sort_response_lines(lines[1:])
    if first is None or fields is None:
        return None
    kept, noted, repeated = fields
    if repeated is not None or (b"transfer-encoding" in noted and _has_tabbed_coding(data)):
        return None
    version, status, reason = first
    return ResponseHead(data, version, status, reason, kept, noted)


def _cut(data: bytes) -> list[bytes] | None:
    """The head's lines without their ends; None when it does not end in an empty one."""
    lines = data.split(b"\r\n")
    if len(lines) < 3 or lines[-1] or lines[-2]:
        return None
    del lines[-2:]
    return lines


def _has_tabbed_coding(data: bytes) -> bool:
    return data.find(b"\t") >= 0 and _TABBED_CODING.search(data) is not None  # the search alone takes 7 us of 250 bytes


def _read_status_line(line: bytes) -> tuple[int, int, bytes] | None:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    minor, status, reason = match.groups()
    read = (11 if minor == b"1" else 10, int(status), reason or b"")
    if len(_STATUS_LINES) < _MOST_STATUS_LINES and len(line) <= _LONGEST_STATUS_LINE:
        _STATUS_LINES[line] = read
    return read


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MOST_DIGITS


def response_length(head: ResponseHead, method: str) -> int | None:
    """How the response's body is framed (RFC 9112 section 6.3), or None when its head contradicts itself."""
    noted = head.noted
    coding = noted.get(b"transfer-encoding")
    length = noted.get(b"content-length")
    if length is not None and (coding is not None or not _is_length(length)):
        return None
    if method == "HEAD" or head.status in (204, 304):
        return 0
    if coding is not None:
        return CHUNKED if head.version == 11 and coding.lower() == b"chunked" else None
    return UNTIL_CLOSE if length is None else int(length)


def _keeps_alive(head: RequestHead) -> bool:
    """May the connection serve another request after this one (RFC 9112 section 9.3)?"""
    noted = head.noted
    # An upgrade that is not honoured is answered and then the connection closed: who offered it may already speak it.
    if b"upgrade" in noted:
        return False
    connection = noted.get(b"connection")
    if head.version == 11:
        return connection is None or not has_member(connection, b"close")
    return has_member(connection, b"keep-alive")


def _explain(data: bytes) -> Deny:
    """Finds the words for a head that did not match. Not on the hot path."""
    line, _, rest = data.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return _bad("The request line is not METHOD, one blank, target, one blank, HTTP/1.1.")
    major, minor = match.group(3, 4)
    if major != b"1" or minor not in (b"0", b"1"):
        return Deny(Code.VERSION_NOT_SUPPORTED, MESSAGES[Code.VERSION_NOT_SUPPORTED])
    if rest.count(b"\n") != rest.count(b"\r\n"):
        return _bad("A line of the head does not end in CR LF.")
    return _bad("A field of the head is malformed (RFC 9112 section 5), or its name has over 256 characters.")


def _bad(message: str) -> Deny:
    return Deny(Code.BAD_REQUEST, message)
