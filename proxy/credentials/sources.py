"""Where secrets are read from: the environment, or a file.

What belongs here: the spelling of a source (``env:NAME``, ``file:/path``) and reading one. What does not: what the
secret must look like, which each kind of credential says for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from proxy.credentials.secret import Secret, SecretError

LARGEST_FILE = 65_536
"""Bytes. No credential is near it; a wrong path that names a log or a disk image is noticed and not loaded."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOW = "write `env:NAME` or `file:/absolute/path`"


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """``env:NAME``: a variable of the proxy's own environment."""

    variable: str

    def __str__(self) -> str:
        return f"env:{self.variable}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """``file:/path``: the whole content of a file, less one line end after it."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


Source = EnvironmentSource | FileSource


def parse_source(text: object) -> Source:
    """The source that this text names. Raises ``SecretError``, which never quotes it: it may be the secret."""
    if not isinstance(text, str):
        raise SecretError("no source of a secret", _HOW)
    scheme, colon, rest = text.partition(":")
    match (scheme, colon):
        case ("env", ":"):
            if _VARIABLE.fullmatch(rest) is None:
                raise SecretError("`env:` without the name of an environment variable", "write `env:NAME`")
            return EnvironmentSource(rest)
        case ("file", ":"):
            if not rest.startswith("/") or rest.endswith("/") or "\0" in rest:
                raise SecretError("`file:` without the absolute path of a file", "write `file:/absolute/path`")
            return FileSource(Path(rest))
        case _:
            raise SecretError("something that names no source (not shown: it may be a secret)", _HOW)


def read_source(source: Source, environ: Mapping[str, str]) -> Secret:
    """Reads the secret now. Raises ``SecretError`` when it is missing, unreadable or not text."""
    match source:
        case EnvironmentSource(variable):
            return _read_variable(variable, environ)
        case FileSource(path):
            return _read_file(path)
        case _:
            assert_never(source)


def _read_variable(variable: str, environ: Mapping[str, str]) -> Secret:
    value = environ.get(variable)
    if value is None:
        raise SecretError(
            f"the environment variable {variable} is not set",
            "set it where the proxy is started, or name another source",
        )
    if not value:
        raise SecretError(f"the environment variable {variable} is empty", "put the secret into it")
    return Secret(value)


def _read_file(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as exc:
        raise SecretError(f"the file {path} does not exist", "create it, or correct the path") from exc
    except IsADirectoryError as exc:
        raise SecretError(f"{path} is a directory", "name the file in it that holds the secret") from exc
    except OSError as exc:
        raise SecretError(
            f"the file {path} cannot be read", "let the user that runs the proxy read it, or correct the path"
        ) from exc
    if len(content) > LARGEST_FILE:
        raise SecretError(f"the file {path} is larger than any secret", "correct the path")
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise SecretError(f"the file {path} is not text", "store the secret in it as plain text") from exc
    # One line end only: editors and `echo` add one; more than one is a mistake worth hearing about.
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise SecretError(f"the file {path} is empty", "put the secret into it")
    return Secret(text)
