"""Targets that try to be two things at once: each operation's own path in every spelling that has fooled a proxy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from proxy.core.model import Kind, Operation


class Attempt(NamedTuple):
    """One request: what it says, and what fields come with it (latin-1)."""

    method: str
    target: str
    fields: tuple[str, ...] = ()


WRITES = ("POST", "PATCH", "DELETE", "PUT")
INVENTED = (
    "post",
    "Post",
    "POSTX",
    "QUERY",
    "PROPFIND",
    "TRACE",
    "MKCOL",
    "REPORT",
    "PURGE",
    "LINK",
    "BREW",
    "GET,POST",
)
OVERRIDES = (
    "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
    "X_HTTP_METHOD_OVERRIDE: DELETE",
    "x-http-method-override:PATCH", "X-HTTP-Method-Override : DELETE", "_method: DELETE",
    "X-Http-Method_Override: DELETE",
)  # fmt: skip
OVERRIDING_QUERIES = (
    "_method=DELETE", "x-http-method-override=DELETE", "%5fmethod=DELETE", "%255fmethod=DELETE", "_METHOD=DELETE",
    "a=b&_method=DELETE", "a=b;_method=DELETE", "_method%3dDELETE", "+_method=DELETE", "%5Fmethod=PATCH&x=1",
    "_method",
    "X_HTTP_Method=DELETE", "x-method-override=DELETE",
)  # fmt: skip
READDRESSED = (
    "X-Original-URL: {0}", "X-Rewrite-URL: {0}", "X-Original-URI: {0}", "X-Forwarded-Uri: {0}",
    "X-Forwarded-Prefix: {0}",
    "X-Forwarded-Path: {0}", "X-Envoy-Original-Path: {0}",
)  # fmt: skip
UP = (
    "..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..;", "..;a=b", "%252e%252e", "..%00", "..%20", "%20..", "..%09",
    ". .",
    "..\\", "%2e%2e%5c", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "..%2f", "..%5c", "..%252f", "\u00b7\u00b7", "....//",
    ".../", "..%0d%0a",
    "%uff0e%uff0e", "..#", "..?",
)  # fmt: skip
HERE = (".", "%2e", "%2E", "", ";", ";x", ".;", "%252e", "%20", "%00", "%09", "%5c.", ".%00", "\u00a0")
SLASHES = ("%2f", "%2F", "%5c", "%5C", "\\", "%252f", "%252F", "%255c", "//", "/\\", "\\/", "%c0%af", "%e0%80%af",
           "%u002f",
           "%ef%bc%8f", "/%2f", "%2f/", "/;/", "/.;/", ";/", "%3b/", "\u2215".encode().decode("latin-1"))  # fmt: skip
ENDS = (
    ".", "..", "/", "//", "/.", "/..", "%2f", "%00", "%00.json", "%20", "%09", "%0a", "%0d%0a", ";", ";a=b",
    ";jsessionid=1",
    "\\", "%5c", "#", "#x", "%23", "%3f", "%3fx", "?", "??", ":", "%3a", "~", ".json", "%2ejson", "%", "%4", "%zz",
    "%u0041", "\x00",
    "\t", " ", "\x7f", "\x85", "\xa0", "\xff", "%ff", "%c3%a9", "%C3%A9", "%E2%80%AE", "%EF%BB%BF", "*", "'",
    '"', "<", "|", "^", "`",
    "{", "[", "%7b", "+", "%2b", "%2B", "@", "%40", "=", "&", ",", "!", "$",
)  # fmt: skip
AUTHORITIES = (
    "http://127.0.0.1{0}", "https://evil.test{0}", "http://evil.test@127.0.0.1{0}", "//evil.test{0}", "///{0}",
    "HTTP://127.0.0.1{0}",
    "http:{0}", "http:/{0}", "@evil.test{0}", ".evil.test{0}", ":80{0}", "evil.test:443", "http://127.0.0.1",
    "http://127.0.0.1?{0}",
    "ws://127.0.0.1{0}", "file://{0}", "/http://evil.test{0}", "*", "*{0}", "{0}#{0}", "#{0}", "?{0}",
    "{0} HTTP/1.1", " {0}", "{0}\t",
)  # fmt: skip
PROTECTED = (("POST", "/voices/v1/voices:clone"), ("DELETE", "/voices/v1/voices/v1"), ("POST", "/router/v1/routers"),
             ("PATCH", "/router/v1/routers/r1"), ("POST", "/auth/v1/tokens/token:generate"),
             ("DELETE", "/pronunciations/v1/dictionaries/d1"))  # fmt: skip
OPEN = ("/tts/v1/voice", "/v1/chat/completions", "/llm/v1alpha/models", "/lro/v1alpha/x", "/v1/responses/r1")


def path_of(operation: Operation) -> str:
    """The operation's template with something in its variables."""
    return re.sub(r"\{[^}]*\}", "x1", operation.template)


def attempts(operations: tuple[Operation, ...]) -> Iterator[Attempt]:
    """All of them, each once."""
    seen: set[Attempt] = set()
    for attempt in itertools.chain(_spelled(operations), _climbed(), _overridden(operations), _invented(operations)):
        if attempt not in seen:
            seen.add(attempt)
            yield attempt


def _spelled(operations: tuple[Operation, ...]) -> Iterator[Attempt]:
    for operation in operations:
        path = path_of(operation)
        fields = _HANDSHAKE if operation.kind is Kind.WEBSOCKET else ()
        for method in sorted(operation.methods):
            for target in dict.fromkeys(_spellings(path)):
                yield Attempt(method, target, fields)


def _spellings(path: str) -> Iterator[str]:
    yield path
    yield path + "?a=b"
    for index, letter in enumerate(path):
        if letter in "/:" or (index and path[index - 1] == "/"):
            code = f"{ord(letter):02x}"
            for escape in (f"%{code}", f"%{code.upper()}", f"%25{code}", f"%u00{code}"):
                yield path[:index] + escape + path[index + 1 :]
    slashes = [index for index, letter in enumerate(path) if letter == "/"]
    for index in slashes:
        for piece in (*HERE, "x/..", "x/%2e%2e", "x;/.."):
            yield f"{path[:index]}/{piece}{path[index:]}"
    for index in slashes[:3]:
        for slash in SLASHES:
            yield path[:index] + slash + path[index + 1 :]
    for end in ENDS:
        yield path + end
    for form in AUTHORITIES:
        yield form.format(path)
    yield from (
        path.upper(),
        path.title(),
        path.swapcase(),
        path[1:],
        path.replace("/", "\\"),
        path.replace("/v1", "/V1"),
    )
    yield "/" + path[1:].replace(":", "%3A")
    yield "/" + path[1:].replace("o", "\u00f8")
    yield "/" + path[1:].replace("s", "\u017f".encode().decode("latin-1"))  # long s: upper-cased, it is an S
    yield "/" + path[1:].replace("k", "\u212a".encode().decode("latin-1"))  # Kelvin sign: lower-cased, it is a k


def _climbed() -> Iterator[Attempt]:
    """From where anything may be written to where nothing may."""
    for (method, protected), open_, up in itertools.product(PROTECTED, OPEN, UP):
        deep = open_.count("/")
        for climb in ("/".join([up] * deep), "/".join([up] * (deep + 1))):
            yield Attempt(method, f"{open_}/{climb}{protected}")
    for (method, protected), open_ in itertools.product(PROTECTED, OPEN):
        for glue in (
            "#",
            "?",
            ";",
            "%3f",
            "%23",
            "%00",
            "\x00",
            "%0a",
            "%0d%0aHost:x%0d%0a",
            "@",
            "\\",
            "%5c",
            "|",
            "%7c",
            ":",
        ):
            yield Attempt(method, f"{open_}{glue}{protected}")
            yield Attempt(method, f"{protected}{glue}{open_}")


def _overridden(operations: tuple[Operation, ...]) -> Iterator[Attempt]:
    for operation in operations:
        path = path_of(operation)
        for method in sorted(operation.methods):
            for override in OVERRIDES:
                yield Attempt(method, path, (override,))
                yield Attempt(method, path, (override, "Content-Type: application/x-www-form-urlencoded"))
            for query in OVERRIDING_QUERIES:
                yield Attempt(method, f"{path}?{query}")
        for field in READDRESSED:
            yield Attempt(min(operation.methods), path, (field.format("/voices/v1/voices:clone"),))


def _invented(operations: tuple[Operation, ...]) -> Iterator[Attempt]:
    for operation in operations:
        for method in (*WRITES, *INVENTED, "GET", "HEAD", "OPTIONS", "CONNECT"):
            yield Attempt(method, path_of(operation))


_HANDSHAKE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
