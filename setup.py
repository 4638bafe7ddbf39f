"""What pyproject.toml cannot say: the data path, compiled.

With ``INWORLD_PROXY_COMPILE=1`` the modules that every request goes through are translated to C by mypyc (mypy's own
compiler: the same source, the same tests, about two thirds of the CPU; bench/README.md). It needs a C compiler and
Python's headers and takes a minute or two. Without it nothing is compiled, and nothing but time is different.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

# Not among them: values that dataclasses make (core/model.py), and what is done less than once a request.
COMPILED = [
    "proxy/core/browser.py",
    "proxy/core/cors.py",
    "proxy/core/errors.py",
    "proxy/core/headers.py",
    "proxy/core/policy.py",
    "proxy/core/recognition.py",
    "proxy/core/target.py",
    "proxy/core/trace.py",
    "proxy/credentials/reflection.py",
    "proxy/limits/gate.py",
    "proxy/observe/log.py",
    "proxy/observe/metrics.py",
    "proxy/observe/record.py",
    "proxy/observe/tracing.py",
    "proxy/observe/trail.py",
    "proxy/wire/answer.py",
    "proxy/wire/asked.py",
    "proxy/wire/caller.py",
    "proxy/wire/closing.py",
    "proxy/wire/deadlines.py",
    "proxy/wire/exchange.py",
    "proxy/wire/frames.py",
    "proxy/wire/framing.py",
    "proxy/wire/head.py",
    "proxy/wire/memo.py",
    "proxy/wire/pool.py",
    "proxy/wire/reading.py",
    "proxy/wire/refusal.py",
    "proxy/wire/secure.py",
    "proxy/wire/secure_caller.py",
    "proxy/wire/secure_upstream.py",
    "proxy/wire/server.py",
    "proxy/wire/tunnel.py",
    "proxy/wire/upstream.py",
]
"""Together in one group, so that they call each other as C functions."""

TRANSLATOR = "mypy>=2.4,<3"  # 2.4.1 is what all tests were run with, compiled; a new major version wants them run again

_ASKED = os.environ.get("INWORLD_PROXY_COMPILE", "") not in ("", "0")
_BUILDS = any(command in sys.argv for command in ("build", "build_ext", "bdist_wheel"))

if _ASKED and any(command in sys.argv for command in ("editable_wheel", "develop")):
    sys.exit("INWORLD_PROXY_COMPILE: what can be edited is not compiled; install without -e, or use `make compiled`")


def _extensions() -> list[object]:
    if not (_ASKED and _BUILDS):
        return []  # what pip asks first: what is needed to build
    from mypyc.build import mypycify  # noqa: PLC0415 - only there while compiling

    absent = [path for path in COMPILED if not Path(path).is_file()]
    if absent:
        sys.exit(f"setup.py: {', '.join(absent)} is to be compiled and does not exist")
    level = os.environ.get("INWORLD_PROXY_COMPILE_LEVEL", "3")
    # An empty configuration: what has to be installed for `make lint` to check types need not be here.
    extensions: list[object] = mypycify(
        ["--config-file=", "--ignore-missing-imports", *COMPILED], opt_level=level, debug_level="0", multi_file=True
    )
    return extensions


setup(ext_modules=_extensions(), setup_requires=[TRANSLATOR] if _ASKED and not _BUILDS else [])
