#!/bin/sh
# The main job, before your eyes: a server and a worker as two processes, one task through Claude CLI,
# the server killed with -9 while the worker is at it, and all of it there afterwards.
# Uses your own `claude` when it is installed and logged in, else the stand-in of the tests; says which.
set -eu
cd "$(dirname "$0")/.."

command -v cargo >/dev/null 2>&1 || {
    echo "cargo is missing: install Rust (see https://rustup.rs), then run this again" >&2
    exit 69
}
command -v curl >/dev/null 2>&1 || { echo "please install curl" >&2; exit 69; }

echo "== building"
cargo build --locked --quiet
program="$PWD/target/debug/bloom-runtime"
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

prompt="In one sentence: why does a lease need a fencing number?"
if command -v claude >/dev/null 2>&1 && claude auth status >/dev/null 2>&1; then
    claude=$(command -v claude)
    echo "== using your Claude CLI: $claude"
else
    claude="$PWD/tests/standin/claude"
    prompt="SLEEP 3 $prompt"
    echo "== no Claude CLI that is logged in; using the stand-in $claude"
fi

: >"$work/env"
: >"$work/server.log"
start_server() {
    RATE_LIMIT_PER_MINUTE=0 "$program" serve --env-file "$work/env" --data-dir "$work/data" \
        --port "$1" 2>>"$work/server.log" &
    server=$!
    until address=$(sed -n 's/.*listening on \(http.*\)/\1/p' "$work/server.log" | tail -n 1) &&
        [ -n "$address" ] && curl -sf "$address/api/runtime/health" >/dev/null; do
        kill -0 "$server" || { cat "$work/server.log"; exit 1; }
        sleep 0.1
    done
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }
status() { curl -s "$address/api/runtime/llm-tasks/$task" | field status; }

start_server 0
echo "== server at $address, data in $work/data"
"$program" worker --env-file "$work/env" --server "$address" --name demo --claude "$claude" \
    2>"$work/worker.log" &
worker=$!

task=$(curl -s "$address/api/runtime/llm-tasks" -H 'Content-Type: application/json' \
    -d "{\"context_id\":\"demo\",\"agent_slug\":\"writer\",\"prompt\":\"$prompt\"}" | sed 's/^{"id":"\([^"]*\)".*/\1/')
echo "== task $task: $prompt"
until [ "$(status)" = running ]; do sleep 0.1; done
echo "== the worker runs it; kill -9 of the server, now"
kill -9 "$server"
wait "$server" 2>/dev/null || true
start_server "${address##*:}"
echo "== server is back at $address: the task is '$(status)'"
until [ "$(status)" = completed ] || [ "$(status)" = failed ]; do sleep 0.1; done
echo "== result"
curl -s "$address/api/runtime/llm-tasks/$task/result"
printf '\n== artifact\n'
curl -s "$address/api/runtime/artifacts?task_id=$task"
printf '\n== audit trail, newest first\n'
curl -s "$address/api/runtime/audit" | sed 's/},{/},\n {/g'
echo
