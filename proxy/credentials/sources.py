"""Where secrets are read from: the environment, a file, or a command.

What belongs here: the spelling of a source (``env:NAME``, ``file:/path``, ``exec:["command", "argument"]``) and reading
one. What does not: running the command (``command.py``), reading again when something changes (``live.py``), and what
the secret must look like, which each kind of credential says for itself.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from proxy.credentials.command import LARGEST_OUTPUT, run_command
from proxy.credentials.secret import Secret, SecretError

LARGEST_FILE = LARGEST_OUTPUT
"""Bytes. No credential is near it; a wrong path that names a log or a disk image is noticed and not loaded."""

EVERY = 3600.0
"""Seconds between two runs of a command: what it prints has to be a key that lives longer than that."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOW = 'write `env:NAME`, `file:/absolute/path` or `exec:["command", "argument"]`'
_HOW_EXEC = 'write the command as a list: `exec:["vault", "kv", "get", "-field=key", "secret/inworld"]`'


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """``env:NAME``: a variable of the proxy's own environment. It cannot change while the proxy runs."""

    variable: str

    def __str__(self) -> str:
        return f"env:{self.variable}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """``file:/path``: the whole content of a file, less one line end after it.

    A ``private`` one must not be readable to users who do not need it.
    """

    path: Path
    private: bool = False

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class ExecSource:
    """``exec:[…]``: what a command prints, less one line end after it. No shell is involved.

    It is run again ``every`` so many seconds, and sees the ``environment`` variables named besides a stated few.
    """

    argv: tuple[str, ...]
    every: float = EVERY
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"exec:{self.argv[0]}"


Source = EnvironmentSource | FileSource | ExecSource


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
        case ("exec", ":"):
            try:
                argv = json.loads(rest)
            except (ValueError, RecursionError) as exc:
                raise SecretError("`exec:` without a list of strings, which names no source", _HOW) from exc
            return ExecSource(parse_command(argv))
        case _:
            raise SecretError("something that names no source (not shown: it may be a secret)", _HOW)


def parse_command(argv: object) -> tuple[str, ...]:
    """The arguments of a command. Raises ``SecretError``: for a single text too, which would need a shell."""
    if not isinstance(argv, list) or not argv or not all(isinstance(part, str) for part in argv):
        raise SecretError("a command that is not a list of strings", _HOW_EXEC)
    if not argv[0] or any("\0" in part for part in argv):
        raise SecretError("a command with an empty name, or a NUL in it", _HOW_EXEC)
    if "/" in argv[0] and not argv[0].startswith("/"):
        raise SecretError("a command with a relative path", "write its absolute path, or a name to look up in PATH")
    return tuple(argv)


def parse_variable(name: object) -> str:
    """The name of an environment variable. Raises ``SecretError``."""
    if not isinstance(name, str) or _VARIABLE.fullmatch(name) is None:
        raise SecretError(
            "something that is not the name of an environment variable", "write names such as `VAULT_ADDR`"
        )
    return name


def read_source(source: Source, environ: Mapping[str, str], stop: threading.Event | None = None) -> Secret:
    """Reads the secret now; a command may take seconds, and ends early when ``stop`` is set.

    Raises ``SecretError`` when it is missing, unreadable, readable by too many, or not text.
    """
    match source:
        case EnvironmentSource(variable):
            return _read_variable(variable, environ)
        case FileSource(path, private):
            return _read_file(path, private=private)
        case ExecSource(argv, _, environment):
            output = run_command(argv, environ, environment, stop or threading.Event())
            return _secret_of(output, f"what {argv[0]} printed", "let it print the secret, and nothing else")
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


def _read_file(path: Path, *, private: bool) -> Secret:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as exc:
        raise SecretError(f"the file {path} does not exist", "create it, or correct the path") from exc
    except IsADirectoryError as exc:
        raise SecretError(f"{path} is a directory", "name the file in it that holds the secret") from exc
    except OSError as exc:
        raise SecretError(
            f"the file {path} cannot be read", "let the user that runs the proxy read it, or correct the path"
        ) from exc
    if private:
        check_readers(path, status, os.geteuid())
    if len(content) > LARGEST_FILE:
        raise SecretError(f"the file {path} is larger than any secret", "correct the path")
    return _secret_of(content, f"the file {path}", "put the secret into it, as plain text")


def check_readers(path: Path, status: os.stat_result, user: int) -> None:
    """Raises ``SecretError`` for a file that more users can read, or write, than need to.

    Never everyone. The file's group may, if somebody else owns it: Kubernetes (``fsGroup``) and systemd hand secrets to
    a process through a group, and then the group is how it reads them. An owner does not need one.
    """
    if not stat.S_ISREG(status.st_mode):
        return  # a pipe that a shell or a supervisor made for this process
    who = ""
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        who = "everyone on this machine"
    elif status.st_mode & (stat.S_IRGRP | stat.S_IWGRP) and status.st_uid == user:
        who = "everyone in its group"
    if who:
        raise SecretError(
            f"the file {path}, which {who} can read or write",
            f"chmod 600 {path} (in Kubernetes: `defaultMode: 0440`), or set `allow_readable: true` beside it",
        )


def _secret_of(content: bytes, where: str, remedy: str) -> Secret:
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise SecretError(f"{where} is not text", remedy) from exc
    # One line end only: editors and `echo` add one; more than one is a mistake worth hearing about.
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text:
        raise SecretError(f"{where} is empty", remedy)
    return Secret(text)
