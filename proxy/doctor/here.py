"""What this machine has to offer: addresses to listen on, descriptors, and the Redis server beside it."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from pathlib import Path

from proxy.core.errors import PROXY_NAME
from proxy.core.model import Address, SharedLimits, Snapshot
from proxy.doctor.finding import Finding, State
from proxy.limits.redis_store import RedisStore
from proxy.limits.store import StoreError
from proxy.wire.listener import open_sockets

FEW = 1024
"""Descriptors below which some hundred callers are too many: each takes two, and a quarter is kept free."""

EACH = 2
"""Descriptors of a caller that asks: its own connection, and one to the upstream."""

_LONGEST = 4096
"""Bytes of an answer in which it must have been said who answers."""


async def check_address(setting: str, address: Address) -> Finding:
    """Can it be listened on; if not, who does?"""
    if address.path is not None:
        return await _check_socket_file(setting, address.path)
    if address.port == 0:
        return Finding(setting, State.OK, f"{address}: any port that is free")
    try:
        for sock in await open_sockets(asyncio.get_running_loop(), address):
            sock.close()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return await _taken(setting, address)
        reason = (exc.strerror or "it cannot be had").removeprefix(f"{address}: ")
        if exc.errno == errno.EACCES:
            remedy = f"choose a port from 1024 on in `{setting}`, or allow this user the low ones"
            return Finding(setting, State.FAIL, f"{address}: {reason}", remedy)
        remedy = f"write an address of this machine in `{setting}`"
        return Finding(setting, State.FAIL, f"{address}: {reason}", remedy)
    return Finding(setting, State.OK, f"{address} is free")


async def check_redis(limits: SharedLimits) -> Finding:
    """Does the Redis server of `limits.shared` answer, and may it be used?"""
    store = RedisStore(limits.url)
    try:
        await store.open()
    except StoreError as exc:
        then = "each process counts for itself" if limits.fail_open else "callers with a rate are refused"
        state = State.WARN if limits.fail_open else State.FAIL
        remedy = f"put that right, or correct `limits.shared`; until then {then}"
        return Finding("redis", state, f"{store.where}: {exc.reason}", remedy)
    finally:
        await store.close()
    return Finding("redis", State.OK, store.where)


def check_descriptors(snapshot: Snapshot | None) -> Finding:
    """May this process open as many files as it needs? It takes what it may have, whatever it was started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = snapshot.limits.connections if snapshot is not None else None
    needed = FEW if connections is None else max(FEW, EACH * connections + connections // 2)
    if hard != resource.RLIM_INFINITY and hard < needed:
        why = "" if connections is None else f", and `limits.connections: {connections}` wants {needed}"
        remedy = "raise the hard limit: `ulimit -Hn`, LimitNOFILE= in systemd, --ulimit nofile= of the container"
        return Finding("descriptors", State.WARN, f"{hard} at most{why}", remedy)
    return Finding("descriptors", State.OK, "without limit" if hard == resource.RLIM_INFINITY else f"{hard} at most")


async def _check_socket_file(setting: str, path: str) -> Finding:
    there, folder = await asyncio.to_thread(_look_at, path)
    if there == "socket":
        found = await _ask("", 0, path)
        if found is not None:
            return _who(setting, f"unix:{path}", found)
    elif there:
        remedy = f"take it away, or choose another path in `{setting}`"
        return Finding(setting, State.FAIL, f"unix:{path}: something that is no socket is there", remedy)
    if not folder:
        remedy = f"make the folder, or choose another path in `{setting}`"
        return Finding(setting, State.FAIL, f"unix:{path}: there is no such folder", remedy)
    return Finding(setting, State.OK, f"unix:{path} is free")


def _look_at(path: str) -> tuple[str, bool]:
    """What has this name ("" for nothing), and whether its folder is there."""
    file = Path(path)
    return "socket" if file.is_socket() else "something" if os.path.lexists(file) else "", file.parent.is_dir()


async def _taken(setting: str, address: Address) -> Finding:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return _who(setting, str(address), await _ask(host, address.port, None) or b"")


def _who(setting: str, address: str, answer: bytes) -> Finding:
    if PROXY_NAME.encode() in answer:
        remedy = "nothing, if that is the one you mean; another beside it needs another address"
        return Finding(setting, State.WARN, f"{address}: an {PROXY_NAME} listens there already", remedy)
    remedy = f"stop it, or choose another address in `{setting}`"
    return Finding(setting, State.FAIL, f"{address}: another program listens there", remedy)


async def _ask(host: str, port: int, path: str | None) -> bytes | None:
    """What somebody there says to a request that no proxy serves; None where nobody is."""
    try:
        reader, writer = await (
            asyncio.open_connection(host, port) if path is None else asyncio.open_unix_connection(path)
        )
    except OSError as exc:
        return None if exc.errno in (errno.ECONNREFUSED, errno.ENOENT) else b""
    try:
        # The admin listener says its name at `/`, callers' in Proxy-Status.
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = b""
        while len(said) < _LONGEST and (piece := await reader.read(_LONGEST)):
            said += piece
    except OSError:
        return b""
    finally:
        writer.close()
    return said
