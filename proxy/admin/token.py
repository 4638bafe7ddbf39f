"""The operator's token: who shows it may do what others may not. Compared by digest; it is kept nowhere."""

from __future__ import annotations

import hashlib
import hmac

from aiohttp import web

REFUSED = {"status": "refused", "message": "Send the token whose digest is `admin_token`: Authorization: Bearer."}


def shows(request: web.Request, digest: bytes) -> bool:
    """Does it carry the token with this digest, once? Takes as long for a wrong one as for the right one."""
    scheme, _, token = ", ".join(request.headers.getall("Authorization", [])).partition(" ")
    shown = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
    return hmac.compare_digest(shown, digest) and scheme.lower() == "bearer"


def ask_for_token() -> web.Response:
    """The answer to who did not show it."""
    return web.json_response(REFUSED, status=401, headers={"WWW-Authenticate": "Bearer"})
