"""Addresses as people write them: where to listen, the upstream, a CONNECT proxy, Host names and origins.

Pure; raises ``UnusableError``. What may hold a password is never quoted in one.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import unquote

from proxy.core.model import LONGEST_SOCKET_PATH, Address
from proxy.document import UnusableError, quoted

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+):([0-9]{1,5})")
_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_KEY_SET = re.compile(r"(https?)://([^/?#\s]+)(/[!-\"$-~]*)?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/@?#\s]+)")
_REDIS = re.compile(
    r"rediss?://(?:[^@/?#\s]*@)?(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::[0-9]{1,5})?(?:/[0-9]{0,4})?"
    r"|unix://(?:[^@/?#\s]*@)?/[^?#\s]+(?:\?db=[0-9]{1,4})?"
)
_MODE = re.compile(r"06[06][06]")
"""Whoever may write to it may connect; macOS, where that was different, is given both."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

_UNIX = "unix:"
_HOW_TO_LISTEN = "write an IP address and a port: `127.0.0.1:8080`, `0.0.0.0:8080` or `[::1]:8080`"
_HOW_UNIX = (
    "write the whole path of the socket, without `..` and the like and in at most "
    f"{LONGEST_SOCKET_PATH} bytes: `unix:/run/inworld-proxy/proxy.sock`"
)
_HOW_UPSTREAM = "write scheme and host, and a port if it is not the usual one: `https://api.example.com`"
_HOW_KEY_SET = "write the address of the issuer's key set: `https://id.example.com/keys`"
_HOW_REDIS = "write `redis://host:6379/0`, with `rediss://` for TLS, or `unix:///run/redis.sock`"
_HOW_CONNECT = "write `http://host:port` or `http://user:password@host:port`"


class UpstreamUrl(NamedTuple):
    """The parts of an upstream's URL. ``host`` is in lower case, without brackets; ``authority`` with them."""

    scheme: str
    host: str
    port: int
    authority: str


class KeySetUrl(NamedTuple):
    """Where a key set is published. ``path`` begins with a slash and has the query, if any."""

    host: UpstreamUrl
    path: str


class ConnectProxy(NamedTuple):
    """A CONNECT proxy; ``authorization`` is the complete value of ``Proxy-Authorization``, and a secret."""

    host: str
    port: int
    authorization: str | None


def parse_address(value: object) -> Address:
    """Where to listen: an IP address (or ``localhost``) and a port, or ``unix:`` and the path of a socket.

    Names are refused: they may resolve to anything.
    """
    if not isinstance(value, str):
        raise UnusableError(quoted(value), _HOW_TO_LISTEN)
    if value.startswith(_UNIX):
        address = Address.of_socket(value.removeprefix(_UNIX))
        if address is None:
            raise UnusableError(f"{quoted(value)}, which is no path for a socket", _HOW_UNIX)
        return address
    match = _HOST_PORT.fullmatch(value)
    if match is None:
        raise UnusableError(quoted(value), _HOW_TO_LISTEN)
    host = match[1].strip("[]").lower()
    if host == "*":
        raise UnusableError(quoted(value), f"write `0.0.0.0:{match[2]}` for every IPv4 address of this machine")
    if host != "localhost" and _ip(host) is None:
        raise UnusableError(quoted(value), _HOW_TO_LISTEN)
    return Address(host, _port(match[2], value))


def parse_socket_mode(value: object) -> int:
    """Who may connect to a unix socket, as ``chmod`` writes it, in quotes."""
    if isinstance(value, str) and _MODE.fullmatch(value):
        return int(value, 8)
    raise UnusableError(quoted(value), 'write it as for chmod, in quotes, `"0600"` to `"0666"`: reading and writing')


def parse_upstream_url(value: object) -> UpstreamUrl:
    """``https://host[:port]``, or ``http://`` to this machine only: a credential goes there."""
    if not isinstance(value, str):
        raise UnusableError(quoted(value), _HOW_UPSTREAM)
    scheme, separator, rest = value.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        shown = "text" if "@" in value else quoted(value)
        raise UnusableError(f"{shown}, which is no http or https URL", _HOW_UPSTREAM)
    if "@" in rest:
        raise UnusableError(
            "a URL with a user or password in it", "write the host only; what the upstream is shown is a credential"
        )
    if "?" in rest or "#" in rest:
        raise UnusableError("a URL with a query or fragment", _HOW_UPSTREAM)
    authority, slash, path = rest.partition("/")
    if path:
        raise UnusableError(
            f"a URL with the path {quoted(slash + path)}",
            f"write `{scheme}://{authority}`: a path is passed on as it is",
        )
    host, port = split_authority(authority, value, scheme)
    if scheme == "http" and not is_loopback(host):
        raise UnusableError(
            f"{quoted(value)}, which would send the credential in clear over the network",
            f"write `https://{authority}`",
        )
    shown_host = f"[{host}]" if ":" in host else host
    return UpstreamUrl(scheme, host, port, shown_host if port == _DEFAULT_PORTS[scheme] else f"{shown_host}:{port}")


def parse_key_set_url(value: object) -> KeySetUrl:
    """``https://host[:port]/path``, or ``http://`` to this machine only: who can change the answer can be anyone."""
    match = _KEY_SET.fullmatch(value) if isinstance(value, str) else None
    if match is None or "@" in match[2]:
        raise UnusableError("something that is no http or https URL", _HOW_KEY_SET)
    scheme, authority, path = match[1].lower(), match[2], match[3] or "/"
    host, port = split_authority(authority, value, scheme)
    if scheme == "http" and not is_loopback(host):
        found = f"{quoted(value)}, where anyone on the way could put keys of their own"
        raise UnusableError(found, f"write `https://{authority}{path}`")
    shown_host = f"[{host}]" if ":" in host else host
    shown = shown_host if port == _DEFAULT_PORTS[scheme] else f"{shown_host}:{port}"
    return KeySetUrl(UpstreamUrl(scheme, host, port, shown), path)


def parse_connect_proxy(value: object) -> ConnectProxy:
    """``http://[user:password@]host:port``. Never quoted in a fault."""
    if not isinstance(value, str):
        raise UnusableError("no URL", _HOW_CONNECT)
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.lower() != "http":
        raise UnusableError("something that is not an http:// URL (not shown: it may hold a password)", _HOW_CONNECT)
    user, at, authority = rest.removesuffix("/").rpartition("@")
    match = _HOST_PORT.fullmatch(authority)
    host = match[1].strip("[]").lower() if match is not None else ""
    if match is None or not _is_host(host):
        raise UnusableError("a proxy without a host and a port (not shown: it may hold a password)", _HOW_CONNECT)
    if not at:
        return ConnectProxy(host, _port(match[2], None), None)
    if ":" not in user or not unquote(user).isprintable():
        raise UnusableError(
            "a proxy with a user but no password (not shown)",
            f"{_HOW_CONNECT}, with @ : / and % in them percent-encoded",
        )
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}".encode()
    return ConnectProxy(host, _port(match[2], None), f"Basic {base64.b64encode(pair).decode('ascii')}")


def check_redis_url(value: str) -> str:
    """``redis[s]://[user][:password@]host[:port][/number]`` or ``unix://``. Never quoted in a fault."""
    match = _REDIS.fullmatch(value)
    if match is None:
        raise UnusableError("something that is not a redis:// URL (not shown: it may hold a password)", _HOW_REDIS)
    if match[1] is not None and not _is_host(match[1].strip("[]").lower()):
        raise UnusableError("a redis:// URL without a usable host (not shown: it may hold a password)", _HOW_REDIS)
    return value


def parse_host_name(value: object) -> str:
    """A name or address in lower case without a port, IPv6 in brackets: what a Host field may say."""
    how = "write the name only, without scheme and port: `proxy.internal`"
    if not isinstance(value, str):
        raise UnusableError(quoted(value), how)
    if value == "*":
        raise UnusableError("`*`", "write each name: accepting any would let a web page rebind its name to this proxy")
    host = value.strip("[]") if value.startswith("[") else value
    if not _is_host(host):
        raise UnusableError(quoted(value), how)
    return f"[{host.lower()}]" if ":" in host else host.lower()


def parse_origin(value: object) -> str:
    """A browser origin as browsers spell it: scheme, host in lower case, and the port when it is not the usual one."""
    how = "write scheme and host as the browser sends them: `https://app.example.com`"
    match = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnusableError(quoted(value), how)
    scheme, authority = match[1], match[2]
    host, port = split_authority(authority, value, scheme)
    shown_host = f"[{host}]" if ":" in host else host
    expected = f"{scheme}://{shown_host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")
    if value != expected:
        raise UnusableError(quoted(value), f"write `{expected}`, as browsers do")
    return expected


def split_authority(authority: str, value: object, scheme: str) -> tuple[str, int]:
    """Host (in lower case, without brackets) and port; ``value`` is what a fault quotes."""
    match = _HOST_PORT.fullmatch(authority)
    host = (match[1] if match is not None else authority).lower()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_host(bare) or (":" in bare) != host.startswith("["):
        raise UnusableError(f"{quoted(value)}, whose host is no name or address", _HOW_UPSTREAM)
    return bare, _port(match[2], value) if match is not None else _DEFAULT_PORTS[scheme]


def _is_host(host: str) -> bool:
    if _ip(host) is not None:
        return True
    # A last label of digits would be read as an IPv4 address by some resolvers and as a name by others.
    return _NAME.fullmatch(host) is not None and not host.rpartition(".")[2].isdigit()


def is_loopback(host: str) -> bool:
    """Does this name or address mean this machine?"""
    # By address and not by how the name begins: 127.evil.example is a name that anyone may point anywhere.
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if "%" in host else address


def _port(text: str, value: object) -> int:
    port = int(text)
    if port > 65535:
        found = f"{quoted(value)}, whose port is too large" if value is not None else "a port that is too large"
        raise UnusableError(found, "write a port up to 65535")
    return port
