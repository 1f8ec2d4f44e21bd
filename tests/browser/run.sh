#!/bin/sh
# The page in a real browser. Arguments go to `node --test`, such as --test-name-pattern=narrow.
set -eu
here=$(dirname "$0")
sh "$here/install.sh"
cargo build --locked --quiet --manifest-path "$here/../../Cargo.toml"
exec node --test "$@" "$here/page.test.mjs"
