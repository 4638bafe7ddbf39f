"""One request being answered: everything a handler may look at, as one value.

What belongs here: the value and questions about it. What does not: reading its body, writing its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.sandbox.errors import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.sandbox.endpoint import Endpoint
    from proxy.sandbox.keys import SandboxKey
    from proxy.sandbox.seen import Record
    from proxy.sandbox.state import Sandbox


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, the row it matched, and who asked."""

    request: web.Request
    sandbox: Sandbox
    endpoint: Endpoint
    record: Record
    caller: SandboxKey | None = None
    """The key behind the credential, once it has been checked."""
    cut: bool = False
    """Break off inside the body: a failure that was asked for on the command line."""

    @property
    def key(self) -> SandboxKey:
        """The key behind the credential; only asked where the endpoint's admission guarantees one."""
        if self.caller is None:
            raise RuntimeError(f"{self.endpoint.name} asked for a key but admits requests without one")
        return self.caller

    @property
    def workspace(self) -> str:
        """The workspace that the key belongs to."""
        return self.key.workspace

    def match(self, name: str) -> str:
        """A variable of the matched path, decoded."""
        return self.request.match_info[name]

    def link(self, path: str) -> str:
        """An absolute URL to this sandbox, as the client reached it (the last hop's Host, behind a proxy)."""
        return f"{self.request.scheme}://{self.request.host}{path}"


def workspace_of(exchange: Exchange) -> str:
    """The workspace that an operation works in: the key's own, which a path that names one must agree with."""
    named = exchange.request.match_info.get("workspace", exchange.workspace)
    if named != exchange.workspace:
        # Documented: the path must match a workspace accessible to the key. Invented: the status and the sentence.
        raise Refusal(403, f"API key does not have access to workspace {named}")
    return named
