#!/bin/sh
# Pictures of every view of the page, in both languages and themes, wide (1280) and narrow (360):
#   sh tests/browser/screenshots.sh DIR [WORD]     WORD: only pictures that have it in their name
set -eu
here=$(dirname "$0")
sh "$here/install.sh"
cargo build --locked --quiet --manifest-path "$here/../../Cargo.toml"
exec node "$here/screenshots.mjs" "$@"
