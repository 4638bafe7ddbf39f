"""One request in the inspector: a row for each way it can end, the decision in words, the heads, and never a body."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.__main__ import main
from proxy.core.errors import Code
from proxy.core.model import CallerLimits, Limits, Mode, Snapshot
from proxy.core.remedies import REMEDIES
from proxy.credentials.api_key import ApiKey
from proxy.credentials.secret import Secret
from proxy.observe.trail import LONGEST_KEPT
from proxy.wire.server import RETIRED_FOR
from tests.admin.watching import Inspected, Inspectors
from tests.proxies import ClockLoop
from tests.snapshots import HANDSHAKE, KEY, READ_ONLY, SWITCH, TOKEN, with_policy
from tests.wires import OK, chunked, request, response

MODELS = "GET /llm/v1alpha/models"
AS_STORE = f"Authorization: Bearer {TOKEN}"
SAID = b"what was said in confidence"
CLOSE = "Connection: close"
UPLOAD = request("POST /tts/v1/voice", "Content-Type: text/plain", body=SAID)


def enforce(allow: frozenset[str], mode: Mode = Mode.ENFORCE) -> Callable[[Snapshot], Snapshot]:
    """The caller of this snapshot is granted these operations, and no others."""

    def change(snapshot: Snapshot) -> Snapshot:
        (caller,) = snapshot.callers.values()
        granted = replace(caller, operations=allow)
        return with_policy(
            replace(snapshot, callers={caller.name: granted}), recognisers=(lambda *_: granted,), mode=mode
        )

    return change


# -- what went well ---------------------------------------------------------------------------------------------------


async def test_an_answered_request_is_shown_with_its_four_heads_and_without_a_body(inspected: Inspected) -> None:
    raw = request("POST /tts/v1/voice?a=1", "Content-Type: text/plain", "Cookie: a=b", body=SAID)
    answer = response("200 OK", "Content-Type: audio/wav", "Set-Cookie: s=t", "X-Inworld-Request-Id: r-1", body=SAID)
    await inspected.proxy.pass_on(raw, answer)
    row = await inspected.newest()
    assert (row["id"], row["method"], row["path"], row["status"]) == (1, "POST", "/tts/v1/voice", 200)
    assert (row["operation"], row["caller"], row["upstream"], row["credential"]) == (
        "tts.synthesize", "anonymous", "inworld", "workspace"
    )  # fmt: skip
    assert (row["ending"], row["code"], row["would_refuse"], row["websocket"]) == ("answered", None, None, False)
    assert (row["request_bytes"], row["response_bytes"]) == (len(SAID), len(SAID))
    assert (row["reused"], row["retried"], row["inworld_request_id"]) == (False, False, "r-1")
    detail = await inspected.detail(1)
    assert detail["row"] == row
    heads = {name: dict(pairs) for name, pairs in detail["headers"].items()}
    assert heads["received"] == {
        "Host": "127.0.0.1", "Content-Type": "text/plain", "Cookie": "…", "Content-Length": str(len(SAID))
    }  # fmt: skip
    assert heads["sent"]["Host"] == inspected.proxy.server.snapshot.upstreams["inworld"].authority
    assert heads["sent"]["Authorization"] == "Basic …"
    assert "Cookie" not in heads["sent"]
    assert heads["answered"]["Set-Cookie"] == "…"
    assert heads["returned"]["Content-Type"] == "audio/wav"
    assert "Set-Cookie" not in heads["returned"]
    assert detail["lines"] == {
        "received": "POST /tts/v1/voice?a=1 HTTP/1.1", "sent": "POST /tts/v1/voice?a=1 HTTP/1.1",
        "answered": "HTTP/1.1 200", "returned": "HTTP/1.1 200",
    }  # fmt: skip
    assert "may do tts.synthesize" in detail["decision"]
    assert "The route routes[0] serves it: upstream inworld" in detail["decision"]
    assert "credential workspace (api-key, a standard key with voices read, router read)" in detail["decision"]
    assert "Answered with 200." in detail["decision"]


async def test_what_is_shown_as_sent_is_what_the_upstream_got(inspected: Inspected) -> None:
    fields = ("Accept: */*", "User-Agent: test/1", "X-Forwarded-For: 1.2.3.4", "Content-Type: text/plain")
    seen = await inspected.proxy.pass_head(request("POST /tts/v1/voice", *fields, body=SAID))
    shown = (await inspected.detail(1))["headers"]["sent"]
    assert [name for name, _ in shown] == [name for name, _ in seen.fields]
    assert [value for name, value in shown if name != "Authorization"] == [
        value for name, value in seen.fields if name != "Authorization"
    ]


async def test_of_a_head_that_came_again_each_request_has_its_own_length(inspected: Inspected) -> None:
    inspected.proxy.upstream.always(OK)
    caller = await inspected.proxy.caller()
    for size in (3, 11):
        await caller.send(request("POST /tts/v1/voice", body=b"x" * size))
        await caller.message()
    for number, size in ((1, "3"), (2, "11")):
        heads = (await inspected.detail(number))["headers"]
        assert dict(heads["received"])["Content-Length"] == dict(heads["sent"])["Content-Length"] == size


async def test_a_tunnel_is_a_row_when_it_ends(inspected: Inspected) -> None:
    caller = await inspected.proxy.caller()
    await caller.send(HANDSHAKE)
    upstream = await inspected.proxy.upstream.accept()
    await upstream.message()
    await upstream.send(SWITCH)
    await caller.head()
    assert await inspected.rows() == []
    upstream.close()
    caller.close()
    await inspected.proxy.metrics.until(lambda m: m.in_flight == 0)
    row = await inspected.newest()
    assert (row["status"], row["websocket"], row["operation"]) == (101, True, "realtime.session")
    detail = await inspected.detail(1)
    assert "The WebSocket opened (101) and is closed." in detail["decision"]
    assert dict(detail["headers"]["sent"])["Upgrade"] == "websocket"
    assert dict(detail["headers"]["returned"])["Upgrade"] == "websocket"


async def test_of_more_open_tunnels_than_are_kept_the_heads_are_not(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(keep=1)
    callers = []
    for _ in range(2):
        caller = await inspected.proxy.caller()
        await caller.send(HANDSHAKE)
        upstream = await inspected.proxy.upstream.accept()
        await upstream.message()
        await upstream.send(SWITCH)
        await caller.head()
        callers.append(caller)
    kept = [tunnel.record.evidence is not None for tunnel in inspected.proxy.server.tunnels]
    assert sorted(kept) == [False, True]


# -- what was refused -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, bytes, str | None]] = [
    ("bad_request", b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", None),
    ("version_not_supported", b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", None),
    ("ambiguous_target", request("GET /voices/../x"), "/voices/../x"),
    ("no_operation", request("GET /nowhere"), "/nowhere"),
    ("method_not_allowed", request("PUT /tts/v1/voice"), "/tts/v1/voice"),
    ("method_not_allowed", request("TRACE /tts/v1/voice"), "/tts/v1/voice"),
    ("write_not_permitted", request("DELETE /voices/v1/voices/me"), "/voices/v1/voices/me"),
    ("token_mint_refused", request("POST /auth/v1/tokens"), "/auth/v1/tokens"),
    ("upgrade_required", request("GET /api/v1/realtime/session"), "/api/v1/realtime/session"),
    ("host_not_allowed", request(MODELS, host="evil.example"), "/llm/v1alpha/models"),
    ("origin_not_allowed", request(MODELS, "Origin: https://evil.example"), "/llm/v1alpha/models"),
    ("cross_site_request", request(MODELS, "Sec-Fetch-Site: cross-site"), "/llm/v1alpha/models"),
    ("target_too_long", b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", None),
    ("head_too_large", b"GET /x HTTP/1.1\r\nX: " + b"x" * 40000 + b"\r\n\r\n", None),
    ("bad_request", request("POST /tts/v1/voice", "Transfer-Encoding: gzip"), None),
    (
        "origin_not_allowed",
        request("OPTIONS /tts/v1/voice", "Origin: https://evil.example", "Access-Control-Request-Method: POST"),
        "/tts/v1/voice",
    ),
]


@pytest.mark.parametrize(("code", "raw", "path"), REFUSED, ids=lambda value: str(value)[:40])
async def test_whatever_is_refused_is_shown_with_why_and_what_to_change(
    inspected: Inspected, code: str, raw: bytes, path: str | None
) -> None:
    got = await inspected.proxy.ask(raw)
    row = await inspected.newest()
    assert (row["code"], row["status"], row["ending"]) == (code, got.head.status, "refused")
    assert row["path"] == (path or "")
    detail = await inspected.detail(row["id"])
    assert f"{got.head.status} {code}:" in detail["decision"]
    told = json.loads(got.content)
    assert told.get("error", told)["message"] in detail["decision"]
    assert REMEDIES[Code(code)] in detail["decision"]
    assert detail["headers"]["sent"] is detail["headers"]["answered"] is None
    assert dict(detail["headers"]["returned"])["Proxy-Status"].endswith(f'details="{code}"')
    assert detail["lines"]["returned"] == f"HTTP/1.1 {got.head.status}"
    (reason,) = (await inspected.state())["refusals"]
    assert (reason["code"], reason["count"], reason["audit"]) == (code, 1, False)
    assert reason["what_to_change"] == REMEDIES[Code(code)]


async def test_who_is_not_known_and_who_is_not_granted_are_shown(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(tokens={"store": TOKEN})
    await inspected.proxy.ask(request(MODELS))
    await inspected.proxy.ask(request(MODELS, "Authorization: Bearer some-other-token-0123456789"))
    server = inspected.proxy.server
    server.adopt(enforce(frozenset({"tts.synthesize"}))(server.snapshot))
    await inspected.proxy.ask(request(MODELS, AS_STORE))
    rows = await inspected.rows()
    assert [(row["code"], row["caller"]) for row in rows] == [
        ("caller_required", None), ("unknown_caller", None), ("operation_not_granted", "store")
    ]  # fmt: skip
    assert "nobody that is known (from 127.0.0.1)" in (await inspected.detail(1))["decision"]
    assert (await inspected.detail(1))["explain"] is None, "nobody knows as whom"
    third = await inspected.detail(3)
    assert "add it to callers.store.allow" in third["decision"]
    assert third["explain"] == "inworld-proxy explain GET /llm/v1alpha/models --config tests --as store"


async def test_a_rate_and_a_concurrency_that_are_used_up_are_shown_with_what_is_left(inspectors: Inspectors) -> None:
    limits = CallerLimits(rate=0.5, concurrent=1)
    inspected = await inspectors.start(tokens={"store": TOKEN}, limits=limits)
    before = (await inspected.state())["callers"]
    assert before == [
        {"name": "store", "in_flight": 0, "waiting": 0, "limits": "30 requests a minute, 1 at once after a pause; "
         "1 in flight", "left": "1 of 1 at once, 1 of 1 in flight"}
    ]  # fmt: skip
    caller = await inspected.proxy.caller()
    await caller.send(request(MODELS, AS_STORE))
    upstream = await inspected.proxy.upstream.accept()
    await upstream.message()
    (during,) = (await inspected.state())["callers"]
    assert (during["in_flight"], during["left"]) == (1, "0 of 1 at once, 0 of 1 in flight")
    await inspected.proxy.ask(request(MODELS, AS_STORE))
    await upstream.send(OK)
    await caller.message()
    await inspected.proxy.ask(request(MODELS, AS_STORE))
    assert [row["code"] for row in await inspected.rows()] == ["concurrency_limited", None, "rate_limited"]
    assert "may send 30 requests a minute" in (await inspected.detail(3))["decision"]
    assert dict((await inspected.detail(3))["headers"]["returned"])["Retry-After"].isdigit()


async def test_what_one_process_has_no_room_for_is_shown(inspectors: Inspectors) -> None:
    inspected = await inspectors.start(lambda snapshot: replace(snapshot, limits=Limits(in_flight=1, connections=2)))
    first = await inspected.proxy.caller()
    await first.send(request(MODELS))
    await (await inspected.proxy.upstream.accept()).message()
    second = await inspected.proxy.caller()
    await second.send(request(MODELS))
    assert (await second.message()).head.status == 503
    assert (await (await inspected.proxy.caller()).message()).head.status == 503
    assert (await inspected.newest())["code"] == "in_flight_limited"
    counted = {one["code"]: (one["count"], one["operation"]) for one in (await inspected.state())["refusals"]}
    assert counted == {"in_flight_limited": (1, "models.list"), "connections_limited": (1, None)}


async def test_in_audit_mode_it_is_shown_what_enforce_would_refuse(inspectors: Inspectors) -> None:
    change = enforce(frozenset({"tts.synthesize"}), Mode.AUDIT)
    inspected = await inspectors.start(change, tokens={"store": TOKEN})
    await inspected.proxy.pass_on(request(MODELS, AS_STORE))
    row = await inspected.newest()
    assert (row["status"], row["code"], row["would_refuse"]) == (200, None, "operation_not_granted")
    decision = (await inspected.detail(1))["decision"]
    assert "Only because the mode is audit: enforce would refuse it with operation_not_granted." in decision
    assert "allow grants" not in decision
    (reason,) = (await inspected.state())["refusals"]
    assert (reason["code"], reason["caller"], reason["audit"]) == ("operation_not_granted", "store", True)
    assert (await inspected.state())["mode"] == "audit"


async def test_refusals_are_counted_by_reason_the_newest_first(inspected: Inspected) -> None:
    for line in ("GET /nowhere", "POST /auth/v1/tokens", "GET /nowhere-else", "GET /nowhere"):
        await inspected.proxy.ask(request(line))
    counted = [(one["code"], one["count"], one["operation"]) for one in (await inspected.state())["refusals"]]
    assert counted == [("no_operation", 3, None), ("token_mint_refused", 1, "auth.create_token")]


# -- what failed ------------------------------------------------------------------------------------------------------


async def test_an_upstream_that_is_not_there_is_shown(inspected: Inspected) -> None:
    inspected.proxy.upstream.stop_listening()
    assert (await inspected.proxy.ask(request(MODELS))).head.status == 502
    row = await inspected.newest()
    assert (row["code"], row["ending"], row["first_byte_ms"]) == ("upstream_connect_failed", "failed", None)
    detail = await inspected.detail(1)
    assert detail["headers"]["sent"] is None, "nothing was"
    assert "may do models.list" in detail["decision"]
    assert "Failed with 502 upstream_connect_failed: No connection to the upstream could be made." in detail["decision"]
    assert REMEDIES[Code.UPSTREAM_CONNECT_FAILED] in detail["decision"]
    assert [one["code"] for one in (await inspected.state())["refusals"]] == ["upstream_connect_failed"]


async def test_an_answer_that_breaks_off_and_a_caller_that_leaves_are_shown(inspected: Inspected) -> None:
    caller = await inspected.proxy.caller()
    await caller.send(request(MODELS))
    upstream = await inspected.proxy.upstream.accept()
    await upstream.message()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    upstream.close()
    await caller.until_broken()
    other = await inspected.proxy.caller()
    await other.send(request(MODELS))
    await (await inspected.proxy.upstream.accept()).message()
    other.close()
    await inspected.proxy.metrics.until(lambda m: m.in_flight == 0)
    rows = await inspected.rows()
    assert [(row["ending"], row["code"], row["status"]) for row in rows] == [
        ("aborted", "upstream_closed", 200), ("caller_gone", None, 499)
    ]  # fmt: skip
    assert "Cut, after it had begun" in (await inspected.detail(1))["decision"]
    assert "The caller left before it was over." in (await inspected.detail(2))["decision"]
    assert (await inspected.detail(2))["headers"]["answered"] is None


# -- never ------------------------------------------------------------------------------------------------------------

EXCHANGES: list[tuple[bytes, bytes]] = [
    (UPLOAD, response("200 OK", body=SAID)),
    (request("POST /tts/v1/voice", "Transfer-Encoding: chunked", body=b"") + chunked(SAID), response("200 OK")),
    (UPLOAD, response("404 Not Found", body=SAID)),
    (UPLOAD, response("503 Service Unavailable", body=SAID * 4000)),
    (UPLOAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(SAID)),
]


def _everything_kept(inspected: Inspected) -> str:
    """All texts and bytes that can be reached from the ring, whatever may be shown of them."""
    found: list[str] = []
    seen: set[int] = set()

    def visit(value: Any, depth: int = 0) -> None:
        if id(value) in seen or depth > 6:
            return
        seen.add(id(value))
        if isinstance(value, bytes):
            found.append(value.decode("latin-1"))
        elif isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            for each in (*value, *value.values()):
                visit(each, depth + 1)
        elif isinstance(value, list | tuple | set | frozenset):
            for each in value:
                visit(each, depth + 1)

    for record in inspected.proxy.server.trail.after(0):
        for name in ("path", "method", "request_id", "peer"):
            visit(getattr(record, name))
        if record.evidence is not None:
            for name in ("received", "answered", "returned", "head", "denied"):
                visit(getattr(record.evidence, name))
    return "\n".join(found)


@pytest.mark.parametrize(("raw", "answer"), EXCHANGES)
async def test_no_body_is_shown_or_kept(inspected: Inspected, raw: bytes, answer: bytes) -> None:
    async with inspected.stream() as stream:
        await inspected.proxy.pass_on(raw, answer)
        await stream.rows(1)
        await stream.until("state")
        told = stream.raw.decode()
    told += json.dumps(await inspected.detail(1), ensure_ascii=False)
    assert SAID.decode() not in told
    assert SAID.decode() not in _everything_kept(inspected)


async def test_the_credential_is_neither_shown_nor_kept_even_if_the_upstream_repeats_it(inspected: Inspected) -> None:
    answer = response("200 OK", f"X-Echo: Basic {KEY}", f"Server: {KEY}", CLOSE)
    await inspected.proxy.pass_on(request(MODELS), answer)
    await inspected.proxy.pass_on(request(MODELS), response("401 Unauthorized", f"X-Echo: {KEY}", body=KEY.encode()))
    for number in (1, 2):
        assert KEY not in json.dumps(await inspected.detail(number))
    kept = _everything_kept(inspected)
    assert KEY not in kept
    assert "key-id:key-secret" not in kept


async def test_a_long_head_is_not_kept_but_its_row_is(inspected: Inspected) -> None:
    await inspected.proxy.pass_on(request(MODELS, "X-Long: " + "x" * LONGEST_KEPT), response("200 OK", CLOSE))
    await inspected.proxy.pass_on(request(MODELS), response("200 OK", "X-Long: " + "x" * LONGEST_KEPT))
    first, second = await inspected.detail(1), await inspected.detail(2)
    assert first["headers"]["received"] is first["headers"]["sent"] is None
    assert "The route routes[0] serves it" in first["decision"]
    assert first["row"]["status"] == 200
    assert second["headers"]["answered"] is second["headers"]["returned"] is None
    assert second["headers"]["sent"] is not None
    assert len(_everything_kept(inspected)) < 2 * LONGEST_KEPT


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [("GET /v1/x'y", "no_operation"), ("POST /tts/v1/voice?key=abc", "allowed"),
     ("DELETE /voices/v1/voices/a", "write_not_permitted")],
)  # fmt: skip
async def test_the_command_explains_the_same_request(inspected: Inspected, line: str, says: str) -> None:
    """Run as it stands, but for the file: that of the tests is none."""
    caller = await inspected.proxy.caller()
    await caller.send(request(line))
    if says == "allowed":
        upstream = await inspected.proxy.upstream.accept()
        await upstream.message()
        await upstream.send(OK)
    await caller.message()
    words = shlex.split((await inspected.detail(1))["explain"])
    assert words[:2] == ["inworld-proxy", "explain"]
    assert words[-2:] == ["--config", "tests"]
    result = CliRunner().invoke(main, words[1:-2])
    assert says in result.output
    assert "abc" not in " ".join(words)


@pytest.mark.parametrize("method", ["`id`", "GET|id", "GET&id", "$HOME", "A'id'", "!!"])
async def test_a_method_that_a_shell_would_run_is_one_word_of_the_command(inspected: Inspected, method: str) -> None:
    await inspected.proxy.ask(request(f"{method} /v1/x"))
    command = (await inspected.detail(1))["explain"]
    words = ["inworld-proxy", "explain", method, "/v1/x", "--config", "tests"]
    assert shlex.split(command) == words
    assert shlex.join(words) == command, "every word is quoted that has to be"


async def test_a_method_that_would_be_an_option_of_the_command_has_none(inspected: Inspected) -> None:
    await inspected.proxy.ask(request("--help /v1/x"))
    assert (await inspected.detail(1))["explain"] is None


async def test_without_a_file_the_command_says_what_the_key_may(inspectors: Inspectors) -> None:
    def change(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, source="environment")

    inspected = await inspectors.start(change, power=replace(READ_ONLY, voices=READ_ONLY.voices.__class__.WRITE))
    await inspected.proxy.pass_on(request(MODELS))
    command = (await inspected.detail(1))["explain"]
    assert command == "inworld-proxy explain GET /llm/v1alpha/models --voices write"


# -- credentials that have ended --------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_factories=["clock"])
async def test_a_credential_that_a_reload_took_away_is_not_held_by_what_is_kept(
    inspectors: Inspectors, clock: ClockLoop
) -> None:
    inspected = await inspectors.start()
    await inspected.proxy.pass_on(request(MODELS))
    await inspected.proxy.ask(request("POST /auth/v1/tokens"))
    assert (await inspected.detail(1))["headers"]["sent"] is not None
    server = inspected.proxy.server
    old = server.snapshot
    credential = ApiKey("workspace", Secret(KEY), READ_ONLY)
    route = replace(old.routes[0], credential=credential)
    anonymous = replace(old.policy.anonymous, routes=dict.fromkeys(old.policy.operations, route))  # type: ignore[type-var]
    server.adopt(with_policy(replace(old, credentials={"workspace": credential}, routes=(route,)), anonymous=anonymous))
    await clock.advance(RETIRED_FOR + 1)
    first, second = await inspected.detail(1), await inspected.detail(2)
    assert "It was served by upstream inworld with credential workspace." in first["decision"]
    assert first["headers"]["sent"] is None
    assert first["headers"]["received"] is not None
    assert "Minting a token hands over all the power" in second["decision"]
    for record in server.trail.after(0):
        assert record.evidence is not None
        assert record.evidence.decision is None
        assert record.evidence.denied is None or record.evidence.denied.route is record.evidence.denied.caller is None
