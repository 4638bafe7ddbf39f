"""What is wrong with what an attempt came to: at the upstream, at the caller, in the log."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.security.raw import Outcome
from tests.security.strict import Answer, Head, Malformed, Request, Unfinished, read_answer, read_requests
from tests.snapshots import AUTHORIZATION

EVIL = "evil-7f3ac1d90b52"
"""In every credential that a caller of these attempts shows. It must not arrive anywhere."""

SEEN = b"seen %d"
"""The content of the upstream's answer to its request of that number."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_HOSTS = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_ONCE = frozenset({b"host", b"authorization", b"x-api-key", b"origin", b"sec-fetch-site", b"sec-websocket-key",
                   b"sec-websocket-version", b"access-control-request-method"})  # fmt: skip
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect",
                         b"proxy-authorization", b"proxy-authenticate", b"http2-settings"})  # fmt: skip
_REPLACED = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})
MADE = {
    b"x-request-id": re.compile(rb"[\w.~:/+=@-]{1,128}"),
    b"traceparent": re.compile(rb"00-[\da-f]{32}-[\da-f]{16}-0[0-3]"),
}
"""What the proxy says of every request in its own words, and how that may look; in answers the first."""
_LONGEST_LINE, _LARGEST_HEAD, _LONGEST_TRAILERS = 8192, 32768, 8192
_MOST_FIELDS = 128
LONGEST_NAME = 256
"""The limits of a proxy that is not told otherwise."""


class Said(NamedTuple):
    """What the caller's bytes say: whole requests, and how they end (``whole``, ``unfinished`` or ``malformed``).

    ``to_head``: what has not become whole begins as a HEAD. ``in_body``: its head is whole, its body is not.
    """

    requests: list[Request]
    ending: str
    to_head: bool
    in_body: bool = False


def what_it_says(data: bytes) -> Said:
    """Reads what a caller sent, strictly."""
    requests: list[Request] = []
    try:
        for request in read_requests(data):
            requests.append(request)  # noqa: PERF402 - what was read before a fault counts
    except (Malformed, Unfinished) as exc:
        left = data[sum(request.size for request in requests) :].lstrip(b"\r\n")
        if isinstance(exc, Malformed):
            return Said(requests, "malformed", left.startswith(b"HEAD "))
        return Said(requests, "unfinished", left.startswith(b"HEAD "), exc.head is not None)
    return Said(requests, "whole", False)


def must_pass(request: Request) -> bool:
    """Is there nothing about it that the proxy may refuse?"""
    head = request.head
    host = b",".join(head.all(b"host"))
    name, colon, port = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        name, port = host, b"1"
    return (
        request.method in _METHODS
        and request.target.partition("?")[0] == "/things"
        and all(33 <= ord(letter) < 127 and letter != "#" for letter in request.target)
        and (name.lower() in _HOSTS or (not request.modern and not head.all(b"host")))
        and (not head.all(b"host") or (port.isdigit() and len(port) < 6))
        and all(len(head.all(each)) < 2 for each in _ONCE)
        and not head.all(b"origin")
        and not head.all(b"sec-fetch-site")
        and b"websocket" not in head.members(b"upgrade")
        and [each.lower() for each in head.all(b"expect")] in ([], [b"100-continue"])
        and sum(map(len, head.start)) + 2 <= _LONGEST_LINE
        and len(head.fields) <= _MOST_FIELDS
        and all(len(name) <= LONGEST_NAME for name, _ in head.fields)
        and request.size - len(request.content) <= (_LONGEST_TRAILERS if request.chunked else _LARGEST_HEAD)
    )


def stays_open(request: Request) -> bool:
    """May another request follow on the connection (RFC 9112 section 9.3)?"""
    options = request.head.members(b"connection")
    if request.head.all(b"upgrade"):
        return False
    return b"close" not in options if request.modern else b"keep-alive" in options


def waits(said: Said) -> bool:
    """Will the proxy, having read this, wait for more?"""
    return said.ending == "unfinished" or (said.ending == "whole" and all(map(stays_open, said.requests)))


def faults_of(sent: bytes, outcome: Outcome, *, in_pieces: bool = False) -> list[str]:
    """Everything that is wrong. ``in_pieces``: what breaks off later may have begun to arrive upstream."""
    said = what_it_says(sent)
    faults = list(outcome.faults)
    try:
        answers, rest = read_answers(outcome.got, said)
    except Malformed as exc:
        return [*faults, f"the caller cannot read its answers ({exc}): {outcome.got[:300]!r}"]
    if rest:
        faults.append(f"after the last answer: {rest[:100]!r}")
    faults += _wrong_answers(said, outcome, answers)
    faults += [f"{request.target} at the upstream: {each}" for request in outcome.requests for each in _wrong(request)]
    if any(EVIL.encode() in raw for raw in [*outcome.raw, *outcome.begun]):
        faults.append("a caller's credential at the upstream")
    if outcome.begun and not (in_pieces or said.ending == "unfinished"):
        faults.append(f"begun at the upstream: {outcome.begun[0][:200]!r}")
    logged = [(record.status, record.ended > 0) for record in outcome.records]
    if logged != [(answer.status, True) for answer in answers]:
        faults.append(f"logged {logged} for answers {[answer.status for answer in answers]}")
    return faults


def read_answers(got: bytes, said: Said) -> tuple[list[Answer], bytes]:
    """The answers that the caller got, and bytes after them that are none."""
    answers: list[Answer] = []
    methods = [request.method for request in said.requests]
    while got:
        try:
            answer = read_answer(got, methods[len(answers)] if len(answers) < len(methods) else "", closed=False)
        except Unfinished as exc:
            if len(answers) < len(methods) or not said.to_head:
                raise Malformed(f"not whole: {exc}") from exc
            # Nobody can say whether a body follows the answer to a HEAD that went wrong; the connection ends there.
            answer = read_answer(got, "HEAD", closed=False)
        answers.append(answer)
        got = got[answer.size :]
        if answer.head.members(b"connection") == [b"close"]:
            break
    return answers, got


def _wrong_answers(said: Said, outcome: Outcome, answers: list[Answer]) -> list[str]:
    faults, passed, open_ = [], 0, True
    for number, request in enumerate(said.requests):
        if not open_:
            break
        if number == len(answers):
            return [*faults, f"request {number + 1} was not answered"]
        answer = answers[number]
        if answer.head.all(b"x-seen"):
            if passed < len(outcome.requests):
                faults += _differences(request, outcome.requests[passed])
            passed += 1
            if not stays_open(request) and number + 1 < len(answers):
                faults.append("answered on after a request that ends its connection")
            open_ = stays_open(request)
        elif not (400 <= answer.status < 500 or answer.status == 505 or _is_preflight(request)):
            faults.append(f"request {number + 1} was answered {answer.status}")
        elif must_pass(request):
            faults.append(f"request {number + 1} is sound, and was answered {answer.status}: {answer.content[:200]!r}")
        elif b"close" in answer.head.members(b"connection"):
            open_ = False
    if len(outcome.requests) != passed:
        targets = [request.target for request in outcome.requests]
        faults.append(f"{len(outcome.requests)} requests at the upstream, {passed} answers of it: {targets}")
    return faults + _wrong_ending(said, answers[len(said.requests) :], open_=open_)


def _wrong_ending(said: Said, more: list[Answer], *, open_: bool) -> list[str]:
    """``more`` are the answers to what did not become whole."""
    faults = []
    if open_ and said.ending == "malformed" and len(more) != 1:
        faults.append(f"what is malformed was answered {len(more)} times")
    if len(more) > 1 or (more and said.ending == "whole"):
        faults.append(f"{len(more)} answers to nothing: {[each.status for each in more]}")
    for answer in more[:1]:
        if not (400 <= answer.status < 500 or answer.status == 505):
            faults.append(f"what is {said.ending} was answered {answer.status}")
        # One that is refused for what it asks may still send its body, which is dropped.
        if b"close" not in answer.head.members(b"connection") and not said.in_body:
            faults.append(f"what is {said.ending} was answered {answer.status} and the connection kept")
    return faults


def _is_preflight(request: Request) -> bool:
    return request.method == "OPTIONS" and bool(request.head.all(b"access-control-request-method"))


def _differences(sent: Request, seen: Request) -> list[str]:
    """What arrived, against what was sent."""
    faults = []
    if (seen.method, seen.content, seen.chunked) != (sent.method, sent.content, sent.chunked):
        faults.append(f"sent {sent.method} {sent.content!r}, arrived as {seen.method} {seen.content!r}")
    if not _is_what_was_judged(sent.target, seen.target):
        faults.append(f"sent {sent.target}, arrived as {seen.target}")
    named = set(sent.head.members(b"connection")) - {b"upgrade"}
    faults += [fault for name in MADE for fault in wrongly_made(name, seen.head)]
    for name, value in seen.head.fields:
        said = (name, value) in sent.head.fields
        if name == b"tracestate":  # its lines are joined
            said = value.lower() == b",".join(sent.head.members(name))
        if name not in _REPLACED and name not in _HOP_BY_HOP and name not in MADE and not said:
            faults.append(f"nobody sent {name!r}: {value!r}")
        if name in named and name not in _REPLACED and (name not in MADE or said):
            faults.append(f"{name!r} was named in Connection, and arrived")
        if b"_" in name:
            faults.append(f"{name!r} is the twin of another field")
    return faults


def wrongly_made(name: bytes, head: Head) -> list[str]:
    """Is it there once, and nothing that could be anything else?"""
    values = head.all(name)
    well = len(values) == 1 and MADE[name].fullmatch(values[0]) is not None
    return [] if well else [f"{name!r} is {values!r}"]


def _is_what_was_judged(sent: str, seen: str) -> bool:
    """Is the target the same, but for parameters that may be credentials or methods?"""
    if not any(word in sent.lower() for word in ("auth", "token", "key", "bearer", "jwt", "method", "%")):
        return seen == sent
    (path, _, query), (arrived, _, rest) = sent.partition("?"), seen.partition("?")
    return path == arrived and (not rest or set(rest.split("&")) <= set(query.split("&")))


def _wrong(seen: Request) -> list[str]:
    """What a request at the upstream must not be, whatever was sent."""
    head, faults = seen.head, []
    if not seen.modern:
        faults.append("not HTTP/1.1")
    if head.all(b"authorization") != [AUTHORIZATION.encode()] or head.fields[-1][0] != b"authorization":
        faults.append(f"our credential is not the last field: {head.fields}")
    if len(head.all(b"host")) != 1 or not head.all(b"host")[0].startswith(b"127.0.0.1:"):
        faults.append(f"host {head.all(b'host')}")
    hop = {name for name, _ in head.fields} & _HOP_BY_HOP
    if hop and (hop, head.all(b"connection"), head.all(b"upgrade")) != (
        {b"connection", b"upgrade"},
        [b"Upgrade"],
        [b"websocket"],
    ):
        faults.append(f"hop by hop: {hop}")
    return faults
