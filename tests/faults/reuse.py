"""A pooled connection that ends as it is used: a read goes out once more, a write never, and nothing a third time."""

from __future__ import annotations

from tests.faults.row import GET, HEAD, MARK, POST, Row, primed, refused, whole
from tests.faults.scene import Scene
from tests.faults.steps import CLOSE, HALF_CLOSE, RESET, End
from tests.wires import OK, bounded, chunked, request

CLOSED = refused(502, "upstream_closed")
DELETE = request(f"DELETE /things?{MARK}")
BARE_POST = request(f"POST /things?{MARK}")
CHUNKED_POST = request(f"POST /things?{MARK}", "Transfer-Encoding: chunked", body=chunked(b"once"))
GET_WITH_BODY = request(f"GET /things?{MARK}", body=b"once")

_ENDS: dict[str, End] = {"close": CLOSE, "reset": RESET, "half-close": HALF_CLOSE}


def _ends_once(then: End):
    """The pooled connection ends when the request has arrived; the next one answers."""

    async def fault(scene: Scene) -> None:
        await _arrives_on_the_pooled(scene, then)
        await scene.answers(OK)

    return fault


def _ends_twice(then: End):
    """The pooled connection ends, and so does the fresh one."""

    async def fault(scene: Scene) -> None:
        await _arrives_on_the_pooled(scene, then)
        then(await scene.arrives())

    return fault


def _ends_for_good(then: End):
    """The pooled connection ends, and there must be no other."""

    async def fault(scene: Scene) -> None:
        await _arrives_on_the_pooled(scene, then)

    return fault


async def _arrives_on_the_pooled(scene: Scene, then: End) -> None:
    assert scene.wire is not None
    await scene.wire.message()
    then(scene.wire)


def _says_and_ends(raw: bytes):
    """The pooled connection gives these bytes of an answer and then ends."""

    async def fault(scene: Scene) -> None:
        assert scene.wire is not None
        await scene.wire.message()
        await scene.wire.send(raw)
        scene.wire.close()

    return fault


def _ended_while_idle(then: End):
    """The pooled connection ends first, and nobody is told before the request comes."""

    async def stage(scene: Scene) -> None:
        await primed(scene)
        assert scene.wire is not None
        then(scene.wire)
        if then is not HALF_CLOSE:
            await bounded(scene.wire._writer.wait_closed())

    return stage


async def _answers(scene: Scene) -> None:
    await scene.answers(OK)


async def _not_there_any_more(scene: Scene) -> None:
    """The pooled connection ends, and nobody listens any more."""
    scene.upstream.stop_listening()
    await _arrives_on_the_pooled(scene, CLOSE)


async def _listens_again(scene: Scene) -> None:
    await scene.upstream.listen_again()


ROWS = (
    *(
        Row(name=f"{end} on reuse, of {what}", stage=primed, sends=raw, fault=_ends_once(then), arrived=2, dials=2,
            retried=True, idle=1, expected=whole(b"" if raw is HEAD else b"ok") )
        for end, then in _ENDS.items()
        for what, raw in (("GET", GET),)
    ),
    *(
        Row(name=f"{end} on reuse, then again", stage=primed, fault=_ends_twice(then), arrived=2, dials=2,
            retried=True, expected=CLOSED)
        for end, then in _ENDS.items()
    ),
    *(
        Row(name=f"{end} on reuse, of a write: {what}", stage=primed, sends=raw, fault=_ends_for_good(then),
            expected=CLOSED)
        for end, then in _ENDS.items()
        for what, raw in (("POST", POST), ("bare POST", BARE_POST), ("chunks", CHUNKED_POST), ("DELETE", DELETE))
    ),
    Row(name="close on reuse, of GET with a body", stage=primed, sends=GET_WITH_BODY, fault=_ends_for_good(CLOSE),
        expected=CLOSED),
    Row(name="close on reuse after half the head", stage=primed, fault=_says_and_ends(b"HTTP/1.1 200"),
        expected=refused(502, "upstream_invalid_response")),
    Row(name="close on reuse after an interim head", stage=primed, expected=CLOSED,
        fault=_says_and_ends(b"HTTP/1.1 100 Continue\r\n\r\n")),
    Row(name="close on reuse, and nobody listens", stage=primed, fault=_not_there_any_more, dials=2, retried=True,
        expected=refused(502, "upstream_connect_failed"), healed=_listens_again),
    *(
        Row(name=f"{end} while idle, then {what}", stage=_ended_while_idle(then), sends=raw, fault=_answers, dials=2,
            idle=1, expected=whole())
        for end, then in _ENDS.items()
        for what, raw in (("GET", GET), ("POST", POST))
    ),
)  # fmt: skip
