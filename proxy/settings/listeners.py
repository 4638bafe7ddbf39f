"""Where callers and the operator connect: what may be there together, and what only a restart can change."""

from __future__ import annotations

from proxy.core.model import PRIVATE, Address, Snapshot
from proxy.document import Fault
from proxy.settings.reading import Reading

ANY = frozenset({"0.0.0.0", "::"})
"""The addresses that mean every address of this machine."""


def check_listeners(reading: Reading, faults: list[Fault]) -> None:
    """Is nobody let in by accident, and does each of the two have a place of its own?"""
    options = reading.options.settings
    if not options.listen.is_loopback and not reading.callers and not _names_callers(reading):
        found = f"`{options.listen}`, which others can reach, without `callers`"
        remedy = f"declare who may call under `callers`, or listen on `127.0.0.1:{options.listen.port}`"
        faults.append(reading.document.fault(("listen",), found, remedy))
    if reading.options.whole and _collide(options.listen, options.admin):
        path = ("admin",) if ("admin",) in reading.document.places else ("listen",)
        at, other = (options.admin, "listen") if path == ("admin",) else (options.listen, "admin")
        found = f"`{at}`, where `{other}` is already"
        remedy = "choose another port" if options.listen.path is None else "choose another path"
        faults.append(reading.document.fault(path, found, remedy))
    if reading.options.whole and options.listen_mode is not None and options.listen.path is None:
        found = f"who may connect to a unix socket, while callers connect to `{options.listen}`"
        remedy = "remove it, or listen on a unix socket: `listen: unix:/run/inworld-proxy/proxy.sock`"
        faults.append(reading.document.fault(("listen_mode",), found, remedy))


def check_addresses(reading: Reading, keep: Snapshot, faults: list[Fault]) -> None:
    """Are both where they are in the configuration in force? A reload moves no socket."""
    options = reading.options.settings
    for name, told, now in (("listen", options.listen, keep.listen), ("admin", options.admin, keep.admin)):
        if reading.options.whole and told != now:
            found = f"`{told}`, while the proxy listens at `{now}`"
            faults.append(reading.document.fault((name,), found, "restart the proxy to move it, or change it back"))
    if reading.options.whole and (options.listen_mode or PRIVATE) != keep.listen_mode:
        found = f"another mode than that of the socket, which is `0{keep.listen_mode:o}`"
        faults.append(reading.document.fault(("listen_mode",), found, "restart the proxy to change it"))


def _names_callers(reading: Reading) -> bool:
    # `callers:` that cannot be read has its own fault; that nobody is declared is then not known.
    return isinstance(reading.document.value, dict) and "callers" in reading.document.value


def _collide(one: Address, other: Address) -> bool:
    if one.path is not None or other.path is not None:
        return one.path == other.path
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (one.host, other.host)}
    return one.port == other.port != 0 and (len(hosts) == 1 or bool(hosts & ANY))
