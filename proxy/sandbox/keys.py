"""The API keys that the sandbox knows: what a key is, and one deterministic, obviously made-up key of every kind.

What belongs here: keys as values. What does not: recognising one in a request (``authentication.py``).
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from enum import Enum


class KeyType(Enum):
    """Fixed when a key is made: a realtime-only key serves realtime sessions and nothing else."""

    STANDARD = "standard"
    REALTIME_ONLY = "realtime-only"


class Access(Enum):
    """What a key may do with one of the two governed APIs (Voices, Router)."""

    NONE = "none"
    READ = "read"
    WRITE = "write"

    def covers(self, wanted: Access) -> bool:
        """True if this access includes ``wanted``; write includes read, as in the vendor's Portal."""
        order = (Access.NONE, Access.READ, Access.WRITE)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class SandboxKey:
    """One API key: the pair the Portal shows, the type, the permissions, and the workspace it belongs to."""

    name: str
    key_id: str
    secret: str
    type: KeyType
    voices: Access
    router: Access
    workspace: str

    @property
    def basic(self) -> str:
        """What the Portal's "Copy Base64" gives: the complete credential, to be sent as ``Basic <value>``."""
        return base64.b64encode(f"{self.key_id}:{self.secret}".encode()).decode()

    @property
    def resource(self) -> str:
        """The key's resource name, as the one-time token mint returns it."""
        return f"workspaces/{self.workspace}/apikeys/{self.key_id}"


DEMO_WORKSPACE = "sandbox-demo"
OTHER_WORKSPACE = "sandbox-other"

# The lengths of the real thing: 32 characters of key id, 64 of secret.
_ID_LENGTH = 32
_SECRET_LENGTH = 64


def _demo(name: str, type_: KeyType, voices: Access, router: Access, workspace: str = DEMO_WORKSPACE) -> SandboxKey:
    plain = name.replace("-", "")
    return SandboxKey(
        name=name,
        key_id=f"sandboxkey{plain}".ljust(_ID_LENGTH, "0"),
        secret=f"notasecret{plain}".ljust(_SECRET_LENGTH, "0"),
        type=type_,
        voices=voices,
        router=router,
        workspace=workspace,
    )


DEMO_KEYS: tuple[SandboxKey, ...] = (
    _demo("standard-read", KeyType.STANDARD, Access.READ, Access.READ),
    _demo("voices-write", KeyType.STANDARD, Access.WRITE, Access.READ),
    _demo("router-write", KeyType.STANDARD, Access.READ, Access.WRITE),
    _demo("full", KeyType.STANDARD, Access.WRITE, Access.WRITE),
    _demo("no-permissions", KeyType.STANDARD, Access.NONE, Access.NONE),
    _demo("realtime-only", KeyType.REALTIME_ONLY, Access.NONE, Access.NONE),
    _demo("other-workspace", KeyType.STANDARD, Access.WRITE, Access.WRITE, OTHER_WORKSPACE),
)
"""One key of every kind, and one of another workspace (to redeem a voice copy token with)."""


def key_from_text(text: str) -> SandboxKey:
    """Reads ``name=studio,type=standard,voices=write,router=none[,workspace=…][,id=…,secret=…]``.

    What is missing gets the default of a new key in the Portal (standard, read access to both); a missing id and secret
    are generated. Raises ``ValueError`` with a sentence for the command line.
    """
    fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    unknown = set(fields) - {"name", "type", "voices", "router", "workspace", "id", "secret"}
    if unknown or "name" not in fields or any("=" not in part for part in text.split(",")):
        expected = "name=NAME[,type=standard|realtime-only][,voices=none|read|write][,router=none|read|write]"
        raise ValueError(f"a key is written {expected}[,workspace=W][,id=ID,secret=SECRET]")
    if ":" in fields.get("id", "") + fields.get("secret", ""):
        raise ValueError("neither the id nor the secret of a key may contain a colon")
    return SandboxKey(
        name=fields["name"],
        key_id=fields.get("id") or secrets.token_hex(_ID_LENGTH // 2),
        secret=fields.get("secret") or secrets.token_hex(_SECRET_LENGTH // 2),
        type=KeyType(fields.get("type", "standard")),
        voices=Access(fields.get("voices", "read")),
        router=Access(fields.get("router", "read")),
        workspace=fields.get("workspace", DEMO_WORKSPACE),
    )
