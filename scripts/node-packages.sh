#!/bin/sh
# node-packages.sh: the clients on Node that some tests use, from their package.json. Installed when it has changed;
# where there is no npm, or no way to the packages, those tests say what they miss and are skipped (with CI=true they fail).
set -eu
cd "$(dirname "$0")/../tests/clients/node"
done_for=node_modules/.installed-for.json
if [ -f "$done_for" ] && cmp -s package.json "$done_for"; then
    exit 0
fi
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    echo "not installed, tests that need them will be skipped: node and npm (18 or newer)" >&2
    exit 0
fi
echo "installing: the clients on Node (tests/clients/node)"
if said=$(npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error 2>&1); then
    cp package.json "$done_for"
else
    printf '%s\n' "$said" >&2
    echo "npm could not install them, tests that need them will be skipped" >&2
fi
