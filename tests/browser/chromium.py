"""Where Chromium is, what drives it, and how it is started: without whatever would look for its maker's hosts.

Importing this skips the module that does where there is no browser.
"""

from __future__ import annotations

import shutil

from tests.clients.processes import PATIENCE, missing, needed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    missing("chromium is not installed")
sync_api = needed("playwright.sync_api")

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MILLISECONDS = PATIENCE * 1000
