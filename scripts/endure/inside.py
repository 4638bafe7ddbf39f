"""The proxy of `make endure`: the very command that `serve` is, and beside it a thread that counts what is in memory.

How many objects there are, and of which types, cannot be asked of a process from outside, and the product has no door
for it. Its resident memory cannot either, by the same user: it is not dumpable (``proxy/hardening.py``). The thread
reads lines from an inherited socket and answers each with one of JSON; the loop knows nothing of it.

    inside.py NUMBER_OF_THE_SOCKET SERVE'S_OPTIONS…
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

try:
    from collections import _count_elements  # type: ignore[attr-defined]  # Counter's own loop, in C
except ImportError:
    _count_elements = Counter.update

ROOT = Path(__file__).resolve().parents[2]
_ALONE = 1000.0
"""Seconds for which no other thread runs while objects are counted, were it to take so long. The list of all objects
holds every one of them; were it the last to do so, this thread would end connections that belong to the loop."""


def _count_types() -> dict[type, int]:
    """How many objects there are that the collector knows, the frozen ones (all there was at the start) aside."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_ALONE)
    try:
        time.sleep(0.001)  # who waits for its turn by the old interval has had it afterwards
        counts: dict[type, int] = {}
        _count_elements(counts, map(type, gc.get_objects()))
        return counts
    finally:
        sys.setswitchinterval(before)


def _memory() -> dict[str, int]:
    """Bytes; nothing where the system does not say."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return {"rss": 0, "pss": 0, "uss": 0}
    kilobytes: Counter[str] = Counter()
    for name, _, value in (line.partition(":") for line in text.splitlines()[1:]):
        kilobytes[name] += int(value.split()[0])
    uss = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": kilobytes["Rss"] * 1024, "pss": kilobytes["Pss"] * 1024, "uss": uss * 1024}


def _look(*, collect: bool) -> dict[str, object]:
    if collect:
        gc.collect()
    types = _count_types()
    names: Counter[str] = Counter()
    for each, count in types.items():
        names[f"{each.__module__}.{each.__qualname__}"] += count
    return {
        **_memory(),
        "descriptors": sum(1 for _ in Path("/dev/fd").iterdir()),
        "threads": threading.active_count(),
        "objects": names.total(),
        "blocks": sys.getallocatedblocks(),
        "cpu": time.process_time(),
        "types": names,
    }


def _answer(sock: socket.socket) -> None:
    with sock, sock.makefile("rw", encoding="ascii") as lines:
        for line in lines:
            lines.write(json.dumps(_look(collect=line == "rest\n")) + "\n")
            lines.flush()


def main() -> None:
    """Serves until it is told to stop."""
    number, *options = sys.argv[1:]
    asked = socket.socket(fileno=int(number))
    threading.Thread(target=_answer, args=(asked,), name="endure", daemon=True).start()
    sys.path[0] = str(ROOT)
    from proxy.__main__ import main as program  # noqa: PLC0415 - as late as `python -m proxy` does

    program(["serve", *options], prog_name="inworld-proxy")


if __name__ == "__main__":
    main()
