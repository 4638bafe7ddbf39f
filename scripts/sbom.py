"""Writes what the product consists of as CycloneDX 1.6 (JSON): `make sbom`, and as a step of the image's build.

    python scripts/sbom.py --output sbom.cdx.json

What is in it and by which hashes comes from deploy/constraints.txt, and the licenses from what is installed, where that
is the same version. Nothing else is looked up, and neither a moment nor a machine is named: same inputs, same bytes.
Only the standard library is needed, because the image has nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "deploy" / "constraints.txt"
PRODUCT = "the product"
LONGEST_NAME = 64
"""Characters. What is longer in a `License` field is the text of one, and not its name."""

_LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)")


class Part(NamedTuple):
    """One distribution as the constraints have it: what asks for it, and the files that may be it."""

    name: str
    version: str
    wanted_by: tuple[str, ...]
    hashes: tuple[str, ...]
    kind: str = "pypi"

    @property
    def purl(self) -> str:
        """Its package URL, which is also how the parts refer to each other."""
        return f"pkg:{self.kind}/{self.name}@{self.version}"


def main() -> None:
    """Writes the file that is asked for, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="where it is written; without it, printed")
    output = parser.parse_args().output
    text = json.dumps(bill(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"{output}: {len(parts())} components")


def parts(path: Path = CONSTRAINTS) -> list[Part]:
    """All that such a file names. Raises ``ValueError`` for a line that it should not have."""
    found = []
    wanted_by: tuple[str, ...] = ()
    for line in path.read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        if line.startswith("# for "):
            wanted_by = tuple(line.removeprefix("# for ").split(", "))
        elif line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(line)
            found.append(Part(match[1], match[2], wanted_by, tuple(re.findall("[0-9a-f]{64}", match[3]))))
    return found


def bill() -> dict[str, object]:
    """The whole document. Its serial number is made from all the rest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (version,) = re.findall(
        r'^__version__ = "(.+)"$', (ROOT / "proxy" / "__init__.py").read_text("utf-8"), re.MULTILINE
    )
    # Not of a registry: whatever has this name there is somebody else's.
    product = Part(project["name"], version, (), (), "generic")
    every = parts()
    rest: dict[str, object] = {
        "version": 1,
        "metadata": {
            "component": {
                **component("application", product),
                "description": project["description"],
                "licenses": [{"expression": project["license"]}],
            },
        },
        "components": [component("library", each) for each in every],
        "dependencies": [
            {"ref": product.purl, "dependsOn": [each.purl for each in every if PRODUCT in each.wanted_by]},
            *({"ref": each.purl, "dependsOn": [below.purl for below in every if each.name in below.wanted_by]}
              for each in every),
        ],
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.UUID(digest[:32], version=4).urn,
        **rest,
    }


def component(kind: str, part: Part) -> dict[str, object]:
    """One entry. Several hashes are those of one version's wheels, one for each machine."""
    entry: dict[str, object] = {"type": kind, "bom-ref": part.purl, "name": part.name, "version": part.version}
    if licenses := [*licenses_of(part)]:
        entry["licenses"] = licenses
    if part.hashes:
        entry["hashes"] = [{"alg": "SHA-256", "content": each} for each in part.hashes]
    return entry | {"purl": part.purl}


def licenses_of(part: Part) -> Iterator[dict[str, object]]:
    """What its metadata says, by the surest way in which it says it."""
    try:
        metadata = importlib.metadata.metadata(part.name)
    except importlib.metadata.PackageNotFoundError:
        return
    if metadata["Version"] != part.version:
        return
    classifiers = [
        each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")
    ]
    stated = (metadata.get("License") or "").strip()
    if expression := metadata.get("License-Expression"):
        yield {"expression": expression}
    elif classifiers:
        yield from ({"license": {"name": each}} for each in classifiers)
    elif stated and "\n" not in stated and len(stated) <= LONGEST_NAME:
        yield {"license": {"name": stated}}


if __name__ == "__main__":
    main()
