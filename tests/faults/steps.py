"""The steps that most faults are made of: what the upstream says to the request, and how it then ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.faults.row import Step
from tests.faults.scene import Scene
from tests.wires import Wire, bounded

End = Callable[[Wire], None]
CLOSE: End = Wire.close
RESET: End = Wire.reset
HALF_CLOSE: End = Wire.end


def says(*pieces: bytes, then: End | None = None) -> Step:
    """The request arrives, gets these bytes, one packet each, and then the connection ends like this."""

    async def fault(scene: Scene) -> None:
        wire = await scene.arrives()
        for piece in pieces:
            await wire.send(piece)
        if pieces and then is RESET:  # which would overtake what was said before it
            await until(scene.has_read)
        if then is not None:
            then(wire)

    return fault


def breaks(raw: bytes, shown: bytes, then: End) -> Step:
    """The request arrives and gets these bytes; once the caller has ``shown`` of them, the connection ends."""

    async def fault(scene: Scene) -> None:
        wire = await scene.answers(raw)
        await scene.caller.until(lambda caller: shown in caller.received)
        then(wire)

    return fault


def goes_on(raw: bytes, shown: bytes, *later: bytes) -> Step:
    """The same, but instead of an end there come more bytes."""

    async def fault(scene: Scene) -> None:
        wire = await scene.answers(raw)
        await scene.caller.until(lambda caller: shown in caller.received)
        for piece in later:
            wire.feed(piece)

    return fault


async def until(true: Callable[[], bool]) -> None:
    """Lets the loop turn until this is so; for what the product tells nobody."""

    async def wait() -> None:
        while not true():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)

    await bounded(wait())
