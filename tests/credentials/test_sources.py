"""Secrets come from the environment, a file or a command, or there is a fault that says what to do."""

import os
import sys
from pathlib import Path

import pytest

from proxy.credentials.secret import SecretError
from proxy.credentials.sources import (
    EVERY,
    LARGEST_FILE,
    EnvironmentSource,
    ExecSource,
    FileSource,
    check_readers,
    parse_source,
    parse_variable,
    read_source,
)
from tests.credentials.conftest import put


def test_sources_are_read_as_they_are_spelled() -> None:
    assert parse_source("env:INWORLD_API_KEY") == EnvironmentSource("INWORLD_API_KEY")
    assert parse_source("file:/run/secrets/key") == FileSource(Path("/run/secrets/key"))
    assert str(parse_source("file:/run/secrets/key")) == "file:/run/secrets/key"
    assert str(parse_source("env:A")) == "env:A"
    command = parse_source('exec:["vault", "kv", "get", "-field=key", "secret/inworld"]')
    assert command == ExecSource(("vault", "kv", "get", "-field=key", "secret/inworld"), EVERY, ())
    assert str(command) == "exec:vault"


@pytest.mark.parametrize(
    "text",
    ["", "aHVudGVyMjpzZWNyZXQ=", "env:", "env:A-B", "env:$A", "file:", "file:relative", "file:/dir/", "exec:pass show",
     "exec:", "exec:[]", 'exec:["a", 1]', 'exec:[""]', 'exec:["./run"]', 'exec:{"a": 1}',
     'exec:["a\\u0000"]', "exec:" + "[" * 50_000,
     "ENV:A", None, 7, ["exec"]],
)  # fmt: skip
def test_anything_else_is_refused_without_being_quoted(text: object) -> None:
    with pytest.raises(SecretError) as raised:
        parse_source(text)
    assert any(part in raised.value.remedy for part in ("env:NAME", "file:/absolute/path", "exec:[", "absolute path"))
    if text not in ("", "env:", "file:", "exec:"):
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
    put(tmp_path / "key", content)
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
    put(tmp_path / "key", content)
    with pytest.raises(SecretError) as raised:
        read_source(FileSource(tmp_path / "key"), {})
    assert found in raised.value.found
    assert raised.value.remedy


def test_a_missing_file_and_a_directory_are_faults(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="does not exist"):
        read_source(FileSource(tmp_path / "none"), {})
    with pytest.raises(SecretError, match="is a directory"):
        read_source(FileSource(tmp_path), {})
    put(tmp_path / "key", "x")
    with pytest.raises(SecretError, match="cannot be read"):
        read_source(FileSource(tmp_path / "key" / "below"), {})


# -- who else can read it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "owned", "who"),
    [
        (0o400, True, None),
        (0o600, True, None),
        (0o640, True, "its group"),
        (0o660, True, "its group"),
        (0o440, False, None),  # a group that Kubernetes or systemd gave the process is how it reads the file
        (0o640, False, None),
        (0o644, True, "everyone on this machine"),
        (0o644, False, "everyone on this machine"),
        (0o444, False, "everyone on this machine"),
        (0o602, True, "everyone on this machine"),
    ],
)
def test_a_file_that_too_many_can_read_is_a_fault(tmp_path: Path, mode: int, *, owned: bool, who: str | None) -> None:
    path = put(tmp_path / "key", "x", mode)
    status = path.stat()
    user = status.st_uid if owned else status.st_uid + 1
    if who is None:
        check_readers(path, status, user)
        return
    with pytest.raises(SecretError) as raised:
        check_readers(path, status, user)
    assert who in raised.value.found
    assert "chmod 600" in raised.value.remedy
    assert "allow_readable: true" in raised.value.remedy


def test_it_is_the_file_behind_the_links_that_counts(tmp_path: Path) -> None:
    put(tmp_path / "real", "x", 0o644)
    (tmp_path / "key").symlink_to("real")
    with pytest.raises(SecretError, match="everyone on this machine"):
        read_source(FileSource(tmp_path / "key", private=True), {})
    assert read_source(FileSource(tmp_path / "key"), {}).reveal() == "x"
    put(tmp_path / "real", "x", 0o600)
    assert read_source(FileSource(tmp_path / "key", private=True), {}).reveal() == "x"


def test_a_pipe_that_somebody_made_for_us_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x\n")
    os.close(writing)
    try:
        assert read_source(FileSource(Path(f"/dev/fd/{reading}")), {}).reveal() == "x"
    finally:
        os.close(reading)


# -- commands ---------------------------------------------------------------------------------------------------------


def printing(code: str) -> ExecSource:
    return ExecSource((sys.executable, "-c", code))


def test_what_a_command_prints_is_the_secret_less_one_line_end() -> None:
    assert read_source(printing("print('x')"), {}).reveal() == "x"
    assert read_source(printing("print('x', end='')"), {}).reveal() == "x"
    assert read_source(printing("print('x\\n')"), {}).reveal() == "x\n"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("", "is empty"),
        ("print()", "is empty"),
        ("import sys; sys.stdout.buffer.write(bytes([255]))", "is not text"),
    ],
)
def test_a_command_that_prints_no_secret_is_a_fault(code: str, found: str) -> None:
    with pytest.raises(SecretError) as raised:
        read_source(printing(code), {})
    assert found in raised.value.found
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["A-B", "", "A=B", "$A", 7, None])
def test_only_names_of_variables_are_passed_on_to_a_command(name: object) -> None:
    assert parse_variable("VAULT_ADDR") == "VAULT_ADDR"
    with pytest.raises(SecretError):
        parse_variable(name)
