#!/bin/sh
# make-venv.sh PYTHON VENV: makes the virtual environment, or says in a sentence what is missing.
set -eu
python=$1 venv=$2

if ! command -v "$python" >/dev/null 2>&1; then
    echo "inworld-proxy needs Python 3.11 or newer, and there is no '$python' here. Install it (Debian: apt-get install python3 python3-venv; macOS: brew install python) or name yours: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "inworld-proxy needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Name a newer one: make PYTHON=python3.12" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "This Python has no venv module. Install it and run make again (Debian, Ubuntu: apt-get install python$version-venv)." >&2
    exit 1
fi
exec "$python" -m venv "$venv"
