#!/bin/sh
# The server as an OpenRC service: start, stop, crash, health, reload, refusals.
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
env_file=/etc/bloom-runtime.env
conf=/etc/conf.d/bloom-runtime
boot_openrc
sh /project/openrc/install.sh --from /made/dist/*.tar.gz >/tmp/installed
# Quick answers for a test: what crashes comes back after a second, and is looked at every second.
printf 'respawn_delay=1\nhealthcheck_delay=1\nhealthcheck_timer=1\n' >>"$conf"
rc-service bloom-runtime restart >/dev/null

it 'runs as its own user, without root, with what it needs and no more'
says 0 started rc-service bloom-runtime status
pid=$(child bloom-runtime)
is "$(stat -c %U "/proc/$pid")" bloom
is "$(of_process "$pid" NoNewPrivs)" 1
is "$(of_process "$pid" CapAmb)" 0000000000000000
# Where root itself may not ask for that, it stays as it is.
is "$(cat "/proc/$pid/oom_score_adj")" "$(sh -c 'echo -250 >/proc/$$/oom_score_adj; cat /proc/$$/oom_score_adj' 2>/dev/null)"
is "$(awk '/^Max open files/ { print $4 }' "/proc/$pid/limits")" 8192
is "$(stat -c '%a %U' /var/lib/bloom-runtime)" '700 bloom'
is "$(stat -c '%a %U' $env_file)" '600 bloom'
is "$(stat -c '%a' /var/lib/bloom-runtime/hot.redb)" 600

it 'stops in order, with everything on disk'
rc-service bloom-runtime stop >/dev/null
log_has 'stopped, everything is on disk' || failed 'no orderly stop'
says 3 stopped rc-service bloom-runtime status
[ ! -d "/proc/$pid" ] || failed 'it still runs'

it 'starts, and says so once it answers'
says 0 'Starting bloom-runtime' rc-service bloom-runtime start
is_well >/dev/null || failed 'start ended before it answered'

it 'restarts'
pid=$(child bloom-runtime)
rc-service bloom-runtime restart >/dev/null
has_new_child "$pid" || failed 'the same process'

it 'comes back after a crash'
pid=$(child bloom-runtime)
kill -9 "$pid"
eventually 20 has_new_child "$pid"

it 'is started again when it does not answer'
pid=$(child bloom-runtime)
kill -STOP "$pid"
eventually 60 has_new_child "$pid"
log_has 'no answer to the health check' || failed 'the log does not say why'

it 'reloads without a restart, and says what that could not change'
pid=$(child bloom-runtime)
printf 'RATE_LIMIT_PER_MINUTE=33\nSESSION_SECRET=0123456789abcdef0123\n' >>$env_file
rc-service bloom-runtime reload >/dev/null
eventually 10 log_has 'reload: RATE_LIMIT_PER_MINUTE: in effect now'
eventually 10 log_has 'reload: SESSION_SECRET: changed, in effect after a restart'
is "$(child bloom-runtime)" "$pid"
curl -si http://127.0.0.1:5000/api/runtime/stats | grep -qi '^ratelimit-limit: 33' || failed 'still the old limit'

it 'refuses to reload what cannot be used, and goes on'
cp $env_file /tmp/good
echo 'PORT=five' >>$env_file
says 1 'PORT (/etc/bloom-runtime.env:' rc-service bloom-runtime reload
is "$(child bloom-runtime)" "$pid"
says 1 '"five" is not a number' rc-service bloom-runtime checkconfig

it 'refuses to start with a wrong setting, and says which line'
rc-service bloom-runtime stop >/dev/null
says 1 'PORT (/etc/bloom-runtime.env:' rc-service bloom-runtime start
says 3 stopped rc-service bloom-runtime status
cp /tmp/good $env_file

it 'refuses a data directory that it cannot write, and says what to run'
mkdir /srv/bloom 2>/dev/null || mkdir -p /srv/bloom
echo 'DATA_DIR=/srv/bloom' >>$env_file
says 1 'run: install -d -m 0700 -o bloom /srv/bloom' rc-service bloom-runtime start
is "$(stat -c %U /srv/bloom)" root
chown bloom:bloom /srv/bloom
rc-service bloom-runtime start >/dev/null
is_well >/dev/null || failed 'no answer'
rc-service bloom-runtime stop >/dev/null

it 'listens on port 80 without root'
cp /tmp/good $env_file
echo 'PORT=80' >>$env_file
rc-service bloom-runtime start >/dev/null
curl -sf http://127.0.0.1/api/runtime/health >/dev/null || failed 'nothing on port 80'
is "$(of_process "$(child bloom-runtime)" CapEff)" 0000000000000400
rc-service bloom-runtime stop >/dev/null

it 'speaks https with a certificate of its own on port 443, and is found healthy there'
printf 'TLS_SELF_SIGNED=1\nPORT=443\nHTTP_PORT=80\n' >>$env_file
sed -i '/^PORT=80$/d' $env_file
rc-service bloom-runtime start >/dev/null
says 0 'well at https://127.0.0.1:443' bloom-runtime health
is "$(curl -so /dev/null -w '%{http_code}' http://127.0.0.1/)" 308
pid=$(child bloom-runtime)
rc-service bloom-runtime reload >/dev/null
eventually 10 log_has 'the same certificate'
is "$(child bloom-runtime)" "$pid"
rc-service bloom-runtime stop >/dev/null

it 'takes the env file of the system before as it is, though root owns it'
printf 'NODE_ENV=production\nPORT=5000\nDATABASE_URL=postgresql://u:p@h/db\nRUNTIME_API_KEY=old-key\n' >$env_file
chown root:root $env_file
chmod 0600 $env_file
before=$(sha256sum $env_file)
rc-service bloom-runtime start >/dev/null
is "$(sha256sum $env_file)" "$before"
is "$(stat -c '%a %U' $env_file)" '600 bloom'
is "$(curl -so /dev/null -w '%{http_code}' http://127.0.0.1:5000/api/runtime/stats)" 401
is "$(curl -so /dev/null -w '%{http_code}' -H 'X-Runtime-API-Key: old-key' http://127.0.0.1:5000/api/runtime/stats)" 200
rc-service bloom-runtime stop >/dev/null

it 'boots without an env file, for this machine only'
rm $env_file
: >"$log"
# As after a reboot: the failed starts above are forgotten.
rm -rf /run/openrc
boot_openrc
openrc default >/tmp/said 2>&1
is_well >/dev/null || failed 'the boot did not start it'
log_has 'authentication is off, listening on loopback only' || failed 'no word about that'

if command -v logrotate >/dev/null; then
    it 'writes on into a log that was turned over'
    logrotate -f /etc/logrotate.d/bloom-runtime
    [ -s "$log.1" ] || failed 'nothing was turned over'
    curl -s http://127.0.0.1:5000/api/runtime/stats >/dev/null
    eventually 5 log_has 'GET /api/runtime/stats'
    is "$(head -c 1 "$log" | od -An -c | tr -d ' ')" 2
fi
rc-service bloom-runtime stop >/dev/null
