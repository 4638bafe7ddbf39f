"""The script against a real Redis server, and what is said of servers that cannot be used.

Redis counts by its own clock, which no test moves. So bounds are computed from that same clock, read before and after;
they hold on a machine of any speed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.limits.redis_store import RedisStore, _address
from proxy.limits.store import Answer, Ask, StoreError
from tests.certificates import Certificates
from tests.limits.lines import Budget, Clock
from tests.redis_server import RedisServer

SECRET = "a-password-that-nobody-may-read"


async def test_the_script_and_its_stand_in_in_these_tests_agree(redis_server: RedisServer) -> None:
    budget, store = Budget(Clock()), RedisStore(redis_server.url)
    await store.open()
    # At a request an hour nothing comes back while this runs.
    for wanted, back in [(3, 0), (0, 0), (4, 0), (2, 1), (1, 0), (0, 3), (9, 0), (1, 0), (0, 20), (20, 0), (0, 0)]:
        ask = Ask("shop", 3600.0, 10, wanted, back)
        (real,) = await store.lease([ask])
        (expected,) = budget.lease([ask])
        assert real.granted == expected.granted
        assert real.ready_in == pytest.approx(expected.ready_in, abs=120)
    await store.close()


async def test_a_part_of_a_lease_is_granted_and_when_there_is_more_is_said(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    await store.open()
    assert await store.lease([Ask("shop", 100.0, 5, 3, 0)]) == [Answer(3, 0.0)]
    (answer,) = await store.lease([Ask("shop", 100.0, 5, 3, 0)])
    assert answer.granted == 2
    assert 80 < answer.ready_in <= 100
    await store.close()


async def test_two_that_take_all_they_get_keep_to_the_rate(redis_server: RedisServer) -> None:
    stores = [RedisStore(redis_server.url) for _ in range(2)]
    for store in stores:
        await store.open()
    rate, burst, enough = 400.0, 100, 700
    granted = 0
    began = await redis_server.now()
    while granted < enough:
        answers = await asyncio.gather(*(store.lease([Ask("shop", 1 / rate, burst, 30, 0)]) for store in stores))
        granted += sum(answer.granted for (answer,) in answers)
    elapsed = await redis_server.now() - began
    assert granted <= burst + rate * elapsed + 1
    for store in stores:
        await store.close()


async def test_keys_name_the_caller_expire_and_hold_nothing_else(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    await store.open()
    await store.lease([Ask("shop", 10.0, 2, 1, 0), Ask("other", 0.02, 50, 5, 0), Ask("none", 0.02, 50, 0, 0)])
    keys = sorted(await redis_server.ask("KEYS", "*"))
    assert keys == ["inworld-proxy:probe", "inworld-proxy:rate:other", "inworld-proxy:rate:shop"]
    for key in keys:
        assert 0 < await redis_server.ask("PTTL", key) <= 12_000
        assert (await redis_server.ask("GET", key)).isdecimal()
    await store.close()


async def test_a_count_far_ahead_holds_nobody_up_longer_than_a_full_burst(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url)
    await store.open()
    await redis_server.ask("SET", "inworld-proxy:rate:shop", f"{(await redis_server.now() + 86400) * 1e6:.0f}")
    (answer,) = await store.lease([Ask("shop", 0.02, 50, 1, 0)])
    assert (answer.granted, answer.ready_in) == (0, 0.02)
    await store.close()


# -- the ways to a server ---------------------------------------------------------------------------------------------


async def test_it_is_reached_over_its_unix_socket(redis_server: RedisServer) -> None:
    store = RedisStore(f"unix://{redis_server.socket}?db=3")
    assert store.where == f"Redis at {redis_server.socket}"
    await store.open()
    assert await store.lease([Ask("shop", 1.0, 1, 1, 0)]) == [Answer(1, 1.0)]
    await store.close()


async def test_it_is_reached_over_tls_by_who_trusts_it(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    issued = certificates._authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    await redis_server.kill()
    await redis_server.start(
        "--port", "0", "--tls-port", str(redis_server.port), "--tls-cert-file", str(tmp_path / "cert.pem"),
        "--tls-key-file", str(tmp_path / "key.pem"), "--tls-auth-clients", "no",
    )  # fmt: skip
    url = f"rediss://localhost:{redis_server.port}"
    await _fails(url, "certificate")
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    store = RedisStore(url)
    await store.open()
    assert await store.lease([Ask("shop", 1.0, 1, 1, 0)]) == [Answer(1, 1.0)]
    await store.close()
    await _fails(f"rediss://127.0.0.1:{redis_server.port}", "certificate")


async def test_a_password_that_is_missing_or_wrong_is_said_and_not_shown(redis_server: RedisServer) -> None:
    await redis_server.ask("CONFIG", "SET", "requirepass", SECRET)
    says = "does not accept the user and password"
    await _fails(redis_server.url, says)
    await _fails(f"redis://:not-{SECRET}@127.0.0.1:{redis_server.port}", says)
    store = RedisStore(f"redis://:{SECRET}@127.0.0.1:{redis_server.port}")
    await store.open()
    assert SECRET not in repr(store) + store.where
    await store.close()


async def test_a_user_with_the_stated_permissions_is_enough_and_with_fewer_is_told(redis_server: RedisServer) -> None:
    rights = ["~inworld-proxy:*", "+eval", "+time", "+get", "+set"]
    await redis_server.ask("ACL", "SETUSER", "proxy", "on", f">{SECRET}", *rights)
    url = f"redis://proxy:{SECRET}@127.0.0.1:{redis_server.port}"
    store = RedisStore(url)
    await store.open()
    await store.close()
    await redis_server.ask("ACL", "SETUSER", "proxy", "-eval")
    await _fails(url, "its user may not run the script")
    await redis_server.ask("ACL", "SETUSER", "proxy", "+eval", "-set")
    await _fails(url, "its user may not run the script")


async def test_a_server_that_cannot_be_written_to_is_no_server_to_count_in(redis_server: RedisServer) -> None:
    await redis_server.ask("REPLICAOF", "127.0.0.1", "1")
    await _fails(redis_server.url, "it is a replica that cannot be written to")


async def test_nobody_there_is_said(redis_server: RedisServer) -> None:
    await redis_server.kill()
    await _fails(redis_server.url, "it refuses connections")
    await _fails(f"unix://{redis_server.socket}", "its socket does not exist")
    await _fails("redis://no-such-host.invalid", "its name cannot be resolved")


async def test_who_is_no_redis_server_is_said() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        await _fails(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "it does not speak Redis")
    finally:
        server.close()


async def test_a_client_that_is_not_installed_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("redis")

    monkeypatch.setattr("proxy.limits.redis_store._import_client", absent)
    await _fails("redis://127.0.0.1", r"pip install 'inworld-proxy\[redis\]'")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (f"redis://user:{SECRET}@cache.example:7000/2", "cache.example:7000"),
        (f"rediss://:{SECRET}@cache.example", "cache.example:6379"),
        ("redis://[::1]:7000", "[::1]:7000"),
        (f"unix://:{SECRET}@/run/redis.sock?db=1", "/run/redis.sock"),
        (f"redis://:{SECRET}@cache.example:x", "an address that cannot be read"),
    ],
)
def test_an_address_is_said_without_what_is_secret_in_it(url: str, where: str) -> None:
    assert _address(url) == where


async def _fails(url: str, says: str) -> None:
    store = RedisStore(url)
    with pytest.raises(StoreError, match=says) as caught:
        await store.open()
    await store.close()
    assert caught.value.reason.startswith("it")
    assert SECRET not in caught.value.reason


def test_the_client_is_not_imported_where_nobody_counts_together() -> None:
    program = "import sys, proxy.app, proxy.limits.redis_store; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
