"""Every attack of the catalogue in THREAT_MODEL.md has an answer and a proof, and every proof is a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "THREAT_MODEL.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (T\d+) \| (.+) \|$", TEXT, re.MULTILINE))
NAMED = sorted(set(re.findall(r"`(tests/[a-z_/]+\.(?:py|yaml))(?:::([a-z0-9_]+))?`", TEXT)))


@cache
def _tests_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_of_the_83_attacks_has_a_row() -> None:
    assert list(ROWS) == [f"T{number}" for number in range(1, 84)]


@pytest.mark.parametrize("number", [f"T{number}" for number in range(1, 84)])
def test_a_row_says_the_attack_the_answer_and_a_test_that_proves_it(number: str) -> None:
    attack, answer, proof = ROWS[number].split(" | ")
    assert attack
    assert answer
    assert re.fullmatch(r"`tests/[a-z_/]+\.py::test_[a-z0-9_]+`(, `tests/[a-z_/]+\.py::test_[a-z0-9_]+`)*", proof)


@pytest.mark.parametrize(("file", "test"), NAMED, ids=str)
def test_what_is_named_as_a_proof_exists(file: str, test: str) -> None:
    assert (ROOT / file).is_file()
    if test:
        assert test in _tests_in(file), f"{file} has no {test}"
