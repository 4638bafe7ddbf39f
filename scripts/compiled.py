"""Builds the compiled proxy in a copy of this tree, build/compiled, for tests and benchmarks; runs a command there.

``python scripts/compiled.py [COMMAND …]``: brings build/compiled up to date, which takes a minute or two after a change
of what is compiled and nothing otherwise, and runs the command in it (`python` is the one that runs this). In place, a
stale library would be imported instead of a source that has changed since; a copy cannot be edited by mistake.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "compiled"
COPIED = ("proxy", "tests", "scripts", "config", "examples", "deploy", "bench")
"""With pyproject.toml, setup.py and the documents; what is installed or built is not."""
IGNORED = {"__pycache__", ".venv", ".mypy_cache", "node_modules"}


def main() -> None:
    """Exits with the command's status; 1 when it cannot be built, with what the compilers said."""
    refresh()
    command = sys.argv[1:]
    if command:
        if command[0] == "python":
            command[0] = sys.executable
        os.chdir(PLACE)
        # Whoever runs tests there wants to know that they are about the compiled proxy: tests/conftest.py.
        os.execvpe(command[0], command, {**os.environ, "INWORLD_PROXY_EXPECT": "compiled"})  # noqa: S606


def refresh() -> None:
    """Copies the tree as it is now, and compiles what is to be compiled if any of it has changed."""
    built = PLACE / ".built"
    state = _state()
    fresh = built.is_file() and built.read_text(encoding="ascii") == state
    PLACE.mkdir(parents=True, exist_ok=True)
    _copy(ROOT, PLACE, [*COPIED, *(path.name for path in ROOT.iterdir() if path.is_file())])
    if fresh:
        return
    built.unlink(missing_ok=True)
    for path in _libraries():
        path.unlink()
    environ = {**os.environ, "INWORLD_PROXY_COMPILE": "1"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=PLACE, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        sys.exit("compiled.py: it needs a C compiler, Python's headers and mypy (make compiled installs the last)")
    built.write_text(state, encoding="ascii")


def _copy(source: Path, target: Path, names: Iterable[str]) -> None:
    """Makes these the same there, and touches nothing that is: somebody may be running it."""
    for name in names:
        old, new = target / name, source / name
        if new.is_dir():
            inside = {path.name for path in new.iterdir()} - IGNORED
            old.mkdir(exist_ok=True)
            for path in old.iterdir():
                if path.name not in inside | IGNORED and path.suffix != ".so":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            _copy(new, old, sorted(inside))
        elif not old.is_file() or old.read_bytes() != new.read_bytes():
            shutil.copy2(new, old)


def _libraries() -> list[Path]:
    return [*PLACE.glob("*.so"), *PLACE.glob("proxy/**/*.so")]


def _state() -> str:
    """A digest of all that decides what the libraries are: what is compiled, and the types it was compiled against."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("INWORLD_PROXY_COMPILE_LEVEL", "CC", "CFLAGS"):
        digest.update(os.environ.get(name, "").encode() + b"\0")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        digest.update(importlib.metadata.version("mypy").encode())
    packages = ("core", "credentials", "limits", "observe", "wire")
    for path in (ROOT / "setup.py", *sorted(path for name in packages for path in ROOT.glob(f"proxy/{name}/*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
