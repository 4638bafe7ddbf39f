"""One request in words: what was decided and why, the heads each way, and the command that says the same again.

What belongs here: which heads there are and how they are put together again, and the sentences. What does not: what of
them may be shown (``masking.py``).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from proxy.admin.inspector.masking import MASK, Pairs, mask_head, mask_target, shown_secrets
from proxy.admin.inspector.rows import make_row
from proxy.core.errors import MESSAGES, Code
from proxy.core.model import Allow, KeyPower, KeyType, Kind, Level, Local, Route, Snapshot
from proxy.core.remedies import REMEDIES
from proxy.core.trace import onward_lines
from proxy.observe.record import Ending, Evidence, Record
from proxy.wire.answer import request_bytes, upgrade_bytes
from proxy.wire.head import RequestParts

Detail = dict[str, object]


def describe(snapshot: Snapshot, number: int, record: Record) -> Detail:
    """Everything that is shown of one request."""
    return {
        "row": make_row(number, record),
        "decision": " ".join(_sentences(snapshot, record)),
        "explain": explain_command(snapshot, record),
        "lines": _lines(record),
        "headers": _headers(record),
    }


def explain_command(snapshot: Snapshot, record: Record) -> str | None:
    """The ``explain`` that answers for this request, quoted for a shell: its method is any token a caller thought of.

    None when nobody knows what, or as whom, it would have to ask, or the method would be taken for an option.
    """
    path = record.path
    if record.evidence is not None and record.evidence.head is not None:
        path = record.evidence.head.target.partition("?")[0]
    declared = snapshot.policy.anonymous is None
    if not path.startswith("/") or record.method.startswith("-"):
        return None
    if declared and record.caller not in snapshot.callers:
        return None
    words = ["inworld-proxy", "explain", record.method, path]
    if snapshot.source == "environment":
        words += _declared(snapshot)
    else:
        words += ["--config", snapshot.source]
    if declared and record.caller is not None:
        words += ["--as", record.caller]
    return shlex.join(words)


def _declared(snapshot: Snapshot) -> Iterator[str]:
    """Without a file the key's power was said on the command line, and has to be said to ``explain`` too."""
    for credential in snapshot.credentials.values():
        power = credential.power
        if power.type is not KeyType.STANDARD:
            yield from ("--key-type", power.type.value)
            continue
        for option, level in (("--voices", power.voices), ("--router", power.router)):
            if level is not Level.READ:
                yield from (option, level.value)


def _sentences(snapshot: Snapshot, record: Record) -> Iterator[str]:
    decision = None if record.evidence is None else record.evidence.decision
    who = _who(record)
    what = record.operation or "no operation that is known"
    if record.upstream is None and record.code is not None and not isinstance(decision, Local):
        yield f"Refused: {who} asked for {what} ({record.method} {record.path or MASK})."
    elif record.operation is None:
        yield f"A browser asked whether a page may call ({record.method} {record.path}); the proxy answered by itself."
    else:
        yield f"Allowed: {who} may do {record.operation} ({record.method} {record.path}){_grant(decision)}."
        yield from _served(record, decision)
    if record.would_refuse is not None:
        yield f"Only because the mode is audit: enforce would refuse it with {record.would_refuse.value}."
        audited = decision.audited if isinstance(decision, Allow) else None
        yield from (
            _message(record.would_refuse, None if audited is None else audited.message),
            REMEDIES[record.would_refuse],
        )
    yield from _ended(record)
    if snapshot.policy.anonymous is None and record.caller is not None and record.caller not in snapshot.callers:
        yield "This caller is in the configuration no more."


def _who(record: Record) -> str:
    if record.caller is None:
        return f"nobody that is known (from {record.peer})"
    if record.caller == "anonymous":
        return f"everyone, since no callers are declared (from {record.peer}),"
    return f"the caller {record.caller} (from {record.peer})"


def _grant(decision: Allow | Local | None) -> str:
    if decision is None or decision.caller.name == "anonymous":
        return ""
    if isinstance(decision, Allow) and decision.audited is not None:
        return ""
    return f", which callers.{decision.caller.name}.allow grants"


def _served(record: Record, decision: Allow | Local | None) -> Iterator[str]:
    if isinstance(decision, Local):
        yield "The proxy answers it by itself, from the key of `tokens`."
    elif isinstance(decision, Allow):
        route = decision.route
        yield (
            f"The route {route.name} serves it: upstream {route.upstream.name} "
            f"({route.upstream.scheme}://{route.upstream.authority}), credential {route.credential.name} "
            f"({route.credential.kind}, {_power(route.credential.power)})."
        )
    elif record.upstream is not None:
        yield f"It was served by upstream {record.upstream} with credential {record.credential}."
    if record.retried:
        yield "It went out twice: the first time nothing had been done with it."


def _power(power: KeyPower) -> str:
    if power.type is KeyType.REALTIME_ONLY:
        return "a realtime-only key"
    return f"a standard key with voices {power.voices.value}, router {power.router.value}"


def _ended(record: Record) -> Iterator[str]:
    if record.code is not None:
        denied = None if record.evidence is None else record.evidence.denied
        yield f"{_ENDED[record.ending]} with {record.status} {record.code.value}:"
        yield _message(record.code, None if denied is None else denied.message)
        yield f"\nWhat to change: {REMEDIES[record.code]}"
    elif record.ending is Ending.CALLER_GONE:
        yield "The caller left before it was over."
    elif record.ending is Ending.ABORTED:
        yield "It was cut when the proxy stopped."
    elif record.websocket:
        yield (
            f"The WebSocket opened ({record.status}) and is closed."
            if record.tunnel_opened
            else f"Answered with {record.status}."
        )
    else:
        yield f"Answered with {record.status}."


_ENDED = {
    Ending.ANSWERED: "Answered",
    Ending.REFUSED: "Refused",
    Ending.FAILED: "Failed",
    Ending.CALLER_GONE: "The caller left",
    Ending.ABORTED: "Cut, after it had begun,",
}


def _message(code: Code, message: str | None) -> str:
    return message or MESSAGES.get(code, "")


# -- heads ------------------------------------------------------------------------------------------------------------


def _secrets(evidence: Evidence) -> tuple[str, ...]:
    return () if evidence.head is None else shown_secrets(evidence.head.noted)


def _headers(record: Record) -> dict[str, Pairs | None]:
    evidence = record.evidence
    if evidence is None:
        return {"received": None, "sent": None, "answered": None, "returned": None}
    secrets = _secrets(evidence)
    heads = {
        "received": evidence.received,
        "sent": _sent(record, evidence),
        "answered": evidence.answered,
        "returned": evidence.returned,
    }
    return {name: mask_head(raw, secrets) if raw else None for name, raw in heads.items()}


def _lines(record: Record) -> dict[str, str | None]:
    """The first lines of the four heads."""
    evidence = record.evidence
    received = sent = answered = returned = None
    if evidence is not None:
        head, decision, secrets = evidence.head, evidence.decision, _secrets(evidence)
        if head is not None:
            version = "HTTP/1.1" if head.version == 11 else "HTTP/1.0"
            received = f"{record.method} {mask_target(record.path or MASK, head.target, secrets)} {version}"
        if record.sent and isinstance(decision, Allow):
            sent = f"{record.method} {mask_target(record.path, decision.target, secrets)} HTTP/1.1"
        answered, returned = _status_line(evidence.answered), _status_line(evidence.returned)
    return {"received": received, "sent": sent, "answered": answered, "returned": returned}


def _status_line(raw: bytes) -> str | None:
    """Version and status; the reason is the upstream's own text, and says nothing more."""
    return " ".join(raw[:64].decode("latin-1").split(" ")[:2]).partition("\r")[0] if raw else None


def _sent(record: Record, evidence: Evidence) -> bytes:
    """The head that went out, made as it was made then, but for the credential."""
    head, decision = evidence.head, evidence.decision
    if not record.sent or head is None or not isinstance(decision, Allow):
        return b""
    host = f"Host: {decision.route.upstream.authority}\r\n".encode("latin-1")
    authorization = _stand_in(decision.route)
    parts = RequestParts(head, evidence.length, keep_alive=True, expects_continue=False)
    ids = record.request_id, record.trace_id, record.span_id
    trace = onward_lines(parts.context, *ids, recorded=record.recorded)
    if decision.operation.kind is Kind.WEBSOCKET:
        return upgrade_bytes(head, decision, host, trace, authorization)
    return request_bytes(parts, decision, host, trace, authorization)


def _stand_in(route: Route) -> bytes:
    """The field line of the credential with its scheme, and nothing of its secret."""
    line = route.credential.authorization() or b""
    scheme = line.partition(b":")[2].strip().partition(b" ")[0] or b"Bearer"
    return b"Authorization: %b x\r\n" % scheme
