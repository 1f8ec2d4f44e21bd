#!/bin/sh
# The ARM programs, before they meet an ARM machine: each under qemu. The tests of the rules, the engine, the
# store and the simulation are compiled for the target; the tests of the whole program (over sockets, with
# workers, kill -9, TLS, files and S3) run here against the target's program; one store goes round the three
# machines; the 32-bit program lives in 2040. Builds them first (cross/build.sh).
#   sh tests/cross/run.sh [--short] [TARGET...]     --short: the way round and 2040 alone
#   sh tests/cross/run.sh --long                    besides, 4.6 GB in one file, and more seeds
# Exits with 69 where a compiler or a standard library cannot be had.
set -eu
cd "$(dirname "$0")/../.."
. cross/tools.sh
form=usual
case ${1:-} in --short | --long) form=${1#--}; shift ;; esac
[ $# -gt 0 ] || set -- aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf
native=x86_64-unknown-linux-musl

need qemu-arm-static qemu-user-static
need curl curl
need openssl openssl
get_compilers

emulator() { # emulator TARGET: what runs its programs
    case $1 in
    aarch64-*) echo qemu-aarch64-static ;;
    armv7-*) echo qemu-arm-static ;;
    *) echo env ;;
    esac
}

# program TARGET: sets `program` to what runs it as if it were built for this machine.
program() {
    built=$target_dir/$1/packed/bloom-runtime
    sh cross/build.sh "$1"
    program=$tools/run/$1/bloom-runtime
    mkdir -p "$(dirname "$program")"
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$(emulator "$1")" "$built" >"$program"
    chmod +x "$program"
}

began=$(date +%s)
round=""
program $native
first=$program
for target; do
    program "$target"
    round="$round $program"
done
say "one store, from machine to machine"
# shellcheck disable=SC2086 # programs without blanks, unless the project's folder has one
sh tests/cross/way_round.sh "$first" $round "$first"
for target; do
    case $target in armv7-*) sh tests/cross/after_2038.sh "$target" ;; esac
done
[ "$form" != short ] || { say "took $(($(date +%s) - began)) s"; exit 0; }

for target; do
    get_std "$target"
    upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_RUNNER=$(emulator "$target")"
    std_more=,test
    say "$target: the traps of 32 bits"
    compile "$target" test --profile proof --test cross
    say "$target: the rules, the engine and the store"
    compile "$target" test --profile proof --lib -- domain:: engine:: store:: clock:: wire:: http::
    say "$target: fleets, disk faults and power cuts, simulated"
    compile "$target" test --profile proof --test proofs
    std_more=
done
[ "$form" != long ] || for target; do
    say "$target: more than 4 GiB in one file, and more seeds"
    get_std "$target"
    std_more=,test
    compile "$target" test --profile proof --test cross -- --ignored
    BLOOM_SEEDS=1000 compile "$target" test --profile proof --test proofs -- simulation
    std_more=
done

# One build of the tests for this machine serves all: the program that they start is a link.
# Left out: what needs an account, and what measures memory, which is the emulator's.
sh tests/s3/install.sh
mkdir -p "$tools/tried"
for target; do
    say "$target: the whole program"
    ln -sf "$tools/run/$target/bloom-runtime" "$tools/tried/bloom-runtime"
    BLOOM_PROGRAM=$tools/tried/bloom-runtime cargo test --locked --test integration -- \
        --skip real_claude --skip fifty_megabytes \
        crash:: fencing:: main_job:: worker:: tls:: s3:: artifacts:: doctor:: log:: reload:: \
        retention:: smuggling::
done
say "took $(($(date +%s) - began)) s"
