"""The environment of the command: the clients' variables, and none of the proxy's secrets.

What belongs here: what is put in, what is taken out, and how it is known what has to be. What does not: which client
reads what (``presets.py``).
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping

from proxy.credentials.command import PASSED_ON
from proxy.credentials.secret import Secret
from proxy.credentials.sources import ExecSource, Source, read_source
from proxy.session.presets import PRESETS, Value

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names under which an HTTP proxy must not be asked for us."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

_TELLING = 8
"""Characters from which on a secret is looked for within other values, too. A shorter one could be a part of any."""


class WatchedEnvironment(dict[str, str]):
    """The environment that a configuration is read from, and which variables it looked at by name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # strings only
        """``dict.get()``, remembered."""
        self.asked.add(name)
        return super().get(name, default)


class Secrets:
    """What the command must not see: variables by name, and values wherever they stand."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._values: set[str] = set()

    def read(self, source: Source, environ: Mapping[str, str]) -> Secret:
        """``read_source()``, remembered; with it the variables that a command gets in order to find the secret."""
        if isinstance(source, ExecSource):
            self.names.update(source.environment)
        secret = read_source(source, environ)
        self.add(secret.reveal())
        return secret

    def add(self, value: str) -> None:
        """One more value; of a key in Base64 what it consists of, too."""
        self._values.add(value)
        with contextlib.suppress(ValueError):
            whole = base64.b64decode(value, validate=True).decode()
            _, colon, secret = whole.partition(":")
            if colon and len(secret) >= _TELLING:
                self._values |= {whole, secret}

    def add_asked(self, environ: WatchedEnvironment) -> None:
        """What the configuration read from the environment: it looks at variables for secrets only."""
        asked = environ.asked.difference(PASSED_ON)
        self.names |= asked
        for name in asked:
            if name in environ:
                self.add(environ[name])

    def hold(self, name: str, value: str) -> bool:
        """Is it one of them, or has one in it? The way out through an HTTP proxy is the command's own, too."""
        if name.lower() in _PROXIES:
            return False
        if name in self.names or value in self._values:
            return True
        return any(secret in value for secret in self._values if len(secret) >= _TELLING)


def make_environment(environ: Mapping[str, str], secrets: Secrets, *, url: str, token: str) -> dict[str, str]:
    """The command's environment: ours without ``secrets``, and clients pointed at ``url``, where ``token`` is known."""
    kept = {name: value for name, value in environ.items() if not secrets.hold(name, value)}
    said = {Value.ROOT: url, Value.V1: f"{url}/v1", Value.TOKEN: token}
    for preset in PRESETS:
        kept.pop(preset.variable, None)
        if preset.value is not Value.NOTHING:
            kept[preset.variable] = said[preset.value]
    kept.update(_directly(kept))
    return kept


def _directly(environ: Mapping[str, str]) -> dict[str, str]:
    """The two spellings of NO_PROXY, so that an HTTP proxy for all else is not asked for loopback.

    Nothing where there is none: a client that finds NO_PROXY alone no longer looks at the system's own settings.
    """
    if not any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        return {}
    said = [*environ.get("no_proxy", "").split(","), *environ.get("NO_PROXY", "").split(",")]
    names = [name.strip() for name in said if name.strip()]
    value = "*" if "*" in names else ",".join(dict.fromkeys([*names, *LOOPBACK]))
    return {"no_proxy": value, "NO_PROXY": value}
