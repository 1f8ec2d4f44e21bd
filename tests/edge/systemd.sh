#!/bin/sh
# The hardened systemd units under a real systemd: install.sh, crash, reload, refusal, the worker, removal.
# shellcheck disable=SC2015 # `failed` ends the test
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
log=/tmp/journal
systemctl stop nginx # which has port 80
env_file=/etc/bloom-runtime.env
property() { systemctl show -P "$2" "$1"; }
journal_has() { journalctl -u bloom-runtime -o cat >$log; grep -qF -- "$1" $log; }
has_other_pid() { [ "$(property bloom-runtime MainPID)" != "$1" ] && is_well >/dev/null; }

it 'are right as systemd sees it, and well closed'
mkdir -p /usr/local/lib/checked
cp /project/openrc/*.service /usr/local/lib/checked/
cp /bin/true /usr/bin/bloom-runtime
systemd-analyze verify /usr/local/lib/checked/bloom-runtime.service /usr/local/lib/checked/bloom-worker.service >/tmp/said 2>&1 ||
    failed 'a unit is wrong'
[ ! -s /tmp/said ] || failed 'systemd warns of a unit'
rm /usr/bin/bloom-runtime
says 0 OK systemd-analyze security --offline=yes --threshold=20 /usr/local/lib/checked/bloom-runtime.service
says 0 OK systemd-analyze security --offline=yes --threshold=45 /usr/local/lib/checked/bloom-worker.service

it 'are installed and started by install.sh, and again without a restart'
cp /project/tests/standin/claude /usr/local/bin/claude
says 0 'bloom-runtime answers at http://' sh /project/openrc/install.sh --worker --from /made/dist/*.tar.gz
is "$(property bloom-runtime ActiveState)" active
is "$(systemctl is-enabled bloom-runtime)" enabled
pid=$(property bloom-runtime MainPID)
is "$(stat -c %U "/proc/$pid")" bloom
is "$(of_process "$pid" NoNewPrivs)" 1
is "$(of_process "$pid" Seccomp)" 2
says 0 'is installed already' sh /project/openrc/install.sh --from /made/dist/*.tar.gz
is "$(property bloom-runtime MainPID)" "$pid"

it 'let the server and Claude work'
says 0 hello bloom-runtime submit 'SAY hello' --wait
is "$(stat -c %U "/proc/$(property bloom-worker MainPID)")" bloom-worker

it 'bring the server back after a crash'
kill -9 "$pid"
eventually 20 has_other_pid "$pid"

it 'reload it'
pid=$(property bloom-runtime MainPID)
echo 'LOG_LEVEL=warn' >>$env_file
systemctl reload bloom-runtime
eventually 10 journal_has 'reload: LOG_LEVEL: in effect now'
is "$(property bloom-runtime MainPID)" "$pid"

it 'leave a wrong setting alone, with the line that says why'
echo 'PORT=five' >>$env_file
systemctl restart bloom-runtime || true
is_over() { [ "$(property bloom-runtime ActiveState)" = failed ]; }
eventually 10 is_over
is "$(property bloom-runtime ExecMainStatus)" 64
journal_has '"five" is not a number' || failed 'the journal does not say why'

it 'listen on port 80 without root'
sed -i '$d' $env_file
echo 'PORT=80' >>$env_file
systemctl restart bloom-runtime
eventually 10 curl -sf http://127.0.0.1/api/runtime/health

it 'stop in order, and are removed'
says 0 'are still there' sh /project/openrc/install.sh --uninstall
journal_has 'stopped, everything is on disk' || failed 'no orderly stop'
[ ! -e /etc/systemd/system/bloom-runtime.service ] && [ -s $env_file ] || failed 'not as said'
