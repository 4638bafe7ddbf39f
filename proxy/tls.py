"""The one set of TLS rules: how an upstream is trusted, by requests and mints alike, and what callers are offered."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from collections.abc import Iterator

from proxy.core.model import Upstream

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""What callers are offered in TLS 1.2: forward secrecy and authenticated encryption, no more (RFC 9325 section 4.2).
TLS 1.3 has no others."""


def tls_context(upstream: Upstream) -> ssl.SSLContext | None:
    """The verifying context for an https upstream; there is no way to switch verification off.

    Raises ``OSError`` or ``ssl.SSLError`` when the extra CA file cannot be used.
    """
    if upstream.scheme != "https":
        return None
    context = ssl.create_default_context()
    if upstream.ca_file is not None:
        context.load_verify_locations(cafile=upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A certificate without subjectAltName has no name at all (RFC 9525 section 6.3); aiohttp's default accepts its CN.
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def listener_context(certificates: bytes, key: bytes) -> ssl.SSLContext:
    """The context in which callers are shown these certificates (PEM, the listener's own first).

    Nothing is written to a disk. Raises ``ssl.SSLError`` when the two do not belong together or are unusable, and
    ``ValueError`` for a key that asks for a passphrase.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(certificates) as shown, _as_file(key) as secret:
        context.load_cert_chain(shown, secret, password=_ask_nobody)
    return context


def _ask_nobody() -> str:
    # Without it, OpenSSL asks on the terminal and waits.
    raise ValueError("a key with a passphrase")


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A name under which OpenSSL, which takes files only, reads this once."""
    reader, writer = os.pipe()
    writing = threading.Thread(target=_write, args=(writer, content))
    writing.start()
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
        writing.join()


def _write(descriptor: int, content: bytes) -> None:
    # Whoever does not read all of it has no use for it.
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as file:
        file.write(content)
