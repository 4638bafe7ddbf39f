"""What the tests of the inspector share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin.watching import Inspected, Inspectors
from tests.proxies import Proxies


@pytest.fixture
async def inspectors(proxies: Proxies) -> AsyncIterator[Inspectors]:
    made = Inspectors(proxies)
    yield made
    await made.cleanup()


@pytest.fixture
async def inspected(inspectors: Inspectors) -> Inspected:
    """A proxy without callers whose admin listener, and inspector, is on loopback."""
    return await inspectors.start()
