"""An upstream with whatever is wrong with it, and the findings of an examination by their names."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.doctor.examination import examine
from proxy.doctor.finding import Finding
from proxy.doctor.settings import Told
from proxy.sandbox.app import make_application
from proxy.sandbox.keys import DEMO_KEYS
from proxy.sandbox.options import SandboxOptions
from proxy.settings.load import Overrides
from tests.certificates import Certificates

KEYS = {key.name: key for key in DEMO_KEYS}
LIMIT = 60.0
"""Seconds for a check; none takes a tenth, unless that is what is tested."""

Serve = Callable[..., Awaitable[str]]
Examine = Callable[..., Awaitable[dict[str, Finding]]]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a sandbox: its URL. ``statuses`` says which paths it answers with what, ``ahead`` what its clock says."""
    runners: list[web.AppRunner] = []

    async def start(
        context: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        statuses: Mapping[str, int] | None = None,
        ahead: timedelta | None = None,
        **options: Any,
    ) -> str:
        application = make_application(SandboxOptions(**options))

        @web.middleware
        async def instead(request: web.Request, handler: Handler) -> web.StreamResponse:
            status = (statuses or {}).get(request.path)
            return await handler(request) if status is None else web.Response(status=status)

        async def tell_time(_: web.Request, response: web.StreamResponse) -> None:
            if ahead is not None:
                response.headers["Date"] = format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        application.middlewares.append(instead)
        application.on_response_prepare.append(tell_time)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return f"http{'s' if context else ''}://{host}:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def find(tmp_path: Path) -> Examine:
    """Examines a configuration: the findings by name, the first of each."""

    async def run(
        url: str | None = None,
        *,
        limit: float = LIMIT,
        environ: Mapping[str, str] | None = None,
        upstream: Mapping[str, Any] | None = None,
        credential: Mapping[str, Any] | None = None,
        **sections: Any,
    ) -> dict[str, Finding]:
        configuration: dict[str, Any] = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        if url is not None:
            configuration["upstreams"] = {"inworld": {"url": url, **(upstream or {})}}
        configuration["credentials"] = {"workspace": {"kind": "api-key", "secret": "env:THE_KEY", **(credential or {})}}
        path = tmp_path / "proxy.yaml"
        path.write_text(yaml.safe_dump({**configuration, **sections}), encoding="utf-8")
        told = Told(path, {"THE_KEY": KEYS["full"].basic, **(environ or {})}, Overrides(), limit)
        found: dict[str, Finding] = {}
        async for finding in examine(told):
            found.setdefault(finding.name, finding)
        return found

    return run
