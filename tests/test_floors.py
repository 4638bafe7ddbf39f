"""The oldest version that each dependency may have: why, and that what is installed here is no older."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUNS = [*PROJECT["project"]["dependencies"], *EXTRAS["redis"], *EXTRAS["otel"]]
EVERY = [each for extra in EXTRAS.values() for each in extra] + RUNS
ADVISORY = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}|PYSEC-\d{4}-\d+")


def reason(requirement: str) -> str:
    """The comment above a dependency, where it is named first."""
    lines = TEXT.splitlines()
    at = first = [line.strip() for line in lines].index(f'"{requirement}",')
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip(" #") for line in lines[first:at])


@pytest.mark.parametrize("text", sorted({*EVERY}))
def test_what_is_installed_is_not_older_than_its_floor(text: str) -> None:
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        pytest.skip("not for this platform")
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        assert text not in RUNS
        pytest.skip(f"{requirement.name} is not installed here")
    assert requirement.specifier.contains(installed, prereleases=True), f"{requirement.name} {installed}: make clean"


@pytest.mark.parametrize("text", RUNS)
def test_every_dependency_of_the_product_has_a_floor_and_a_reason_for_it(text: str) -> None:
    floors = [each for each in Requirement(text).specifier if each.operator == ">="]
    assert len(floors) == 1
    said = reason(text)
    assert ADVISORY.search(said) or "No advisory" in said, said
    assert floors[0].version in said, f"which release the reason is about: {said}"


def test_the_floors_that_close_known_holes_are_there() -> None:
    """Written here once more, so that lowering one takes two decisions."""
    floors = {Requirement(text).name: Requirement(text).specifier for text in RUNS}
    for name, defective in {
        "aiohttp": "3.14.2",
        "PyJWT": "2.12.1",
        "cryptography": "49.0.0",
        "idna": "3.14",
        "multidict": "6.7.0",
        "opentelemetry-exporter-otlp-proto-http": "1.44.0",
        "opentelemetry-sdk": "1.44.0",
        "pydantic": "2.3.0",
        "pyyaml": "5.3.1",
        "redis": "4.5.3",
        "yarl": "1.25.0",
    }.items():
        assert defective not in floors[name], name


def test_what_builds_the_wheel_has_a_floor_too() -> None:
    (text,) = PROJECT["build-system"]["requires"]
    assert Requirement(text).specifier.contains("83.0.0")
    assert "82.9.9" not in Requirement(text).specifier
