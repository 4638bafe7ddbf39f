"""The operator's listener: metrics, health, ``POST /reload`` and the inspector. An ordinary aiohttp application, apart
from the data path.

On loopback it is guarded against web pages like the data listener; elsewhere it serves these paths only and does not
look at Host, because probes and scrapers use pod addresses. What changes something needs the operator's token wherever
there is one, and off loopback does not exist without.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy import __version__
from proxy.admin.inspector.routes import PAGE, add_inspector
from proxy.admin.token import ask_for_token, shows
from proxy.core.browser import LOOPBACK_NAMES, check_host, check_site
from proxy.core.errors import OUTCOMES, error_body, proxy_status
from proxy.core.model import Credential, ErrorShape
from proxy.observe.exposition import expose
from proxy.reload import Outcome, Reloader, State
from proxy.wire.server import DataServer

_READING = frozenset({"GET", "HEAD"})


async def start_admin(
    server: DataServer, sockets: Sequence[socket.socket], reloader: Reloader | None = None
) -> web.AppRunner:
    """Answers on these sockets, until ``cleanup()``."""
    runner = web.AppRunner(make_application(server, reloader), access_log=None, logger=_quiet_logger())
    try:
        await runner.setup()
        for sock in sockets:
            # It closes what it is given, and whoever opened these wants to close them in an order of its own.
            await web.SockSite(runner, sock.dup()).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def make_application(server: DataServer, reloader: Reloader | None = None) -> web.Application:
    """The application: ``/metrics``, ``/healthz``, ``/readyz``, ``/reload`` if that can be, and for people ``/`` and
    ``/inspector``."""
    application = web.Application(middlewares=[_guard(server)] if server.snapshot.admin.is_loopback else ())

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await expose(server.metrics, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": __version__})

    async def readyz(_: web.Request) -> web.Response:
        credentials = {name: _describe(credential) for name, credential in server.snapshot.credentials.items()}
        # A credential that is fetched on first use does not keep a pod out of service; draining does.
        status = "draining" if server.draining else "ready"
        body: dict[str, object] = {
            "status": status,
            "credentials": credentials,
            "configuration": server.snapshot.source,
        }
        if server.snapshot.key_sets:
            # A key set that is not there yet leaves its callers unknown; the others are served.
            body["key_sets"] = {
                name: "ready" if source.state().ready else "not ready"
                for name, source in server.snapshot.key_sets.items()
            }
        if reloader is not None:
            # What is wrong with a file names paths and settings: for those on this machine only.
            body["reload"] = _describe_reload(reloader.last, faults=server.snapshot.admin.is_loopback)
        return web.json_response(body, status=503 if server.draining else 200)

    async def index(request: web.Request) -> web.Response:
        if server.trail.on and "text/html" in request.headers.get("Accept", ""):
            raise web.HTTPFound(PAGE)
        paths = ["/metrics", "/healthz", "/readyz", *([PAGE] if server.trail.on else []), "POST /reload"]
        return web.Response(text=f"inworld-proxy {__version__}\n\n" + "".join(f"{path}\n" for path in paths))

    application.router.add_get("/metrics", metrics)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    if reloader is not None:
        application.router.add_route("*", "/reload", _reload(server, reloader))
    if server.snapshot.admin.is_loopback:
        application.router.add_get("/", index)
    add_inspector(application, server)
    return application


def _reload(server: DataServer, reloader: Reloader) -> Handler:
    async def reload(request: web.Request) -> web.StreamResponse:
        digest = server.snapshot.admin_token
        if digest is None and not server.snapshot.admin.is_loopback:
            raise web.HTTPNotFound
        if request.method != "POST":
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        if digest is not None and not shows(request, digest):
            return ask_for_token()
        outcome = await asyncio.shield(reloader.ask("POST /reload"))
        status = 503 if server.draining else 422 if outcome.state is State.FAILED else 200
        body = {
            "status": outcome.state.value,
            "when": _moment(outcome.when),
            "configuration": server.snapshot.source,
            "faults": outcome.faults,
        }
        return web.json_response(body, status=status)

    return reload


def _describe_reload(outcome: Outcome, *, faults: bool) -> dict[str, object]:
    described: dict[str, object] = {
        "state": outcome.state.value,
        "when": _moment(outcome.when),
        "faults": len(outcome.faults),
    }
    return described | {"found": outcome.faults} if faults and outcome.faults else described


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _describe(credential: Credential) -> dict[str, object]:
    """How a credential is, in words; nothing of it is secret."""
    state = credential.state()
    described: dict[str, object] = {
        "kind": credential.kind,
        "state": "ready" if state.ready else "not ready",
        "refused_upstream": state.refused,
    }
    if state.fault is not None:
        described["fault"] = state.fault
    if state.expires_at is not None:
        described["expires_in_seconds"] = round(state.expires_at - time.time(), 1)
    if state.skew is not None:
        described["clock_skew_seconds"] = round(state.skew, 1)
    return described


def _guard(server: DataServer) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        hosts = LOOPBACK_NAMES | (server.snapshot.policy.hosts or frozenset())
        refused = check_host(headers.get("Host", "").encode("utf-8", "replace"), hosts)
        if refused is None:
            origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
            # Of the origins only this listener's own, and only to read: a browser names it with each module of the
            # inspector's page, which changes nothing. Whatever the data listener allows, metrics are not for other
            # pages.
            own = frozenset({f"http://{headers.get('Host', '')}"}) if request.method in _READING else frozenset()
            refused = check_site(
                None if origin is None else origin.encode("utf-8", "replace"),
                None if site is None else site.encode("utf-8", "replace"),
                own,
            )
        if refused is None:
            return await handler(request)
        code, message = refused
        return web.Response(
            status=OUTCOMES[code].status,
            body=error_body(code, message, ErrorShape.GRPC),
            content_type="application/json",
            headers={"Proxy-Status": proxy_status(code).decode()},
        )

    return guard


def _quiet_logger() -> logging.Logger:
    # aiohttp logs a traceback for every malformed request; on this listener they are of no interest to anyone.
    logger = logging.getLogger("proxy.admin.http")
    logger.setLevel(logging.CRITICAL)
    return logger
