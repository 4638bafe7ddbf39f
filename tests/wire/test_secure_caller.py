"""What a caller can make TLS itself send, without reading any of it, is bounded. The network is the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.wire.caller import CallerConnection
from proxy.wire.secure import MOST_UNSENT
from proxy.wire.secure_caller import SecureCaller
from tests.certificates import Certificates
from tests.proxies import Proxies, Proxy
from tests.snapshots import make_snapshot, upstream_at

HASH, KEY_SIZE, SECRET_SIZE = "sha384", 32, 48
"""Of TLS_AES_256_GCM_SHA384, which the listener prefers."""

KEY_UPDATE = b"\x18\x00\x00\x01\x01"
"""Changes the sender's keys, and asks the other side to change its own (RFC 8446 section 4.6.3)."""


REPLY = 5 + len(KEY_UPDATE) + 1 + 16
"""Bytes of a record with one of them."""

WITHOUT = 100 * REPLY


class NobodyReads:
    """A transport whose other end takes nothing."""

    def __init__(self) -> None:
        self.sock, self._other = socket.socketpair()
        self.unsent = bytearray()
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.unsent += data

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write_eof(self) -> None: ...

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"socket": self.sock, "peername": ("127.0.0.1", 1)}.get(name, default)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.sock.close()
        self._other.close()


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1), for no more than one block."""
    name = b"tls13 " + label
    info = struct.pack(">HB", size, len(name)) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", HASH)[:size]


def _key_updates(secret: bytes) -> Iterator[bytes]:
    """Records that each hold one key update, from the client's first application secret on."""
    while True:
        key, vector = _expand(secret, b"key", KEY_SIZE), _expand(secret, b"iv", 12)
        plain = KEY_UPDATE + b"\x16"
        head = b"\x17\x03\x03" + struct.pack(">H", len(plain) + 16)
        yield head + AESGCM(key).encrypt(vector, plain, head)
        secret = _expand(secret, b"traffic upd", SECRET_SIZE)


@pytest.fixture
async def proxy(proxies: Proxies) -> Proxy:
    upstream = await proxies.upstream()
    return await proxies.start(make_snapshot(upstream_at(upstream.port)), upstream)


class Opened:
    """A caller's connection after its handshake. The caller is ``client``, and what it says is in ``outgoing``."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        certificates = Certificates(folder)
        self.below = NobodyReads()
        context = cast("ssl.SSLContext", certificates.listener().context)
        self.secure = SecureCaller(CallerConnection(proxy.server), context, proxy.server)
        self.secure.connection_made(cast("asyncio.BaseTransport", self.below))
        trust = certificates.trusting()
        trust.keylog_filename = str(folder / "keys")
        incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trust.wrap_bio(incoming, self.outgoing, server_hostname="localhost")
        for _ in range(2):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.arrive(self.outgoing.read())
                incoming.write(bytes(self.below.unsent))
        self.arrive(self.outgoing.read())
        assert proxy.metrics.handshakes == {"ok": 1}
        lines = (folder / "keys").read_text(encoding="ascii").splitlines()
        (self.secret,) = (
            bytes.fromhex(line.split()[2]) for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0")
        )

    def arrive(self, data: bytes) -> None:
        self.secure.get_buffer(-1)[: len(data)] = data
        self.secure.buffer_updated(len(data))


async def test_what_comes_after_the_end_of_tls_is_not_kept(proxy: Proxy, tmp_path: Path) -> None:
    opened = Opened(proxy, tmp_path)
    with contextlib.suppress(ssl.SSLWantReadError):
        opened.client.unwrap()
    opened.arrive(opened.outgoing.read())
    for _ in range(100):
        opened.arrive(bytes(16384))
    assert opened.secure._incoming.pending == 0
    opened.secure.connection_lost(None)
    opened.below.close()


async def test_whoever_was_told_that_this_is_all_cannot_have_more_made(proxy: Proxy, tmp_path: Path) -> None:
    opened = Opened(proxy, tmp_path)
    opened.secure.write_eof()
    for record, _ in zip(_key_updates(opened.secret), range(1000), strict=False):
        opened.arrive(record)
    assert opened.secure._outgoing.pending <= REPLY
    opened.secure.connection_lost(None)
    opened.below.close()


async def test_a_caller_who_has_keys_changed_and_reads_nothing_is_cut_off(proxy: Proxy, tmp_path: Path) -> None:
    opened = Opened(proxy, tmp_path)
    below, client, arrive = opened.below, opened.client, opened.arrive
    below.unsent[:] = bytes(MOST_UNSENT - WITHOUT)  # what a slow reader was left with, and more
    assert client.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    sent = 0
    for record in _key_updates(opened.secret):
        arrive(record)
        sent += 1
        if below.aborted:
            break
        assert sent <= WITHOUT
    assert MOST_UNSENT < len(below.unsent) < MOST_UNSENT + 100
    assert sent > WITHOUT // REPLY
    opened.secure.connection_lost(None)
    below.close()
