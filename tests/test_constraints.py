"""What the image is made of is written down exactly: versions, hashes, nothing that is missing and nothing else."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.redis_server import missing

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME, BUILD = ROOT / "deploy" / "constraints.txt", ROOT / "deploy" / "constraints-build.txt"
FILES = (RUNTIME, BUILD)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the module of their annotations
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    return script("lock")


def read(file: Path) -> dict[str, Any]:
    return {each.name: each for each in script("sbom").parts(file)}


def wanted(lock: ModuleType, file: Path) -> list[Requirement]:
    texts = lock.wanted_at_run_time(PROJECT) if file == RUNTIME else lock.wanted_at_build_time(PROJECT)
    return [Requirement(text) for text in texts]


# -- as it is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_line_is_a_version_with_hashes_and_no_address(file: Path, lock: ModuleType) -> None:
    pinned = read(file)
    assert pinned
    assert [*pinned] == sorted(pinned)
    assert all(1 <= len(each.hashes) <= len(lock.MACHINES) and each.wanted_by for each in pinned.values())
    assert not re.search(
        r"://|@|\bfile:|^ *-|index-url|/\w+/", file.read_text(encoding="utf-8").replace("    --hash", "")
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_all_that_the_project_needs_is_there_at_a_version_that_it_allows(file: Path, lock: ModuleType) -> None:
    pinned = read(file)
    for requirement in wanted(lock, file):
        entry = pinned[canonicalize_name(requirement.name)]
        assert entry.version in requirement.specifier, f"{entry.name}: run `{lock.COMMAND}`"
        assert "the product" in entry.wanted_by


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_everything_is_there_for_something_that_leads_to_the_project(file: Path, lock: ModuleType) -> None:
    pinned = read(file)
    reached = {"the product"}
    while more := {name for name, each in pinned.items() if reached.intersection(each.wanted_by)} - reached:
        reached |= more
    assert reached - {"the product"} == {*pinned}
    assert {wanter for each in pinned.values() for wanter in each.wanted_by} <= reached
    direct = {name for name, each in pinned.items() if "the product" in each.wanted_by}
    assert direct == {canonicalize_name(each.name) for each in wanted(lock, file)}


def test_it_is_for_the_python_of_the_image(lock: ModuleType) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG BASE=python:{lock.PYTHON}-slim" in dockerfile
    for file in FILES:
        assert f"CPython {lock.PYTHON} on Linux" in file.read_text(encoding="utf-8").splitlines()[0]
        assert f"-r {file.relative_to(ROOT)}" in dockerfile


# -- as pip sees it ---------------------------------------------------------------------------------------------------

Ask = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def ask(lock: ModuleType) -> Ask:
    """Asks pip what it would install from a file; without a way to any packages the test is skipped."""

    def asked(file: Path, machine: str) -> list[Any]:
        try:
            found: list[Any] = lock.ask_pip(["--require-hashes", "--no-deps", "-r", str(file)], lock.PYTHON, machine)
        except SystemExit as exc:
            if reachable(lock):
                pytest.fail(str(exc), pytrace=False)
            missing("pip has no index that it reaches from here")
        return found

    return asked


def reachable(lock: ModuleType) -> bool:
    """Does pip find one small distribution at all, whatever its version and its hash?"""
    try:
        return bool(lock.ask_pip(["--no-deps", "idna"], lock.PYTHON, lock.MACHINES[0]))
    except SystemExit:
        return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_pip_installs_exactly_this_on_each_machine(machine: str, lock: ModuleType, ask: Ask) -> None:
    """For the image's Python, by hash; and what these versions ask for is among them, and nothing else is."""
    pinned = read(RUNTIME)
    installed = ask(RUNTIME, machine)
    assert {(canonicalize_name(each["metadata"]["name"]), each["metadata"]["version"]) for each in installed} == {
        (each.name, each.version) for each in pinned.values()
    }
    found = {
        name: lock.Pinned(name, each["metadata"]["version"], each["metadata"].get("requires_dist", []))
        for each in installed
        for name in [canonicalize_name(each["metadata"]["name"])]
    }
    lock.say_who_wants_what(lock.wanted_at_run_time(PROJECT), found, lock.PYTHON)
    assert {name: each.wanted_by for name, each in found.items()} == {
        name: {*each.wanted_by} for name, each in pinned.items()
    }
    for each in found.values():
        for text in each.requires:
            requirement = Requirement(text)
            below = found.get(canonicalize_name(requirement.name))
            if below is not None and lock.applies(requirement, lock.PYTHON, ""):
                assert below.version in requirement.specifier, f"{each.name} needs {text}"


@pytest.mark.timeout(300)
def test_pip_refuses_a_file_with_another_hash(tmp_path: Path, lock: ModuleType, ask: Ask) -> None:
    ask(BUILD, "x86_64")
    forged = tmp_path / "forged.txt"
    forged.write_text(re.sub("sha256:....", "sha256:0000", BUILD.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SystemExit, match="DO NOT MATCH THE HASHES"):
        lock.ask_pip(["--require-hashes", "--no-deps", "-r", str(forged)], lock.PYTHON, "x86_64")


def test_what_pip_leaves_out_or_adds_ends_the_script(lock: ModuleType) -> None:
    with pytest.raises(SystemExit, match="needs multidict, which pip left out"):
        lock.say_who_wants_what(["a"], {"a": lock.Pinned("a", "1", ["multidict>=4"])}, "3.12")
    with pytest.raises(SystemExit, match="nothing needs b"):
        lock.say_who_wants_what(["a"], {name: lock.Pinned(name, "1", []) for name in "ab"}, "3.12")
    only_elsewhere = ["b; sys_platform == 'win32'", "c; python_version < '3.12'", "d; extra == 'x'"]
    found = {"a": lock.Pinned("a", "1", only_elsewhere)}
    lock.say_who_wants_what(["a"], found, "3.12")
    assert found["a"].wanted_by == {"the product"}


def test_a_line_without_a_hash_is_none_of_ours(tmp_path: Path) -> None:
    shutil.copy(BUILD, tmp_path / "edited.txt")
    with (tmp_path / "edited.txt").open("a", encoding="utf-8") as file:
        file.write("six==1.17.0\n")
    with pytest.raises(ValueError, match=r"six==1\.17\.0"):
        read(tmp_path / "edited.txt")
