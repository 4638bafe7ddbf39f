"""Request heads that two readers may end, split or believe in two ways, and credentials where they do not belong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.security.framings import Attempt
from tests.security.judging import EVIL
from tests.security.raw import SECOND
from tests.snapshots import SOCKET

_E = EVIL.encode()
CONTROLS = (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)
ODD_BYTES = (*CONTROLS, 0x09, 0x20, 0x80, 0x85, 0xA0, 0xAD, 0xFF)
ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r", b"\r\n\n", b"", b" \r\n", b"\x00\r\n", b"\x0b\r\n", b"\x0c",
        b"\x85",
        b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\r\x00\n", b"\r \n", b"\xe2\x80\xa8", b"\\r\\n", b"\r\n\x0b",
        b"\r\n:")  # fmt: skip
_LINES = (b"POST /things HTTP/1.1", b"Host: 127.0.0.1", b"Accept: */*", b"Content-Length: 5", b"")
_GET = b"GET /things HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def _get(name: str, fields: bytes, body: bytes = b"", line: bytes = b"GET /things HTTP/1.1") -> Attempt:
    return Attempt(name, (line + b"\r\nHost: 127.0.0.1\r\n" + fields + b"\r\n" + body + SECOND,))


def lines_and_bytes() -> Iterator[Attempt]:
    for place, end in itertools.product(range(len(_LINES)), ENDS):
        parts = [line + (end if at == place else b"\r\n") for at, line in enumerate(_LINES)]
        yield Attempt(f"line {place} ends in {end!r}", (b"".join(parts) + b"hello" + SECOND,))
    for end in ENDS:
        yield Attempt(f"every line ends in {end!r}", (b"".join(line + end for line in _LINES) + b"hello" + SECOND,))
    for byte in ODD_BYTES:
        odd = bytes([byte])
        for where, line, fields in (
            ("in the method", b"GE%bT /things HTTP/1.1", b""),
            ("before the method", b"%bGET /things HTTP/1.1", b""),
            ("in the target", b"GET /things?a%bb HTTP/1.1", b""),
            ("after the target", b"GET /things%b HTTP/1.1", b""),
            ("in the version", b"GET /things HTTP/1%b.1", b""),
            ("after the version", b"GET /things HTTP/1.1%b", b""),
            ("for the first blank", b"GET%b/things HTTP/1.1", b""),
            ("for the second blank", b"GET /things%bHTTP/1.1", b""),
        ):
            yield _get(f"{byte:#x} {where}", fields, line=line % odd)
        for where, field in (
            ("in a name", b"X-A%bB: c\r\n"), ("before a name", b"%bX-A: c\r\n"), ("after a name", b"X-A%b: c\r\n"),
            ("in a value", b"X-A: b%bc\r\n"), ("before a value", b"X-A:%bc\r\n"), ("after a value", b"X-A: c%b\r\n"),
            ("in a host", b"Hos%bt: c\r\n"), ("for a colon", b"X-A%b c\r\n"),
        ):  # fmt: skip
            yield _get(f"{byte:#x} {where}", field % odd)
    for fold in (b"\r\n ", b"\r\n\t", b"\r\n  ", b"\r\n \r\n ", b"\n ", b"\r ", b"\r\n\x0b"):
        for field in (b"X-A: b%bc\r\n", b"X-A:%bb\r\n", b"Content-Length: 1%b5\r\n",
                      b"Connection: close,%b x-a\r\nX-A: b\r\n",
                      b"X-A: b%bTransfer-Encoding: chunked\r\n", b"X-A: b%b\r\n"):  # fmt: skip
            yield _get(f"{field % fold!r}", field % fold)
        yield Attempt(f"{fold!r} before any field", (b"GET /things HTTP/1.1" + fold + _GET[22:] + b"\r\n" + SECOND,))


VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/3", b"HTTP/3.0",
    b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1.1x", b"HTTP/1.10", b"HTTP/1.01", b"HTTP/01.1", b"HTTP/11",
    b"HTTP/1,1",
    b"http/1.1", b"Http/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/1 .1", b"HTTP/1. 1", b"HTTP/+1.1", b"HTTP/-1.1",
    b"HTTP\\1.1", b"HTTP1.1", b"HTTPS/1.1", b"HTTP/1.1 HTTP/1.1", b"HTTP/1.0 HTTP/1.1", b"HTTP/1.1, HTTP/1.0",
    b"RTSP/1.0",
    b"ICY/1.1", b"HTTP/1.\xd9\xa1", b"HTTP/\xef\xbc\x91.1", b"HTTP/1.1\x00", b"HTTP/1_1", b"HTTP/A.B", b"HTTP/10.1",
    b"HTTP/1.1;", b"\tHTTP/1.1", b"HTTP/1.1\t", b"HTTP/4294967297.1", b"HTTP/1.1.1", b"XHTTP/1.1", b"HTTP/", b"/1.1",
    b"",
)  # fmt: skip
HOSTS = (
    b"127.0.0.1", b"localhost", b"LocalHost", b"[::1]", b"[::1]:8080", b"127.0.0.1:80", b"127.0.0.1:65535",
    b"127.0.0.1:0",
    b"127.0.0.1:", b"127.0.0.1:99999", b"127.0.0.1:999999", b"127.0.0.1:-1", b"127.0.0.1:+80", b"127.0.0.1:80x",
    b"127.0.0.1:x", b"127.0.0.1:80:80", b"127.0.0.1: 80", b"127.0.0.1 :80", b"127.0.0.1:0x50", b"127.0.0.1:\xd9\xa8",
    b"", b" ", b"127.0.0.1,127.0.0.1", b"127.0.0.1, evil.test", b"evil.test, 127.0.0.1", b"127.0.0.1 evil.test",
    b"user@127.0.0.1", b"127.0.0.1@evil.test", b"evil.test@127.0.0.1:80", b"127.0.0.1/things", b"127.0.0.1?x",
    b"127.0.0.1#x",
    b"127.0.0.1\\x", b"http://127.0.0.1", b"//127.0.0.1", b"127.0.0.1.", b"127.0.0.1..", b".127.0.0.1", b"localhost.",
    b"127.1", b"2130706433", b"0x7f.0.0.1", b"0177.0.0.1", b"127.0.0.1\x00", b"127.0.0.1\x00.evil.test",
    b"\x00127.0.0.1",
    b"127.0.0.1\x0b", b"127.0.0.1\x85", b"127.0.0.1\xa0", b"127.0.0.1\t", b"\t127.0.0.1", b"[::1", b"::1", b"::1]",
    b"[::1]x",
    b"[::1]:x", b"[::ffff:127.0.0.1]", b"[::]", b"[::1%25lo]", b"[::1%lo]", b"[127.0.0.1]", b"[localhost]", b"[]",
    b"[::1]]",
    b"[[::1]]", b"[v1.x]", b"[0:0:0:0:0:0:0:1]", b"evil.test", b"evil.test:80", b"127.0.0.1.evil.test",
    b"localhost.evil.test",
    b"evil-localhost", b"localhost,", b",localhost", b"localhost;", b"(localhost)", b"'localhost'", b'"localhost"',
    b"*",
    b"%6cocalhost", b"local\r\n host", b"\r\n localhost", b"localhost\r\n ", b"loc\xc3\xa4lhost", b"localho\xc5\xbft",
    b"-", b":80",
    b"a" * 300, b"a" * 9000, b"127.0.0.1\r\nHost: 127.0.0.1", b"127.0.0.1\r\nHost: evil.test",
    b"evil.test\r\nHost: 127.0.0.1",
    b"127.0.0.1\r\nhost: 127.0.0.1", b"127.0.0.1\r\nHost:", b"127.0.0.1\r\nHost : evil.test",
    b"127.0.0.1\r\n Host: evil.test",
    b"127.0.0.1\r\nHost_: evil.test", b"127.0.0.1\r\nX-Forwarded-Host: evil.test",
    b"127.0.0.1\r\n:authority: evil.test",
)  # fmt: skip
REQUEST_LINES = (
    b"GET  /things HTTP/1.1", b"GET /things  HTTP/1.1", b" GET /things HTTP/1.1", b"GET /things HTTP/1.1 ",
    b"GET /things",
    b"GET", b"GET ", b" ", b"/things HTTP/1.1", b"GET\t/things\tHTTP/1.1", b"GET /things x HTTP/1.1",
    b"GET /things\tHTTP/1.1",
    b"GET /things HTTP/1.1 x", b"GET / things HTTP/1.1", b"GET HTTP/1.1", b"GET  HTTP/1.1",
    b"GET http://127.0.0.1/things HTTP/1.1",
    b"GET http://evil.test/things HTTP/1.1", b"GET //things HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"CONNECT 127.0.0.1:80 HTTP/1.1", b"CONNECT /things HTTP/1.1", b"PRI * HTTP/2.0", b"TRACE /things HTTP/1.1",
    b"get /things HTTP/1.1", b"Get /things HTTP/1.1", b"G\xcaT /things HTTP/1.1", b"GET, POST /things HTTP/1.1",
    b"GET:/things HTTP/1.1", b"GET/things HTTP/1.1", b'"GET" /things HTTP/1.1', b"POST/GET /things HTTP/1.1",
    b"GET /things\\ HTTP/1.1",
    b"GET /things#x HTTP/1.1", b"GET things HTTP/1.1", b"GET ?x HTTP/1.1", b"GET /things?a b HTTP/1.1",
    b"GET /things?\xff HTTP/1.1",
    b"GET /things\xff HTTP/1.1", b"GET /things%0d%0aX:y HTTP/1.1", b"GET /things?%0d%0aX:y HTTP/1.1",
    b"GET /things%20HTTP/1.1",
    b"GET /things?" + b"a" * 8000 + b" HTTP/1.1", b"GET /things?" + b"a" * 8200 + b" HTTP/1.1",
    b"GET /" + b"a" * 70000 + b" HTTP/1.1",
    b"A" * 9000 + b" /things HTTP/1.1", b"A" * 300 + b" /things HTTP/1.1", b"HTTP/1.1 200 OK",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"GET /things HTTP/1.1\r\nGET /things HTTP/1.1", b"GET /things?a=b HTTP/1.1", b"GET /things?a=/../b;c HTTP/1.1",
    b"{}", b"EHLO x",
)  # fmt: skip
BEFORE = (b"\r\n", b"\r\n\r\n", b"\r\n" * 50, b"\n", b"\r", b"\n\n", b" \r\n", b"\r\n \r\n", b"\x00", b"\r\n\x00",
          b"\t\r\n", b"\r\r\n",
          b"\xef\xbb\xbf", b"\x0b\r\n", b" ", b"x\r\n", b"\r\n\n", b"\n\r\n", b"0\r\n\r\n", b"hello", b":\r\n",
          b"\r\n" * 40000)  # fmt: skip


def lines_and_hosts() -> Iterator[Attempt]:
    for version in VERSIONS:
        yield _get(f"version {version!r}", b"", line=b"GET /things " + version)
        line = b"POST /things " + version
        yield _get(f"version {version!r}, a length", b"Content-Length: 5\r\n", b"hello", line)
        yield _get(
            f"version {version!r}, a coding", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", line
        )
        yield _get(f"version {version!r}, kept", b"Connection: keep-alive\r\n", line=b"GET /things " + version)
    for host in HOSTS:
        yield Attempt(f"host {host[:60]!r}", (b"GET /things HTTP/1.1\r\nHost: " + host + b"\r\n\r\n" + SECOND,))
        body = b"GET /things HTTP/1.0\r\nHost:" + host + b"\r\nConnection: keep-alive\r\n\r\n"
        yield Attempt(f"host {host[:60]!r} in HTTP/1.0", (body + SECOND,))
    yield Attempt("no host", (b"GET /things HTTP/1.1\r\n\r\n" + SECOND,))
    yield Attempt("no host in HTTP/1.0", (b"GET /things HTTP/1.0\r\n\r\n" + SECOND,))
    for line in REQUEST_LINES:
        yield _get(f"line {line[:60]!r}", b"", line=line)
        yield Attempt(f"line {line[:60]!r} alone", (line + b"\r\n\r\n" + SECOND,))
    for before in BEFORE:
        yield Attempt(f"{before[:20]!r} before", (before + _GET + b"\r\n" + SECOND,))
        yield Attempt(f"{before[:20]!r} between", (_GET + b"\r\n" + before + SECOND,))
    yield from _cut()


def _cut() -> Iterator[Attempt]:
    """The same heads in two reads: at every byte of a sound one, and of two that are not."""
    sound = b"POST /things HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" + SECOND
    split = b"GET /things HTTP/1.1\r\nHost: localhost\r\nX-A: b\rc\r\n\r\n" + SECOND
    folded = b"GET /things HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n" + SECOND
    for name, raw in (("sound", sound), ("with a bare CR", split), ("folded", folded)):
        for at in range(1, len(raw) - len(SECOND) + 3, 3):
            yield Attempt(f"{name}, cut at {at}", (raw[:at], raw[at:]))


def expectations_and_upgrades() -> Iterator[Attempt]:
    for expect in (b"100-continue", b"100-Continue", b"100-continue ", b"", b"100-continue, 100-continue",
                   b"100-continue;x",
                   b"200-ok", b"100", b"100-continue\x00", b"\x0b100-continue",
    b"100-continue\r\nExpect: 100-continue",
                   b"y 100-continue", b"100-continue\r\n ", b"100_continue", b"100-continue,"):  # fmt: skip
        for framing, body in ((b"Content-Length: 5", b"hello"), (b"Content-Length: 0", b""), (b"X-A: b", b""),
                              (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"), (b"Content-Length: 5, 5",
                              b"hello"),
                              (b"Content-Length: 90000", b"hello")):  # fmt: skip
            fields = b"Expect: " + expect + b"\r\n" + framing + b"\r\n"
            yield _get(f"expects {expect!r} with {framing!r}", fields, body, b"POST /things HTTP/1.1")
            yield _get(f"expects {expect!r} with {framing!r} in HTTP/1.0", fields, body, b"POST /things HTTP/1.0")
    handshake = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    bodies = ((b"", b""), (b"Content-Length: %d\r\n" % len(SECOND), SECOND), (b"Content-Length: 0\r\n", b""),
              (b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (b"Content-Length: 5\r\n", b""))  # fmt: skip
    upgrades = (b"websocket", b"WebSocket", b"h2c", b"h2c, websocket", b"websocket, h2c", b"TLS/1.0", b"HTTP/2.0",
                b"websocket/13",
                b"", b"websocket\x00", b"x-websocket", b"websocket\r\nUpgrade: h2c")  # fmt: skip
    options = (b"Upgrade", b"upgrade, HTTP2-Settings", b"close", b"keep-alive, Upgrade", b"")
    for upgrade, option, (framing, body) in itertools.product(upgrades, options, bodies):
        fields = b"Upgrade: " + upgrade + b"\r\nConnection: " + option + b"\r\n" + handshake + framing
        yield _get(f"{upgrade!r} {option!r} {framing!r}", fields + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n", body)
        if option == b"Upgrade":
            line = f"GET {SOCKET} HTTP/1.1".encode()
            yield _get(f"{upgrade!r} {option!r} {framing!r} at a socket", fields, body, line)
            yield _get(f"{upgrade!r} {framing!r} at a socket, HTTP/1.0", fields, body, line.replace(b"1.1", b"1.0"))
            yield _get(f"{upgrade!r} {framing!r} in a POST", fields, body, b"POST /things HTTP/1.1")
            yield _get(f"{upgrade!r} {framing!r} in a POST at a socket", fields, body, line.replace(b"GET", b"POST"))


_BEARER = b"Bearer " + _E
_SHOWN = (
    b"Authorization: %b", b"authorization: %b", b"AUTHORIZATION:%b", b"Authorization : %b", b"Authorization\t: %b",
    b" Authorization: %b", b"\tAuthorization: %b", b"Authorization_: %b", b"_Authorization: %b",
    b"Authorization\x00: %b",
    b"Authorization\x0b: %b", b"Authorization\xa0: %b", b"Authorization: %b\r\nAuthorization: %b",
    b"Authorization: %b\r\nauthorization: x", b"Authorization:\r\n %b", b"Authorization: x\r\n %b",
    b"Authorization: \r\n\t%b",
    b"X: y\rAuthorization: %b", b"X: y\nAuthorization: %b", b"X: y\r\n Authorization: %b", b"Proxy-Authorization: %b",
    b"proxy-authorization:%b", b"Proxy_Authorization: %b", b"X-Api-Key: %b", b"x-api-key: %b", b"X_Api_Key: %b",
    b"X-Api_Key: %b",
    b"X-API-KEY : %b", b"Api-Key: %b", b"api_key: %b", b"X-Goog-Api-Key: %b", b"X_Goog_Api_Key: %b",
    b"Cookie: token=%b",
    b"cookie: %b\r\nCookie: %b", b"Cookie2: %b", b"Proxy-Authenticate: %b", b"Grpc-Metadata-Authorization: %b",
    b"grpc-metadata-x-api-key: %b", b"Grpc_Metadata_Authorization: %b", b"X-Forwarded-Authorization: %b",
    b"X-Forwarded-User: %b",
    b"X_Forwarded_User: %b", b"Proxy-Connection: %b", b"Proxy-Foo: %b", b"Keep-Alive: %b", b"TE: %b", b"Trailer: %b",
    b"HTTP2-Settings: %b", b"Referer: https://x/?token=%b", b"Forwarded: for=%b", b"Via: %b", b"X-Real-Ip: %b",
    b"Sec-WebSocket-Protocol: %b", b"Authorization: Basic %b", b"Authorization: %b, Basic x",
    b"Authorization:%b\r\nAuthorization:",
    b"Authorization;: %b", b"Authorization:: %b", b":authorization: %b", b'"Authorization": %b',
    b"Authorization\r: %b",
    b"Authorization\n: %b", b"X-HTTP-Method-Override: %b", b"X-Original-URL: /%b", b"Sec-Fetch-User: %b",
    b"X-A: b\r\nX-A: %b_\x00",
)  # fmt: skip
_OPTIONS = (
    b"Authorization", b"authorization", b"AUTHORIZATION", b"close, Authorization", b"keep-alive, authorization",
    b"Authorization, close",
    b" Authorization ", b"\tAuthorization\t", b",Authorization,", b"x,,Authorization",
    b"Authorization\r\nConnection: close",
    b"close\r\nConnection: Authorization", b'"Authorization"', b"Authorization;q=1", b"Authorization_", b"Host",
    b"Content-Length",
    b"content-length, host", b"Transfer-Encoding", b"Content-Type", b"X-Kept", b"x-kept, authorization", b"*", b"",
    b",", b"a" * 2000,
    b"Authorization,\r\n close", b"Authorization\x00", b"Auth\x0borization", b"Connection", b"Upgrade, Authorization",
    b"upgrade",
    b"close, close", b"keep-alive, close", b"CLOSE", b"Keep-Alive", b"x" + b", x" * 3000,
    b"Authorization" + b", Authorization" * 500,
)  # fmt: skip
_QUERIES = (
    "key", "token", "access_token", "api_key", "api-key", "apikey", "KEY", "x-api-key", "authorization", "bearer",
    "jwt", "%6bey", "%256bey", "k%65y", "a=b&key", "a=b;key", "key%3d", "key%00", "+key", "_key=1&token",
    "a&access%5ftoken",
)  # fmt: skip


def credentials() -> Iterator[Attempt]:
    for shown in _SHOWN:
        field = shown.replace(b"%b", _BEARER) + b"\r\n"
        yield _get(f"{shown!r}", field)
        yield _get(f"{shown!r} after Connection", b"Connection: close, authorization\r\n" + field)
        yield _get(f"{shown!r} with a body", field + b"Content-Length: 5\r\n", b"hello", b"POST /things HTTP/1.1")
        trailer = b"0\r\n" + field + b"\r\n"
        coding = b"Transfer-Encoding: chunked\r\nTrailer: authorization\r\nTE: trailers\r\n"
        yield _get(f"{shown!r} as a trailer", coding, b"5\r\nhello\r\n" + trailer, b"POST /things HTTP/1.1")
    for option in _OPTIONS:
        named = b"Connection: " + option + b"\r\nX-Kept: 1\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
        yield _get(f"connection {option[:60]!r}", named, b"hello", b"POST /things HTTP/1.1")
        yield _get(f"connection {option[:60]!r} with a token", b"Authorization: " + _BEARER + b"\r\n" + named, b"hello")
    for query in _QUERIES:
        yield _get(f"query {query}", b"", line=f"GET /things?{query}={EVIL} HTTP/1.1".encode())
        yield _get(
            f"query {query} with a token",
            b"Authorization: x\r\n",
            line=f"GET /things?{query}={EVIL}&x HTTP/1.1".encode(),
        )


def bombs() -> Iterator[Attempt]:
    for count in (50, 126, 200, 1000, 3000, 20000):
        yield _get(f"{count} fields", b"".join(b"X-%d: y\r\n" % number for number in range(count)))
        yield _get(f"{count} times the same field", b"X-A: y\r\n" * count)
        yield _get(f"{count} empty fields", b"X:\r\n" * count)
        yield _get(f"{count} credentials", b"Authorization: Bearer " + _E + b"\r\n" + b"Authorization: x\r\n" * count)
        yield _get(f"{count} connections", b"Connection: close\r\n" * count)
        yield _get(f"{count} cookies", (b"Cookie: " + _E + b"\r\n") * count)
    for size in (250, 1000, 8000, 32000, 33000, 70000, 300000):
        yield _get(f"a name of {size}", b"X" * size + b": y\r\n")
        yield _get(f"a value of {size}", b"X-A: " + b"y" * size + b"\r\n")
        yield _get(f"{size} blanks", b"X-A:" + b" " * size + b"y\r\n")
        yield _get(f"{size} without an end", b"X-A: " + b"y" * size)
        yield _get(f"{size} in a host", b"X-A: b\r\n", line=b"GET /things HTTP/1.1\r\nHost: " + b"a" * size)
