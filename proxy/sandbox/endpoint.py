"""One row of the API: what is asked at which method and path, what it needs of a key, and who answers.

What belongs here: the types of the table. What does not: the rows, which stand beside their handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.sandbox.errors import Stack
from proxy.sandbox.keys import Access

if TYPE_CHECKING:
    from proxy.sandbox.exchange import Exchange

Handler = Callable[["Exchange"], Awaitable[web.StreamResponse]]


class Governed(Enum):
    """The two APIs with permissions of their own. Pronunciation dictionaries follow the voices permission."""

    VOICES = "voices"
    ROUTER = "router"


class Admission(Enum):
    """How an operation treats credentials before its handler runs."""

    STANDARD = "standard"
    """Any credential of a standard key."""
    REALTIME = "realtime"
    """Also a realtime-only key; never a one-time token."""
    SOCKET = "socket"
    """As STANDARD, but the upgrade is answered 101 first and a refusal is said in a frame."""
    BASIC = "basic"
    """Only an API key as Basic, so that a token can never make a token."""
    SIGNATURE = "signature"
    """The request carries a signature that the handler verifies."""
    LINK = "link"
    """The target itself is the credential (a signed link)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the sandbox answers at one method and path."""

    name: str
    method: str
    path: str
    handler: Handler
    stack: Stack = Stack.GATEWAY
    admission: Admission = Admission.STANDARD
    governed: Governed | None = None
    access: Access = Access.NONE


def reads(name: str, path: str, handler: Handler, governed: Governed) -> Endpoint:
    """A governed GET, which needs the read permission."""
    return Endpoint(name, "GET", path, handler, governed=governed, access=Access.READ)


def writes(name: str, method: str, path: str, handler: Handler, governed: Governed) -> Endpoint:
    """A governed POST, PATCH or DELETE, which needs the write permission."""
    return Endpoint(name, method, path, handler, governed=governed, access=Access.WRITE)
