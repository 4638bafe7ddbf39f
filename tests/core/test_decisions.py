"""Every row of the permission matrix, and that no operation, method or kind of key is missing from it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.catalogue.load import Catalogue
from proxy.core.errors import Code
from proxy.core.model import Allow, KeyPower, KeyType, Kind, Level, Policy, RequestHead
from proxy.core.policy import decide
from proxy.core.target import OperationTree
from proxy.document import read_document

FILE = Path(__file__).parents[1] / "decisions.yaml"
KINDS_OF_KEY = ("standard read", "voices write", "router write", "both", "realtime-only")


class Row(NamedTuple):
    sentence: str
    key: str
    request: str
    expect: str
    operation: str | None
    websocket: bool


def read_matrix() -> tuple[dict[str, KeyPower], list[Row]]:
    document = read_document(FILE.read_text(encoding="utf-8"), file=FILE.name)
    assert not document.faults, document.faults[0]
    assert isinstance(document.value, dict)
    keys = {
        name: KeyPower(KeyType(key["type"]), Level(key["voices"]), Level(key["router"]))
        for name, key in document.value["keys"].items()
    }
    rows = []
    for entry in document.value["decisions"]:
        request, operation = entry.pop("request"), entry.pop("operation", None)
        websocket = entry.pop("websocket", False)
        for key, (expect, sentence) in entry.items():
            assert key in keys, f"{request}: {key} is none of the keys"
            rows.append(Row(sentence, key, request, expect, operation, websocket))
    return keys, rows


KEYS, ROWS = read_matrix()


@pytest.mark.parametrize("row", ROWS, ids=[row.sentence for row in ROWS])
def test_decision(row: Row, make_policy: Callable[..., Policy], make_head: Callable[..., RequestHead]) -> None:
    decision = decide(make_policy(KEYS[row.key]), make_head(row.request, websocket=row.websocket), 0.0)
    found = "allow" if isinstance(decision, Allow) else decision.code.value
    assert found == row.expect, decision
    assert (decision.operation.name if decision.operation is not None else None) == row.operation
    if isinstance(decision, Allow):
        assert decision.target == row.request.partition(" ")[2]


def test_every_operation_has_a_row_for_each_of_its_methods_and_each_kind_of_key(catalogue: Catalogue) -> None:
    present = {(row.operation, row.request.partition(" ")[0], row.key, row.websocket) for row in ROWS}
    missing = [
        f"{operation.name}: {method} with the key '{key}'"
        for operation in catalogue.operations
        for method in sorted(operation.methods)
        for key in KINDS_OF_KEY
        if (operation.name, method, key, operation.kind is Kind.WEBSOCKET) not in present
    ]
    assert not missing, f"tests/decisions.yaml has no row for {missing}"


def test_every_path_of_the_catalogue_has_a_row_with_a_wrong_method(tree: OperationTree, catalogue: Catalogue) -> None:
    with_wrong_method = set()
    for row in ROWS:
        method, _, target = row.request.partition(" ")
        methods = tree.find(target.partition("?")[0])
        if row.expect == "method_not_allowed" and methods is not None and method not in methods:
            with_wrong_method |= {operation.template for operation in methods.values()}
    missing = {operation.template for operation in catalogue.operations} - with_wrong_method
    assert not missing, f"tests/decisions.yaml says of no wrong method that it is refused at {sorted(missing)}"


def test_every_sentence_is_said_once_and_every_expectation_is_a_code() -> None:
    twice = [sentence for sentence, count in Counter(row.sentence for row in ROWS).items() if count > 1]
    assert not twice
    assert {row.expect for row in ROWS} <= {"allow", *(code.value for code in Code)}


def test_only_voices_write_writes_voices_and_only_router_write_writes_routers() -> None:
    """The matrix as a whole, without the code: which keys are ever allowed a write below each protected prefix."""
    writers: dict[str, set[str]] = {}
    for row in ROWS:
        method, _, target = row.request.partition(" ")
        if row.expect == "allow" and method not in {"GET", "HEAD"}:
            writers.setdefault(target.split("/")[1], set()).add(row.key)
    assert writers["voices"] == writers["pronunciations"] == {"voices write", "both"}
    assert writers["router"] == {"router write", "both"}


def test_a_realtime_only_key_is_allowed_the_realtime_operations_alone() -> None:
    allowed = {row.operation for row in ROWS if row.expect == "allow" and row.key == "realtime-only"}
    assert allowed == {"realtime.session", "realtime.calls", "realtime.ice_servers"}


def test_no_key_is_allowed_to_mint_a_token() -> None:
    mints = {row.expect for row in ROWS if row.operation is not None and row.operation.startswith("auth.")}
    assert mints == {"token_mint_refused"}
