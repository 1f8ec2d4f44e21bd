#!/bin/sh
# The long forms of the proofs (docs/RELIABILITY.md): hours of a fleet, thousands of power cuts. CI runs
# the short forms with the other tests.
set -eu
export BLOOM_POWER_IMAGES="${BLOOM_POWER_IMAGES:-100000}"
cd "$(dirname "$0")/.."
exec cargo test --locked --profile proof --test proofs -- --nocapture "$@"
