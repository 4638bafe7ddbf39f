"""Telling systemd how this process is (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import MutableMapping

VARIABLE = "NOTIFY_SOCKET"

logger = logging.getLogger("proxy")


class Notifier:
    """Says it where somebody asked to be told, else nowhere. What cannot be said stops nothing."""

    def __init__(self, path: str = "") -> None:
        # "@" stands for the zero byte that begins an abstract address; nothing but unix sockets is understood here.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path if path.startswith("/") else ""

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Takes the variable out of the environment: it is for this process, and not for its children."""
        return cls(environ.pop(VARIABLE, ""))

    def ready(self) -> None:
        """Requests are served, with the configuration that was given last."""
        self._say("READY=1")

    def reloading(self) -> None:
        """Another configuration is being read; ``ready()`` follows, whether it was taken or not."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No new connections: what is in flight is finished."""
        self._say("STOPPING=1")

    def _say(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0)
                sock.sendto(state.encode(), self._address)
        except OSError as exc:
            logger.debug("systemd was not told %s: %s", state, exc)


NOBODY = Notifier()
