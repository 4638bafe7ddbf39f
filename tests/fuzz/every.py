"""All fuzz targets by name, each made when it is wanted, and ended after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tests.fuzz import bodies, configurations, connections, heads, paths, tokens
from tests.fuzz.engine import Target

_MODULES = (heads.targets, paths.targets, bodies.targets, configurations.targets, tokens.targets, connections.targets)

SHORT: Mapping[str, int] = MappingProxyType(
    {
        "request heads": 6000,
        "answer heads": 6000,
        "targets": 4000,
        "chunks": 1500,
        "lengths": 1500,
        "frames": 1500,
        "configurations": 150,
        "tokens": 3000,
        "callers' bytes": 2000,
        "upstream's bytes": 1500,
    }
)
"""How many inputs are tried with every run of the tests: half a second of each."""


@contextlib.contextmanager
def made(wanted: Callable[[str], bool] = lambda name: True) -> Iterator[list[Target]]:
    """The targets with these names."""
    with contextlib.ExitStack() as stack:
        targets = []
        for make in _MODULES:
            for target in make():
                stack.callback(target.end)
                targets.append(target)
        yield [target for target in targets if wanted(target.name)]
