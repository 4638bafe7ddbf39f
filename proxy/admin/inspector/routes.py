"""The inspector on the admin listener: the page, its stream of events, and one request in detail.

``GET /inspector`` is the page, ``GET /inspector/NAME`` a file of it. They hold no data, so they ask for nothing. The
two others ask for the operator's token wherever there is one, and beyond loopback do not exist without:

``GET /inspector/events`` is a stream of server-sent events. On connecting one ``state`` with everything, ``series``
included, and one ``requests`` with what is kept; then ``requests`` at most five times a second and ``state`` each
second, with ``tail`` (the newest second) in place of ``series``. There is always an event within a second, so no
comment keeps the connection alive. ``requests`` is ``{"rows": [row, …], "skipped": n}``, oldest first; ``skipped`` were
older and left out.

``GET /inspector/requests/ID`` is ``{"row", "decision", "explain", "lines", "headers"}``: ``decision`` are sentences,
``explain`` a command or null, ``lines`` and ``headers`` those of the four heads ``received``, ``sent``, ``answered``
and ``returned`` (null where there is none; a head of more than 4 KiB is not kept), with secrets masked.

A row is made in ``rows.py``, the state in ``state.py``, the charts in ``series.py``. Never: a body, or a value that may
be a secret (``masking.py``). While the inspector is off all of it is 404.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from proxy.admin.inspector.detail import describe
from proxy.admin.inspector.feed import MOST_VIEWERS, Feed, Viewer
from proxy.admin.token import ask_for_token, shows
from proxy.wire.server import DataServer

PAGE = "/inspector"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer: nothing is loaded from elsewhere, nobody frames it, and no cache keeps it."""

_FOLDER = Path(__file__).parent
_FILE = re.compile(r"[a-z0-9][a-z0-9-]*\.(html|js|css|svg)")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_LONGEST_NUMBER = 18
"""Digits of a request's number; a longer one was never given."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_inspector(application: web.Application, server: DataServer) -> None:
    """Adds its routes to this application."""
    feed = Feed(server)

    async def begin(_: web.Application) -> None:
        feed.start()

    async def end(_: web.Application) -> None:
        feed.close()

    async def page(_: web.Request) -> web.StreamResponse:
        return await _file("index.html")

    async def file(request: web.Request) -> web.StreamResponse:
        return await _file(request.match_info["name"])

    async def events(request: web.Request) -> web.StreamResponse:
        return await _stream(feed, request)

    async def detail(request: web.Request) -> web.StreamResponse:
        return _detail(server, request.match_info["number"])

    application.on_startup.append(begin)
    application.on_shutdown.append(end)
    for path, answer in (
        (PAGE, page),
        (f"{PAGE}/events", _for_operator(server, events)),
        (f"{PAGE}/requests/{{number}}", _for_operator(server, detail)),
        (f"{PAGE}/{{name}}", file),
    ):
        application.router.add_route("*", path, _while_on(server, answer))


def _while_on(server: DataServer, answer: Answer) -> Answer:
    async def guarded(request: web.Request) -> web.StreamResponse:
        snapshot = server.snapshot
        if not server.trail.on or (snapshot.admin_token is None and not snapshot.admin.is_loopback):
            raise web.HTTPNotFound
        if request.method != "GET":
            raise web.HTTPMethodNotAllowed(request.method, ["GET"])
        response = await answer(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    return guarded


def _for_operator(server: DataServer, answer: Answer) -> Answer:
    async def guarded(request: web.Request) -> web.StreamResponse:
        digest = server.snapshot.admin_token
        if digest is not None and not shows(request, digest):
            return ask_for_token()
        return await answer(request)

    return guarded


async def _file(name: str) -> web.Response:
    match = _FILE.fullmatch(name)
    if match is None:
        raise web.HTTPNotFound
    try:
        content = await asyncio.to_thread((_FOLDER / name).read_bytes)
    except FileNotFoundError:
        raise web.HTTPNotFound from None
    return web.Response(body=content, headers={"Content-Type": _TYPES[match[1]]})


async def _stream(feed: Feed, request: web.Request) -> web.StreamResponse:
    transport = request.transport
    if feed.is_full or transport is None:
        message = f"{MOST_VIEWERS} viewers are looking already. Close one of their pages."
        return web.json_response({"status": "refused", "message": message}, status=503, headers={"Retry-After": "5"})
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    viewer = Viewer(transport.abort)
    feed.join(viewer)
    try:
        await response.prepare(request)
        while (event := await viewer.events.get()) is not None:
            await response.write(event)
    except ConnectionResetError:
        pass  # it left, or was cut because it did not read
    finally:
        feed.leave(viewer)
    return response


def _detail(server: DataServer, number: str) -> web.Response:
    known = number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER
    record = server.trail.find(int(number)) if known else None
    if record is None:
        message = f"This request is not kept any more; the inspector keeps {server.trail.keep} (`inspector.keep`)."
        return web.json_response({"status": "gone", "message": message}, status=404)
    return web.json_response(describe(server.snapshot, int(number), record))
