#!/bin/sh
# Builds the real S3 server that the tests speak with, s3s-fs, into .tools/s3; once, it takes some minutes.
set -eu
cd "$(dirname "$0")/../.."
version=0.14.1
[ "$(.tools/s3/bin/s3s-fs --version 2>/dev/null || true)" = "s3s-fs $version" ] && exit 0
command -v cargo >/dev/null 2>&1 || {
    echo "cargo is missing: install Rust (see https://rustup.rs), then run this again" >&2
    exit 69
}
printf '\n== building s3s-fs %s into .tools/s3\n' "$version"
cargo install s3s-fs --version "$version" --features binary --locked --quiet --root .tools/s3
