#!/bin/sh
# system-packages.sh: Debian packages that some tests use. Installed when this runs as root on Debian; otherwise those
# tests say what they miss and are skipped (with CI=true they fail, because they could have been installed).
set -eu
missing=
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# Shells, in which the completion of command lines is tried.
command -v zsh >/dev/null 2>&1 || missing="$missing zsh"
command -v fish >/dev/null 2>&1 || missing="$missing fish"
# For the compiled build: a C compiler, and the headers of Debian's Python where that is the one in use.
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
python=${PYTHON:-.venv/bin/python}
if [ -x "$python" ] && ! "$python" -c 'import pathlib as p, sysconfig as s; exit(not p.Path(s.get_path("include"), "Python.h").exists())'; then
    missing="$missing python3-dev"
fi
# Unpacked and not installed: installing it would start a server on this machine. Works as any user.
prometheus=build/prometheus
download() {
    (cd "$prometheus" && apt-get download -qq -o APT::Sandbox::User=root prometheus) >/dev/null 2>&1
}
if ! command -v promtool >/dev/null 2>&1 && [ ! -x "$prometheus/usr/bin/promtool" ] && command -v apt-get >/dev/null 2>&1; then
    echo "unpacking: prometheus ($prometheus)"
    rm -rf "$prometheus"
    mkdir -p "$prometheus"
    if download || { apt-get update -qq && download; }; then
        dpkg-deb -x "$prometheus"/prometheus_*.deb "$prometheus"
        rm -f "$prometheus"/prometheus_*.deb
    else
        echo "apt-get could not download it, tests that need it will be skipped" >&2
    fi
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "not installed, tests that need them will be skipped:$missing" >&2
fi
