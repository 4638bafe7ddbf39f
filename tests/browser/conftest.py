"""The processes of the other clients' tests, for a page in a browser."""

from __future__ import annotations

from tests.clients.conftest import proxies, sandbox

__all__ = ["proxies", "sandbox"]
