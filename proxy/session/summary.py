"""What a session called and what was refused, for people and for programs.

What belongs here: the two forms, and what to change where a refusal does not say so itself. What does not: counting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from proxy import __version__
from proxy.core.errors import MESSAGES, Code
from proxy.core.headers import sort_request_lines
from proxy.core.model import Deny, RequestHead, Snapshot
from proxy.core.policy import decide
from proxy.observe.record import GONE
from proxy.session.life import Session
from proxy.session.tally import Calls, Trouble

_STRANGER = (
    "COMMAND, or another program on this machine, did not show the session's token: the client's key has to be the "
    "value of INWORLD_API_KEY."
)
ADVICE = {
    Code.CALLER_REQUIRED: _STRANGER,
    Code.UNKNOWN_CALLER: _STRANGER,
    Code.RATE_LIMITED: "Ask less often, or raise the caller's `limits.requests`.",
    Code.CONCURRENCY_LIMITED: "Ask for less at once, or raise the caller's `limits.concurrent`.",
    Code.DRAINING: "It was still going on when COMMAND had ended.",
}
"""What to say where a session makes it something else than what the caller was told."""

_OF_STATUS = {
    401: "It does not know the key: `inworld-proxy doctor` says more.",
    403: "It does not know the key, or does not let it do that: `inworld-proxy doctor` says more.",
    429: "That is the key's own limit at the upstream: ask less often.",
}

_COLUMNS = ("operation", "calls", "ok", "refused", "failed", "in", "out", "first byte p50")


def summary_lines(session: Session, snapshot: Snapshot) -> Iterator[str]:
    """The summary for a person."""
    rows = sorted(session.tally.by_operation.items())
    total = sum(calls.calls for _, calls in rows)
    requests = "no requests" if not total else f"{total} request{'s' if total > 1 else ''}"
    yield f"inworld-proxy: {requests} in {session.seconds:.1f} s"
    if rows:
        table = [_COLUMNS, *(_row(name, calls) for name, calls in rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
        for row in table:
            numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
            yield f"  {row[0]:<{widths[0]}}  {numbers}"
    for refused, word in ((True, "refused"), (False, "failed")):
        for trouble in _sorted(session):
            if trouble.refused is refused:
                yield f"  {word}: {trouble.operation} {_reason(trouble)}, {_times(trouble.count)}"
                advice = what_to_change(trouble, snapshot)
                if advice:
                    yield f"    {advice}"


def summary_json(session: Session, snapshot: Snapshot) -> str:
    """The same as one line of JSON: sizes in bytes, times in milliseconds."""
    whole = {
        "version": __version__,
        "exit_code": session.code,
        "seconds": round(session.seconds, 3),
        "operations": [
            {
                "operation": name,
                "calls": calls.calls,
                "ok": calls.succeeded,
                "refused": calls.refused,
                "failed": calls.failed,
                "request_bytes": calls.bytes_in,
                "response_bytes": calls.bytes_out,
                "first_byte_p50_ms": None if calls.median is None else round(calls.median * 1000, 3),
            }
            for name, calls in sorted(session.tally.by_operation.items())
        ],
        "troubles": [
            {
                "operation": trouble.operation,
                "refused": trouble.refused,
                "code": None if trouble.code is None else trouble.code.value,
                "status": trouble.status,
                "count": trouble.count,
                "message": what_to_change(trouble, snapshot) or None,
            }
            for trouble in _sorted(session)
        ],
    }
    return json.dumps(whole, ensure_ascii=False)


def what_to_change(trouble: Trouble, snapshot: Snapshot) -> str:
    """The sentence that the command was told, where it says what to change; "" where nothing is known."""
    code = trouble.code
    if code is None:
        return _OF_STATUS.get(trouble.status, "")
    return ADVICE.get(code) or _told(trouble, code, snapshot) or MESSAGES.get(code, "")


def _told(trouble: Trouble, code: Code, snapshot: Snapshot) -> str | None:
    """The refusal once more, if it follows from the configuration alone."""
    caller = snapshot.callers.get(trouble.caller or "")
    fields = sort_request_lines([f"Host: {snapshot.listen.host}".encode()])
    if caller is None or fields is None:
        return None
    head = RequestHead(trouble.method, trouble.path, 11, fields[0], fields[1])
    decision = decide(snapshot.policy, head, 0.0, caller=caller)
    return decision.message if isinstance(decision, Deny) and decision.code is code else None


def _sorted(session: Session) -> list[Trouble]:
    return sorted(session.tally.troubles.values(), key=lambda each: (not each.refused, each.operation, _reason(each)))


def _reason(trouble: Trouble) -> str:
    if trouble.code is not None:
        return f"{trouble.code.value} ({trouble.status})" if trouble.status else trouble.code.value
    if trouble.status in (GONE, 0):
        return "before it was answered: COMMAND left, or had ended"
    return f"by the upstream, {trouble.status}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _row(name: str, calls: Calls) -> tuple[str, ...]:
    counts = (calls.calls, calls.succeeded, calls.refused, calls.failed)
    middle = "-" if calls.median is None else f"{calls.median * 1000:.0f} ms"
    return name, *map(str, counts), _size(calls.bytes_in), _size(calls.bytes_out), middle


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
