"""The seam for tests: what was seen, which keys exist, and gates to open. Invented: all of it, and its paths.

What belongs here: ``/_sandbox/…``. What does not: anything that the real service answers.

These paths show keys and whole requests, so they answer only to whoever could have them anyway: a Host that no public
name system can point here by accident, and no web page of another origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Refusal, Stack, invalid, not_found, refuse
from proxy.sandbox.keys import SandboxKey
from proxy.sandbox.shapes import JsonObject
from proxy.sandbox.state import SANDBOX

LONGEST_WAIT = 30.0
MOST_CHUNKS = 1_000_000

Answer = Callable[[web.Request], Awaitable[web.Response]]


def key_as_json(key: SandboxKey) -> JsonObject:
    """A key as the sandbox announces it."""
    return {
        "keyId": key.key_id,
        "secret": key.secret,
        "basic": key.basic,
        "type": key.type.value,
        "voices": key.voices.value,
        "router": key.router.value,
        "workspace": key.workspace,
    }


async def _seen(request: web.Request) -> web.Response:
    """``GET /_sandbox/seen[?settled=SECONDS]``: with ``settled``, waits until no request is being answered."""
    log = request.app[SANDBOX].seen
    settled = True
    if "settled" in request.query:
        settled = await log.settled(min(LONGEST_WAIT, _number(request, "settled")))
    return json_answer({"settled": settled, "requests": [record.as_json() for record in log.records()]})


async def _forget(request: web.Request) -> web.Response:
    """``DELETE /_sandbox/seen``."""
    request.app[SANDBOX].seen.clear()
    return json_answer({})


async def _tally(request: web.Request) -> web.Response:
    """``GET /_sandbox/tally``: what became of every credential since the start, and of every mint."""
    return json_answer(request.app[SANDBOX].tally.as_json())


async def _keys(request: web.Request) -> web.Response:
    """``GET /_sandbox/keys``."""
    return json_answer({key.name: key_as_json(key) for key in request.app[SANDBOX].keys.all()})


async def _delete_key(request: web.Request) -> web.Response:
    """``DELETE /_sandbox/keys/{name}``: as in the Portal; its tokens die with it."""
    if not request.app[SANDBOX].keys.delete(request.match_info["name"]):
        raise not_found("there is no key of that name")
    return json_answer({})


async def _open_gate(request: web.Request) -> web.Response:
    """``POST /_sandbox/gates/{name}[?chunks=1]``: lets held-back chunks through."""
    chunks = int(_number(request, "chunks")) if "chunks" in request.query else 1
    if not 1 <= chunks <= MOST_CHUNKS:
        raise invalid(f"chunks must be in [1, {MOST_CHUNKS}]")
    request.app[SANDBOX].gates.open(request.match_info["name"], chunks)
    return json_answer({})


def _number(request: web.Request, name: str) -> float:
    try:
        return float(request.query[name])
    except ValueError as exc:
        raise invalid(f"{name} must be a number") from exc


def _guarded(handler: Answer) -> Answer:
    async def guarded(request: web.Request) -> web.Response:
        if not _is_local_name(request.host) or "Origin" in request.headers:
            return json_answer({"code": 7, "message": "not from a web page"}, status=403)
        try:
            return await handler(request)
        except Refusal as refusal:
            return refuse(refusal, Stack.GATEWAY)

    return guarded


def _is_local_name(host: str) -> bool:
    """True for an address, ``localhost``, or a name without a dot (a container's): nothing that DNS can rebind."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.endswith(".localhost") or "." not in name
    return True


def add_routes(router: web.UrlDispatcher, endpoints: tuple[Endpoint, ...]) -> None:
    """Adds the seam, including a list of what the sandbox answers."""
    rows = [{"name": row.name, "method": row.method, "path": row.path} for row in endpoints]

    async def operations(_request: web.Request) -> web.Response:
        return json_answer({"operations": rows})

    router.add_get("/_sandbox/operations", _guarded(operations))
    router.add_get("/_sandbox/seen", _guarded(_seen))
    router.add_delete("/_sandbox/seen", _guarded(_forget))
    router.add_get("/_sandbox/tally", _guarded(_tally))
    router.add_get("/_sandbox/keys", _guarded(_keys))
    router.add_delete("/_sandbox/keys/{name}", _guarded(_delete_key))
    router.add_post("/_sandbox/gates/{name}", _guarded(_open_gate))
