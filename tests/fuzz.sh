#!/bin/sh
# The fuzz targets at length: `sh tests/fuzz.sh [CASES]`, 100,000 cases of each property unless said
# otherwise, then a tenth as many random requests against the real server. What fails is printed, kept
# in tests/fuzz/found, and belongs into tests/fuzz/corpus as a seed.
set -eu
cd "$(dirname "$0")/.."
cases="${1:-100000}"
PROPTEST_CASES="$cases" cargo test --locked --test fuzz
PROPTEST_CASES="$((cases / 10))" cargo test --locked --test integration hostile::random
