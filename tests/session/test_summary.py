"""The summary of a session: counted by operation, with what to change."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proxy.core.errors import Code
from proxy.observe.record import Ending, Record
from proxy.session.grants import make_token, session_caller, session_snapshot
from proxy.session.life import Session
from proxy.session.summary import summary_json, summary_lines
from proxy.session.tally import MOST_TIMES, UNKNOWN, Tally
from tests.snapshots import make_snapshot, upstream_at

SNAPSHOT = make_snapshot(upstream_at(9))


def session(snapshot=SNAPSHOT):
    caller = session_caller(snapshot, None)
    return session_snapshot(snapshot, caller, make_token(), logs=False)


def record(
    operation: str | None = "models.list",
    *,
    status: int = 200,
    ending: Ending = Ending.ANSWERED,
    code: Code | None = None,
    first_byte: float = 0.0,
    path: str = "/llm/v1alpha/models",
    method: str = "GET",
) -> Record:
    made = Record(100.0, 0.0, method, path, "127.0.0.1")
    made.operation, made.status, made.ending, made.code, made.caller = operation, status, ending, code, "session"
    made.first_byte = 100.0 + first_byte if first_byte else 0.0
    made.ended = 101.0
    made.request_bytes, made.response_bytes = 10, 2_000
    return made


def said(*records: Record) -> tuple[str, dict]:
    snapshot = session()
    tally = Tally(lambda: snapshot)
    for each in records:
        tally.on_begin()
        tally.on_end(each)
    whole = Session(0, 1.25, tally)
    return "\n".join(summary_lines(whole, snapshot)), json.loads(summary_json(whole, snapshot))


def test_nothing_asked_is_one_line() -> None:
    text, whole = said()
    assert text == "inworld-proxy: no requests in 1.2 s"
    assert (whole["operations"], whole["troubles"], whole["exit_code"]) == ([], [], 0)


def test_calls_are_counted_by_operation_with_the_median_of_the_first_byte() -> None:
    text, whole = said(*(record(first_byte=seconds) for seconds in (0.010, 0.500, 0.020)), record("things.any"))
    assert text.splitlines()[0] == "inworld-proxy: 4 requests in 1.2 s"
    assert text.splitlines()[2].split() == ["models.list", "3", "3", "0", "0", "30", "B", "6.0", "kB", "20", "ms"]
    first, other = whole["operations"]
    assert (first["operation"], first["first_byte_p50_ms"], first["response_bytes"]) == ("models.list", 20.0, 6_000)
    assert (other["operation"], other["first_byte_p50_ms"]) == ("things.any", None)


@pytest.mark.parametrize(
    ("given", "counted", "says"),
    [
        (record(None, status=404, ending=Ending.REFUSED, code=Code.NO_OPERATION, path="/x"), "refused", "explain"),
        (record(status=401, ending=Ending.REFUSED, code=Code.CALLER_REQUIRED), "refused", "INWORLD_API_KEY"),
        (record(status=429, ending=Ending.REFUSED, code=Code.RATE_LIMITED), "refused", "limits.requests"),
        (record(status=502, ending=Ending.FAILED, code=Code.UPSTREAM_CLOSED), "failed", "closed the connection"),
        (record(status=200, ending=Ending.ABORTED, code=Code.UPSTREAM_IDLE_TIMEOUT), "failed", "time.idle"),
        (record(status=499, ending=Ending.CALLER_GONE), "failed", "COMMAND left"),
        (record(status=403), "failed", "inworld-proxy doctor"),
        (record(status=500), "failed", "by the upstream, 500"),
    ],
)
def test_what_did_not_succeed_says_what_to_change(given: Record, counted: str, says: str) -> None:
    text, whole = said(given, given)
    (calls,) = whole["operations"]
    assert (calls["calls"], calls["ok"], calls[counted]) == (2, 0, 2)
    assert f"  {counted}: {given.operation or UNKNOWN} " in text
    assert ", 2 times" in text
    assert says in text
    (trouble,) = whole["troubles"]
    assert (trouble["count"], trouble["refused"], trouble["status"]) == (2, counted == "refused", given.status)
    assert trouble["code"] == (None if given.code is None else given.code.value)


def test_times_are_bounded() -> None:
    tally = Tally(lambda: SNAPSHOT)
    for _ in range(MOST_TIMES + 5):
        tally.on_begin()
        tally.on_end(record(first_byte=0.5))
    assert len(tally.by_operation["models.list"].times) == MOST_TIMES


def test_the_snapshot_of_a_session_recognises_nobody_else() -> None:
    made = session(replace(SNAPSHOT, callers={}))
    assert (made.policy.anonymous, made.policy.recognise_user, len(made.policy.recognisers)) == (None, None, 1)
    assert (str(made.listen), [*made.callers]) == ("127.0.0.1:0", ["session"])
