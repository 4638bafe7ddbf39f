"""A page that imports packages of ``tests/clients/node`` as a bundler would: by name, the variants for browsers."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

from tests.clients.processes import ROOT

HERE = Path(__file__).parent
NODE_MODULES = ROOT / "tests" / "clients" / "node" / "node_modules"
IMPORTS = {
    "openai": "/node_modules/openai/index.mjs",
    "openai/": "/node_modules/openai/",
    "openai/realtime/websocket": "/node_modules/openai/realtime/websocket.mjs",
    "@inworld/tts": "/node_modules/@inworld/tts/src/index.js",
}
_PAGE = (
    '<!doctype html><title>clients</title><link rel="icon" href="data:,">'
    f'<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>'
)


def _for_browsers() -> dict[str, str]:
    """What ``@inworld/tts`` wants bundlers to take instead of its files for Node (the field ``browser``)."""
    package = NODE_MODULES / "@inworld" / "tts"
    instead = json.loads((package / "package.json").read_text(encoding="utf-8"))["browser"]
    return {
        f"/node_modules/@inworld/tts{one[1:]}": f"/node_modules/@inworld/tts{other[1:]}"
        for one, other in instead.items()
    }


class Pages:
    """An origin of its own on loopback. What a page asked for and is not there is in ``missed``."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        instead, missed = _for_browsers(), self.missed

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = instead.get(self.path, self.path)
                file = HERE / "clients.mjs" if path == "/clients.mjs" else NODE_MODULES.parent / path[1:]
                if path == "/":
                    self._send("text/html", _PAGE.encode())
                elif ".." not in path and file.is_file():
                    self._send("text/javascript", file.read_bytes())
                else:
                    missed.append(path)
                    self.send_error(404)

            def _send(self, kind: str, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nothing: what matters is what the proxy and the sandbox say."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
