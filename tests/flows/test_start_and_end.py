"""What keeps itself fresh is started before the first request and ended with the proxy, and shows how it is."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import generate_latest

from proxy.core.model import KeySetState, Spawn
from proxy.observe.families import registry_of
from tests.flows.test_refused_credentials import Tokens, with_credential
from tests.proxies import Proxies
from tests.snapshots import make_snapshot, upstream_at


class WatchedTokens(Tokens):
    """Tokens that say whether they were started and closed."""

    started = closed = 0

    def start(self, spawn: Spawn) -> None:
        assert callable(spawn)
        self.started += 1

    def close(self) -> None:
        self.closed += 1


class WatchedKeys:
    """A key set that says the same. Implements ``KeySetSource``."""

    name = "studio"
    started = closed = 0

    def start(self, spawn: Spawn) -> None:
        assert callable(spawn)
        self.started += 1

    def close(self) -> None:
        self.closed += 1

    def state(self) -> KeySetState:
        return KeySetState(ready=True, keys=2, fetched_at=1.0, fetches={"success": 3, "failed": 1}, fault=None)


async def test_credentials_and_key_sets_live_as_long_as_the_proxy(proxies: Proxies) -> None:
    tokens, keys = WatchedTokens("one"), WatchedKeys()
    upstream = await proxies.upstream()
    snapshot = replace(with_credential(make_snapshot(upstream_at(upstream.port)), tokens), key_sets={"studio": keys})
    proxy = await proxies.start(snapshot, upstream)
    assert (tokens.started, keys.started, tokens.closed, keys.closed) == (1, 1, 0, 0)
    shown = generate_latest(registry_of(proxy.metrics)).decode()
    assert 'inworld_proxy_key_set_keys{key_set="studio"} 2.0' in shown
    assert 'inworld_proxy_key_set_fetches_total{key_set="studio",result="failed"} 1.0' in shown
    assert 'inworld_proxy_credential_ready{credential="live",kind="session-token",type="standard"} 1.0' in shown
    await proxy.server.close()
    assert (tokens.closed, keys.closed) == (1, 1)
