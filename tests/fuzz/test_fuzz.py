"""A short run of every fuzz target from a fixed seed; `make fuzz` runs them for longer. And the fuzzer itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.engine import Target, cut, fuzz, save
from tests.fuzz.every import SHORT, made

ROOT = Path(__file__).parents[2]
SEED = 20261121


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    with made() as every:
        yield {target.name: target for target in every}


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_found_in_a_short_run(targets: dict[str, Target], name: str, tried: Callable[[int], None]) -> None:
    result = fuzz(targets[name], seed=SEED, most=SHORT[name])
    tried(result.count)
    assert not result.findings, next(iter(result.findings.items()))
    assert result.count == SHORT[name] > result.kept > 1, "all of them do the same"


def test_every_target_has_a_short_run(targets: dict[str, Target]) -> None:
    assert set(SHORT) == set(targets)
    assert sum(SHORT.values()) > 25_000


def _trips(data: bytes) -> int:
    if data.count(b"\n") == 3:
        raise ValueError("three lines")
    return data.count(b"\n")


def test_what_is_wrong_is_found_and_kept_once(tmp_path: Path) -> None:
    """Three line ends are reached through one and two, which are kept because they are new."""
    tried = fuzz(Target("lines", _trips, (b"a word",)), seed=1, most=5000)
    ((data, reason),) = tried.findings.items()
    assert data.count(b"\n") == 3
    assert "ValueError: three lines" in reason
    (path,) = save(tried, tmp_path)
    assert path.read_bytes() == data
    assert "three lines" in path.with_suffix(".txt").read_text()
    assert fuzz(Target("lines", _trips, (b"a word",)), seed=1, most=5000).findings.keys() == tried.findings.keys()


def test_pieces_are_the_whole() -> None:
    for length in range(100):
        data = bytes(range(length))
        assert b"".join(cut(data)) == data
        assert [*cut(data)] == [*cut(data)]


def test_the_command_prints_what_it_tried_and_says_whether_something_was_found(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--seconds", "0.1", "--only", "frames,lengths"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("no finding") == 2
    assert not [*tmp_path.iterdir()]
