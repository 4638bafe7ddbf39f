"""Targets: whatever is accepted means the same operations to every backend that reads it in its own way."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from urllib.parse import parse_qsl

from proxy.catalogue.load import load_built_in
from proxy.core.target import OperationTree, read_target, strip_query
from tests.fuzz.engine import Target
from tests.security.readings import paths, spell
from tests.security.targets import path_of

OPERATIONS = load_built_in("inworld").operations
EXACT = OperationTree.of(OPERATIONS)
_SECRETS = frozenset({"authorization", "token", "access_token", "api_key", "apikey", "x_api_key", "key", "bearer",
"jwt",
                      "_method", "x_http_method_override", "x_http_method", "x_method_override"})  # fmt: skip
_WORDS = tuple(
    "/../ /./ // %2f %2F %5c \\ ; ;a=b %00 %20 %2e %2E .. . %25 %252f : %3A %3a ? # & = key= token= _method=X %C3%A9 "
    "voices clone v1 V1 @ http://x %EF%BC%8F %E2%84%AA K ~ * + \xe9".encode("latin-1").split()
)


def _lower(template: str) -> str:
    parts = template.replace("}", "{").split("{")
    return "".join(part.lower() if at % 2 == 0 else f"{{{part}}}" for at, part in enumerate(parts))


LOWER = OperationTree.of(replace(each, template=_lower(each.template)) for each in OPERATIONS)


def target(data: bytes) -> Hashable:
    text = data.decode("latin-1")
    read = read_target(text)
    if read is None:
        return None
    path, query = read
    assert text == path + ("" if query is None else f"?{query}")
    methods = EXACT.find(path)
    if query:
        _check_query(query)
    if methods is None:
        return "?" in text, "%" in path, path.count("/")
    meant = {method: operation.name for method, operation in methods.items()}
    for name, reading in paths(text):
        again = read_target(spell(name, reading).partition("?")[0])
        tree = LOWER if name == "lower case" else EXACT
        found = tree.find(again[0]) if again is not None else None
        assert found is not None, f"{name}: {reading!r} is nothing"
        assert {method: operation.name for method, operation in found.items()} == meant, f"{name}: {reading!r}"
    return tuple(meant.values()), "%" in path, query is None


def _check_query(query: str) -> None:
    kept = strip_query(query, frozenset())
    assert strip_query(kept, frozenset()) == kept
    assert not kept or set(kept.split("&")) <= set(query.split("&"))
    for separator in "&;":
        for name, _ in parse_qsl(kept, keep_blank_values=True, separator=separator):
            assert name.strip().lower().replace("-", "_") not in _SECRETS, f"{name} remains in {kept!r}"


def targets() -> tuple[Target, ...]:
    known = [path_of(operation).encode() for operation in OPERATIONS]
    return (Target("targets", target, (*known, *(path + b"?a=b&key=c;token=d" for path in known[:5])), _WORDS),)
