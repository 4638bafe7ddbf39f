"""A request arrives as exactly the one request that its bytes are, or not at all. Raw bytes, real sockets.

What a request's bytes are is read by ``strict.py``. Behind every attempt there is a second request on the connection,
in the body or after it, that a reader with another opinion about where the first one ends would take for one of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.proxies import Proxies
from tests.security import framings, heads
from tests.security.framings import Attempt
from tests.security.judging import SEEN, faults_of, waits, what_it_says
from tests.security.raw import Bench, Connection
from tests.security.strict import Request

Table = Callable[[], Iterator[Attempt]]
TABLES = (
    pytest.param(framings.lengths_and_codings, {"attempts": 1700, "passed": 100, "refused": 1500}, id="lengths"),
    pytest.param(framings.chunks, {"attempts": 450, "passed": 50, "refused": 300}, id="chunks"),
    pytest.param(heads.lines_and_bytes, {"attempts": 700, "passed": 40, "refused": 600}, id="lines and bytes"),
    pytest.param(heads.lines_and_hosts, {"attempts": 600, "passed": 200, "refused": 300}, id="lines and hosts"),
    pytest.param(heads.expectations_and_upgrades, {"attempts": 700, "passed": 150, "refused": 450}, id="upgrades"),
    pytest.param(heads.credentials, {"attempts": 370, "passed": 250, "refused": 60}, id="credentials"),
    pytest.param(heads.bombs, {"attempts": 70, "passed": 15, "refused": 45}, id="bombs"),
)
"""Each with how many are at least tried, arrive and are refused: a proxy that refuses everything is of no use."""


def _answer(connection: Connection, request: Request) -> None:
    """The upstream's: it says which of its requests this was; it refuses every WebSocket."""
    number = len(connection.upstream.requests)
    content = SEEN % number
    status = b"403 Forbidden" if request.head.all(b"upgrade") else b"200 OK"
    head = b"HTTP/1.1 %b\r\nX-Seen: %d\r\nContent-Length: %d\r\n\r\n" % (status, number, len(content))
    connection.transport.write(head if request.method == "HEAD" else head + content)


@pytest.fixture
async def bench(proxies: Proxies) -> AsyncIterator[Bench]:
    made = await Bench.start(proxies, _answer)
    yield made
    await made.upstream.close()


@pytest.mark.asyncio(loop_factories=["clock"])
@pytest.mark.parametrize(("table", "least"), TABLES)
async def test_what_is_not_one_request_to_every_reader_reaches_nobody(
    bench: Bench, table: Table, least: dict[str, int], tried: Callable[[int], None]
) -> None:
    wrong: list[tuple[str, list[str]]] = []
    counted: Counter[str] = Counter()
    for attempt in {each.pieces: each for each in table()}.values():
        said = what_it_says(attempt.raw)
        outcome = await bench.run(*attempt.pieces, waits=waits(said))
        faults = faults_of(attempt.raw, outcome, in_pieces=len(attempt.pieces) > 1)
        if faults:
            wrong.append((attempt.name, faults))
        counted["attempts"] += 1
        counted["passed"] += bool(outcome.requests)
        counted["refused"] += not outcome.requests
    tried(counted["attempts"])
    assert not wrong, (len(wrong), wrong[:10])
    assert all(counted[what] >= count for what, count in least.items()), counted
