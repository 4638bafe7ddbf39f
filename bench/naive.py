"""The proxy that one writes by hand with aiohttp: a handler, a session, a loop that copies. Nothing is tuned here.

python naive.py PORT UPSTREAM [CA]      with AUTHORIZATION in the environment
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

ALLOWED = {
    "GET": {"/voices/v1/voices", "/router/v1/routers", "/tts/v1/voice:streamBidirectional"},
    "POST": {"/tts/v1/voice", "/tts/v1/voice:stream", "/stt/v1/transcribe"},
}
DROPPED = {"host", "authorization", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
PORT, UPSTREAM, CA = int(sys.argv[1]), sys.argv[2], next(iter(sys.argv[3:]), None)
INJECTED = {"Authorization": os.environ["AUTHORIZATION"]}
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def proxy(request: web.Request) -> web.StreamResponse:
    """One request, there and back."""
    if request.path not in ALLOWED.get(request.method, ()):
        raise web.HTTPNotFound
    url, session = UPSTREAM + request.path_qs, request.app[SESSION]
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await tunnel(request, session, url)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED} | INJECTED
    body = request.content if request.body_exists else None
    async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def tunnel(request: web.Request, session: aiohttp.ClientSession, url: str) -> web.WebSocketResponse:
    """A WebSocket: message by message, both ways."""
    async with session.ws_connect(url, headers=INJECTED) as above:
        below = web.WebSocketResponse()
        await below.prepare(request)

        async def copy(
            source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
            target: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
        ) -> None:
            async for message in source:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)
                else:
                    await target.send_bytes(message.data)
            await target.close()

        await asyncio.gather(copy(below, above), copy(above, below))
        return below


async def with_session(app: web.Application) -> AsyncIterator[None]:
    """The session lives as long as the application."""
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=CA) if CA else True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        app[SESSION] = session
        yield


if __name__ == "__main__":
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", proxy)
    application.cleanup_ctx.append(with_session)
    web.run_app(application, host="127.0.0.1", port=PORT, access_log=None, print=None)
