#!/bin/sh
# Every check of the project: format, lints, all tests (one of them with the real Claude CLI) and the
# load and scale programs in their short forms. Installs what it needs below .tools; run it from anywhere.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
need() { # need COMMAND PACKAGE...: installs the packages where a package manager and root allow it
    command -v "$1" >/dev/null 2>&1 && return 0
    shift
    say "installing $*"
    if command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
    elif command -v apk >/dev/null 2>&1; then
        apk add --no-cache "$@"
    else
        echo "please install: $*" >&2
        exit 69
    fi
}

command -v cargo >/dev/null 2>&1 || {
    echo "cargo is missing: install Rust (see https://rustup.rs), then run this again" >&2
    exit 69
}
need cc gcc
need openssl openssl
need curl curl
need npm nodejs npm

claude="$PWD/.tools/claude/node_modules/.bin/claude"
if [ ! -x "$claude" ]; then
    say "installing the real Claude CLI into .tools"
    npm install --silent --no-fund --no-audit --prefix .tools/claude '@anthropic-ai/claude-code@2.1'
fi

sh tests/s3/install.sh

say "format"
cargo fmt --all --check
say "lints"
cargo clippy --locked --all-targets -- -D warnings
say "the planted bugs still apply (sh tests/planted.sh plants them)"
need patch patch
need bash bash
for planted in tests/planted/*.patch; do
    patch --dry-run -s -f -p1 <"$planted" || { echo "$planted no longer applies" >&2; exit 1; }
done
say "load, short form"
cargo bench --locked --bench load -- --short
say "scale, short form"
cargo bench --locked --bench scale -- --short
say "fleet, short form"
cargo bench --locked --bench fleet -- --short
say "the real Claude CLI under our process handling"
CLAUDE_REAL="$claude" cargo test --locked --lib -- --ignored real_claude
if [ "$(id -u)" = 0 ]; then
    need mkfs.ext4 e2fsprogs
    say "filesystems that fill up and fail"
    cargo test --locked --test integration -- --ignored disk::
    say "the service and the installer under OpenRC, systemd and busybox, and nginx before them"
    sh tests/edge/run.sh
else
    say "not tried: filesystems that fill up and fail, since mounting needs root"
    say "not tried: the service, the installer and nginx (tests/edge), since namespaces need root"
fi
say "the released programs: built, static, small; the ARM ones under qemu, one in 2040"
code=0
sh tests/cross/run.sh --short || code=$?
case $code in
0) ;;
69) say "not tried: the released programs, since what compiles them cannot be had here" ;;
*) exit "$code" ;;
esac
say "the page in a browser"
sh tests/browser/run.sh
say "tests"
BLOOM_REAL_CLAUDE="$claude" cargo test --locked
