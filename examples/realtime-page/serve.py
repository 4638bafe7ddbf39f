"""The backend of the example page: serves it, and tells it where the proxy is and which token to show there.

An application of yours does the second after its user has signed in, with a caller token for this page alone.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).parent
TOKEN = os.environ.get("PAGE_TOKEN", "page-of-the-example")
FRESH = {"Cache-Control": "no-store"}
RULES = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {proxy} {socket}"


def make_application(proxy: str) -> web.Application:
    """The page for this proxy, such as ``http://127.0.0.1:8080``."""
    rules = RULES.format(proxy=proxy, socket=proxy.replace("http", "ws", 1))

    def file(name: str) -> web.AbstractRouteDef:
        async def serve(_request: web.Request) -> web.FileResponse:
            return web.FileResponse(FOLDER / name, headers={**FRESH, "Content-Security-Policy": rules})

        return web.get("/" if name == "index.html" else f"/{name}", serve)

    async def session(_request: web.Request) -> web.Response:
        return web.json_response({"proxy": proxy, "token": TOKEN}, headers=FRESH)

    application = web.Application()
    application.add_routes([*map(file, ("index.html", "page.js", "page.css")), web.post("/session", session)])
    return application


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the example page.")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--proxy", default="http://127.0.0.1:8080", help="Where the page finds the proxy.")
    options = parser.parse_args()
    web.run_app(make_application(options.proxy), host="127.0.0.1", port=options.port)
