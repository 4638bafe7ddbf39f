"""How a client is made to trust the certificate of ``--tls self-signed``: its file, and what to say where."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import shlex
import ssl
import tempfile
from pathlib import Path

from proxy.core.model import ListenerTls


def keep_certificate(tls: ListenerTls, listening: tuple[str, int]) -> Path | None:
    """Writes a certificate that was made here, and never its key, where clients can be pointed to; says where.

    The name is that of the address, so that it is the same after a restart. None: there is no place for it.
    """
    host, port = listening
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{host}-{port}" if port else host).strip("-")
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inworld-proxy"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Whole or not at all: a client may be reading the one before.
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="ascii") as file:
            file.write(tls.certificates)
        path = folder / f"{name}.pem"
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return None
    return path


def how_to_trust(tls: ListenerTls, path: Path | None, ask: str) -> str:
    """What to do before a client connects; ``ask`` is what curl is given."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(tls.certificates)).digest().hex(":").upper()
    until = dt.datetime.fromtimestamp(tls.expires, dt.UTC)
    said = (
        f"TLS with a certificate made for this run, for {', '.join(tls.names)}, until {until:%Y-%m-%d}\n"
        f"  SHA-256 {digest}\n"
    )
    if path is None:
        return f"{said}  it could not be written below ~/.cache: set XDG_CACHE_HOME to a folder that can be written"
    file = shlex.quote(str(path))
    return (
        f"{said}To make a client trust it:\n\n"
        f"  curl {ask}/…\n"
        f"  NODE_EXTRA_CA_CERTS={file} node …    # https and wss\n"
        f"  SSL_CERT_FILE={file} python …        # httpx, openai and others that use Python's own"
    )
