"""An answer arrives as what the upstream's bytes are to every reader, or is visibly broken; the next one is clean.

Raw answers, real sockets. What an answer's bytes are is read by ``strict.py``. The second request on a connection, or
one on the next connection, must get the answer that was made for it and nothing of what came before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.proxies import Proxies
from tests.security import answers
from tests.security.answers import Attempt
from tests.security.judging import LONGEST_NAME, wrongly_made
from tests.security.raw import Bench, Connection, Outcome
from tests.security.strict import Answer, Malformed, Request, Unfinished, read_answer

Table = Callable[[], Iterator[Attempt]]
TABLES = (
    pytest.param(answers.framed, {"attempts": 900, "passed": 250}, id="framed"),
    pytest.param(answers.in_chunks, {"attempts": 700, "passed": 180}, id="in chunks"),
    pytest.param(answers.heads_of_answers, {"attempts": 600, "passed": 100}, id="heads"),
    pytest.param(answers.interim_and_more, {"attempts": 350, "passed": 200}, id="interim and more"),
    pytest.param(answers.to_old_callers, {"attempts": 300, "passed": 80}, id="to old callers"),
)
NEXT = b"GET /things?next HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
CLEAN = b"the %d of them, and clean"

_DROPPED = frozenset({b"connection", b"content-length", b"transfer-encoding", b"keep-alive", b"upgrade", b"trailer",
                      b"set-cookie", b"proxy-status", b"access-control-allow-origin"})  # fmt: skip
_OURS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"x-request-id"})


class Script:
    """What the upstream does: the attempt's bytes to its request, something new to every other one."""

    def __init__(self) -> None:
        self.attempt = Attempt("", ())
        self.answered = 0

    def __call__(self, connection: Connection, request: Request) -> None:
        if request.target != "/things?next":
            asyncio.get_running_loop().call_soon(self._write, connection, [*self.attempt.pieces])
            return
        self.answered += 1
        content = CLEAN % self.answered
        connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    def _write(self, connection: Connection, pieces: list[bytes], passes: int = 0) -> None:
        """One piece each few passes of the loop, so that the proxy reads each by itself."""
        if passes:
            asyncio.get_running_loop().call_soon(self._write, connection, pieces, passes - 1)
        elif pieces:
            connection.transport.write(pieces.pop(0))
            asyncio.get_running_loop().call_soon(self._write, connection, pieces, 6)
        elif self.attempt.closes:
            connection.transport.close()


def faults_of(attempt: Attempt, outcome: Outcome, first: int) -> list[str]:
    """What is wrong with what the caller got. ``first`` is the number of the next clean answer."""
    faults = list(outcome.faults)
    method = attempt.line.partition(b" ")[0].decode()
    logged = [record.status for record in outcome.records]
    try:
        whole = read_answer(attempt.raw, method, closed=attempt.closes)
    except (Malformed, Unfinished):
        whole = None
    try:
        got = read_answer(outcome.got, method, closed=not outcome.reset)
    except Malformed as exc:
        return [*faults, f"the caller cannot read it ({exc}): {outcome.got[:300]!r}"]
    except Unfinished as exc:
        if whole is not None and not _too_much(attempt, whole):
            faults.append(f"the upstream's answer is whole, the caller's is broken: {outcome.got[:300]!r}")
        if exc.head is not None and not _is_prefix(exc.content, attempt.raw):
            faults.append(f"broken, and not what the upstream sent: {exc.content[:200]!r}")
        return faults if len(logged) == 1 else [*faults, f"{len(logged)} records"]
    if got.head.all(b"proxy-status"):
        if whole is not None and not _too_much(attempt, whole):
            faults.append(f"the upstream's answer is whole, and the caller got {got.status}: {got.content[:200]!r}")
        if got.status not in {502, 504}:
            faults.append(f"a bad answer was answered {got.status}")
    elif whole is None:
        faults.append(f"a bad answer became a good one: {outcome.got[:300]!r}")
    else:
        faults += _differences(whole, got)
    rest = outcome.got[got.size :]
    if rest:
        faults += _wrong_next(rest, first)
    if len(logged) != 1 + bool(rest) or logged[0] != got.status:
        faults.append(f"logged {logged} after {got.status}")
    if b"poison" in outcome.got.lower() and b"poison" not in got.content and not _in_content(attempt, whole):
        faults.append("what came after an answer reached the caller")
    return faults


def _in_content(attempt: Attempt, whole: Answer | None) -> bool:
    return whole is not None and b"poison" in whole.content


def _is_prefix(content: bytes, raw: bytes) -> bool:
    """Is all of this content's bytes in what was sent, in order?"""
    position = 0
    for byte in content:
        position = raw.find(byte, position) + 1
        if not position:
            return False
    return True


def _too_much(attempt: Attempt, whole: Answer) -> bool:
    """What a proxy need not pass on: long lines, too large a head, too many interim ones, another protocol."""
    lines = attempt.raw.split(b"\r\n")
    interim = sum(line.startswith(b"HTTP/1.") and line[8:10] == b" 1" for line in lines)
    # The names of the interim heads count as well, so they are taken from the lines.
    if any(line.find(b":") > LONGEST_NAME for line in lines):
        return True
    return len(attempt.raw) > 8192 or max(map(len, lines)) > 1024 or interim > 20 or whole.status == 101


def _differences(whole: Answer, got: Answer) -> list[str]:
    faults = []
    if (got.status, got.content) != (whole.status, whole.content):
        faults.append(f"{whole.status} {whole.content[:100]!r} became {got.status} {got.content[:100]!r}")
    if got.head.start[2] != whole.head.start[2]:
        faults.append(f"the reason {whole.head.start[2]!r} became {got.head.start[2]!r}")
    faults += wrongly_made(b"x-request-id", got.head)
    for name, value in got.head.fields:
        if name not in _OURS and ((name, value) not in whole.head.fields or name in _DROPPED):
            faults.append(f"{name!r}: {value!r} should not be there")
    return faults


def _wrong_next(rest: bytes, number: int) -> list[str]:
    try:
        answer = read_answer(rest, "GET", closed=False)
    except (Malformed, Unfinished) as exc:
        return [f"the next answer is {exc}: {rest[:200]!r}"]
    if (answer.status, answer.content, answer.size) != (200, CLEAN % number, len(rest)):
        return [f"the next answer is not clean: {rest[:300]!r}"]
    return []


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def bench(proxies: Proxies, script: Script) -> AsyncIterator[Bench]:
    made = await Bench.start(proxies, script)
    yield made
    await made.upstream.close()


@pytest.mark.asyncio(loop_factories=["clock"])
@pytest.mark.parametrize(("table", "least"), TABLES)
async def test_no_answer_becomes_two_and_no_broken_one_looks_whole(
    bench: Bench, script: Script, table: Table, least: dict[str, int], tried: Callable[[int], None]
) -> None:
    wrong: list[tuple[str, list[str]]] = []
    counted: Counter[str] = Counter()
    for attempt in {each[1:]: each for each in table()}.values():
        script.attempt = attempt
        first = script.answered + 1
        outcome = await bench.run(attempt.line + b"\r\nHost: 127.0.0.1\r\n\r\n" + NEXT, waits=True)
        faults = faults_of(attempt, outcome, first)
        if script.answered < first:  # the connection ended before the second was answered on it
            faults += _wrong_next((await bench.run(NEXT)).got, first)
        if faults:
            wrong.append((attempt.name, faults))
        counted["attempts"] += 1
        counted["passed"] += b"Proxy-Status" not in outcome.got
    tried(counted["attempts"])
    assert not wrong, (len(wrong), wrong[:10])
    assert all(counted[what] >= count for what, count in least.items()), counted
