"""Every row of the matrix is played, and everything that must be true after it is checked of each alike."""

from __future__ import annotations

import pytest

from tests.certificates import Certificates
from tests.faults import (
    bodies,
    dialling,
    heads,
    held,
    leaving,
    minting,
    reuse,
    secure,
    times,
    tunnels,
    uploads,
)
from tests.faults.row import Row
from tests.faults.runner import play

ROWS = (*dialling.ROWS, *secure.ROWS, *heads.ROWS, *bodies.ROWS, *reuse.ROWS, *uploads.ROWS, *held.ROWS, *tunnels.ROWS)
ON_A_CLOCK = (*times.ROWS, *tunnels.ON_A_CLOCK, *minting.ROWS)

ATTEMPTS = 10
"""A machine may be busy with something else, for a while; what hears only of a timer is late every time."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_fault_costs_its_own_request_and_nothing_else(row: Row, certificates: Certificates) -> None:
    await play(row, certificates)


@pytest.mark.asyncio(loop_factories=["clock"])
@pytest.mark.parametrize("row", ON_A_CLOCK, ids=lambda row: row.name)
async def test_a_wait_ends_in_its_time(row: Row, certificates: Certificates) -> None:
    await play(row, certificates)


@pytest.mark.parametrize("row", leaving.ROWS, ids=lambda row: row.name)
async def test_the_upstream_hears_at_once_that_the_caller_left(row: Row, certificates: Certificates) -> None:
    seconds = []
    while not seconds or (seconds[-1] >= leaving.SOON and len(seconds) < ATTEMPTS):
        seconds.append(await play(row, certificates))
    assert 0 <= min(seconds) < leaving.SOON


def test_no_two_rows_have_one_name() -> None:
    names = [row.name for row in (*ROWS, *ON_A_CLOCK, *leaving.ROWS)]
    assert len(names) == len({*names}) >= 60
