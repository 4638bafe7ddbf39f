"""What a browser says about a request, and what follows from it: no web page may spend a developer's key.

Used by both listeners. A page can make a browser send anything to this machine, but it cannot make it lie in Host (DNS
rebinding keeps the page's own name there), in Origin or in ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.core.errors import Code

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "[::1]", "localhost"})
"""Names of this machine to itself, as they stand in Host. They are always answered on loopback."""

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)(?::[0-9]{1,5})?")
"""RFC 9110 section 7.2, narrower: a name or an address and perhaps a port; no user, path, list or blank."""

_TRUSTWORTHY = re.compile(
    rb"(?:(?:[A-Za-z0-9_\-]+\.)*localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE
)
"""Hosts to which browsers say where a request comes from over plain HTTP, too: loopback, by W3C Secure Contexts,
section 3.1. What one browser takes for it and another may not (``localhost.``, ``[::ffff:127.0.0.1]``) is left out."""

_LIKE_BROWSER = re.compile(rb"(?:Mozilla|Opera|AppleCoreMedia|stagefright)/")
"""How every browser in use begins its name, or what fetches audio and video for it (AppleCoreMedia for Safari), and no
HTTP library: not curl, Python's, Node's, okhttp or CFNetwork. PowerShell does."""
_BROWSER = re.compile(rb"(?i:user-agent):[ \t]*" + _LIKE_BROWSER.pattern)

_SAME_SITE = (b"same-origin", b"none")
"""A request of the page's own origin (there are none), or one that a person typed. ``same-site`` is another port."""


@lru_cache(maxsize=256)  # a caller sends one Host for its life; the bound is for those who invent them
def judge_host(host: bytes, hosts: frozenset[str] | None) -> tuple[tuple[Code, str] | None, bool]:
    """What ``check_host()`` says, and whether browsers say where a request to this Host comes from, TLS or not.

    Both in one look-up, because both are asked about every request.
    """
    return check_host(host, hosts), _TRUSTWORTHY.fullmatch(host) is not None


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


def check_silence(kept: list[bytes]) -> tuple[Code, str] | None:
    """May this call without Origin and ``Sec-Fetch-Site``? To be asked where ``judge_host()`` says that browsers need
    not send the latter, and nobody has to show a token.

    ``kept`` are the lines that cross, each with its line end. Returns None when it may, otherwise the code and the
    sentence for the caller. Never raises.

    To a name that is not loopback's, browsers send ``Sec-Fetch-Site`` over TLS only (Fetch Metadata, "append the Fetch
    metadata headers for a request": to a potentially trustworthy URL, which is W3C Secure Contexts, section 3.1), and
    Origin not with a simple GET (Fetch Standard, "append a request Origin header"). So an image in a hostile page and
    an address that a person typed look alike there, and all that is left to see is that a browser sent it.
    """
    # Looked for here, not noted for every request while its head is sorted: that would cost all of them 0.2 us. Most
    # of those that get here are programs, and have no such word anywhere.
    if not _LIKE_BROWSER.search(b"".join(kept)) or not any(map(_BROWSER.match, kept)):
        return None
    message = (
        "By this name and over plain HTTP, a browser does not say whether a web page made the request. Open the proxy "
        "as http://127.0.0.1 or localhost with its port, use TLS, or declare `callers`, so that a token "
        "is needed. A program that is no browser can send another User-Agent."
    )
    return Code.CROSS_SITE_REQUEST, message
