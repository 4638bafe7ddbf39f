"""A catalogue file of the user's own is read completely, and found fault with completely."""

import pytest

from proxy.catalogue.load import Catalogue, can_lead_below, load_catalogue
from proxy.core.model import ErrorShape, Kind, Operation, Permission
from proxy.document import Fault

GOOD = """
name: example
protected:
  - {prefix: /voices/v1/, permission: voices}
default_errors:
  - {prefix: /v1/, shape: openai}
families:
  tts: {permission: none, errors: grpc}
operations:
  tts.speak: {methods: POST, path: "/tts/{id}:speak", errors: openai}
  tts.socket: {methods: [GET], path: /socket, kind: websocket, keeps_query: [key]}
"""

FAULTS = [
    ("tts.two: {methods: [POST], path: /two, pth: 1}", "unknown key `pth`", "write `path`"),
    ("tts.two: {methods: [FETCH], path: /two}", "method `FETCH`", "write"),
    ("tts.two: {methods: [post], path: /two}", "method `post`", "write `POST`"),
    ("tts.two: {path: /two}", "no methods", "methods: [POST]"),
    ("tts.two: {methods: [POST]}", "nothing", "path: /tts/v1/voice"),
    ("tts.two: {methods: [POST], path: two}", "must start with /", "change this row"),
    ("tts.two: {methods: [POST], path: '/a/{b=**}/c'}", "must be last", "change this row"),
    ("tts.two: {methods: [GET, POST], path: /two, kind: websocket}", "websocket with other", "methods: [GET]"),
    ("tts.two: {methods: [GET], path: /two, kind: websockets}", "`websockets`", "write `websocket`"),
    ("tts.two: {methods: [GET], path: /two, errors: xml}", "`xml`", "write one of `anthropic`"),
    ("other.two: {methods: [GET], path: /two, errors: grpc}", "nothing", "write one of `mint`"),
    ("two: {methods: [GET], path: /two}", "not family.verb", "a dot between"),
    ("tts.two: [GET, /two]", "a list", "write a mapping"),
    ("tts.two: {methods: [1], path: /two}", "a number", "write a word"),
    ("tts.two: {methods: [GET], path: /one}", "already the operation tts.one", "change this row"),
    ("tts.two: {methods: [GET], path: /voices/v1/x}", "below /voices/v1/", "permission: voices"),
    ("tts.two: {methods: [GET], path: '/{any}/v1/x'}", "below /voices/v1/", "permission: voices"),
    ("tts.two: {methods: [GET], path: '/{rest=**}'}", "below /voices/v1/", "permission: voices"),
    ("tts.one: {methods: [GET], path: /two}", "second time", "keep one"),
]


def faults_of(text: str) -> tuple[Fault, ...]:
    result = load_catalogue(text, file="own.yaml")
    assert not isinstance(result, Catalogue)
    return result


def test_an_operation_takes_from_its_family_what_it_does_not_say() -> None:
    catalogue = load_catalogue(GOOD, file="own.yaml")
    assert isinstance(catalogue, Catalogue)
    assert catalogue.operations == (
        Operation(
            "tts.speak", "tts", frozenset({"POST"}), "/tts/{id}:speak", Kind.HTTP, Permission.NONE, ErrorShape.OPENAI
        ),
        Operation(
            "tts.socket", "tts", frozenset({"GET"}), "/socket", Kind.WEBSOCKET, Permission.NONE, ErrorShape.GRPC,
            frozenset({"key"}),
        ),
    )  # fmt: skip
    assert catalogue.default_errors == (("/v1/", ErrorShape.OPENAI),)


@pytest.mark.parametrize(("row", "found", "remedy"), FAULTS)
def test_a_faulty_row_is_named_with_its_line_and_a_remedy(row: str, found: str, remedy: str) -> None:
    text = (
        "name: own\n"
        "protected: [{prefix: /voices/v1/, permission: voices}]\n"
        "families: {tts: {permission: none, errors: grpc}}\n"
        "operations:\n"
        "  tts.one: {methods: [GET], path: /one}\n"
        f"  {row}\n"
    )
    fault = faults_of(text)[0]
    assert (fault.file, fault.line) == ("own.yaml", 6)
    assert found in fault.found
    assert remedy in fault.remedy


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("name: own\noperation: {}\n", 2, "unknown key `operation`"),
        ("name: own\noperations: {}\n", 2, "without operations"),
        ("name: own\nprotected: {}\n", 2, "a mapping"),
        ("name: own\nprotected: [{prefix: voices, permission: voices}]\noperations: {}\n", 2, "`voices`"),
        ("operations:\n  a.b: {methods: GET, path: /a, permission: none, errors: grpc}\n", 1, "nothing"),
        ("- a\n", 1, "a list"),
    ],
)  # fmt: skip
def test_a_faulty_top_level_is_named_with_its_line(text: str, line: int, found: str) -> None:
    fault = faults_of(text)[0]
    assert fault.line == line
    assert found in fault.found


def test_all_faults_are_said_at_once() -> None:
    text = GOOD + "  tts.three: {methods: [PUSH], path: three}\n  tts.four: {method: GET}\n"
    assert {fault.line for fault in faults_of(text)} == {12, 13}


@pytest.mark.parametrize(
    ("template", "below"),
    [
        ("/voices/v1/voices", True),
        ("/voices/{version}/voices", True),
        ("/{a}/{b}/c", True),
        ("/{rest=**}", True),
        ("/voices/{rest=**}", True),
        ("/voices", False),
        ("/voices/v2/voices", False),
        ("/tts/v1/voices", False),
        ("/tts/{rest=**}", False),
        ("/voices/v1:all", False),
    ],
)
def test_a_template_leads_below_a_prefix_when_one_of_its_paths_does(template: str, below: bool) -> None:
    assert can_lead_below(template, "/voices/v1/") is below
