"""Upstreams that are not who they should be: 502, and not one byte of a request or of the credential reaches them."""

from __future__ import annotations

from dataclasses import replace

from tests.certificates import DEFECTS, HOST, Certificates, Shown
from tests.faults.dialling import nothing
from tests.faults.places import Resolver
from tests.faults.row import GET, POST, Row, broken, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import CLOSE, RESET, End, breaks, says
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK

UNTRUSTED = refused(502, "upstream_tls_failed")
ALERT_PROTOCOL_VERSION = b"\x15\x03\x01\x00\x02\x02\x46"
SERVER_HELLO_1_1 = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02" + bytes(32) + b"\x00\x00\x2f\x00"


def _shows(make):
    """An upstream that shows what this makes."""

    async def stage(scene: Scene) -> None:
        shown: Shown = make(scene.certificates)
        upstream = await scene.listen(shown.context)
        where = upstream_at(upstream.port, scheme="https", host=shown.host)
        if shown.host not in (HOST, "127.0.0.1"):
            scene.patch.setattr("tests.faults.places.NAME", shown.host)
            scene.prop = Resolver(scene.loop, scene.patch, "127.0.0.1")
        await scene.start(make_snapshot(replace(where, ca_file=scene.certificates.ca_file)))

    return stage


async def _is_who_it_should_be(scene: Scene) -> None:
    """The same port with a good certificate: so it was the defect that was refused."""
    (upstream,) = scene.proxy.server.snapshot.upstreams.values()
    await scene.upstream.listen_again(scene.certificates.good(upstream.host))


def _good(certificates: Certificates) -> Shown:
    return Shown(certificates.good(HOST))


def _none(certificates: Certificates) -> Shown:
    return Shown(None)


def _instead_of_a_handshake(raw: bytes, then: End | None):
    async def fault(scene: Scene) -> None:
        wire = await scene.reaches()
        await wire.until(lambda wire: wire.received[:1] == b"\x16")
        wire.feed(raw)
        if then is not None:
            then(wire)

    return fault


ROWS = (
    *(
        Row(name=f"a certificate with a defect: {what}", stage=_shows(make), fault=nothing, sends=POST, arrived=0,
            expected=UNTRUSTED, healed=_is_who_it_should_be)
        for what, make in DEFECTS.items()
        if what != "no TLS at all"
    ),
    *(
        Row(name=f"instead of a handshake: {what}", stage=_shows(_none), arrived=0, sends=POST,
            fault=_instead_of_a_handshake(raw, then), expected=UNTRUSTED, healed=_is_who_it_should_be)
        for what, raw, then in (
            ("an answer in clear", OK, None),
            ("an alert", ALERT_PROTOCOL_VERSION, CLOSE),
            ("a ServerHello of TLS 1.1", SERVER_HELLO_1_1, None),
            ("a close", b"", CLOSE),
            ("a reset", b"", RESET),
            ("half a record", b"\x16\x03\x03\x40\x00half", CLOSE),
        )
    ),
    Row(name="in TLS: a good certificate", stage=_shows(_good), fault=says(OK), expected=whole(), idle=1),
    Row(name="in TLS: close before the head", stage=_shows(_good), fault=says(then=CLOSE),
        expected=refused(502, "upstream_closed")),
    Row(name="in TLS: reset before the head", stage=_shows(_good), fault=says(then=RESET),
        expected=refused(502, "upstream_closed")),
    Row(name="in TLS: reset in a body", stage=_shows(_good), kept=False, expected=broken("upstream_closed", b"some"),
        fault=breaks(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", b"some", RESET)),
    Row(name="in TLS: close in a body", stage=_shows(_good), kept=False, expected=broken("upstream_closed", b"some"),
        fault=breaks(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"some", CLOSE)),
    Row(name="in TLS: a body until the close", stage=_shows(_good), sends=GET, expected=whole(),
        fault=says(b"HTTP/1.1 200 OK\r\n\r\nok", then=CLOSE)),
    # The end of a body that only the connection's end marks is anybody's to forge, unless TLS itself was closed.
    Row(name="in TLS: a cut in a body until the close", stage=_shows(_good), kept=False,
        expected=broken("upstream_closed", b"some"), fault=breaks(b"HTTP/1.1 200 OK\r\n\r\nsome", b"some", RESET)),
)  # fmt: skip
