"""One YAML text: its values, where they stand, and what is wrong with it."""

import pytest

from proxy.document import Document, Place, choose_from, quoted, read_document, spell_path, without_keys


def read(text: str) -> Document:
    return read_document(text, file="a.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("yes", "yes"), ("no", "no"), ("12:30", "12:30"), ("0x10", "0x10"),
        ("2026-11-21", "2026-11-21"),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("7", 7), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ('"7"', "7"), ("'true'", "true"),
        ("1" * 40, "1" * 40),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert read(f"key: {text}").value == {"key": value}


def test_each_value_knows_its_line_and_column() -> None:
    document = read("one: 1\ntwo:\n  - a\n  - {three: 3}\n")
    assert document.place(("two", 1, "three")) == Place("a.yaml", 4, 6)
    assert document.place(("two", 0)) == Place("a.yaml", 3, 5)


def test_a_value_that_is_not_there_has_the_place_of_what_would_hold_it() -> None:
    fault = read("one:\n  two: {}\n").fault(("one", "two", "missing"), "nothing", "add it")
    assert str(fault) == "a.yaml:2:3: one.two.missing: nothing; add it"


def test_a_key_written_twice_is_a_fault_that_names_the_first() -> None:
    document = read("one:\n  a: 1\n  b: 2\n  a: 3\n")
    (fault,) = document.faults
    assert (fault.line, fault.path) == (4, "one.a")
    assert "second time (first on line 2)" in fault.found
    assert document.value == {"one": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ok: 1\na: [1,\n  2\n\n", 2),
        ("a: [1 2\nb: 3", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: b: c", 1),
        ("a: 1\n---\nb: 2", 2),
        ("ok: 1\na: *nowhere", 2),
        ("a: !one!two 3", 1),
        ('a: "x', 1),
        ("a: 1\nb: \x07", 2),
    ],
)
def test_what_is_not_yaml_is_one_fault_with_its_line(text: str, line: int) -> None:
    document = read(text)
    (fault,) = document.faults
    assert not document.readable
    assert fault.line == line
    assert fault.remedy


def test_a_syntax_fault_does_not_quote_the_text() -> None:
    (fault,) = read("secret: *hunter2\n").faults
    assert "hunter2" not in str(fault)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: !!python/object:os.system x", "tag"),
        ("? [a]\n: 1", "key that is not text"),
        ('"": 1', "key that is not text"),
        ("a: &x [*x]", "alias"),
    ],
)
def test_yaml_that_a_configuration_has_no_use_for_is_a_fault(text: str, found: str) -> None:
    (fault,) = read(text).faults
    assert found in fault.found
    assert fault.line == 1


def test_an_anchor_may_be_used_twice() -> None:
    document = read("a: &x [1]\nb: *x")
    assert document.value == {"a": [1], "b": [1]}
    assert document.faults == ()


def test_a_document_nested_beyond_reason_is_a_fault() -> None:
    document = read("[" * 5000 + "]" * 5000)
    assert not document.readable
    assert "deep" in document.faults[0].found


def test_an_empty_text_is_an_empty_mapping() -> None:
    assert read("# nothing\n").value == {}


def test_a_value_from_elsewhere_keeps_its_own_place() -> None:
    document = read("log: {level: all}").with_value(("log", "format"), "x", Place("command line", label="--log-format"))
    assert document.value == {"log": {"level": "all", "format": "x"}}
    assert str(document.fault(("log", "format"), "`x`", "write `text`")) == (
        "command line: --log-format: `x`; write `text`"
    )


def test_paths_are_spelled_as_people_say_them() -> None:
    assert spell_path(("routes", 0, "operations", 2)) == "routes[0].operations[2]"


def test_the_remedy_for_an_unknown_word_is_the_nearest_known_one_or_all() -> None:
    assert choose_from("lisen", ["listen", "admin"]) == "write `listen`"
    assert choose_from("zzz", ["listen", "admin"]) == "write one of `admin`, `listen`"


def test_quoted_values_are_short_and_printable() -> None:
    assert quoted("a\x1b[31m") == "`a?[31m`"
    assert len(quoted("x" * 500)) < 90
    assert quoted({"a": 1}) == "a mapping"


@pytest.mark.parametrize(
    "text",
    [
        "`a3J5LWlkOnRoZS1zZWNyZXQtb2YtaXQ=`", "/a3J5LWlkOnRoZS1zZWNyZXQtb2YtaXQ=",
        "Basic a3J5LWlkOnRoZS1zZWNyZXQtb2YtaXQ",
        "WVROS05VeFhiR3RQYmxKdldsTXhlbHBYVG5sYVdGRTk=", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzb21lYm9keSJ9.c2lnbmF0dXJl",
    ],
)  # fmt: skip
def test_what_looks_like_a_key_or_a_token_is_left_out_of_a_fault(text: str) -> None:
    fault = read("one: 1\n").fault(("one",), f"the value {text}", f"write no {text}")
    assert "…" in fault.found
    assert "a3J5" not in str(fault)
    assert "WVROS" not in str(fault)
    assert "eyJ" not in str(fault)


@pytest.mark.parametrize(
    "text",
    [
        "/etc/inworld-proxy/config.yaml", "/var/run/secrets/inworld/realtime-only-key", "operation_not_granted_to_all",
        "https://upstream-with-a-long-name.example:8443", "sha256:" + "9f86d081884c7d65" * 4, "tts.synthesize_stream",
    ],
)  # fmt: skip
def test_names_paths_and_digests_stay_in_a_fault(text: str) -> None:
    assert without_keys(text) == text
