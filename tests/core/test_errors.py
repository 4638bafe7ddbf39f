"""One table of refusals: every code has a status, a phrase and a body that each kind of client can read."""

import json
import re
from pathlib import Path

import pytest

from proxy.core.errors import MESSAGES, OUTCOMES, REASONS, Code, error_body, proxy_status
from proxy.core.model import ErrorShape

REGISTERED = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable", "destination_ip_prohibited",
    "destination_ip_unroutable", "connection_refused", "connection_terminated", "connection_timeout",
    "connection_read_timeout", "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size", "http_response_header_size",
    "http_response_body_size", "http_response_trailer_section_size", "http_response_trailer_size",
    "http_response_transfer_coding", "http_response_content_coding", "http_response_timeout", "http_upgrade_failed",
    "http_protocol_error", "proxy_internal_response", "proxy_internal_error", "proxy_configuration_error",
    "proxy_loop_detected",
}  # fmt: skip
"""The error types that RFC 9209 section 2.3 registers."""

_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*"
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_KEY = r"[a-z*][a-z0-9_\-.*]*"
STRUCTURED = re.compile(rf"{_TOKEN}(?:; *{_KEY}=(?:{_TOKEN}|{_STRING}))*")
"""One member of a List: an Item that is a Token, with parameters (RFC 8941 section 3)."""

every_code = pytest.mark.parametrize("code", Code, ids=lambda code: code.value)
HARD = 'a "quoted" \\ and <b>é — \u2028 \x00 message'


def test_every_code_has_an_outcome_and_nothing_else_has() -> None:
    assert set(OUTCOMES) == set(Code)


def test_codes_are_words_of_one_spelling_and_all_different() -> None:
    assert len({code.value for code in Code}) == len(Code)
    for code in Code:
        assert code.value == code.name.lower()
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code.value)


@every_code
def test_every_code_has_a_status_of_an_error_with_its_reason_phrase(code: Code) -> None:
    status = OUTCOMES[code].status
    assert 400 <= status <= 599
    assert re.fullmatch(r"[A-Z][A-Za-z ]+", REASONS[status])


def test_there_is_no_reason_phrase_that_nothing_needs() -> None:
    assert set(REASONS) == {outcome.status for outcome in OUTCOMES.values()}


@every_code
def test_proxy_status_is_a_structured_field_with_a_registered_error_and_the_code(code: Code) -> None:
    value = proxy_status(code).decode("ascii")
    assert STRUCTURED.fullmatch(value)
    assert value == f'inworld-proxy; error={OUTCOMES[code].proxy_error}; details="{code.value}"'
    assert OUTCOMES[code].proxy_error in REGISTERED


def read(code: Code, shape: ErrorShape, message: str = HARD) -> dict[str, object]:
    body = error_body(code, message, shape)
    assert body.endswith(b"\n")
    assert body.count(b"\n") == 1, "one line: clients of streams read lines"
    value = json.loads(body)
    assert isinstance(value, dict)
    return value


@every_code
def test_clients_of_grpc_style_operations_find_a_code_a_message_and_details(code: Code) -> None:
    body = read(code, ErrorShape.GRPC)
    assert list(body) == ["code", "message", "details"]
    assert body["message"] == HARD
    assert body["code"] in range(1, 17), "a google.rpc.Code other than OK"
    assert body["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code.value, "domain": "inworld-proxy"}
    ]


@every_code
def test_clients_of_grpc_style_streams_find_the_same_under_error(code: Code) -> None:
    assert read(code, ErrorShape.GRPC_STREAM) == {"error": read(code, ErrorShape.GRPC)}


@every_code
def test_clients_of_openai_style_operations_find_message_type_param_and_code_under_error(code: Code) -> None:
    error = read(code, ErrorShape.OPENAI)["error"]
    assert isinstance(error, dict)
    assert (error["message"], error["param"], error["code"]) == (HARD, None, code.value)
    assert re.fullmatch(r"[a-z_]+_error", error["type"])
    assert list(error) == ["message", "type", "param", "code"]


@every_code
def test_clients_of_anthropic_style_operations_find_type_error_with_type_and_message(code: Code) -> None:
    body = read(code, ErrorShape.ANTHROPIC)
    error = body["error"]
    assert isinstance(error, dict)
    assert (body["type"], error["message"], error["code"]) == ("error", HARD, code.value)
    assert error["type"] in {
        "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large",
        "rate_limit_error", "api_error", "overloaded_error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "grpc", "openai", "anthropic"),
    [
        (Code.AMBIGUOUS_TARGET, 3, "invalid_request_error", "invalid_request_error"),
        (Code.CALLER_REQUIRED, 16, "authentication_error", "authentication_error"),
        (Code.WRITE_NOT_PERMITTED, 7, "permission_error", "permission_error"),
        (Code.NO_OPERATION, 5, "not_found_error", "not_found_error"),
        (Code.METHOD_NOT_ALLOWED, 12, "invalid_request_error", "invalid_request_error"),
        (Code.BODY_TOO_LARGE, 3, "invalid_request_error", "request_too_large"),
        (Code.RATE_LIMITED, 8, "rate_limit_error", "rate_limit_error"),
        (Code.INTERNAL, 13, "server_error", "api_error"),
        (Code.UPSTREAM_CLOSED, 14, "server_error", "api_error"),
        (Code.DRAINING, 14, "server_error", "api_error"),
        (Code.UPSTREAM_FIRST_BYTE_TIMEOUT, 4, "server_error", "api_error"),
    ],
    ids=lambda value: value.value if isinstance(value, Code) else str(value),
)
def test_the_kind_of_error_follows_the_status(code: Code, grpc: int, openai: str, anthropic: str) -> None:
    assert read(code, ErrorShape.GRPC)["code"] == grpc
    assert read(code, ErrorShape.OPENAI)["error"]["type"] == openai  # type: ignore[index]  # JSON
    assert read(code, ErrorShape.ANTHROPIC)["error"]["type"] == anthropic  # type: ignore[index]  # JSON


@pytest.mark.parametrize("shape", ErrorShape, ids=lambda shape: shape.value)
def test_a_message_reaches_a_reader_as_it_was_written(shape: ErrorShape) -> None:
    assert "é — " in error_body(Code.INTERNAL, HARD, shape).decode()


def test_a_code_has_its_one_sentence_in_the_table_or_is_written_where_the_decision_is_made() -> None:
    proxy = Path(__file__).parents[2] / "proxy"
    files = ("core/policy.py", "core/recognition.py", "core/browser.py", "limits/gate.py")
    written = "".join((proxy / file).read_text(encoding="utf-8") for file in files)
    for code in Code:
        assert code in MESSAGES or f"Code.{code.name}" in written, f"nothing says what {code.value} means"
    for code, message in MESSAGES.items():
        assert re.fullmatch(r"[A-Z`].*[.`)]", message, re.DOTALL), code
        assert "{" not in message
