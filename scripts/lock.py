"""Writes deploy/constraints*.txt: the exact files that the container image is made of, by their hashes.

    make lock    (python scripts/lock.py)

pip is asked what it would install for the image's Python, on each of its machines, from wherever it installs here. What
it answers is written without saying where that was: a hash is the same everywhere. Versions are the newest that
pyproject.toml allows; look at the difference before it is committed. Only wheels for these machines are named, and so
anything else is refused: a source archive, another platform, a file that was put in their place.

A base image with another Python needs its own: scripts/lock.py --python 3.13
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "make lock"
PYTHON = "3.12"
MACHINES = ("x86_64", "aarch64")
GLIBC = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""The names under which wheels for Debian from 10 on, and all of its age, are published."""

EXTRAS = ("redis",)
"""What the image has beyond the plain product."""


@dataclass
class Pinned:
    """One distribution: its version, what asks for it, and the wheels that may be it."""

    name: str
    version: str
    requires: list[str]
    wanted_by: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)

    def lines(self) -> Iterator[str]:
        """As pip reads it."""
        yield f"# for {', '.join(sorted(self.wanted_by))}"
        *hashes, last = sorted(self.hashes)
        yield f"{self.name}=={self.version} \\"
        yield from (f"    --hash=sha256:{each} \\" for each in hashes)
        yield f"    --hash=sha256:{last}"


def main() -> None:
    """Writes both files, or ends with what pip said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=PYTHON, help=f"the minor version of the base image's Python ({PYTHON})")
    python = parser.parse_args().python
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {
        "constraints.txt": ("what the image runs", wanted_at_run_time(project)),
        "constraints-build.txt": ("what the image's wheel is built with", wanted_at_build_time(project)),
    }
    for name, (what, requirements) in wanted.items():
        pinned = resolve(requirements, python)
        path = ROOT / "deploy" / name
        path.write_text("\n".join(text(what, pinned, python)) + "\n", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(pinned)} distributions")


def wanted_at_run_time(project: Mapping[str, object]) -> list[str]:
    """The requirements of the product with the extras that the image has."""
    table = project["project"]
    assert isinstance(table, dict)
    return [*table["dependencies"], *(each for extra in EXTRAS for each in table["optional-dependencies"][extra])]


def wanted_at_build_time(project: Mapping[str, Any]) -> list[str]:
    """What builds the wheel, and what translates the data path to C before."""
    return [*project["build-system"]["requires"], *project["project"]["optional-dependencies"]["compile"]]


def resolve(requirements: Iterable[str], python: str) -> dict[str, Pinned]:
    """What pip would install for them, by name. Each machine has to get the same versions."""
    requirements = list(requirements)
    found: dict[str, Pinned] = {}
    for machine in MACHINES:
        installed = ask_pip(requirements, python, machine)
        for each in installed:
            name = str(canonicalize_name(each["metadata"]["name"]))
            pinned = found.setdefault(
                name, Pinned(name, each["metadata"]["version"], each["metadata"].get("requires_dist", []))
            )
            if pinned.version != each["metadata"]["version"]:
                sys.exit(f"{name} has no version that is there for all of {', '.join(MACHINES)}")
            pinned.hashes.add(each["download_info"]["archive_info"]["hashes"]["sha256"])
    say_who_wants_what(requirements, found, python)
    return found


def ask_pip(arguments: Iterable[str], python: str, machine: str) -> list[dict[str, Any]]:
    """The distributions that pip would install on such a machine. Nothing is installed, no code of theirs is run."""
    platforms = [option for glibc in GLIBC for option in ("--platform", f"{glibc}_{machine}")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
            "--ignore-installed", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
            *platforms, f"--target={folder}/target", f"--report={report}", *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(done.stderr)
        return list(json.loads(report.read_text(encoding="utf-8"))["install"])


def say_who_wants_what(requirements: Iterable[str], found: Mapping[str, Pinned], python: str) -> None:
    """Follows the requirements from the product on; ends when pip's answer has more, or less, than they lead to."""
    waiting = [("the product", each, "") for each in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanter, text_of_it, extra = waiting.pop()
        requirement = Requirement(text_of_it)
        if not applies(requirement, python, extra):
            continue
        name = str(canonicalize_name(requirement.name))
        if name not in found:
            sys.exit(f"{wanter} needs {name}, which pip left out")
        found[name].wanted_by.add(wanter)
        for each in ("", *requirement.extras):
            if (name, each) not in seen:
                seen.add((name, each))
                waiting += [(name, text_below, each) for text_below in found[name].requires]
    if unwanted := [name for name, each in found.items() if not each.wanted_by]:
        sys.exit(f"nothing needs {', '.join(unwanted)}")


def applies(requirement: Requirement, python: str, extra: str) -> bool:
    """Is this asked for in the image? Not on whatever machine runs this script."""
    image = {
        "python_version": python,
        "python_full_version": f"{python}.99",  # an image has the last of its patch releases, or nearly
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extra": extra,
    }
    return requirement.marker is None or requirement.marker.evaluate(image)


def text(what: str, pinned: Mapping[str, Pinned], python: str) -> Iterator[str]:
    """The file, line by line."""
    yield f"# {what[0].upper()}{what[1:]}: CPython {python} on Linux ({', '.join(MACHINES)}; glibc 2.28 or newer)."
    yield f"# Written by `{COMMAND}`; change pyproject.toml and run it again."
    for name in sorted(pinned):
        yield ""
        yield from pinned[name].lines()


if __name__ == "__main__":
    main()
