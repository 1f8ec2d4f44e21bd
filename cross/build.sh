#!/bin/sh
# Builds the static program for each target, or for those that are named, and packs each with what belongs
# to it into dist/, with SHA256SUMS beside them. Installs what it needs (tools.sh). Two builds of one commit
# with one version of Rust are equal to the last byte, in whatever folder. Says how large each is and of what,
# and fails where one is not static or too large for the Pi.
#   sh cross/build.sh [TARGET...]
set -eu
cd "$(dirname "$0")/.."
. cross/tools.sh
# shellcheck disable=SC2086 # several words
[ $# -gt 0 ] || set -- $targets

get_compilers
mkdir -p dist
for target; do
    say "$target"
    get_std "$target"
    case $target in
    x86_64-*) profile=release bytes_max=10000000 ;;
    armv7-*) profile=small bytes_max=6200000 ;;
    *) profile=small bytes_max=6000000 ;; # DESIGN.md §6
    esac
    compile "$target" zigbuild --profile "$profile" --bin bloom-runtime
    built=$target_dir/$target/$profile/bloom-runtime
    packed=$target_dir/$target/packed/bloom-runtime
    mkdir -p "$(dirname "$packed")"
    sysroot=$(rustc --print sysroot)
    LD_LIBRARY_PATH=$sysroot/lib "$sysroot/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-objcopy" \
        --strip-all "$built" "$packed"
    sh openrc/pack.sh "$packed" "$target" dist
    python3 cross/sizes.py "$built" "$packed" "$bytes_max"
done
say "dist/SHA256SUMS"
cat dist/SHA256SUMS
