"""What is kept of a handshake: all that decides, none of what is different in each."""

from __future__ import annotations

from proxy.core.model import RequestHead
from proxy.core.policy import decide
from proxy.wire.asked import Asked
from tests.snapshots import SOCKET, make_snapshot, upstream_at

HANDSHAKE = {
    b"host": b"localhost",
    b"connection": b"Upgrade",
    b"upgrade": b"websocket",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"AAAAAAAAAAAAAAAAAAAAAA==",
}


def _head(target: str = SOCKET, **fields: bytes) -> RequestHead:
    more = {name.encode(): value for name, value in fields.items()}
    return RequestHead("GET", target, 11, [], {**HANDSHAKE, **more}, None)


def test_two_handshakes_of_one_client_are_alike_although_their_keys_are_not() -> None:
    one, other = _head(), _head()
    other.noted[b"sec-websocket-key"] = b"BBBBBBBBBBBBBBBBBBBBBA=="
    assert Asked.of(one).is_like(Asked.of(other))


def test_another_token_target_or_user_is_not_alike() -> None:
    asked = Asked.of(_head(authorization=b"Bearer one"))
    assert not asked.is_like(Asked.of(_head(authorization=b"Bearer two")))
    assert not asked.is_like(Asked.of(_head(f"{SOCKET}?a=b", authorization=b"Bearer one")))
    assert not asked.is_like(Asked.of(_head(authorization=b"Bearer one")._replace(uid=1000)))


def test_what_is_kept_is_judged_like_what_was_asked() -> None:
    policy = make_snapshot(upstream_at(1)).policy
    again = Asked.of(_head()).head()
    assert type(decide(policy, again, 0.0)) is type(decide(policy, _head(), 0.0))
    again.noted[b"host"] = b"a-page.example"
    assert type(decide(policy, again, 0.0)) is not type(decide(policy, _head(), 0.0))
