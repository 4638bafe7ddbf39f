"""The Pronunciation API, which asks for the voices permission.

What belongs here: the routes. What does not: the rules about dictionaries (``pronunciation_store.py``).
"""

from __future__ import annotations

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import read_message
from proxy.sandbox.endpoint import Endpoint, Governed, reads, writes
from proxy.sandbox.errors import invalid
from proxy.sandbox.exchange import Exchange, workspace_of
from proxy.sandbox.paging import page
from proxy.sandbox.shapes import JsonObject, camel, list_of, object_of, text_of

MAX_PAGE_SIZE = 1_000
_MUTABLE = {"displayName", "pronunciations"}


async def list_dictionaries(exchange: Exchange) -> web.Response:
    """``GET …/pronunciationDictionaries``."""
    dictionaries = exchange.sandbox.dictionaries.all(workspace_of(exchange))
    shown, next_token = page(dictionaries, exchange.request.query, longest=MAX_PAGE_SIZE)
    answer: JsonObject = {"pronunciationDictionaries": [dictionary.as_json() for dictionary in shown]}
    if next_token:
        answer["nextPageToken"] = next_token
    return json_answer(answer)


async def get_dictionary(exchange: Exchange) -> web.Response:
    """``GET …/pronunciationDictionaries/{dictionary}``."""
    dictionary = exchange.sandbox.dictionaries.get(workspace_of(exchange), exchange.match("dictionary"))
    return json_answer(dictionary.as_json())


async def create_dictionary(exchange: Exchange) -> web.Response:
    """``POST …/pronunciationDictionaries``: validated whole, then saved."""
    workspace = workspace_of(exchange)
    message = await _message(exchange)
    entries = _entries(message)
    dictionary = exchange.sandbox.dictionaries.create(workspace, text_of(message, "displayName"), entries)
    return json_answer(dictionary.as_json())


async def update_dictionary(exchange: Exchange) -> web.Response:
    """``PATCH …/pronunciationDictionaries/{dictionary}?updateMask=``."""
    dictionary = exchange.sandbox.dictionaries.get(workspace_of(exchange), exchange.match("dictionary"))
    message = await _message(exchange)
    mask = exchange.request.query.get("updateMask") or exchange.request.query.get("update_mask") or ""
    fields = set(camel({name.strip(): None for name in mask.split(",")})) if mask else _MUTABLE & set(message)
    if not fields <= _MUTABLE:
        raise invalid("updateMask may name displayName and pronunciations")
    changed = exchange.sandbox.dictionaries.update(
        dictionary,
        text_of(message, "etag") or exchange.request.query.get("etag", ""),
        display_name=text_of(message, "displayName") if "displayName" in fields else None,
        pronunciations=_entries(message) if "pronunciations" in fields else None,
    )
    return json_answer(changed.as_json())


async def delete_dictionary(exchange: Exchange) -> web.Response:
    """``DELETE …/pronunciationDictionaries/{dictionary}?etag=&allowMissing=``."""
    query = exchange.request.query
    exchange.sandbox.dictionaries.delete(
        workspace_of(exchange),
        exchange.match("dictionary"),
        query.get("etag", ""),
        allow_missing=(query.get("allowMissing") or query.get("allow_missing")) == "true",
    )
    return json_answer({})


async def _message(exchange: Exchange) -> JsonObject:
    message = await read_message(exchange)
    # Some generated clients wrap the resource in a member of its own name.
    return object_of(message, "pronunciationDictionary") or message


def _entries(message: JsonObject) -> tuple[JsonObject, ...]:
    return tuple(object_of({"pronunciations": entry}, "pronunciations") for entry in list_of(message, "pronunciations"))


_ALL = "/pronunciations/v1/workspaces/{workspace}/pronunciationDictionaries"
_ONE = _ALL + "/{dictionary}"

ENDPOINTS: tuple[Endpoint, ...] = (
    reads("pronunciations.list", _ALL, list_dictionaries, Governed.VOICES),
    reads("pronunciations.get", _ONE, get_dictionary, Governed.VOICES),
    writes("pronunciations.create", "POST", _ALL, create_dictionary, Governed.VOICES),
    writes("pronunciations.update", "PATCH", _ONE, update_dictionary, Governed.VOICES),
    writes("pronunciations.delete", "DELETE", _ONE, delete_dictionary, Governed.VOICES),
)
