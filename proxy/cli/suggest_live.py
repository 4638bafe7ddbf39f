"""The same counts from a process that runs: its admin address is asked for its metrics, once.

The counters have all that rules need: ``requests_total`` by operation and caller, from which ``refusals_total`` takes
what was not let through. They do not have when each operation was first and last used, nor the paths of requests that
are no operation; and a request counts when it is over, so that WebSockets which are open now are said in a note.
"""

from __future__ import annotations

import http.client
import socket
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from proxy.cli.suggest_seen import AFTER_DECISION, Seen

WAIT_SECONDS = 10.0
MOST_BYTES = 256 << 20
"""A hundred callers that use twenty operations have 10 MB of metrics."""

_UNKNOWN = "none"
"""The label of what was not known."""

_PREFIX = "inworld_proxy_"
_WANTED = ("requests_total", "refusals_total", "would_refuse_total", "tunnels_open", "configuration_info")


class LiveError(Exception):
    """The process could not be asked; the text says why and what to do."""


class _Counts(NamedTuple):
    """Samples by name, without the prefix."""

    samples: dict[str, list[Sample]]

    def pairs(self, name: str) -> list[tuple[str, str, int, dict[str, str]]]:
        """Caller, operation, count and all labels of the samples of this name."""
        return [
            (_known(each.labels.get("caller")), _known(each.labels.get("operation")), int(each.value), each.labels)
            for each in self.samples.get(name, ())
        ]


def read_live(url: str, seen: Seen) -> None:
    """Adds what the process at this admin address (``http://…``, ``https://…``, ``unix:/…``) has counted.

    Raises ``LiveError``.
    """
    counts = _counts(_fetch(url))
    if not counts.samples.get("configuration_info"):
        raise LiveError(f"what answers at {url} is no inworld-proxy; name its admin address (`admin`, not `listen`)")
    _add_counts(counts, seen)
    for sample in counts.samples.get("process_start_time_seconds", ()):
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(sample.value))
        seen.notes.append(f"counted since the process started, {since}; other processes have counts of their own")
    if not any(each.labels.get("mode") == "audit" for each in counts.samples["configuration_info"]):
        seen.notes.append(
            "its mode is enforce, so what callers are not granted was refused; audit would let it through"
        )
    for sample in counts.samples.get("tunnels_open", ()):
        if sample.value > 0:
            name = sample.labels.get("operation", "")
            seen.notes.append(f"{sample.value:g} WebSockets of {name} are open now; they count when they are over")


def _add_counts(counts: _Counts, seen: Seen) -> None:
    through: dict[tuple[str, str], int] = {}
    for caller, operation, count, _ in counts.pairs("requests_total"):
        through[caller, operation] = through.get((caller, operation), 0) + count
    for caller, operation, count, labels in counts.pairs("refusals_total"):
        if labels.get("code") not in AFTER_DECISION:
            through[caller, operation] = through.get((caller, operation), 0) - count
            seen.refuse(labels.get("code", ""), caller, operation or "no operation", count)
    for (caller, operation), count in through.items():
        if count > 0 and caller and operation:
            seen.allow(caller, operation).count = count
    for caller, operation, count, _ in counts.pairs("would_refuse_total"):
        if (caller, operation) in seen.allowed:
            seen.allowed[caller, operation].audited += count


def _counts(text: str) -> _Counts:
    names = {*(_PREFIX + name for name in _WANTED), "process_start_time_seconds"}
    # Picked before they are parsed: nine lines of ten are buckets of histograms.
    lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] in names]
    samples: dict[str, list[Sample]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                samples.setdefault(sample.name.removeprefix(_PREFIX), []).append(sample)
    except ValueError:
        raise LiveError("its metrics cannot be read; name the proxy's admin address") from None
    return _Counts(samples)


def _known(label: str | None) -> str:
    return "" if label is None or label == _UNKNOWN else label


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT_SECONDS)
        self.sock.connect(self._path)


def _fetch(url: str) -> str:
    connection = _connection(url)
    try:
        # Never through a proxy of the environment's: the address is one of this machine's or network's.
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as exc:
        reason = exc.strerror or "no answer" if isinstance(exc, OSError) else "it does not speak HTTP"
        raise LiveError(f"{url} cannot be asked ({reason}); name the admin address of a proxy that runs") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise LiveError(f"{url}/metrics answers {answer.status}; name the proxy's admin address")
    if len(body) > MOST_BYTES:
        raise LiveError(f"{url}/metrics is longer than {MOST_BYTES >> 20} MB; read a log instead")
    return body.decode("utf-8", "replace")


def _connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:/"):
        return _UnixConnection(url.removeprefix("unix:"))
    # `127.0.0.1:9464`, as `admin` spells it, is what is meant by it.
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in {"http", "https"} or not host:
        raise LiveError(f"{url} is no address; write http://127.0.0.1:9464, or unix:/path")
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=WAIT_SECONDS)
