"""How the proxy is now: tunnels, credentials, callers, and why requests were refused. Nothing in it is secret.

Every list is bounded, because it is made and sent again each second.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator

from proxy import __version__
from proxy.core.build import BUILD
from proxy.core.model import Caller, CallerLimits, Credential, KeyPower, KeyType
from proxy.core.remedies import REMEDIES
from proxy.limits.gate import Gate
from proxy.limits.pace import spell_rate
from proxy.wire.server import DataServer
from proxy.wire.tunnel import Tunnel

Facts = dict[str, object]

MOST_SHOWN = 200
"""Entries of each list: more than anybody reads; the totals say how many there are."""


def describe_state(server: DataServer, begun: float) -> Facts:
    """Everything but the requests and the charts. ``begun`` is when this listener began, by the monotonic clock."""
    snapshot, now = server.snapshot, time.monotonic()
    waiting = server.gates.waiting()
    tunnels = heapq.nlargest(MOST_SHOWN, server.tunnels, key=_opened)
    return {
        "version": __version__,
        "build": BUILD,
        "now": round(time.time(), 3),
        "mode": snapshot.policy.mode.value,
        "draining": server.draining,
        "listen": _where(server),
        "uptime_s": round(now - begun, 1),
        "keep": server.trail.keep,
        "in_flight": server.metrics.in_flight,
        "connections": server.metrics.connections,
        "waiting": sum(waiting.values()),
        "tunnels": [_describe_tunnel(tunnel, now) for tunnel in tunnels],
        "tunnels_total": len(server.tunnels),
        "credentials": [_describe_credential(one) for one in list(snapshot.credentials.values())[:MOST_SHOWN]],
        "credentials_total": len(snapshot.credentials),
        "callers": [_describe_caller(server, caller) for caller in _busiest(server)],
        "callers_total": len(snapshot.callers),
        "refusals": list(_refusals(server)),
    }


def _where(server: DataServer) -> str:
    """Where callers connect: `http://127.0.0.1:8080`, or `unix:/path`."""
    host, port = server.place
    if not host or host.startswith("unix:"):
        return host
    scheme = "http" if server.snapshot.tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _opened(tunnel: Tunnel) -> float:
    return tunnel.record.tunnel_opened


def _describe_tunnel(tunnel: Tunnel, now: float) -> Facts:
    record = tunnel.record
    return {
        "operation": record.operation,
        "caller": record.caller,
        "peer": record.peer,
        "age_s": round(now - record.tunnel_opened, 1),
        "bytes_in": tunnel.caller.bytes,
        "bytes_out": tunnel.upstream.bytes,
    }


def _describe_credential(credential: Credential) -> Facts:
    state = credential.state()
    return {
        "name": credential.name,
        "kind": credential.kind,
        "type": credential.power.type.value,
        "permissions": _permissions(credential.power),
        "source": state.place or state.source,
        "state": "ready" if state.ready else "not ready",
        "expires_at": state.expires_at,
        "refreshed_at": state.succeeded_at or None,
        "refused_upstream": state.refused,
        "fault": state.fault,
    }


def _permissions(power: KeyPower) -> str:
    if power.type is KeyType.REALTIME_ONLY:
        return "realtime operations only"
    return f"voices {power.voices.value}, router {power.router.value}"


def _busiest(server: DataServer) -> list[Caller]:
    callers = server.snapshot.callers

    def load(name: str) -> int:
        gate = server.gates.find(name)
        return 0 if gate is None else gate.in_flight + gate.waiting

    if len(callers) <= MOST_SHOWN:
        return [*callers.values()]
    return [callers[name] for name in heapq.nlargest(MOST_SHOWN, callers, key=load)]


def _describe_caller(server: DataServer, caller: Caller) -> Facts:
    limits = caller.limits
    if limits is None:
        # Whose requests are not limited, nobody counts while they are under way.
        return {"name": caller.name, "in_flight": None, "waiting": None, "limits": "none", "left": "no limit"}
    gate = server.gates.find(caller.name)
    in_flight, waiting = (0, 0) if gate is None else (gate.in_flight, gate.waiting)
    return {
        "name": caller.name,
        "in_flight": in_flight,
        "waiting": waiting,
        "limits": _spell_limits(limits),
        "left": ", ".join(_left(limits, gate, in_flight)),
    }


def _spell_limits(limits: CallerLimits) -> str:
    parts = []
    if limits.rate is not None:
        parts.append(f"{spell_rate(limits.rate)}, {limits.burst} at once after a pause")
    if limits.concurrent is not None:
        parts.append(f"{limits.concurrent} in flight")
    if limits.queue:
        parts.append(f"over that a wait of {limits.queue:g} s")
    return "; ".join(parts)


def _left(limits: CallerLimits, gate: Gate | None, in_flight: int) -> Iterator[str]:
    if limits.rate is not None:
        left = limits.burst if gate is None else gate.left()
        yield f"{left} of {limits.burst} at once"
    if limits.concurrent is not None:
        yield f"{max(0, limits.concurrent - in_flight)} of {limits.concurrent} in flight"


def _refusals(server: DataServer) -> Iterator[Facts]:
    """The newest first. ``audit``: let through, because the mode was audit."""
    for (code, operation, caller, audited), reason in list(reversed(server.trail.reasons.items()))[:MOST_SHOWN]:
        yield {
            "code": code.value,
            "count": reason.count,
            "last": round(reason.last, 3),
            "operation": operation,
            "caller": caller,
            "audit": audited,
            "what_to_change": REMEDIES[code],
        }
