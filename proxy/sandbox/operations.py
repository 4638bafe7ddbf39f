"""Long-running operations and the signed links to their results.

What belongs here: jobs that go from not done to done, and what they leave to be downloaded. What does not: the work,
which the sandbox does at once.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.sandbox.answers import json_answer, to_json
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import not_found
from proxy.sandbox.pacing import stream
from proxy.sandbox.shapes import JsonObject, new_uuid

if TYPE_CHECKING:
    from proxy.sandbox.exchange import Exchange
    from proxy.sandbox.options import SandboxOptions

RESULT_PATH = "/_sandbox/results/"
_REMEMBERED = 1000

Play = Callable[[], Iterator[bytes]]


@dataclass(slots=True)
class _Operation:
    workspace: str
    started: float
    response: JsonObject
    polls: int = 0


@dataclass(frozen=True, slots=True)
class _Result:
    play: Play
    content_type: str


class Operations:
    """The jobs of all workspaces; the oldest are forgotten."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._operations: OrderedDict[str, _Operation] = OrderedDict()
        self._results: OrderedDict[str, _Result] = OrderedDict()

    def start(self, workspace: str, collection: str, response: JsonObject) -> JsonObject:
        """A new operation, as its submitter sees it. Its name contains slashes, as documented."""
        name = f"workspaces/{workspace}/{collection}/{new_uuid()}/operations/{secrets.token_hex(8)}"
        self._operations[name] = _Operation(workspace, self._options.clock(), response)
        _forget_oldest(self._operations)
        return {"name": name, "done": False}

    def poll(self, workspace: str, name: str) -> JsonObject | None:
        """The operation as it is now, counting the question; None if the workspace has none of that name."""
        operation = self._operations.get(name)
        if operation is None or operation.workspace != workspace:
            return None
        operation.polls += 1
        age = self._options.clock() - operation.started
        if operation.polls <= self._options.operation_polls or age < self._options.operation_seconds:
            return {"name": name, "done": False}
        return {"name": name, "done": True, "response": operation.response}

    def keep(self, exchange: Exchange, play: Play, content_type: str) -> str:
        """A link to content that is made when it is fetched; whoever has the link may fetch it."""
        name = secrets.token_urlsafe(24)
        self._results[name] = _Result(play, content_type)
        _forget_oldest(self._results)
        # Invented: where results live. The real links lead to the vendor's cloud storage; clients follow them as they
        # are.
        return exchange.link(RESULT_PATH + name)

    def result(self, name: str) -> _Result | None:
        """What a link leads to."""
        return self._results.get(name)


def _forget_oldest(remembered: OrderedDict[str, _Operation] | OrderedDict[str, _Result]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)


def keep_json(exchange: Exchange, document: JsonObject) -> str:
    """A link to a JSON document."""
    content = to_json(document).encode()
    return exchange.sandbox.operations.keep(exchange, lambda: iter((content,)), "application/json")


async def get_operation(exchange: Exchange) -> web.Response:
    """``GET /lro/v1alpha/{name}``, where the name contains slashes."""
    operation = exchange.sandbox.operations.poll(exchange.workspace, exchange.match("name"))
    if operation is None:
        raise not_found("operation not found")
    return json_answer(operation)


async def get_result(exchange: Exchange) -> web.StreamResponse:
    """A signed link: needs no credential."""
    result = exchange.sandbox.operations.result(exchange.match("name"))
    if result is None:
        raise not_found()
    return await stream(exchange, _sent(result.play()), content_type=result.content_type)


async def _sent(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


ENDPOINTS = (
    Endpoint("operations.get", "GET", "/lro/v1alpha/{name:.+}", get_operation),
    Endpoint("sandbox.result", "GET", RESULT_PATH + "{name}", get_result, admission=Admission.LINK),
)
