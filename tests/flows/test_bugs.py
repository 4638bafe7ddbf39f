"""A bug in the proxy costs the request it happens in an answer that says so, and nothing else."""

from __future__ import annotations

import pytest

from proxy.core.build import BUILD
from proxy.observe.record import Ending
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at
from tests.wires import OK, request


def expected(proxy: Proxy) -> None:
    """Takes the one logged bug out of the faults that would fail the test."""
    assert len(proxy.faults) == 1, proxy.faults
    proxy.faults.clear()


@pytest.mark.skipif(
    BUILD == "compiled", reason="compiled functions call each other directly: no bug can be put between"
)
@pytest.mark.parametrize("place", ["proxy.wire.caller.decide", "proxy.wire.exchange.request_bytes"])
async def test_a_bug_while_a_request_is_judged_or_sent_is_a_500_and_the_next_request_is_served(
    proxies: Proxies, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK)
    proxy = await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)

    def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(place, crash)
        got = await proxy.ask(request("GET /things"))
    assert (got.head.status, b'"internal"' in got.content, b"bug" in got.content) == (500, True, False)
    expected(proxy)
    assert (await proxy.ask(request("GET /things"))).content == b"ok"
    assert proxy.ended(Ending.FAILED) == 1
