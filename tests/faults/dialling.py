"""Faults on the way to the upstream: its name, its port, the CONNECT proxy before it. Nothing has been sent by then."""

from __future__ import annotations

import socket

from tests.faults.places import (
    EGRESS_AUTHORIZATION,
    Blackhole,
    Egress,
    found_again,
    nowhere,
    opens_again,
    resolving,
    through,
)
from tests.faults.row import POST, Row, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import until
from tests.wires import OK

NOT_THERE = refused(502, "upstream_connect_failed")
NO_TUNNEL = refused(502, "upstream_proxy_failed")
UNKNOWN_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_SERVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def nothing(scene: Scene) -> None:
    """The stage is the fault."""


async def _answers(scene: Scene) -> None:
    await scene.answers(OK)


def _name_that_fails(failure: Exception):
    async def stage(scene: Scene) -> None:
        await resolving("127.0.0.1")(scene)
        scene.prop.failure = failure

    return stage


async def _resolves_again(scene: Scene) -> None:
    scene.prop.failure = None


async def _first_address_swallows(scene: Scene) -> None:
    """IPv6 is there and leads nowhere, as behind many a router."""
    await resolving("::1", "127.0.0.1")(scene)
    hole = Blackhole("::1", scene.upstream.port)
    scene.stack.callback(hole.close)


async def _no_address_answers(scene: Scene) -> None:
    await resolving("::1", "127.0.0.1")(scene)
    scene.upstream.stop_listening()


async def _egress_is_down(scene: Scene) -> None:
    await through()(scene)
    scene.prop.stop_listening()


async def _egress_listens_again(scene: Scene) -> None:
    await scene.prop.start()


async def _egress_resets(scene: Scene) -> None:
    """The CONNECT proxy is asked and cuts the connection."""
    await until(lambda: bool(scene.prop.asked))
    assert EGRESS_AUTHORIZATION.encode() in scene.prop.asked[0]


async def _upstream_cuts_the_handshake(scene: Scene) -> None:
    """The tunnel opens, and the upstream behind it closes instead of a handshake."""
    await scene.upstream.listen_again(None)
    wire = await scene.reaches()
    await wire.until(lambda wire: wire.received[:1] == b"\x16")
    wire.close()


async def _tls_again(scene: Scene) -> None:
    await scene.upstream.listen_again(scene.certificates.good("api.example"))


_NO_TUNNELS = {
    "asks for a password": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "forbids": b"HTTP/1.1 403 Forbidden\r\n\r\n",
    "is overloaded": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "closes": b"",
    "says half a head": b"HTTP/1.1 200 OK\r\n",
    "speaks another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "says more than its head": b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "says too much": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
}

ROWS = (
    Row(name="connection refused", stage=nowhere, fault=nothing, arrived=0, expected=NOT_THERE, healed=found_again),
    Row(name="connection refused, of a write", stage=nowhere, fault=nothing, sends=POST, arrived=0,
        expected=NOT_THERE, healed=found_again),
    Row(name="the name does not exist", stage=_name_that_fails(UNKNOWN_NAME), fault=nothing, arrived=0,
        expected=refused(502, "upstream_dns_failed"), healed=_resolves_again),
    Row(name="the name server is down", stage=_name_that_fails(NO_SERVER), fault=nothing, sends=POST, arrived=0,
        expected=refused(502, "upstream_dns_failed"), healed=_resolves_again),
    Row(name="the name cannot be asked for", stage=_name_that_fails(UnicodeError("label too long")), fault=nothing,
        arrived=0, expected=refused(502, "upstream_dns_failed"), healed=_resolves_again),
    Row(name="IPv6 refuses, IPv4 is good", stage=resolving("::1", "127.0.0.1"), fault=_answers, idle=1,
        expected=whole()),
    Row(name="IPv6 swallows, IPv4 is good", stage=_first_address_swallows, fault=_answers, idle=1, expected=whole()),
    Row(name="IPv6 swallows, IPv4 is good, of a write", stage=_first_address_swallows, sends=POST, fault=_answers,
        idle=1, expected=whole()),
    Row(name="no address is good", stage=_no_address_answers, fault=nothing, arrived=0, expected=NOT_THERE,
        healed=found_again),
    Row(name="the CONNECT proxy is down", stage=_egress_is_down, fault=nothing, arrived=0, expected=NOT_THERE,
        healed=_egress_listens_again),
    *(
        Row(name=f"the CONNECT proxy {what}", stage=through(answer), fault=_egress_resets, arrived=0,
            expected=NO_TUNNEL, healed=opens_again)
        for what, answer in _NO_TUNNELS.items()
    ),
    Row(name="the CONNECT proxy is good, what is behind it closes", stage=through(), arrived=0,
        fault=_upstream_cuts_the_handshake, expected=refused(502, "upstream_tls_failed"), healed=_tls_again),
    Row(name="the CONNECT proxy is good", stage=through(Egress.OPEN), fault=_answers, idle=1, expected=whole()),
)  # fmt: skip
