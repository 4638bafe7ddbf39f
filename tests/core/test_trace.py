"""Whatever a caller says about ids, one valid ``traceparent`` and one valid ``X-Request-Id`` go out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.headers import sort_request_lines
from proxy.core.trace import NOTHING_SAID, TraceContext, onward_lines, read_context, request_id_line

TRACE, PARENT, OURS = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


def said(*lines: str) -> TraceContext:
    fields = sort_request_lines([line.encode("latin-1") for line in lines])
    assert fields is not None
    assert fields[2] is None
    return read_context(fields[1])


@pytest.mark.parametrize(
    "value",
    ["1", "a" * 128, "7f0c3a52-6f1b-4c0e-9d2e-1f2a3b4c5d6e", "01JD3Z9W2V", "Root=1-67891233-abcdef012345678912345678",
     "dGhl+/Zm9v==", "svc:eu/1~2@host_3"],
)  # fmt: skip
def test_a_usable_request_id_is_the_callers(value: str) -> None:
    assert said(f"X-Request-Id: {value}").request_id == value


@pytest.mark.parametrize(
    "value",
    ["", "a" * 129, "a b", "a,b", "a;b", 'a"b', "a'b", "a\\b", "a\tb", "{a}", "a%0d%0a", "ä", "<script>", "$(id)",
     "a|b", "a\x7f", "a\r\nX: y", "a\n", "a\0"],
)  # fmt: skip
def test_a_request_id_that_could_be_more_than_an_id_is_none(value: str) -> None:
    assert read_context({b"x-request-id": value.encode("latin-1")}).request_id == ""


@pytest.mark.parametrize(
    "shown",
    ["Authorization: Bearer tok-1", "Authorization: Basic dG9rLTE=", "Authorization: Basic bmFtZTp0b2stMQ==",
     "X-Api-Key: tok-1", "Sec-WebSocket-Protocol: realtime, bearer_tok-1"],
)  # fmt: skip
def test_the_token_that_a_caller_shows_is_no_id(shown: str) -> None:
    token = "dG9rLTE=" if shown.endswith("Basic dG9rLTE=") else "tok-1"
    for value in (token, f"id/{token}/2"):
        assert said(shown, f"X-Request-Id: {value}").request_id == ""
    assert said(shown, "X-Request-Id: r-1").request_id == "r-1"
    assert said("Authorization: Bearer", "X-Request-Id: r-1").request_id == "r-1"


def test_a_request_id_that_came_twice_is_none() -> None:
    assert said("X-Request-Id: a", "x-request-id: a").request_id == ""


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_a_valid_traceparent_is_kept(flags: str) -> None:
    context = said(f"traceparent: 00-{TRACE}-{PARENT}-{flags}")
    assert (context.trace_id, context.parent_id, context.flags) == (TRACE, PARENT, flags)
    assert context.sampled is (flags in {"01", "03"})


def test_flags_that_nobody_knows_are_not_passed_on() -> None:
    assert said(f"traceparent: 00-{TRACE}-{PARENT}-ff").flags == "03"


@pytest.mark.parametrize(
    "value",
    ["", "00", VALID[:-1], f"{VALID}-", f"{VALID}-more", f"{VALID}0", VALID.upper(), f"ff{VALID[2:]}", f"0{VALID}",
     f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{PARENT}-01",
     f"00_{TRACE}_{PARENT}_01", f"00-{TRACE}-{PARENT}-0g", f"cc-{TRACE}-{PARENT}-01.more", f"{VALID}, {VALID}",
     f"00 -{TRACE}-{PARENT}-01"],
)  # fmt: skip
def test_an_invalid_traceparent_is_none(value: str) -> None:
    assert said(f"traceparent: {value}", "tracestate: a=b").trace_id == ""


@pytest.mark.parametrize("first", [VALID, f"01-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01-x"])
def test_a_traceparent_that_came_twice_is_none(first: str) -> None:
    assert said(f"traceparent: {first}", f"Traceparent: {VALID}").trace_id == ""


@pytest.mark.parametrize("value", [f"cc-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01-what-the-future-holds"])
def test_of_a_later_version_what_is_known_is_read_and_goes_out_as_version_00(value: str) -> None:
    context = said(f"traceparent: {value}")
    assert onward_lines(context, "r", context.trace_id, context.parent_id, recorded=False).startswith(
        f"traceparent: 00-{TRACE}-{PARENT}-01\r\n".encode()
    )


def test_a_state_is_kept_with_its_parent_and_its_lines_are_joined() -> None:
    context = said(f"traceparent: {VALID}", "tracestate: rojo=00f067aa0ba902b7,, t@v=a b ", "tracestate:\tcongo=t61\t")
    assert context.state == b"tracestate: rojo=00f067aa0ba902b7,t@v=a b,congo=t61\r\n"


@pytest.mark.parametrize(
    "state",
    ["", ",", "a", "A=1", "a=", "a=b=c", "a=\xe4", "=b", " a =b", "a" * 257 + "=1", "a=" + "b" * 257, "a=b;c=d,e",
     ",".join(f"k{number}=1" for number in range(33)), ",".join(f"k{number}={'v' * 60}" for number in range(10))],
)  # fmt: skip
def test_a_state_that_is_malformed_or_too_long_is_dropped_whole_and_the_trace_stays(state: str) -> None:
    context = said(f"traceparent: {VALID}", f"tracestate: {state}")
    assert (context.trace_id, context.state) == (TRACE, b"")


def test_a_state_without_a_trace_is_dropped() -> None:
    assert said("tracestate: a=b").state == b""
    assert said("traceparent: x", "tracestate: a=b").state == b""


def test_a_span_of_ours_becomes_the_parent_and_is_said_to_be_recorded() -> None:
    for flags, recorded in (("00", "01"), ("01", "01"), ("02", "03")):
        context = said(f"traceparent: 00-{TRACE}-{PARENT}-{flags}", "tracestate: a=b")
        assert onward_lines(context, "r", TRACE, OURS, recorded=True) == (
            f"traceparent: 00-{TRACE}-{OURS}-{recorded}\r\nX-Request-Id: r\r\ntracestate: a=b\r\n".encode()
        )


def test_nothing_said_is_read_as_nothing() -> None:
    assert said("Host: a", "Accept: b") is NOTHING_SAID


HOSTILE = st.one_of(
    st.binary(max_size=600),
    st.text("0123456789abcdef-, \t\r\n", max_size=80).map(str.encode),
    st.sampled_from([VALID.encode(), b"a=b", b"usable", b"a" * 5000, VALID.encode() + b"\r\nHost: evil"]),
)
LINES = re.compile(
    rb"traceparent: 00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]\r\n"
    rb"X-Request-Id: [A-Za-z0-9._~:/+=@-]{1,128}\r\n(tracestate: [ -~]{3,512}\r\n)?"
)


@given(st.dictionaries(st.sampled_from([b"x-request-id", b"traceparent", b"tracestate"]), HOSTILE), st.booleans())
def test_whatever_is_sent_what_goes_out_is_one_valid_line_of_each(noted: dict[bytes, bytes], recorded: bool) -> None:
    context = read_context(noted)
    trace_id, span_id = context.trace_id or TRACE, OURS if recorded else context.parent_id or PARENT
    request_id = context.request_id or trace_id
    lines = onward_lines(context, request_id, trace_id, span_id, recorded=recorded)
    assert LINES.fullmatch(lines), lines
    assert re.fullmatch(rb"X-Request-Id: [A-Za-z0-9._~:/+=@-]{1,128}\r\n", request_id_line(request_id))
