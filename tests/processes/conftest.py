"""Processes for one test, and the upstream that they ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.processes.running import Processes


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Starts proxies that are ended after the test."""
    async with Processes() as made:
        yield made
