"""What the product consists of, as a machine reads it: all of the image's constraints and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import proxy

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "sbom.py"
CONSTRAINTS = (ROOT / "deploy" / "constraints.txt").read_text(encoding="utf-8")


def run(*arguments: str) -> str:
    # -I: as in the image, where nothing of this folder is to be imported.
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run())
    return found


def test_it_is_cyclonedx(bill: dict[str, Any]) -> None:
    assert {*bill} == {
        "$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies",
    }  # fmt: skip
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    for entry in [bill["metadata"]["component"], *bill["components"]]:
        assert {"type", "name", "version", "bom-ref", "purl"} <= {*entry}
        assert {*entry} <= {"type", "name", "version", "bom-ref", "purl", "hashes", "licenses", "description"}
        assert entry["type"] in {"application", "library"}
        assert re.fullmatch(r"pkg:(?:pypi|generic)/[a-z0-9-]+@[A-Za-z0-9.]+", entry["purl"])
        assert all(
            each["alg"] == "SHA-256" and re.fullmatch("[0-9a-f]{64}", each["content"])
            for each in entry.get("hashes", [])
        )
        # Either one expression or a list of licenses (the schema's licenseChoice).
        licenses = entry.get("licenses", [])
        assert all({*each} == {"license"} and {*each["license"]} == {"name"} for each in licenses) or (
            [{*each} for each in licenses] == [{"expression"}]
        )


def test_it_has_what_the_constraints_have_with_their_hashes(bill: dict[str, Any]) -> None:
    listed = {f"{entry['name']}=={entry['version']}" for entry in bill["components"]}
    assert listed == set(re.findall(r"^([a-z0-9-]+==\S+)", CONSTRAINTS, re.MULTILINE))
    assert sorted(each["content"] for entry in bill["components"] for each in entry["hashes"]) == sorted(
        re.findall("[0-9a-f]{64}", CONSTRAINTS)
    )


def test_it_names_the_product_and_what_leads_to_what(bill: dict[str, Any]) -> None:
    product = bill["metadata"]["component"]
    assert (product["name"], product["version"]) == ("inworld-proxy", proxy.__version__)
    assert product["licenses"] == [{"expression": "Apache-2.0"}]
    below = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    every = {entry["bom-ref"] for entry in bill["components"]} | {product["bom-ref"]}
    assert {*below} == every
    assert len(bill["dependencies"]) == len(every) == len(bill["components"]) + 1
    names = {ref: re.sub(r".*/|@.*", "", ref) for ref in every}
    assert "aiohttp" in {names[ref] for ref in below[product["bom-ref"]]}
    assert "cffi" in {names[ref] for ref in below[next(ref for ref in every if names[ref] == "cryptography")]}
    reached = {product["bom-ref"]}
    while more := {each for ref in reached for each in below[ref]} - reached:
        reached |= more
    assert reached == every, "something is in it that nothing needs"


def test_it_says_the_licenses_of_what_is_installed_here(bill: dict[str, Any]) -> None:
    import importlib.metadata

    same = [e for e in bill["components"] if importlib.metadata.version(e["name"]) == e["version"]]
    assert all(entry.get("licenses") for entry in same)


def test_it_is_the_same_bytes_each_time_and_names_no_machine(tmp_path: Path) -> None:
    text = run()
    file = tmp_path / "below" / "sbom.cdx.json"
    assert "components" in run("--output", str(file))
    assert file.read_text(encoding="utf-8") == text
    assert "timestamp" not in text
    assert str(ROOT) not in text
    assert {*re.findall(r"\w+://[^\"]*", text)} == {"http://cyclonedx.org/schema/bom-1.6.schema.json"}
