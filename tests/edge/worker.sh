#!/bin/sh
# The worker as an OpenRC service beside the server, with the stand-in for Claude CLI: from one command to the
# first task's answer.
# shellcheck disable=SC2015 # `failed` ends the test
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
log=/var/log/bloom-worker.log
boot_openrc
cp /project/tests/standin/claude /usr/local/bin/claude

it 'is installed beside the server with one command, and does a task'
says 0 'log Claude CLI in, once: su -s /bin/sh bloom-worker' sh /project/openrc/install.sh --worker --from /made/dist/*.tar.gz
says 0 hello bloom-runtime submit 'SAY hello' --wait

it 'runs as a user of its own, who cannot read what is the server'"'s"
is "$(stat -c %U "/proc/$(child bloom-worker)")" bloom-worker
is "$(stat -c '%a %U' /etc/bloom-worker.env)" '600 bloom-worker'
for path in /etc/bloom-runtime.env /var/lib/bloom-runtime/hot.redb; do
    if su -s /bin/sh bloom-worker -c "cat $path" >/dev/null 2>&1; then failed "it can read $path"; fi
done
says 0 'HOME=/var/lib/bloom-worker' bloom-runtime submit ENV --wait
if grep -q RUNTIME_API_KEY /tmp/said; then failed 'Claude got the key'; fi

it 'comes back after a crash'
pid=$(child bloom-worker)
kill -9 "$pid"
has_other_pid() { [ "$(child bloom-worker)" != "$pid" ]; }
eventually 20 has_other_pid
says 0 again bloom-runtime submit 'SAY again' --wait

it 'stops in order and signs off'
rc-service bloom-worker stop >/dev/null
says 0 offline bloom-runtime workers

it 'refuses to start with a wrong flag, and says which'
echo 'worker_flags="--max-concurrency 99"' >>/etc/conf.d/bloom-worker
says 1 'not a number from 1 to 32' rc-service bloom-worker start
sed -i '$d' /etc/conf.d/bloom-worker
sed -i 's/^server=.*/server="192.168.1.10:5000"/' /etc/conf.d/bloom-worker
says 1 'does not begin with http' rc-service bloom-worker checkconfig

it 'is told the port and the certificate of a server that speaks https'
sh /project/openrc/install.sh --uninstall --purge >/dev/null
printf 'RUNTIME_API_KEY=of-this-machine-0123456789\nTLS_SELF_SIGNED=1\nPORT=5443\n' >/etc/bloom-runtime.env
says 0 'answers at https://' sh /project/openrc/install.sh --worker --from /made/dist/*.tar.gz
says 0 privately bloom-runtime submit 'SAY privately' --server https://127.0.0.1:5443 --wait

it 'joins another server alone, with the key that it is given'
sh /project/openrc/install.sh --uninstall --purge >/dev/null
RUNTIME_API_KEY=of-the-other sh /project/openrc/install.sh --worker-only http://192.168.1.10:5000 --from /made/dist/*.tar.gz >/tmp/said
grep -qx 'RUNTIME_API_KEY=of-the-other' /etc/bloom-worker.env || failed 'no key'
[ ! -e /etc/bloom-runtime.env ] && [ ! -e /etc/init.d/bloom-runtime ] || failed 'a server too'
eventually 10 grep -q 'http://192.168.1.10:5000\|cannot be reached' "$log"
