"""What a browser says about a request, and what follows from it: no web page may spend a developer's key.

Used by both listeners. A page can make a browser send anything to this machine, but it cannot make it lie in Host (DNS
rebinding keeps the page's own name there), in Origin or in ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.core.errors import Code

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)(?::[0-9]{1,5})?")
"""RFC 9110 section 7.2, narrower: a name or an address and perhaps a port; no user, path, list or blank."""

_SAME_SITE = (b"same-origin", b"none")
"""A request of the page's own origin (there are none), or one that a person typed. ``same-site`` is another port."""


@lru_cache(maxsize=256)  # a caller sends one Host for its life; the bound is for those who invent them
def check_host(host: bytes, hosts: frozenset[str] | None) -> tuple[Code, str] | None:
    """Is this Host well formed, and one of ours? ``hosts`` are lower-case names without port; None accepts any."""
    match = _HOST.fullmatch(host)
    if match is None:
        return Code.BAD_REQUEST, "The Host field is not a host name with an optional port."
    if hosts is None:
        return None
    name = match.group(1).decode("ascii").lower()
    if name in hosts:
        return None
    message = f"This proxy does not answer to the name '{name}'. Use 127.0.0.1 or localhost, or add it under `hosts`."
    return Code.HOST_NOT_ALLOWED, message


def check_site(origin: bytes | None, site: bytes | None, origins: frozenset[str]) -> tuple[Code, str] | None:
    """May a page of this origin call? ``origin`` and ``site`` are Origin and ``Sec-Fetch-Site``, None when absent."""
    if origin is not None:
        if origin.decode("latin-1") in origins:
            return None
        message = "Web pages of this origin may not call the proxy. If they should, add the origin under `origins`."
        return Code.ORIGIN_NOT_ALLOWED, message
    if site is None or site in _SAME_SITE:
        return None
    message = "A web page of another site may not call the proxy. If it should, add its origin under `origins`."
    return Code.CROSS_SITE_REQUEST, message
