#!/bin/sh
# The long forms of the proofs (docs/RELIABILITY.md): ten thousand fleets in any weather, a simulated
# year, every disk fault, thousands of power cuts. CI runs the short forms with the other tests. Says what
# it does and how long each took; words that are given choose among the proofs, like `cargo test` does.
# `s3` has S3 going up and down and the server killed while 10,000 artifacts go there.
# `chaos` is the one with real programs: 500 tasks on 10 workers while workers and the server are killed.
#   sh tests/proofs.sh [WORD...]
set -eu
cd "$(dirname "$0")/.."
export BLOOM_FAULTS="${BLOOM_FAULTS:-all}"
export BLOOM_POWER_IMAGES="${BLOOM_POWER_IMAGES:-100000}"
export BLOOM_SEEDS="${BLOOM_SEEDS:-10000}"
export BLOOM_DAYS="${BLOOM_DAYS:-365}"

prove() { # prove WHAT WORD...
    printf '\n== %s\n' "$1"
    shift
    began=$(date +%s)
    cargo test --locked --profile proof --test proofs -- --nocapture "$@"
    printf '== took %s s\n' "$(($(date +%s) - began))"
}

chaos() {
    export BLOOM_CHAOS_TASKS="${BLOOM_CHAOS_TASKS:-500}"
    export BLOOM_CHAOS_WORKERS="${BLOOM_CHAOS_WORKERS:-10}"
    printf '\n== %s tasks on %s real workers\n' "$BLOOM_CHAOS_TASKS" "$BLOOM_CHAOS_WORKERS"
    cargo test --locked --profile proof --test integration chaos -- --nocapture
}

objects() {
    export BLOOM_S3_ARTIFACTS="${BLOOM_S3_ARTIFACTS:-10000}"
    printf '\n== %s artifacts on their way to an S3 that comes and goes\n' "$BLOOM_S3_ARTIFACTS"
    sh tests/s3/install.sh
    cargo test --locked --profile proof --test integration s3::weather -- --nocapture
}

case "$*" in chaos)
    chaos
    exit
    ;;
s3)
    objects
    exit
    ;;
esac
printf '== building\n'
cargo test --locked --profile proof --test proofs --no-run
if [ $# -gt 0 ]; then
    prove "the proofs with $*" "$@"
    exit
fi
fleets=simulation::every_promise_holds
year=simulation::twenty_workers_live
prove "$BLOOM_DAYS simulated days of twenty workers" "$year"
prove "$BLOOM_SEEDS seeds of a fleet in any weather" "$fleets"
prove "everything else" --skip "$year" --skip "$fleets"
chaos
objects
