"""Faults of the token endpoint: requests wait for a token a moment, then hear when to come again. Nothing is sent."""

from __future__ import annotations

import datetime as dt
import json
import time

from proxy.core.model import KeyPower
from proxy.credentials.api_key import check_api_key
from proxy.credentials.clock import Clock
from proxy.credentials.live import LiveSecret
from proxy.credentials.mint import SessionTokenMint
from proxy.credentials.secret import Secret
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import EnvironmentSource
from proxy.credentials.token_endpoint import TIME_LIMIT, TokenEndpoint
from tests.faults.row import GET, POST, Row, Step, refused, whole
from tests.faults.scene import Scene, WatchedUpstream
from tests.faults.steps import until
from tests.flows.test_refused_credentials import with_credential
from tests.proxies import ClockLoop
from tests.snapshots import KEY, make_snapshot, upstream_at
from tests.wires import OK, response

UNAVAILABLE = refused(503, "credential_unavailable", again_after=True)


def minted(life: float = 3600.0, token: str = "minted-token") -> bytes:
    """A token endpoint's answer."""
    ends = dt.datetime.fromtimestamp(time.time() + life, dt.UTC).isoformat()
    return _json({"token": token, "type": "Bearer", "expirationTime": ends})


def _json(members: object) -> bytes:
    return response("200 OK", "Content-Type: application/json", "Connection: close", body=json.dumps(members).encode())


def minting(answer: bytes | None, *, down: bool = False) -> Step:
    """The credential is minted by an endpoint that gives this answer; None: it accepts and never answers. ``down``:
    it does not even accept, and has not since before the first mint."""

    async def stage(scene: Scene) -> None:
        scene.prop = mint = await WatchedUpstream().start()
        scene.stack.push_async_callback(mint.cleanup)
        if answer is not None:
            mint.always(answer)
        if down:
            mint.stop_listening()
        clock = Clock(monotonic=scene.loop.time, chance=lambda: 0.5)
        live = LiveSecret("live", EnvironmentSource("KEY"), Secret(KEY), check=check_api_key, environ={}, clock=clock)
        endpoint = TokenEndpoint.of(upstream_at(mint.port))
        credential = SessionToken("live", live, KeyPower(), SessionTokenMint(endpoint, clock=clock), clock=clock)
        scene.first.callback(credential.close)
        upstream = await scene.listen()
        await scene.start(with_credential(make_snapshot(upstream_at(upstream.port)), credential))  # type: ignore[arg-type]

    return stage


silent_mint = minting(None)


async def mint_answers(scene: Scene) -> None:
    """The endpoint gives a token, and the pause between two mints is over."""
    mint: WatchedUpstream = scene.prop
    mint.always(minted())
    await mint.listen_again()
    for wire in mint.wires:
        wire.close()
    if isinstance(scene.loop, ClockLoop):
        for _ in range(70):  # the longest pause has a minute
            await scene.loop.advance(1.0)
            if scene.ready():
                return
    await until(scene.ready)


async def _waits(scene: Scene) -> None:
    """The request waits through short pauses between mints, and no longer than a mint may take."""
    assert isinstance(scene.loop, ClockLoop)
    began = scene.loop.time()
    while not scene.caller.received:
        await scene.loop.advance(0.05)
        assert scene.loop.time() - began < TIME_LIMIT + 2, "it waits for longer than a mint may take"


async def _answers(scene: Scene) -> None:
    await scene.answers(OK)


_FAILURES = {
    "500": response("500 Internal Server Error", "Connection: close"),
    "503 with Retry-After": response("503 Service Unavailable", "Retry-After: 30", "Connection: close"),
    "429": response("429 Too Many Requests", "Connection: close"),
    "401": response("401 Unauthorized", "Connection: close"),
    "302": response("302 Found", "Location: http://127.0.0.1:1/", "Connection: close"),
    "no JSON": response("200 OK", "Connection: close", body=b"<html>"),
    "half a JSON object": response("200 OK", "Connection: close", body=b'{"token": "minted'),
    "a JSON list": _json([]),
    "no token": _json({}),
    "a token with a line break": minted(token="minted\r\nX: y"),
    "a token that has ended": minted(life=-3600.0),
    "a token without an end": _json({"token": "minted-token", "type": "Bearer"}),
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{",
}

ROWS = (
    Row(name="token endpoint: down", stage=minting(None, down=True), fault=_waits, arrived=0, dials=0,
        expected=UNAVAILABLE, healed=mint_answers),
    Row(name="token endpoint: says nothing", stage=silent_mint, fault=_waits, sends=POST, arrived=0, dials=0,
        expected=UNAVAILABLE, healed=mint_answers),
    *(
        Row(name=f"token endpoint: {what}", stage=minting(answer), fault=_waits, arrived=0, dials=0,
            expected=UNAVAILABLE, healed=mint_answers)
        for what, answer in _FAILURES.items()
    ),
    Row(name="token endpoint: good", stage=minting(minted()), fault=_answers, sends=GET, idle=1, expected=whole()),
)  # fmt: skip
