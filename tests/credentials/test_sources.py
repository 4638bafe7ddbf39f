"""Secrets come from the environment or from a file, or there is a fault that says what to do."""

from pathlib import Path

import pytest

from proxy.credentials.secret import SecretError
from proxy.credentials.sources import LARGEST_FILE, EnvironmentSource, FileSource, parse_source, read_source


def test_sources_are_read_as_they_are_spelled() -> None:
    assert parse_source("env:INWORLD_API_KEY") == EnvironmentSource("INWORLD_API_KEY")
    assert parse_source("file:/run/secrets/key") == FileSource(Path("/run/secrets/key"))
    assert str(parse_source("file:/run/secrets/key")) == "file:/run/secrets/key"
    assert str(parse_source("env:A")) == "env:A"


@pytest.mark.parametrize(
    "text",
    ["", "aHVudGVyMjpzZWNyZXQ=", "env:", "env:A-B", "env:$A", "file:", "file:relative", "file:/dir/", "exec:pass show",
     "ENV:A", None, 7, ["exec"]],
)  # fmt: skip
def test_anything_else_is_refused_without_being_quoted(text: object) -> None:
    with pytest.raises(SecretError) as raised:
        parse_source(text)
    assert "env:NAME" in raised.value.remedy or "file:/absolute/path" in raised.value.remedy
    if text not in ("", "env:", "file:"):
        assert str(text) not in str(raised.value)


def test_a_variable_is_read_as_it_is() -> None:
    assert read_source(EnvironmentSource("A"), {"A": " x\n"}).reveal() == " x\n"


@pytest.mark.parametrize(("environ", "found"), [({}, "is not set"), ({"A": ""}, "is empty")])
def test_a_missing_or_empty_variable_is_a_fault(environ: dict[str, str], found: str) -> None:
    with pytest.raises(SecretError) as raised:
        read_source(EnvironmentSource("A"), environ)
    assert f"the environment variable A {found}" in raised.value.found


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"x", "x"), (b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n"), (b"\nx", "\nx"), (b" x ", " x "), (b"x\r", "x\r")],
)
def test_exactly_one_line_end_is_taken_off_a_file(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_source(FileSource(tmp_path / "key"), {}).reveal() == secret


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text"),
        (b"x" * (LARGEST_FILE + 1), "larger than any secret"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_fault(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretError) as raised:
        read_source(FileSource(tmp_path / "key"), {})
    assert found in raised.value.found
    assert raised.value.remedy


def test_a_missing_file_and_a_directory_are_faults(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="does not exist"):
        read_source(FileSource(tmp_path / "none"), {})
    with pytest.raises(SecretError, match="is a directory"):
        read_source(FileSource(tmp_path), {})
    (tmp_path / "key").write_text("x")
    with pytest.raises(SecretError, match="cannot be read"):
        read_source(FileSource(tmp_path / "key" / "below"), {})
