"""The signature IW1-HMAC-SHA256, and the two endpoints that exchange it for a session token, as data.

What belongs here: what is signed, and how. What does not: sending it (``mint.py``) and keeping what comes back
(``session_token.py``). Every function is pure: the moment and the nonce arrive as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from proxy.credentials.secret import Secret

SCHEME = "IW1-HMAC-SHA256"

_REGION = re.compile(r"api\.((?:[a-z0-9-]+\.)*inworld\.ai)")


@dataclass(frozen=True, slots=True)
class MintVariant:
    """One of the vendor's token endpoints. ``body`` makes its JSON from the key id and the workspace.

    ``signed_host`` is what goes into the signature, which is not always the host that is asked: ``{domain}`` is the
    upstream's domain without its first label. ``nonce`` cuts one from 32 random hexadecimal digits.
    """

    name: str
    path: str
    signed_host: str
    method: str
    nonce: Callable[[str], str]
    body: Callable[[str, str | None], Mapping[str, object]]
    needs_workspace: bool = False


DOCUMENTED = MintVariant(
    name="documented",
    path="/v1/sessionTokens/token:generate",
    signed_host="api.{domain}",
    method="ai.inworld.engine.v1.SessionTokens/GenerateSessionToken",
    nonce=lambda digits: digits,
    body=lambda key_id, _: {"api_key": key_id},
)
"""As the vendor's documentation has it."""

SAMPLES = MintVariant(
    name="samples",
    path="/auth/v1/tokens/token:generate",
    signed_host="api-engine.{domain}",
    method="ai.inworld.engine.WorldEngine/GenerateToken",
    nonce=lambda digits: digits[1:12],
    body=lambda key_id, workspace: {"key": key_id, "resources": [f"workspaces/{workspace}"]},
    needs_workspace=True,
)
"""As the vendor's sample applications have it; their SDK takes its nonce from the middle of a longer one."""

VARIANTS: Mapping[str, MintVariant] = MappingProxyType({variant.name: variant for variant in (DOCUMENTED, SAMPLES)})


def sign(secret: str, parts: Iterable[str]) -> str:
    """The signature over ``parts``: the moment, the signed host, the method and the nonce, in that order.

    Raw digests are chained, as all published code does; the sample application's README chains their hexadecimal form.
    """
    key = f"IW1{secret}".encode()
    for part in parts:
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return hmac.digest(key, b"iw1_request", hashlib.sha256).hex()


def authorization_value(key_id: str, secret: Secret, *, host: str, method: str, moment: float, nonce: str) -> str:
    """The value of ``Authorization`` for a mint. ``moment`` is Unix seconds by the token endpoint's clock."""
    stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H%M%S")
    signature = sign(secret.reveal(), (stamp, without_port_443(host), method, nonce))
    return f"{SCHEME} ApiKey={key_id},DateTime={stamp},Nonce={nonce},Signature={signature}"


def signed_host(variant: MintVariant, upstream_host: str) -> str:
    """The host string that this variant signs for an upstream.

    The vendor's own hosts sign with their own domain (a region's is analogous; only the first is documented). Any other
    upstream stands in front of the vendor or in its place, and is signed for as the vendor documents.
    """
    match = _REGION.fullmatch(upstream_host.lower())
    return variant.signed_host.format(domain=match[1] if match else "inworld.ai")


def without_port_443(host: str) -> str:
    """The host as the vendor's code signs it: less the first ``:443``, even where that begins ``:4433``."""
    return host.replace(":443", "", 1)


def split_key(key: str) -> tuple[str, Secret]:
    """Key id and secret of a decoded ``id:secret``: at the first colon."""
    key_id, _, secret = key.partition(":")
    return key_id, Secret(secret)
