"""A caller that an identity provider vouches for: through the whole proxy, and its token no further than that."""

from __future__ import annotations

import base64
import time

import pytest

from proxy.callers.jwt import FixedKeys, JwtRecogniser, JwtRule
from proxy.callers.key_set import KeySet
from proxy.core.model import Snapshot
from tests.callers.issuers import AUDIENCE, ISSUER, ec_key, jwk, key_set, rsa_key, sign
from tests.proxies import Proxies, Proxy
from tests.snapshots import AUTHORIZATION, SOCKET, TOKEN, make_snapshot, upstream_at, with_policy
from tests.wires import OK, request


class Holder:
    """A key set that is not there yet."""

    def __init__(self) -> None:
        self.keys: KeySet | None = None

    def current(self) -> KeySet | None:
        return self.keys

    def wanted(self) -> None:
        pass


def token(**said: object) -> str:
    return sign(ec_key(), "ES256", exp=time.time() + 300, **said).decode()


def snapshot_with(port: int, holder: Holder | None = None) -> Snapshot:
    snapshot = make_snapshot(upstream_at(port), tokens={"storefront": TOKEN, "studio": "another-shared-token"})
    keys = holder or FixedKeys(key_set(jwk(ec_key())))
    rule = JwtRule(snapshot.callers["studio"], keys, ISSUER, AUDIENCE, {"team": frozenset({"studio"})})
    return with_policy(snapshot, recognisers=(*snapshot.policy.recognisers, JwtRecogniser([rule])))


@pytest.fixture
async def known(proxies: Proxies) -> Proxy:
    upstream = await proxies.upstream()
    return await proxies.start(snapshot_with(upstream.port), upstream)


async def test_it_is_served_wherever_its_token_is_and_the_token_goes_no_further(known: Proxy) -> None:
    shown = token()
    basic = base64.b64encode(f"studio:{shown}".encode()).decode()
    known.upstream.always(OK)
    fields = (f"Authorization: Bearer {shown}", f"Authorization: Basic {basic}", f"x-api-key: {shown}")
    for field in fields:
        assert (await known.ask(request("GET /things", field))).head.status == 200
    for seen in known.upstream.requests:
        assert seen.head.all("Authorization") == [AUTHORIZATION]
        assert shown not in str(seen.head)
        assert basic not in str(seen.head)
    assert len(known.upstream.requests) == len(fields)
    assert [record.caller for record in known.records] == ["studio"] * 3


async def test_a_browser_shows_it_as_a_subprotocol(known: Proxy) -> None:
    shown = token()
    caller = await known.caller()
    await caller.send(
        request(
            f"GET {SOCKET}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Sec-WebSocket-Protocol: bearer_{shown}",
        )
    )  # fmt: skip
    wire = await known.upstream.accept()
    head = await wire.head()
    assert (head.get("Authorization"), head.get("Sec-WebSocket-Protocol")) == (AUTHORIZATION, None)
    await wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (await caller.head()).status == 403


@pytest.mark.parametrize(
    "shown",
    [
        lambda: token(team="sales"),
        lambda: token(aud="other"),
        lambda: sign(ec_key(), "ES256", exp=time.time() - 1).decode(),
        lambda: sign(rsa_key(), exp=time.time() + 300).decode(),
        lambda: token() + "=",
        lambda: token(more="x" * 8192),
        lambda: "eyJhbGciOiJub25lIn0.e30.",
    ],
    ids=["team", "audience", "expired", "key", "padding", "size", "none"],
)
async def test_one_that_is_wrong_is_unknown_and_contacts_nobody(known: Proxy, shown: object) -> None:
    assert callable(shown)
    got = await known.ask(request("GET /things", f"Authorization: Bearer {shown()}"))
    assert (got.head.status, b"unknown_caller" in got.content) == (401, True)
    assert known.upstream_connections("active") == known.upstream_connections("idle") == 0


async def test_it_and_the_token_of_another_are_two_callers(known: Proxy) -> None:
    got = await known.ask(request("GET /things", f"Authorization: Bearer {token()}", f"x-api-key: {TOKEN}"))
    assert (got.head.status, b"two callers" in got.content) == (401, True)
    known.upstream.always(OK)
    both = request("GET /things", f"Authorization: Bearer {token()}", "x-api-key: another-shared-token")
    assert (await known.ask(both)).head.status == 200, "two ways of showing the same one"


async def test_before_its_keys_are_there_it_is_unknown_and_then_it_is_served(proxies: Proxies) -> None:
    holder = Holder()
    upstream = await proxies.upstream()
    proxy = await proxies.start(snapshot_with(upstream.port, holder), upstream)
    upstream.always(OK)
    asking = request("GET /things", f"Authorization: Bearer {token()}")
    assert (await proxy.ask(asking)).head.status == 401
    holder.keys = key_set(jwk(ec_key()))
    assert (await proxy.ask(asking)).head.status == 200
