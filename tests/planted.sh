#!/bin/sh
# Plants a known bug in a copy of the tree, one after the other, and shows that a named proof goes red.
# Each bug is a patch in tests/planted: what it breaks, which proof must catch it, the change itself. The
# product never contains a bug behind a switch; a patch that no longer applies fails here.
#   sh tests/planted.sh [NAME...]
set -u
cd "$(dirname "$0")/.."
root=$PWD
copy=$root/target/planted/tree
export CARGO_TARGET_DIR="$root/target/planted/target"
log=$root/target/planted/log
mkdir -p "$copy" "$CARGO_TARGET_DIR"

field() { sed -n "s/^# $1: //p" "$2"; }

# The tree as it is. Times are kept, so that what did not change is not compiled again; an earlier call
# may have left any of the patched files behind.
patched=$(sed -n 's|^+++ b/||p' tests/planted/*.patch | sort -u)
refresh() {
    for part in Cargo.toml Cargo.lock build.rs src benches tests web docs; do
        rm -rf "${copy:?}/$part"
        [ ! -e "$root/$part" ] || cp -Rp "$root/$part" "$copy/$part"
    done
    newer
}
# What differs from the last build must look newer than it.
newer() { for file in $patched; do touch "$copy/$file"; done; }

# A proof is the words of a `cargo test` after --locked, such as `--test proofs power_loss`.
run_proof() { # run_proof WORD...: 0 green, 1 red, 2 it did not even run
    (cd "$copy" && cargo test --locked --no-run "$1" ${2:+"$2"}) >"$log" 2>&1 || return 2
    (cd "$copy" && cargo test --locked "$@") >"$log" 2>&1
    result=$?
    grep -q '^running [1-9]' "$log" || return 2
    [ $result = 0 ] && return 0
    return 1
}

[ $# -gt 0 ] || set -- $(cd tests/planted && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
caught=0 missed=0
for name in "$@"; do
    patch=$root/tests/planted/$name.patch
    proof=$(field proof "$patch")
    refresh
    # shellcheck disable=SC2086 # the words of a command line
    run_proof $proof
    if [ $? != 0 ]; then
        echo "$name: the proof '$proof' is not green without the bug:" && tail -20 "$log"
        missed=$((missed + 1))
        continue
    fi
    if ! patch -s -d "$copy" -p1 <"$patch"; then
        echo "$name: the patch no longer applies"
        missed=$((missed + 1))
        continue
    fi
    patched=$(sed -n 's|^+++ b/||p' "$patch")
    newer
    # shellcheck disable=SC2086
    run_proof $proof
    case $? in
        1)
            echo "caught: $(field breaks "$patch")  [$name]"
            echo "        by $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -3 | paste -sd' ' -)"
            caught=$((caught + 1))
            ;;
        0)
            echo "MISSED: $(field breaks "$patch")  [$name], although '$proof' ran"
            missed=$((missed + 1))
            ;;
        *)
            echo "$name: the broken tree does not build or run:" && tail -20 "$log"
            missed=$((missed + 1))
            ;;
    esac
done
echo "planted bugs: $caught passed, $missed failed"
[ $missed = 0 ]
