"""Runs a program under a seccomp profile: ``python under_seccomp.py PROFILE.json PROGRAM ARGUMENTS…``. Linux, x86-64.

What a container runtime does with a profile, as far as ours uses it: names, one masked comparison, errors.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
import sys
from pathlib import Path

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
"""The numbers of this architecture, by name."""

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_RET|K (linux/bpf_common.h)."""

_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Places in ``struct seccomp_data``."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def numbers() -> dict[str, int]:
    """The system calls that the kernel's header knows."""
    return {name: int(number) for name, number in re.findall(r"__NR_(\w+) (\d+)", HEADER.read_text(encoding="ascii"))}


def compile_profile(profile: dict[str, object]) -> bytes:
    """The profile as the kernel's filter program."""
    known = numbers()
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _AUDIT_ARCH_X86_64), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for entry in profile["syscalls"]:  # type: ignore[attr-defined]
        result = _ALLOW if entry["action"] == "SCMP_ACT_ALLOW" else _ERRNO | entry["errnoRet"]
        for number in (known[name] for name in entry["names"] if name in known):
            if "args" not in entry:
                program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, result)]
                continue
            (argument,) = entry["args"]
            assert (argument["index"], argument["op"], argument["valueTwo"]) == (0, "SCMP_CMP_MASKED_EQ", 0)
            program += [
                (_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT),
                (_BITS, 1, 0, argument["value"]), (_RETURN, 0, 0, result), (_LOAD, 0, 0, _NUMBER),
            ]  # fmt: skip
    program.append((_RETURN, 0, 0, _ERRNO | int(str(profile["defaultErrnoRet"]))))
    return b"".join(struct.pack("HBBI", *each) for each in program)


def main() -> None:
    profile, *command = sys.argv[1:]
    code = compile_profile(json.loads(Path(profile).read_text(encoding="utf-8")))
    buffer = ctypes.create_string_buffer(code, len(code))
    filtered = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.c_char_p(filtered))):
        if libc.prctl(*arguments, 0, 0):
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
