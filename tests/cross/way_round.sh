#!/bin/sh
# One store goes from machine to machine: each of the programs (a word each: a path, or a wrapper that runs
# it under qemu) opens what the one before it left, after a kill -9 as after an orderly stop, finds every
# result and file, does the next task with the stand-in for Claude CLI over https, and at the end the first
# one examines it all (`doctor`).
#   sh tests/cross/way_round.sh PROGRAM...
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
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
    printf 'FAILED: %s\n' "$*" >&2
    tail -n 20 "$work"/*.log >&2
    exit 1
}
: >"$work/env"
export HOME="$work"

ask() { # ask PATH WORD...: curl's own words behind the path
    path=$1
    shift
    curl -sk --max-time 60 "$address/api/runtime/$path" "$@"
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }
start() { # start PROGRAM PORT
    : >"$work/server.log"
    TLS_SELF_SIGNED=1 RATE_LIMIT_PER_MINUTE=0 "$1" serve --env-file "$work/env" --data-dir "$work/data" --port "$2" \
        2>>"$work/server.log" &
    server=$!
    tries=0
    until address=$(sed -n 's/.*listening on \(https:[^ ]*\).*/\1/p' "$work/server.log" | tail -n 1) &&
        [ -n "$address" ] && ask health -o /dev/null; do
        kill -0 "$server" 2>/dev/null || fail "$1 does not start"
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "$1 does not answer"
        sleep 0.1
    done
    pin=$(openssl s_client -connect "${address#https://}" </dev/null 2>/dev/null |
        openssl x509 -noout -fingerprint -sha256 | sed 's/.*=//; s/://g')
}
until_status() { # until_status TASK WORD
    tries=0
    until [ "$(ask "llm-tasks/$1" | field status)" = "$2" ]; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "task $1 is not $2"
        sleep 0.1
    done
}

# return_file NAME: as a worker that returns a file beside its words
return_file() {
    json='Content-Type: application/json'
    ask workers -H "$json" -d '{"name":"files"}' -o /dev/null
    task=$(ask llm-tasks -H "$json" -d '{"context_id":"way","agent_slug":"round","prompt":"a file"}' |
        sed 's/^{"id":"\([^"]*\)".*/\1/')
    lease=$(ask "llm-tasks/$task/lease" -H "$json" -d '{"worker_id":"files"}' |
        sed 's/.*"lease":{"id":"\([^"]*\)".*/\1/')
    file=$(ask "llm-tasks/$task/artifacts?name=$1&lease_id=$lease" -H 'Content-Type: application/octet-stream' \
        --data-binary "@$work/bytes" | sed 's/^{"id":"\([^"]*\)".*/\1/')
    ask "llm-tasks/$task/complete" -H "$json" -o /dev/null \
        -d "{\"lease_id\":\"$lease\",\"status\":\"success\",\"output\":\"x\",\"metrics\":{\"duration_ms\":1}}"
    echo "$file" >>"$work/files"
}

round=0
: >"$work/tasks"
: >"$work/files"
head -c 3000000 /dev/urandom >"$work/bytes"
for program; do
    round=$((round + 1))
    start "$program" 0
    while read -r task said; do
        ask "llm-tasks/$task/result" | grep -qF "\"output\":\"$said\"" || fail "$program does not find the result of $task"
    done <"$work/tasks"
    while read -r file; do
        ask "artifacts/$file/content" | cmp -s - "$work/bytes" || fail "$program does not find file $file"
    done <"$work/files"
    return_file "of-$round"
    "$program" worker --env-file "$work/env" --server "$address" --pin "$pin" --name "machine-$round" \
        --claude "$project/tests/standin/claude" 2>>"$work/worker.log" &
    worker=$!
    said="said by machine $round"
    task=$(ask llm-tasks -H 'Content-Type: application/json' \
        -d "{\"context_id\":\"way\",\"agent_slug\":\"round\",\"prompt\":\"SLEEP 2 SAY $said\"}" | sed 's/^{"id":"\([^"]*\)".*/\1/')
    until_status "$task" running
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    start "$program" "${address##*:}"
    until_status "$task" completed
    kill "$worker"
    wait "$worker" 2>/dev/null || true
    worker=""
    echo "$task $said" >>"$work/tasks"
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=""
    echo "  $(basename "$(dirname "$program")"): what was there is there, killed, back, one more task and file over https"
done
"$1" doctor --data-dir "$work/data" || fail "doctor finds something"
