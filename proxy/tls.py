"""How an upstream is trusted: the one set of TLS rules for all that is sent to it, requests and mints alike."""

from __future__ import annotations

import ssl

from proxy.core.model import Upstream


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
