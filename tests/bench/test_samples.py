"""What perf, strace and py-spy print, as it was recorded, becomes shares of groups, functions and calls."""

from __future__ import annotations

import pytest

from bench import samples
from bench.samples import Sample, by_function, by_group, by_symbol, group_of, read_perf, read_py_spy, read_strace

PRODUCT = "/srv/checkout/proxy"
LIBRARY = "/opt/python/lib/libpython3.11.so.1.0"
KERNEL = "[kernel.kallsyms]"

PERF = f"""
\tffffffff82033f50 tcp_v4_rcv ({KERNEL})
\tffffffff81e66c3b net_rx_action ({KERNEL})
\tffffffff813600ed handle_softirqs ({KERNEL})
\tffffffff82025860 __tcp_transmit_skb ({KERNEL})
\tffffffff82025abc ksys_write ({KERNEL})
\tffffffff821ecc51 do_syscall_64 ({KERNEL})
\t          10a7fb __libc_write (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t               0 [unknown] ([unknown])


\t          1a6bc7 _PyEval_EvalFrameDefault ({LIBRARY})

\t           cbc18 std::vector<int, std::allocator<int> >::at(unsigned long) (/opt/a file.so (deleted))

"""


def test_a_sample_of_perf_is_its_innermost_function_and_what_of_the_kernel_is_above_it() -> None:
    first, second, third = read_perf(PERF)
    above = ("net_rx_action", "handle_softirqs", "__tcp_transmit_skb", "ksys_write", "do_syscall_64")
    assert first == Sample("tcp_v4_rcv", KERNEL, above)
    assert second == Sample("_PyEval_EvalFrameDefault", LIBRARY)
    assert third == Sample("std::vector<int, std::allocator<int> >::at(unsigned long)", "/opt/a file.so (deleted)")
    assert list(read_perf("")) == []


@pytest.mark.parametrize(
    ("sample", "group"),
    [
        (Sample("tcp_sendmsg_locked", KERNEL, ("sock_write_iter", "ksys_write")), samples.SENDING),
        (Sample("tcp_sendmsg", KERNEL, ("__sys_sendto", "__x64_sys_sendto")), samples.SENDING),
        (Sample("tcp_sendmsg", KERNEL, ("vfs_writev", "do_writev", "do_syscall_64")), samples.SENDING),
        (Sample("tcp_v4_rcv", KERNEL, ("net_rx_action", "handle_softirqs", "ksys_write")), samples.ARRIVAL),
        (Sample("ext4_file_write_iter", KERNEL, ("vfs_write", "ksys_write")), samples.FILES),
        (Sample("tcp_recvmsg", KERNEL, ("sock_read_iter", "ksys_read")), samples.RECEIVING),
        (Sample("ep_send_events", KERNEL, ("do_epoll_wait", "__arm64_sys_epoll_pwait")), samples.WAITING),
        (Sample("__x64_sys_poll", KERNEL), samples.WAITING),
        (Sample("sk_clone_lock", KERNEL, ("__sys_connect", "__x64_sys_connect")), samples.CONNECTIONS),
        (Sample("clear_page", KERNEL, ("exc_page_fault",)), samples.KERNEL),
        (Sample("nf_hook_slow", "[nf_conntrack]", ("ksys_write",)), samples.SENDING),
        (Sample("_PyEval_EvalFrameDefault", LIBRARY), samples.INTERPRETER),
        (Sample("_PyEval_EvalFrameDefault", "/usr/bin/python3.11"), samples.INTERPRETER),
        (Sample("_PyObject_Malloc", LIBRARY), samples.ALLOCATORS),
        (Sample("_int_malloc", "/usr/lib/x86_64-linux-gnu/libc.so.6"), samples.ALLOCATORS),
        (Sample("memcpy", "/usr/lib/x86_64-linux-gnu/libc.so.6"), samples.LIBRARY),
        (Sample("clock_gettime", "[vdso]"), samples.LIBRARY),
        (Sample("CPyDef_decide", f"{PRODUCT}/core/policy.cpython-311-x86_64-linux-gnu.so"), samples.PRODUCT),
        (Sample("CPyDef_decide", "/opt/x/site-packages/4d2a__mypyc.cpython-311-x86_64-linux-gnu.so"), samples.PRODUCT),
        (Sample("uv__io_poll", "/srv/.venv/site-packages/uvloop/loop.cpython-311.so"), samples.UVLOOP),
        (Sample("[unknown]", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"), samples.OPENSSL),
        (Sample("_ssl__SSLSocket_read", "/opt/python/lib-dynload/_ssl.cpython-311.so"), samples.OPENSSL),
        (Sample("scanstring", "/opt/python/lib-dynload/_json.cpython-311.so"), samples.EXTENSIONS),
        (Sample("ngx_http_process", "/usr/sbin/nginx"), samples.OTHER),
        (Sample("[unknown]", "[unknown]"), samples.OTHER),
    ],
    ids=lambda value: value.symbol if isinstance(value, Sample) else value,
)
def test_a_sample_belongs_to_whose_code_it_was_in_and_the_kernel_to_what_it_was_called_for(
    sample: Sample, group: str
) -> None:
    assert group_of(sample, PRODUCT) == group
    assert group in samples.GROUPS


def test_a_folder_of_the_same_name_elsewhere_is_not_the_product() -> None:
    assert group_of(Sample("x", "/opt/proxy/lib/libpython3.11.so"), PRODUCT) == samples.INTERPRETER


def test_shares_are_of_all_samples_and_in_the_order_of_the_table() -> None:
    seen = [Sample("a", LIBRARY)] * 3 + [Sample("[unknown]", "/usr/lib/libcrypto.so.3")]
    assert by_group(seen, PRODUCT) == {samples.INTERPRETER: 0.75, samples.OPENSSL: 0.25}
    assert by_symbol(seen, 1) == {"a": 0.75}
    assert by_symbol(seen, 5) == {"a": 0.75, "libcrypto": 0.25}
    assert by_group([], PRODUCT) == {}


PY_SPY = """\
_run_module_as_main (<frozen runpy>:198);run (proxy/app.py:44);Runner.run (asyncio/runners.py:118) 3
_run_module_as_main (<frozen runpy>:198);Runner.run (asyncio/runners.py:118);decide (proxy/core/policy.py:70) 4
_run_module_as_main (<frozen runpy>:198);Runner.run (asyncio/runners.py:118);decide (proxy/core/policy.py:71) 1
Thread._bootstrap (threading.py:1002);_Writer._run (proxy/observe/log.py:136) 956
_bootstrap (threading.py:1002);_worker (concurrent/futures/thread.py:81) 90
a line that is none
"""


def test_functions_are_added_up_over_their_lines_and_waiting_threads_are_left_out() -> None:
    outside = "outside of Python's functions"
    assert by_function(PY_SPY, 5) == {"decide (proxy/core/policy.py)": 0.625, outside: 0.375}
    assert [count for _, count in read_py_spy(PY_SPY)] == [3, 4, 1]


STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 78.93    0.203701        2829        72        11 futex
 11.27    0.029074           9      3022           write
  0.28    0.000721          11        65           io_uring_enter
------ ----------- ----------- --------- --------- ----------------
100.00    0.258077          31      8291        19 total
"""


def test_calls_are_counted_with_and_without_errors_and_without_their_sum() -> None:
    assert read_strace(STRACE) == {"futex": 72, "write": 3022, "io_uring_enter": 65}
