"""The judges themselves: what has fooled proxies would be noticed here, had it come to that."""

from __future__ import annotations

import pytest

from proxy.observe.record import Record
from tests.security.answers import POISON
from tests.security.answers import Attempt as Scripted
from tests.security.judging import EVIL, faults_of, must_pass, waits, what_it_says
from tests.security.raw import SECOND, Outcome
from tests.security.strict import Malformed, Unfinished, read_answer, read_request, read_requests
from tests.security.test_framing_of_answers import CLEAN
from tests.security.test_framing_of_answers import faults_of as faults_of_answer
from tests.snapshots import AUTHORIZATION

SENT = b"GET /things HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n\r\n"
IDS = b"traceparent: 00-%b-%b-00\r\nX-Request-Id: r-1\r\n" % (b"1" * 32, b"2" * 16)
ARRIVED = b"GET /things HTTP/1.1\r\nHost: 127.0.0.1:9\r\nX-A: b\r\n%bAuthorization: %b\r\n\r\n" % (
    IDS, AUTHORIZATION.encode(),
)  # fmt: skip
SEEN = b"HTTP/1.1 200 OK\r\nX-Seen: 1\r\nContent-Length: 6\r\n\r\nseen 1"
REFUSED = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
MALFORMED = SENT.replace(b"X-A:", b"X-A :")


def outcome(got: bytes, *arrived: bytes, begun: bytes = b"", statuses: tuple[int, ...] = (200,)) -> Outcome:
    records = [Record(0.0, 0.0, "GET", "/things", "")] * 0
    for status in statuses:
        records.append(Record(0.0, 0.0, "GET", "/things", ""))
        records[-1].status, records[-1].ended = status, 1.0
    return Outcome(got, False, [read_request(each) for each in arrived], [*arrived], [begun] if begun else [], records)


def test_what_is_right_is_not_complained_about() -> None:
    assert faults_of(SENT, outcome(SEEN, ARRIVED)) == []
    assert faults_of(MALFORMED + SECOND, outcome(REFUSED, statuses=(400,))) == []


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        (MALFORMED, outcome(SEEN, ARRIVED)),
        (MALFORMED, outcome(REFUSED, begun=b"GET", statuses=(400,))),
        (MALFORMED, outcome(REFUSED.replace(b"400", b"500"), statuses=(500,))),
        (MALFORMED, outcome(REFUSED.replace(b"close", b"x"), statuses=(400,))),
        (MALFORMED, outcome(REFUSED, statuses=(400, 400))),
        (MALFORMED, outcome(REFUSED, statuses=())),
        (MALFORMED, outcome(REFUSED, statuses=(404,))),
        (MALFORMED, outcome(b"", statuses=())),
        (MALFORMED, outcome(REFUSED + SEEN, ARRIVED, statuses=(400, 200))),
        (MALFORMED, outcome(REFUSED[:-1], statuses=(400,))),
        (SENT, outcome(REFUSED, statuses=(400,))),
        (SENT, outcome(SEEN, ARRIVED, ARRIVED)),
        (SENT, outcome(SEEN + SEEN, ARRIVED, ARRIVED, statuses=(200, 200))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"/things", b"/other"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"X-A: c"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"X-B: b"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"Content-Length: 5") + b"hello")),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"Connection: close"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"X-A: " + EVIL.encode()))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"X-A: b", b"authorization: x"))),
        (SENT, outcome(SEEN, ARRIVED.replace(AUTHORIZATION.encode(), b"Basic eA=="))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"\r\n\r\n", b"\r\nX-A: b\r\n\r\n"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"127.0.0.1:9", b"evil.test"))),
        (SENT, outcome(SEEN, ARRIVED.replace(IDS, b""))),
        (SENT, outcome(SEEN, ARRIVED.replace(IDS, IDS + IDS))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"r-1", b"r 1"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"-00\r", b"-ff\r"))),
        (SENT, outcome(SEEN, ARRIVED.replace(IDS, IDS + b"tracestate: a=b\r\n"))),
        (SENT, outcome(SEEN, ARRIVED.replace(b"Host:", b"Host: 127.0.0.1:9\r\nHost:"))),
        (SENT.replace(b"X-A", b"Connection: x-a\r\nX-A"), outcome(SEEN, ARRIVED)),
        (SENT.replace(b"X-A", b"X_A"), outcome(SEEN, ARRIVED.replace(b"X-A", b"X_A"))),
        (
            SENT.replace(b"X-A: b", b"Connection: close") + SECOND,
            outcome(SEEN + SEEN, ARRIVED, ARRIVED, statuses=(200, 200)),
        ),
        (SENT + SECOND, outcome(SEEN, ARRIVED)),
    ],
)
def test_what_is_wrong_with_a_request_is_noticed(sent: bytes, came: Outcome) -> None:
    assert faults_of(sent, came)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"GET /x HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
        b"GET /x HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n",
        b"GET /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nX: a\rb\r\n\r\n",
        b"GET /x HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET /x HTTP/1.1\r\nX : a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET  /x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/1.1 \r\n\r\n",
        b"GET /x HTTP/2.0\r\n\r\n",
        b"GET /x\r\n\r\n",
        b"\0GET /x HTTP/1.1\r\n\r\n",
    ],
)
def test_a_request_that_is_not_one_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_request(data)


def test_trailers_do_not_pass_for_what_an_upstream_gets() -> None:
    data = b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"
    assert read_request(data).size == len(data)
    with pytest.raises(Malformed):
        read_request(data, trailers=False)


def test_every_request_is_found_and_what_has_not_ended_is_unfinished() -> None:
    body = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    chunks = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert [each.content for each in read_requests(b"\r\n" + body + chunks + SENT)] == [b"abc", b"abc", b""]
    for whole in (body, chunks):
        for end in range(1, len(whole)):
            with pytest.raises(Unfinished):
                read_request(whole[:end])
    assert what_it_says(body[:-1]).in_body
    assert not what_it_says(body[:20]).in_body
    assert waits(what_it_says(SENT))
    assert not waits(what_it_says(SENT + SECOND))
    assert must_pass(read_request(SENT))
    assert not must_pass(read_request(SENT.replace(b"127.0.0.1", b"evil.test")))


ID = b"X-Request-Id: r-1\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
BAD = WHOLE.replace(b"X-A:", b"X-A :")
GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: x\r\nContent-Length: 2\r\n\r\nno"
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CLEAN % 1) + CLEAN % 1


@pytest.mark.parametrize(
    ("raw", "got", "statuses", "right"),
    [
        (WHOLE, WHOLE, (200,), True),
        (WHOLE, WHOLE + NEXT, (200, 200), True),
        (BAD, GATEWAY, (502,), True),
        (BAD, WHOLE[:-1], (200,), True),
        (WHOLE, WHOLE[:-1], (200,), False),
        (WHOLE, GATEWAY, (502,), False),
        (WHOLE, WHOLE.replace(b"hello", b"hullo"), (200,), False),
        (WHOLE, WHOLE.replace(b"X-A: b", b"X-A: c"), (200,), False),
        (WHOLE, WHOLE.replace(b"200", b"201"), (201,), False),
        (WHOLE, WHOLE, (502,), False),
        (WHOLE, WHOLE, (200, 200), False),
        (WHOLE + POISON, WHOLE + POISON, (200, 200), False),
        (WHOLE, WHOLE + NEXT.replace(b"clean", b"dirty"), (200, 200), False),
        (WHOLE, WHOLE + NEXT + NEXT, (200, 200), False),
        (BAD, WHOLE, (200,), False),
        (BAD, BAD, (200,), False),
        (BAD, GATEWAY.replace(b"502", b"500"), (500,), False),
        (BAD, WHOLE[:-2] + b"?", (200,), False),
        (WHOLE, WHOLE.replace(b"X-A", ID + b"X-A"), (200,), False),
    ],
)
def test_what_is_wrong_with_an_answer_is_noticed(
    raw: bytes, got: bytes, statuses: tuple[int, ...], right: bool
) -> None:
    got = got.replace(b"200 OK\r\n", b"200 OK\r\n" + ID)  # ours, in each; the last row has it twice
    faults = faults_of_answer(Scripted("", (raw,)), outcome(got, statuses=statuses), 1)
    assert (not faults) == right, faults


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"X-A: b", b"Transfer-Encoding: chunked"),
        WHOLE.replace(b"X-A: b", b"Content-Length: 5"),
        WHOLE.replace(b"X-A: b", b"X-A: b\rc"),
        WHOLE.replace(b" 5\r", b" 5,5\r"),
        WHOLE.replace(b"200", b"20"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/2"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_one_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_answer(data, "GET", closed=True)
