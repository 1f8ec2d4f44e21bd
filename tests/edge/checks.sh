# shellcheck shell=sh
# What the tests in the trees share: sentences, waiting for events, OpenRC as after a boot.

log=/var/log/bloom-runtime.log
sentence='before the first sentence'

it() {
    sentence=$*
    echo "   $*"
}
failed() {
    trap - EXIT
    echo "FAILED: $sentence" >&2
    echo "  $*" >&2
    [ ! -s "$log" ] || { echo "--- $log" >&2; tail -n 30 "$log" >&2; }
    [ ! -s /tmp/said ] || { echo "--- last said" >&2; cat /tmp/said >&2; }
    exit 1
}
trap '[ $? = 0 ] || failed "a command ended the test"' EXIT

# eventually SECONDS COMMAND...: waits for an event; the time is only how long until we give up.
eventually() {
    tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$tries" -gt 0 ] || failed "never came: $*"
        tries=$((tries - 1))
        sleep 0.1
    done
}
# says CODE TEXT COMMAND...: it ends with CODE and says TEXT.
says() {
    code=$1 text=$2
    shift 2
    got=0
    "$@" >/tmp/said 2>&1 || got=$?
    [ "$got" = "$code" ] || failed "exit $got instead of $code: $*"
    grep -qF -- "$text" /tmp/said || failed "does not say \"$text\": $*"
}
is() { [ "$1" = "$2" ] || failed "\"$1\" instead of \"$2\""; }
log_has() { grep -qF -- "$1" "$log"; }

boot_openrc() {
    mkdir -p /run/lock
    rm -f /etc/runlevels/sysinit/procps # needs what no tree has
    openrc --no-stop sysinit >/dev/null 2>&1 || true
    echo default >/run/openrc/softlevel
}
# The process that the supervisor of NAME watches, which it writes down a moment after the start.
child() {
    eventually 10 test -s "/run/openrc/options/$1/child_pid"
    cat "/run/openrc/options/$1/child_pid"
}
is_well() { bloom-runtime health; }
has_new_child() { [ "$(child bloom-runtime)" != "$1" ] && is_well >/dev/null; }
of_process() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
