"""How many inputs the corpora and the fuzz targets have tried: counted by their tests, printed at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

_COUNTS = pytest.StashKey[list[int]]()


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Adds to the count."""
    return request.config.stash.setdefault(_COUNTS, []).append


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = terminalreporter.config.stash.get(_COUNTS, [])
    if counts:
        terminalreporter.write_line(f"tried {sum(counts):,} inputs that try to confuse")
        counts.clear()  # whichever folder's conftest is asked first says it
