"""The table of what the sandbox answers, against the catalogue of what the product passes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from proxy.sandbox.app import ENDPOINTS
from tests.sandbox.conftest import KEYS

CATALOGUE = Path(__file__).parents[2] / "proxy" / "catalogue" / "inworld.yaml"


def shape(path: str) -> str:
    """A path template without the names of its variables."""
    return re.sub(r"\{[^{}]*\}", "{}", path)


def test_every_operation_of_the_catalogue_is_answered_under_the_same_name() -> None:
    rows: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text())["operations"]
    catalogued = {(name, shape(row["path"]), method) for name, row in rows.items() for method in row["methods"]}
    answered = {(row.name, shape(row.path), row.method) for row in ENDPOINTS if not row.name.startswith("sandbox.")}
    heads = {(name, path, "HEAD") for name, path, method in answered if method == "GET"}
    assert catalogued - (answered | heads) == set()
    assert answered - catalogued == set()


def test_no_two_demo_keys_are_confused_and_none_looks_real() -> None:
    assert len({key.basic for key in KEYS.values()}) == len(KEYS)
    for key in KEYS.values():
        assert (len(key.key_id), len(key.secret)) == (32, 64)
        assert key.secret.startswith("notasecret")
        assert ":" not in key.key_id + key.secret
