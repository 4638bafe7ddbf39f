"""The rules of the house that no type checker knows: imports, names, tasks, sizes, and where the API is told.

Every list of exceptions is here, with its reasons; an exception that is no longer needed fails too.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("proxy/**/*.py"))}

MAY_IMPORT = {
    # Values in, values out: nothing but itself.
    "core": set[str](),
    "callers": {"core"},
    "credentials": {"core", "tls"},
    "observe": {"core"},
    # One text and its faults; settings and catalogues are read through it.
    "document": set[str](),
    "catalogue": {"core", "document"},
    # tls: whether a certificate and its key can be used is found out as a whole, like the rest of a configuration.
    "settings": {"callers", "catalogue", "core", "credentials", "document", "tls"},
    "limits": {"core"},
    # How an upstream is trusted, by requests and mints alike, and what callers are offered.
    "tls": {"core"},
    # What the process that started this one gave it, and whom to tell how it is.
    "inherited": {"core"},
    "hardening": set[str](),
    "notify": set[str](),
    "wire": {"callers", "core", "credentials", "limits", "observe", "tls"},
    # Another configuration for a server that runs: reads one, and hands it over.
    "reload": {"core", "credentials", "notify", "settings", "wire"},
    "terminal": set[str](),
    # The inspector says what is left of a caller's limits.
    "admin": {"core", "limits", "observe", "reload", "wire"},
    # A stand-in for somebody else's API: it knows nothing of the proxy, or it would agree with its mistakes.
    "sandbox": set[str](),
    "app": {"admin", "core", "credentials", "inherited", "notify", "observe", "reload", "settings", "terminal", "wire"},
    # A proxy for one command, and what it was asked; and a proxy that only looks whether it could serve.
    "session": {"callers", "core", "credentials", "observe", "settings", "terminal", "wire"},
    "doctor": {"core", "credentials", "document", "limits", "observe", "session", "settings", "wire"},
    "cli": {
        "app",
        "callers",
        "catalogue",
        "core",
        "credentials",
        "doctor",
        "document",
        "sandbox",
        "session",
        "settings",
    }
    | {"hardening", "inherited", "notify"},
    "__main__": {"cli", "core"},
}
"""Packages and modules of proxy/, and what each may import besides itself and the package's version."""

LOOKS_OUTSIDE = {"aiohttp", "asyncio", "http", "io", "logging", "os", "pathlib", "random", "secrets", "select",
                 "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
                 "uvloop"}  # fmt: skip
PURE = {"core", "callers"}
"""Wait for nothing and look at nothing outside: time, randomness and files arrive as arguments."""

TASKS = {
    "proxy/wire/server.py": "spawn() is the wrapper: it keeps the task, cancels it at the end and sees its failure",
    "proxy/app.py": "drains and watches for a second signal at once; awaits and cancels both in the same function",
    "proxy/cli/sandbox.py": "serves until a signal; awaited in the same function",
    "proxy/sandbox/tts_socket.py": "one per context of a socket, cancelled when the context or the socket closes",
    "proxy/sandbox/realtime_socket.py": "one per response of a session, cancelled by response.cancel and at the end",
}
"""Files that may start a task, and who owns it there."""

LONG = {
    "proxy/core/model.py": "all words of the product in one place; values only",
    "proxy/observe/families.py": "every metric is named here and nowhere else",
    "proxy/settings/model.py": "every key of the configuration with its default and description, and nothing else",
    "proxy/wire/caller.py": "one connection's states; half of them mean nothing without the others",
    "proxy/wire/exchange.py": "one exchange's states; splitting it would hand its invariants around",
}
LONGEST = 300
"""Lines. A file that passes it asks for a redesign, or for a reason above."""

TELLS_THE_API = {
    "proxy/catalogue/load.py": "an example path in a fault",
    "proxy/settings/collector.py": "OTLP has a path of the same form",
    "proxy/settings/model.py": "an example address in the schema that editors show",
}
"""Files outside catalogue/inworld.yaml, credentials/, sandbox/ and cli/ with a path or host of the API in a text."""

BANNED_WORDS = {"manager", "helper", "util", "base", "misc", "common"}


def package_of(file: str) -> str:
    """``core`` for ``proxy/core/model.py``, ``app`` for ``proxy/app.py``."""
    parts = file.removesuffix(".py").split("/")
    return parts[1]


def imports_in(file: str, source: str) -> Iterator[str]:
    """Full names of all modules imported anywhere in the file, in functions and under TYPE_CHECKING too."""
    here = file.removesuffix(".py").split("/")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                origin = ".".join([*here[: len(here) - level], *([module] if module else [])]) if level else str(module)
                # `from proxy import wire` imports a package as well as a name.
                yield from (f"{origin}.{name.name}" for name in names) if origin == "proxy" else [origin]


def import_faults(file: str, source: str) -> list[str]:
    """What is wrong with the imports of one file, in words."""
    package = package_of(file)
    if package == "__init__":
        return [f"{file} imports {name}: the package itself imports nothing" for name in imports_in(file, source)
                if name != "__future__"]  # fmt: skip
    if package not in MAY_IMPORT:
        return [f"{file}: say in tests/test_architecture.py what proxy/{package} may import"]
    allowed = MAY_IMPORT[package] | {package}
    faults = []
    for name in imports_in(file, source):
        top, _, rest = name.partition(".")
        if top == "proxy":
            target = rest.partition(".")[0]
            if target not in allowed and name != "proxy.__version__":
                only = " and ".join(sorted(allowed))
                faults.append(f"{file} imports {name}: {package} may import only {only}")
        elif package in PURE and top in LOOKS_OUTSIDE:
            faults.append(f"{file} imports {name}: {package} waits for nothing and looks at nothing outside")
    return faults


@pytest.mark.parametrize("file", FILES)
def test_imports_go_one_way(file: str) -> None:
    faults = import_faults(file, FILES[file])
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("proxy/core/x.py", "from proxy.wire import server", "core may import only core"),
        ("proxy/core/x.py", "import proxy.wire.server", "core may import only core"),
        ("proxy/core/x.py", "from proxy import wire", "imports proxy.wire: core may import only core"),
        ("proxy/core/x.py", "from ..settings import load", "imports proxy.settings"),
        ("proxy/core/x.py", "def f():\n    import asyncio", "waits for nothing"),
        ("proxy/callers/x.py", "from os.path import join", "looks at nothing outside"),
        ("proxy/callers/x.py", "from proxy.credentials import secret", "callers may import only callers and core"),
        ("proxy/wire/x.py", "from proxy.app import build", "imports proxy.app"),
        ("proxy/wire/x.py", "from proxy.settings.load import load_settings", "imports proxy.settings.load"),
        ("proxy/sandbox/x.py", "from proxy.core.model import Kind", "sandbox may import only sandbox"),
        ("proxy/novelty/x.py", "", "say in tests/test_architecture.py"),
        ("proxy/__init__.py", "import os", "imports nothing"),
    ],
)
def test_an_import_that_goes_the_wrong_way_is_said_in_words(file: str, source: str, says: str) -> None:
    assert says in "\n".join(import_faults(file, source))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("proxy/core/x.py", "from __future__ import annotations\nimport re\nfrom proxy.core.model import Kind"),
        ("proxy/core/x.py", "from .model import Kind"),
        ("proxy/callers/x.py", "import hashlib\nfrom proxy.core import model"),
        ("proxy/wire/x.py", "import asyncio\nfrom proxy import __version__\nfrom proxy.observe.record import Record"),
    ],
)
def test_an_import_that_goes_the_right_way_is_not_complained_about(file: str, source: str) -> None:
    assert import_faults(file, source) == []


def test_the_direction_of_imports_has_no_way_round() -> None:
    def reaches(package: str) -> set[str]:
        return MAY_IMPORT[package].union(*(reaches(other) for other in MAY_IMPORT[package]))

    for package in MAY_IMPORT:
        assert package not in reaches(package)  # a cycle would not end at all


def words_in(name: str) -> set[str]:
    """``_PoolManagers2`` as pool, manager: what a reader reads in it, without plurals."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {word.lower() for word in words} | {word.lower().removesuffix("s") for word in words}


@pytest.mark.parametrize("file", FILES)
def test_names_say_what_a_thing_is(file: str) -> None:
    nodes = ast.walk(ast.parse(FILES[file]))
    defined = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [*file.removesuffix(".py").split("/"), *defined]
    faults = [f"{file}: {name} has a name that says nothing ({', '.join(sorted(found))})" for name in names
              if (found := words_in(name) & BANNED_WORDS)]  # fmt: skip
    assert not faults, "\n".join(faults)


def tasks_started(source: str) -> list[str]:
    """The names of the functions in which a task is started."""
    found: list[str] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        elif isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in {"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe"}:
                found.append(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


def test_every_task_has_an_owner() -> None:
    """On the data path only ``spawn()`` starts one; elsewhere the file is listed with who awaits or cancels it."""
    starting = {file for file, source in FILES.items() if tasks_started(source)}
    unknown, gone = starting - set(TASKS), set(TASKS) - starting
    assert not unknown, f"{sorted(unknown)} start tasks: use DataServer.spawn(), or say in TASKS who owns them"
    assert not gone, f"{sorted(gone)} start no tasks any more: take them out of TASKS"
    assert tasks_started(FILES["proxy/wire/server.py"]) == ["spawn"]
    on_the_data_path = {file for file in starting if file.startswith("proxy/wire/")}
    assert on_the_data_path == {"proxy/wire/server.py"}


def test_a_file_that_is_long_has_a_reason() -> None:
    long = {file for file, source in FILES.items() if source.count("\n") > LONGEST}
    without_reason, gone = long - set(LONG), set(LONG) - long
    assert not without_reason, (
        f"{sorted(without_reason)} have over {LONGEST} lines: split them, or give a reason in LONG"
    )
    assert not gone, f"{sorted(gone)} are no longer over {LONGEST} lines: take them out of LONG"


_API = re.compile(r"inworld\.ai|/(?:voices|tts|stt|router|llm|pronunciations|lro|api|auth)/v1|/v1/[a-z]")


def texts_in(source: str) -> Iterator[str]:
    """All string and bytes constants but docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")


def test_paths_and_hosts_of_the_api_are_told_in_the_catalogue_alone() -> None:
    """Another vendor is another catalogue file: nothing that moves bytes or decides may know a path of this one."""
    may_know = ("proxy/credentials/", "proxy/sandbox/", "proxy/cli/")
    telling = {
        file
        for file, source in FILES.items()
        if not file.startswith(may_know) and any(_API.search(text) for text in texts_in(source))
    }
    unknown, gone = telling - set(TELLS_THE_API), set(TELLS_THE_API) - telling
    assert not unknown, f"{sorted(unknown)} name a path or host of the API; it belongs in the catalogue"
    assert not gone, f"{sorted(gone)} name none any more: take them out of TELLS_THE_API"
