#!/bin/sh
# Installs what the browser tests need: Chromium from the system, the rest below .tools.
set -eu
cd "$(dirname "$0")/../.."
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || {
    if command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core
    elif command -v apk >/dev/null 2>&1; then
        apk add --no-cache chromium font-dejavu
    else
        echo "please install: chromium" >&2
        exit 69
    fi
}
if [ ! -d .tools/browser/node_modules/playwright-core ]; then
    mkdir -p .tools/browser
    cp tests/browser/package.json .tools/browser/
    npm install --silent --no-fund --no-audit --prefix .tools/browser
fi
