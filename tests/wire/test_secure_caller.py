"""What a caller can make TLS itself send, without reading any of it, is bounded. The network is the test's own."""

from __future__ import annotations

import asyncio
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


async def test_a_caller_who_has_keys_changed_and_reads_nothing_is_cut_off(proxy: Proxy, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    context = cast("ssl.SSLContext", certificates.listener().context)
    below = NobodyReads()
    secure = SecureCaller(CallerConnection(proxy.server), context, proxy.server)
    secure.connection_made(cast("asyncio.BaseTransport", below))

    def arrive(data: bytes) -> None:
        secure.get_buffer(-1)[: len(data)] = data
        secure.buffer_updated(len(data))

    trust = certificates.trusting()
    trust.keylog_filename = str(tmp_path / "keys")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    for _ in range(2):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            arrive(outgoing.read())
            incoming.write(bytes(below.unsent))
    arrive(outgoing.read())
    assert proxy.metrics.handshakes == {"ok": 1}
    below.unsent[:] = bytes(MOST_UNSENT - WITHOUT)  # what a slow reader was left with, and more
    assert client.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
    lines = (tmp_path / "keys").read_text(encoding="ascii").splitlines()
    (secret,) = (bytes.fromhex(line.split()[2]) for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0"))

    sent = 0
    for record in _key_updates(secret):
        arrive(record)
        sent += 1
        if below.aborted:
            break
        assert sent <= WITHOUT
    assert MOST_UNSENT < len(below.unsent) < MOST_UNSENT + 100
    assert sent > WITHOUT // REPLY
    secure.connection_lost(None)
    below.close()
