"""Lists in pages: ``pageSize`` and ``pageToken`` in, one page and the next token out.

Invented: what a page token looks like. Clients must not care.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TypeVar

from proxy.sandbox.errors import invalid

_Item = TypeVar("_Item")

_TOKEN = "from:"  # noqa: S105 - a page token, not a secret.


def page(items: Sequence[_Item], query: Mapping[str, str], *, longest: int) -> tuple[list[_Item], str]:
    """One page of the items and the token of the next one, empty on the last; raises ``Refusal``."""
    size_text = query.get("pageSize") or query.get("page_size") or "0"
    token = query.get("pageToken") or query.get("page_token") or ""
    if not size_text.isdigit() or int(size_text) > longest:
        raise invalid(f"pageSize must be in [0, {longest}]")
    size = int(size_text) or longest
    start = _start(token)
    following = start + size
    next_token = base64.urlsafe_b64encode(f"{_TOKEN}{following}".encode()).decode() if following < len(items) else ""
    return list(items[start:following]), next_token


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token).decode()
        if text.startswith(_TOKEN):
            return int(text.removeprefix(_TOKEN))
    except (binascii.Error, ValueError):
        pass
    raise invalid("pageToken is invalid")
