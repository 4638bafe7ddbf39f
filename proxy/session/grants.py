"""The configuration of a session: the operator's, with one caller, who is known by one token, on a port of its own.

The token is made here and kept in memory; the snapshot has its digest, and the command has it in its environment.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from proxy.callers.token import digest_token, token_recogniser
from proxy.core.browser import LOOPBACK_NAMES
from proxy.core.model import Address, Caller, LogFormat, LogSettings, Route, Snapshot

SESSION = "session"
"""The caller's name where nobody's grants are asked for."""

TOKEN_BYTES = 32
"""256 bits: guessing one is out of reach whatever the rate."""


def make_token() -> str:
    """A token for one session."""
    return f"ip_{secrets.token_urlsafe(TOKEN_BYTES)}"


def session_caller(snapshot: Snapshot, name: str | None) -> Caller:
    """Who the command is: the caller of that name, with its grants and limits, or one who may do all that the key may.

    Raises ``KeyError`` when no caller of that name is declared.
    """
    return Caller(SESSION, _routes(snapshot)) if name is None else snapshot.callers[name]


def session_snapshot(snapshot: Snapshot, caller: Caller, token: str, *, logs: bool) -> Snapshot:
    """That configuration for this one caller. What other callers are recognised by is not looked at."""
    log = snapshot.log
    if not logs or log.format is LogFormat.OFF:
        log = LogSettings(LogFormat.JSON if logs else LogFormat.OFF, log.level, log.omit)
    policy = replace(
        snapshot.policy,
        anonymous=None,
        recognisers=(token_recogniser([(digest_token(token.encode()), caller)]),),
        recognise_user=None,
        hosts=LOOPBACK_NAMES,
    )
    return replace(
        snapshot,
        listen=Address("127.0.0.1", 0),
        tls=None,  # from this machine to itself, and with no certificate to be made known to the command
        policy=policy,
        callers=MappingProxyType({caller.name: caller}),
        key_sets=MappingProxyType({}),
        shared_limits=snapshot.shared_limits if caller.limits is not None else None,
        log=log,
    )


def _routes(snapshot: Snapshot) -> Mapping[str, Route]:
    # The same for everyone: routes do not depend on the caller.
    anyone = snapshot.policy.anonymous or next(iter(snapshot.callers.values()))
    return anyone.routes
