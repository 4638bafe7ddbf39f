"""The Router API: routers themselves. Inference through them is ``chat.py`` and needs no permission.

What belongs here: the routes. What does not: what is remembered (``router_store.py``).
"""

from __future__ import annotations

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import read_message
from proxy.sandbox.endpoint import Endpoint, Governed, reads, writes
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.paging import page
from proxy.sandbox.shapes import JsonObject, camel, object_of

MAX_PAGE_SIZE = 1_000


async def list_routers(exchange: Exchange) -> web.Response:
    """``GET /router/v1/routers?page_size=``."""
    shown, next_token = page(
        exchange.sandbox.routers.all(exchange.workspace), exchange.request.query, longest=MAX_PAGE_SIZE
    )
    answer: JsonObject = {"routers": shown}
    if next_token:
        answer["nextPageToken"] = next_token
    return json_answer(answer)


async def get_router(exchange: Exchange) -> web.Response:
    """``GET /router/v1/routers/{router}``."""
    return json_answer(exchange.sandbox.routers.get(exchange.workspace, exchange.match("router")))


async def create_router(exchange: Exchange) -> web.Response:
    """``POST /router/v1/routers``: answered by an operation."""
    message = await read_message(exchange)
    router = exchange.sandbox.routers.create(exchange.workspace, object_of(message, "router") or message)
    return _operation(exchange, router)


async def update_router(exchange: Exchange) -> web.Response:
    """``PATCH /router/v1/routers/{router}?update_mask=``: answered by an operation."""
    message = await read_message(exchange)
    mask = exchange.request.query.get("update_mask") or exchange.request.query.get("updateMask") or ""
    fields = list(camel({name.strip(): None for name in mask.split(",")})) if mask else []
    changes = object_of(message, "router") or message
    router = exchange.sandbox.routers.update(exchange.workspace, exchange.match("router"), changes, fields)
    return _operation(exchange, router)


async def delete_router(exchange: Exchange) -> web.Response:
    """``DELETE /router/v1/routers/{router}``: answers an empty object."""
    exchange.sandbox.routers.delete(exchange.workspace, exchange.match("router"))
    return json_answer({})


def _operation(exchange: Exchange, router: JsonObject) -> web.Response:
    # Invented: the collection in the operation's name. The change itself is visible at once.
    return json_answer(exchange.sandbox.operations.start(exchange.workspace, "routers", router))


_ALL = "/router/v1/routers"
_ONE = _ALL + "/{router}"

ENDPOINTS: tuple[Endpoint, ...] = (
    reads("router.list", _ALL, list_routers, Governed.ROUTER),
    reads("router.get", _ONE, get_router, Governed.ROUTER),
    writes("router.create", "POST", _ALL, create_router, Governed.ROUTER),
    writes("router.update", "PATCH", _ONE, update_router, Governed.ROUTER),
    writes("router.delete", "DELETE", _ONE, delete_router, Governed.ROUTER),
)
