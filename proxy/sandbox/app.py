"""The sandbox as an aiohttp application: the table of everything it answers, registered.

What belongs here: putting the parts together. What does not: the parts.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web

from proxy.sandbox import (
    chat,
    inspection,
    judgement,
    legacy_llm,
    messages,
    mints,
    operations,
    pronunciations,
    realtime_socket,
    responses,
    routers,
    stt,
    stt_socket,
    tts,
    tts_socket,
    voices,
    webrtc,
)
from proxy.sandbox.front import answer, dress, unknown_path
from proxy.sandbox.options import SandboxOptions
from proxy.sandbox.state import SANDBOX, Sandbox

ENDPOINTS = (
    *tts.ENDPOINTS,
    *tts_socket.ENDPOINTS,
    *operations.ENDPOINTS,
    *stt.ENDPOINTS,
    *stt_socket.ENDPOINTS,
    *voices.ENDPOINTS,
    *pronunciations.ENDPOINTS,
    *routers.ENDPOINTS,
    *chat.ENDPOINTS,
    *messages.ENDPOINTS,
    *responses.ENDPOINTS,
    *judgement.ENDPOINTS,
    *legacy_llm.ENDPOINTS,
    *realtime_socket.ENDPOINTS,
    *webrtc.ENDPOINTS,
    *mints.ENDPOINTS,
)
"""Every row. Where a literal path and a template both fit, the one registered first answers."""


def make_application(options: SandboxOptions) -> web.Application:
    """A sandbox with these options, remembering nothing yet. Each call makes one of its own.

    Run it with ``handler_cancellation=True`` where a client's leaving should stop the work for it, as ``serve.py``
    does.
    """
    # Bodies have limits of their own, by operation; aiohttp's would also stop the streamed uploads.
    app = web.Application(client_max_size=0)
    app[SANDBOX] = Sandbox(options)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, partial(answer, endpoint=endpoint))
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, partial(answer, endpoint=endpoint))
    inspection.add_routes(app.router, ENDPOINTS)
    app.router.add_route("*", "/{tail:.*}", unknown_path)
    app.on_response_prepare.append(dress)
    return app
