#!/bin/sh
# The 32-bit program under a clock of 2040, which seconds of 32 bits cannot hold: it starts, its log, its
# answers and its tasks are of that year, its own certificate is good, and a worker does a task. The clock of
# an emulator that is not static is what can be set (libfaketime); the monotonic one goes on as it is.
#   sh tests/cross/after_2038.sh TARGET
set -eu
cd "$(dirname "$0")/../.."
. cross/tools.sh
need qemu-arm qemu-user
need faketime faketime
need curl curl
built=$target_dir/$1/packed/bloom-runtime
library=$(find / -xdev -name libfaketimeMT.so.1 2>/dev/null | head -n 1)
work=$(mktemp -d)
server=""
worker=""
end() {
    [ -z "$worker" ] || kill "$worker" 2>/dev/null || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT INT TERM
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 "$work"/*.log >&2
    exit 1
}
in_2040() {
    LD_PRELOAD=$library FAKETIME='@2040-03-01 12:00:00' TZ=UTC FAKETIME_DONT_FAKE_MONOTONIC=1 \
        exec qemu-arm "$built" "$@"
}
until_there() { # until_there WHAT COMMAND...
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "$what"
        sleep 0.1
    done
}

say "$1 in 2040"
: >"$work/env"
export HOME="$work" TLS_SELF_SIGNED=1
(in_2040 serve --env-file "$work/env" --data-dir "$work/data" --port 0) 2>"$work/server.log" &
server=$!
until_there "it does not start" grep -q 'listening on https' "$work/server.log"
address=$(sed -n 's/.*listening on \(https:[^ ]*\).*/\1/p' "$work/server.log" | tail -n 1)
ask() { curl -sk --max-time 60 "$address/api/runtime/$1"; }
curl -sk -D "$work/head" -o /dev/null "$address/api/runtime/health"
grep -qi '^date: .* 2040 ' "$work/head" || fail "the Date of its answers: $(cat "$work/head")"
task=$(curl -sk "$address/api/runtime/llm-tasks" -H 'Content-Type: application/json' \
    -d '{"context_id":"late","agent_slug":"late","prompt":"SAY it is late"}')
created=$(echo "$task" | sed 's/.*"created_at":\([0-9]*\).*/\1/')
case $created in 22142*) ;; *) fail "created_at of $task" ;; esac
task=$(echo "$task" | sed 's/^{"id":"\([^"]*\)".*/\1/')
pin=$(openssl s_client -connect "${address#https://}" </dev/null 2>/dev/null |
    openssl x509 -noout -fingerprint -sha256 | sed 's/.*=//; s/://g')
(in_2040 worker --env-file "$work/env" --server "$address" --pin "$pin" --name late \
    --claude "$PWD/tests/standin/claude") 2>"$work/worker.log" &
worker=$!
is_done() { ask "llm-tasks/$task" | grep -q '"status":"completed"'; }
until_there "its task is not done" is_done
grep -q '^2040-03-01T12:' "$work/server.log" || fail "the time of its log lines"
! grep -q panicked "$work"/*.log || fail "a panic"
echo "  starts, logs, answers, runs a worker and a task over https"
