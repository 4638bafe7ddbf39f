"""What profilers say, as counts: whose code a sample was in, which call of the kernel, which function. Pure.

What belongs here: reading the output of perf, py-spy and strace, and attributing it. What does not: running them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """Where the processor was: a symbol, the file that has it, and the kernel's functions that were called above it."""

    symbol: str
    file: str
    above: tuple[str, ...] = ()


# -- whose code -------------------------------------------------------------------------------------------------------

SENDING = "kernel: sending"
ARRIVAL = "kernel: arrival of what was sent"
RECEIVING = "kernel: receiving"
WAITING = "kernel: waiting (epoll, poll)"
CONNECTIONS = "kernel: opening and closing connections"
FILES = "kernel: files (the request log)"
KERNEL = "kernel: the rest"
INTERPRETER = "the interpreter"
ALLOCATORS = "allocators, Python's and the C library's"
PRODUCT = "compiled modules of the product"
UVLOOP = "uvloop"
OPENSSL = "OpenSSL"
EXTENSIONS = "Python's own modules in C"
LIBRARY = "C library"
OTHER = "other"

GROUPS = (
    SENDING, ARRIVAL, RECEIVING, WAITING, CONNECTIONS, FILES, KERNEL, INTERPRETER, ALLOCATORS, PRODUCT, UVLOOP,
    OPENSSL, EXTENSIONS, LIBRARY, OTHER,
)  # fmt: skip
"""In the order of the table."""

_CALLS = {
    SENDING: "write writev pwrite64 sendto sendmsg sendmmsg sendfile splice",
    RECEIVING: "read readv pread64 recvfrom recvmsg recvmmsg",
    WAITING: "epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6",
    CONNECTIONS: (
        "socket connect accept accept4 close shutdown bind listen getsockname getpeername getsockopt setsockopt "
        "epoll_ctl io_uring_enter"
    ),
}
_GROUP_OF_CALL = {call: group for group, calls in _CALLS.items() for call in calls.split()}

_CALL = re.compile(r"^(?:__(?:x64|arm64|ia32|se|do)_sys_|__sys_|ksys_|(?:do|vfs)_(?=writev$|readv$))(\w+)$")
"""The function of a call; that of some leaves no trace but what it goes on with (`ksys_read`, `do_writev`)."""

_SOFTIRQ = re.compile(r"^(__do_softirq|handle_softirqs|net_rx_action)$")
"""Over loopback the sender's core takes a packet in on the receiver's behalf, before the call that sends returns."""

_FILE_SYSTEM = re.compile(r"^(ext4|xfs|btrfs|ovl|shmem|generic_perform|generic_file|pipe)_")

_ALLOCATES = re.compile(
    r"^(_?Py(Object|Mem)_(Raw)?(Malloc|Calloc|Realloc|Free)|_PyObject_(Malloc|Calloc|Realloc|Free)|_PyMem_Raw\w+|"
    r"pymalloc_\w+|new_arena|arena_map_\w+|address_in_range|malloc|free|cfree|calloc|realloc|"
    r"_int_(malloc|free|realloc)\w*|__libc_(malloc|free|calloc|realloc)\w*|malloc_consolidate|unlink_chunk\S*|sysmalloc)$"
)
_FILES = (
    (re.compile(r"__mypyc[^/]*\.so$|/site-packages/proxy/"), PRODUCT),
    (re.compile(r"/uvloop/"), UVLOOP),
    (re.compile(r"(^|/)(libssl|libcrypto|_ssl|_hashlib)[^/]*$|/cryptography/"), OPENSSL),
    (re.compile(r"/lib-dynload/"), EXTENSIONS),
    (re.compile(r"(^|/)libpython3[^/]*$|(^|/)python3?(\.\d+)?$|\.pyx?$|^<"), INTERPRETER),
    (re.compile(r"(^|/)(libc|libm|libpthread|librt|libdl|ld-linux|ld-musl|libgcc_s|libstdc\+\+)[-.][^/]*$"), LIBRARY),
    (re.compile(r"^\[(vdso|vsyscall)\]"), LIBRARY),
)


def group_of(sample: Sample, folder: str) -> str:
    """One of ``GROUPS``. ``folder`` is where the product's own package is."""
    file = sample.file
    if _is_kernel(file):
        return _group_in_kernel((sample.symbol, *sample.above))
    if file.startswith(f"{folder}/") and file.endswith(".so"):
        return PRODUCT
    found = next((group for pattern, group in _FILES if pattern.search(file)), OTHER)
    if found in (INTERPRETER, LIBRARY) and _ALLOCATES.match(sample.symbol):
        return ALLOCATORS
    return found


def _is_kernel(file: str) -> bool:
    """Its own image, or a module of it: `[kernel.kallsyms]`, `[nf_conntrack]`, `….ko`."""
    known = ("[vdso]", "[vsyscall]", "[unknown]", "[heap]", "[stack]", "[anon")
    return (file.startswith("[") and not file.startswith(known)) or file.endswith((".ko", ".ko.xz"))


def _group_in_kernel(stack: tuple[str, ...]) -> str:
    call = next((found[1] for name in stack if (found := _CALL.match(name))), "")
    group = _GROUP_OF_CALL.get(call, KERNEL)
    if group in (SENDING, RECEIVING) and any(_FILE_SYSTEM.match(name) for name in stack):
        return FILES
    return ARRIVAL if group == SENDING and any(_SOFTIRQ.match(name) for name in stack) else group


def by_group(samples: Sequence[Sample], folder: str) -> dict[str, float]:
    """The share of each group that has any."""
    counts = Counter(group_of(sample, folder) for sample in samples)
    return {group: counts[group] / len(samples) for group in GROUPS if counts[group]}


def by_symbol(samples: Sequence[Sample], most: int) -> dict[str, float]:
    """The shares of the symbols that are met most often, each without what it calls."""
    return _shares(Counter(map(_called, samples)), len(samples), most)


def _called(sample: Sample) -> str:
    """A library without symbols is one."""
    return sample.file.rpartition("/")[2].partition(".")[0] if sample.symbol == "[unknown]" else sample.symbol


def _shares(counts: Counter[str], total: int, most: int) -> dict[str, float]:
    return {name: count / total for name, count in counts.most_common(most)}


# -- what perf says ---------------------------------------------------------------------------------------------------

_FRAME = re.compile(r"^\s*[0-9a-f]+ (.*?) \(([/\[].*)\)$")


def read_perf(text: str) -> Iterator[Sample]:
    """Of `perf script -F ip,sym,dso`: a block of lines for each sample, the innermost function first."""
    for block in re.split(r"\n\s*\n", text):
        frames = [(found[1], found[2]) for line in block.splitlines() if (found := _FRAME.match(line))]
        if frames:
            (symbol, file), *above = frames
            yield Sample(symbol, file, tuple(name for name, of in above if _is_kernel(of)))


# -- what py-spy says -------------------------------------------------------------------------------------------------

_SPY_FRAME = re.compile(r"^(.*) \((.*?)(?::\d+)?\)$")
_LOOP = "outside of Python's functions"
"""What the loop's own function had called: uvloop, and the kernel below it."""

_OTHER_THREAD = re.compile(r"^(Thread\.)?_bootstrap \(")
_LOOP_FRAMES = re.compile(r"^(Runner\.)?run \(asyncio/runners\.py")


def read_py_spy(text: str) -> Iterator[tuple[Sample, int]]:
    """Of `--format raw`: where the main thread was, and how often. The log's thread, and a pool's, are left out."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not count.isdecimal() or _OTHER_THREAD.match(frames[0]):
            continue
        found = _SPY_FRAME.match(frames[-1])
        name, file = (found[1], found[2]) if found else (frames[-1], "")
        if _LOOP_FRAMES.match(frames[-1]):
            name, file = _LOOP, ""
        yield Sample(name, file), int(count)


def by_function(text: str, most: int) -> dict[str, float]:
    """The shares of Python's functions by their own time, as py-spy saw it."""
    counts: Counter[str] = Counter()
    for sample, count in read_py_spy(text):
        counts[f"{sample.symbol} ({sample.file})" if sample.file else sample.symbol] += count
    return _shares(counts, counts.total(), most)


# -- what strace says -------------------------------------------------------------------------------------------------

_COUNTED = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def read_strace(text: str) -> dict[str, int]:
    """Of `strace -c`: how often each call was made."""
    return {name: int(count) for count, name in _COUNTED.findall(text) if name != "total"}
