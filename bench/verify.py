"""Only a target that does the whole job is timed; any other is refused, with the reasons. Nothing is timed here."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import socket
import time
from collections.abc import Callable

from bench import contract
from bench.asked import frames, handshake

PATIENCE = 15.0
"""Seconds for anything that must happen at all."""

_CHUNKS = (6, 12, 24)
"""Of the streams tried: a pause of the machine can join the chunks of one; a proxy that holds back joins all."""


def verify(port: int, authorization: str, *, direct: bool) -> list[str]:
    """What it does not do; empty when it is in order."""
    checks: list[tuple[str, Callable[[int, str], str]]] = [
        ("GET of 1 KB", _get),
        ("GET with another head", _get_again),
        ("POST of 1 KB", _post),
        ("upload", _upload),
        ("large answer", _download),
        ("stream", _stream),
        ("WebSocket", _socket),
    ]
    if direct:
        checks.append(("the upstream asks for the key", _asks_for_key))
    else:
        checks += [("key", _key), ("unknown path", _unknown_path), ("unknown method", _unknown_method)]
    faults = []
    for name, check in checks:
        try:
            fault = check(port, authorization)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            fault = f"{type(exc).__name__}: {exc}"
        if fault:
            faults.append(f"{name}: {fault}")
    return faults


def _ask(
    port: int, authorization: str, method: str, target: str, body: bytes | None = None, request_id: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        fields = {"Authorization": authorization}
        if request_id:
            fields["X-Request-Id"] = request_id
        if body is not None:
            fields["Content-Type"] = "application/json"
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _differs(got: tuple[int, bytes], content: bytes) -> str:
    status, came = got
    if status != 200:
        return f"status {status}"
    return "" if came == content else f"{len(came)} bytes that are not the {len(content)} of the upstream"


def _get(port: int, authorization: str) -> str:
    return _differs(_ask(port, authorization, "GET", contract.VOICES), contract.ANSWER)


def _get_again(port: int, authorization: str) -> str:
    return _differs(_ask(port, authorization, "GET", contract.VOICES, request_id="00000001"), contract.ANSWER)


def _post(port: int, authorization: str) -> str:
    return _differs(_ask(port, authorization, "POST", contract.SPEAK, b"t" * 1024), contract.ANSWER)


def _upload(port: int, authorization: str) -> str:
    body = bytes(range(256)) * (contract.UP // 256)
    said = b'{"got":%d,"sha256":"%s"}' % (len(body), hashlib.sha256(body).hexdigest().encode())
    return _differs(_ask(port, authorization, "POST", f"{contract.UPLOAD}?digest=1", body), said)


def _download(port: int, authorization: str) -> str:
    content = bytes(3 * contract.MIB)
    return _differs(_ask(port, authorization, "GET", f"{contract.VOICES}?bytes={len(content)}"), content)


def _stream(port: int, authorization: str) -> str:
    fault = ""
    for count in _CHUNKS:
        fault = _one_stream(port, authorization, count)
        if fault != _HELD_BACK:
            break
    return fault


_HELD_BACK = "chunks come together: the answer is held back"


def _one_stream(port: int, authorization: str, count: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        fields = {"Authorization": authorization, "Content-Type": "application/json"}
        connection.request("POST", f"{contract.STREAM}?count={count}", b"{}", fields)
        response = connection.getresponse()
        lines, came = [], []
        while line := response.readline():
            lines.append(line)
            came.append(time.monotonic_ns())
    finally:
        connection.close()
    if response.status != 200:
        return f"status {response.status}"
    written = [int(line[5:24]) for line in lines]
    if lines != [contract.chunk(when, number) for number, when in enumerate(written)] or len(lines) != count:
        return f"{len(lines)} chunks, not the {count} that were sent"
    apart = sum(later - earlier > contract.EVERY * 1e9 / 2 for earlier, later in itertools.pairwise(came))
    return "" if apart >= count // 2 else _HELD_BACK


def _socket(port: int, authorization: str) -> str:
    frame, echo = frames(20)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock, sock.makefile("rb") as file:
        asked = handshake(authorization)
        sock.sendall(asked)
        status = file.readline()
        if b" 101 " not in status:
            return f"answered {status.strip()!r}"
        fields = {}
        while line := file.readline().strip():
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        key = asked.partition(b"Sec-WebSocket-Key: ")[2].split()[0]
        guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        right = base64.b64encode(hashlib.sha1(key + guid, usedforsecurity=False).digest())
        if fields.get(b"sec-websocket-accept") != right:
            return "another Sec-WebSocket-Accept than the key's"
        sock.sendall(frame)
        got = file.read(len(echo))
        return "" if got == echo else f"echoed {got!r}"


def _key(port: int, authorization: str) -> str:
    status, content = _ask(port, authorization, "GET", contract.REPORT)
    if status != 200:
        return f"status {status}"
    report = json.loads(content)
    faults = []
    if report["authorizations"] != 1:
        faults.append(f"the upstream saw {report['authorizations']} Authorization fields")
    if not report["right"]:
        faults.append("the upstream did not see the key")
    if report["leaked"]:
        faults.append("the upstream saw the caller's token")
    return ", ".join(faults)


def _unknown_path(port: int, authorization: str) -> str:
    return _not_refused(_ask(port, authorization, "GET", contract.UNKNOWN)[0])


def _unknown_method(port: int, authorization: str) -> str:
    return _not_refused(_ask(port, authorization, "DELETE", contract.VOICES)[0])


def _not_refused(status: int) -> str:
    return "" if 400 <= status < 500 else f"status {status} instead of a refusal"


def _asks_for_key(port: int, _: str) -> str:
    status, _content = _ask(port, contract.SHOWN, "GET", contract.VOICES)
    return "" if status == 401 else f"status {status} without it"
