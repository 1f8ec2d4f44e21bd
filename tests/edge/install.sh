#!/bin/sh
# openrc/install.sh on a machine: fresh, again, upgrade, a broken upgrade that is undone, removal, an image.
# shellcheck disable=SC2015,SC2016 # scripts are written into files; `failed` ends the test
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
boot_openrc
tarball=$(echo /made/dist/*.tar.gz)
data=/var/lib/bloom-runtime
install() { sh /project/openrc/install.sh "$@"; }
api() { # api PATH WORD...: curl's own words behind the path
    path=$1
    shift
    curl -sf -H "X-Runtime-API-Key: $(sed -n 's/^RUNTIME_API_KEY=//p' /etc/bloom-runtime.env)" "http://127.0.0.1:5000/api/runtime/$path" "$@"
}
count() { api llm-tasks | grep -o '"context_id"' | wc -l | tr -d ' '; }
add_task() {
    bloom-runtime submit 'Name three early tomatoes.' >/dev/null
}
# As a worker that returns /tmp/bytes; the artifact's id.
return_file() {
    json='Content-Type: application/json'
    api workers -H "$json" -d '{"name":"files"}' -o /dev/null
    task=$(api llm-tasks -H "$json" -d '{"context_id":"c","agent_slug":"a","prompt":"a file"}' | sed 's/^{"id":"\([^"]*\)".*/\1/')
    lease=$(api "llm-tasks/$task/lease" -H "$json" -d '{"worker_id":"files"}' | sed 's/.*"lease":{"id":"\([^"]*\)".*/\1/')
    api "llm-tasks/$task/artifacts?name=bytes&lease_id=$lease" -H 'Content-Type: application/octet-stream' \
        --data-binary @/tmp/bytes | sed 's/^{"id":"\([^"]*\)".*/\1/'
}
# What of the machine an installation may touch, but for the log and the data themselves.
snapshot() { find / -xdev \( -path /proc -o -path /tmp -o -path /run -o -path /dev -o -path /made -o -path /project \) -prune \
    -o -type f ! -path '*.redb' ! -path '/var/log/*' ! -path '/var/lib/bloom-runtime-previous/*' ! -path '/var/cache/*' -print0 | xargs -0 sha256sum | sort -k 2; }
# variant NAME SCRIPT: a tarball whose program is the real one behind a script.
variant() {
    folder=/tmp/variant/bloom-runtime-$1-x
    rm -rf /tmp/variant
    mkdir -p "$folder"
    cp -R /project/openrc "$folder/openrc"
    cp /usr/bin/bloom-runtime "/tmp/real-$1"
    printf '#!/bin/sh\n[ "$1" != --version ] || { echo "bloom-runtime %s"; exit; }\n%s\nexec /tmp/real-%s "$@"\n' "$1" "$2" "$1" >"$folder/bloom-runtime"
    chmod 0755 "$folder/bloom-runtime" "/tmp/real-$1"
    (cd "$folder" && sha256sum bloom-runtime >SHA256SUMS)
}

it 'refuses what it cannot do, with a code and the reason'
says 0 'Usage: sh install.sh' install --help
says 64 'unknown option --frm' install --frm x
says 64 'needs a value' install --from
says 64 'such as --wait 60' install --wait soon
says 65 'there is no bloom-runtime for riscv64' install --machine riscv64 --from "$tarball"
says 66 'name one with --from' install
mkdir /tmp/damaged && cp /made/dist/* /tmp/damaged/ && echo x >>"/tmp/damaged/${tarball##*/}"
says 65 'its SHA-256 is not the one' install --from "/tmp/damaged/${tarball##*/}"
[ ! -e /usr/bin/bloom-runtime ] && [ ! -e /etc/bloom-runtime.env ] || failed 'it left something behind'

it 'installs from the unpacked tarball, starts it, and shows the key once'
tar -xzf "$tarball" -C /tmp
says 0 'bloom-runtime answers at http://' sh /tmp/bloom-runtime-*/openrc/install.sh
key=$(sed -n 's/^RUNTIME_API_KEY=//p' /etc/bloom-runtime.env)
is "${#key}" 64
echo 'start_wait=2' >>/etc/conf.d/bloom-runtime
is "$(grep -c "$key" /tmp/said)" 1
is "$(stat -c '%a %U' /etc/bloom-runtime.env)" '600 bloom'
is "$(stat -c '%a %U' $data)" '700 bloom'
[ -L /etc/runlevels/default/bloom-runtime ] || failed 'not started at boot'
is "$(curl -so /dev/null -w '%{http_code}' http://127.0.0.1:5000/api/runtime/stats)" 401
add_task
is "$(count)" 1

it 'run again it changes nothing, restarts nothing and shows no key'
pid=$(child bloom-runtime)
snapshot >/tmp/before
says 0 'is installed already and runs' install --from "$tarball"
snapshot >/tmp/after
cmp -s /tmp/before /tmp/after || failed "$(diff /tmp/before /tmp/after)"
is "$(child bloom-runtime)" "$pid"
if grep -q "$key" /tmp/said; then failed 'the key was shown again'; fi

it 'upgrades in place, keeping data, key and a copy of what was'
variant 1.1 ''
says 0 'upgrading bloom-runtime 0.1.0 to 1.1' install --from "/tmp/variant/bloom-runtime-1.1-x"
is "$(bloom-runtime --version)" 'bloom-runtime 1.1'
is "$(count)" 1
is "$(sed -n 's/^RUNTIME_API_KEY=//p' /etc/bloom-runtime.env)" "$key"
is "$(/var/lib/bloom-runtime-previous/bloom-runtime --version)" 'bloom-runtime 0.1.0'
is "$(stat -c '%a %U' /var/lib/bloom-runtime-previous)" '700 root'
[ -f /var/lib/bloom-runtime-previous/hot.redb ] || failed 'no copy of the data'

it 'undoes an upgrade that spoils the data and does not start'
add_task
head -c 300000 /dev/urandom >/tmp/bytes
file=$(return_file)
variant 1.2 '[ "$1" != serve ] || { rm '$data'/files/*; for f in '$data'/*.redb; do echo spoilt >"$f"; done; echo "bloom-runtime: cannot serve" >&2; exit 74; }'
printf '# changed\n' >>/tmp/variant/bloom-runtime-1.2-x/openrc/bloom-runtime
says 70 'the upgrade was undone: bloom-runtime 1.1 runs again' install --wait 3 --from /tmp/variant/bloom-runtime-1.2-x
grep -q 'bloom-runtime: cannot serve' /tmp/said || failed 'it does not say why'
is_well >/dev/null || failed 'the old version does not answer'
is "$(count)" 3
api "artifacts/$file/content" | cmp - /tmp/bytes || failed 'a file that a worker returned is gone'
is "$(stat -c '%a %U' $data/hot.redb)" '600 bloom'
if grep -q '# changed' /etc/init.d/bloom-runtime; then failed 'the new service script stayed'; fi

it 'refuses an upgrade whose program takes the settings for wrong, and stops nothing'
pid=$(child bloom-runtime)
variant 1.3 '[ "$1" != check ] || { echo "bloom-runtime: PORT: no" >&2; exit 64; }'
says 64 'bloom-runtime: PORT: no' install --from /tmp/variant/bloom-runtime-1.3-x
is "$(child bloom-runtime)" "$pid"
is "$(bloom-runtime --version)" 'bloom-runtime 1.1'

it 'undoes an upgrade that is broken off'
variant 1.4 '[ "$1" != serve ] || { touch /var/lib/bloom-runtime/served; exec sleep 60; }'
sh /project/openrc/install.sh --wait 60 --from /tmp/variant/bloom-runtime-1.4-x >/tmp/said 2>&1 &
eventually 20 test -e /var/lib/bloom-runtime/served
kill -TERM $!
code=0
wait $! || code=$?
is "$code" 70
is "$(bloom-runtime --version)" 'bloom-runtime 1.1'
is_well >/dev/null || failed 'the old version does not answer'
is "$(count)" 3

it 'removes program and service, and leaves settings and data'
says 0 'are still there' install --uninstall
[ ! -e /usr/bin/bloom-runtime ] && [ ! -e /etc/init.d/bloom-runtime ] && [ ! -L /etc/runlevels/default/bloom-runtime ] || failed 'something stayed'
[ -s /etc/bloom-runtime.env ] && [ -s $data/hot.redb ] || failed 'settings or data are gone'

it 'finds them again when it is installed anew'
says 0 'bloom-runtime answers at http://' install --prefix /usr/local --from "$tarball"
is "$(sh -c 'command -v bloom-runtime')" /usr/local/bin/bloom-runtime
hash -r
is "$(count)" 3

it 'takes the place of the service of the system before, and keeps its script and settings'
sh /project/openrc/install.sh --uninstall --prefix /usr/local >/dev/null
printf '#!/sbin/openrc-run\nsupervisor=supervise-daemon\ncommand="/bin/sleep"\ncommand_args="999"\npidfile="/run/bloom-runtime.pid"\n' \
    >/etc/init.d/bloom-runtime
chmod 0755 /etc/init.d/bloom-runtime
chown root:root /etc/bloom-runtime.env
rc-service bloom-runtime start >/dev/null
pid=$(child bloom-runtime)
[ -d "/proc/$pid" ] || failed 'the one before does not run'
says 0 'another service of this name was stopped' install --prefix /usr/local --from "$tarball"
grep -q /bin/sleep /etc/bloom-runtime.init-before || failed 'its script is gone'
[ ! -d "/proc/$pid" ] || failed 'it still runs'
is "$(sed -n 's/^RUNTIME_API_KEY=//p' /etc/bloom-runtime.env)" "$key"
is "$(stat -c %U /etc/bloom-runtime.env)" bloom
is "$(count)" 3

it 'purges all of it'
says 0 'with settings, data' install --uninstall --purge --prefix /usr/local
for path in /usr/local/bin/bloom-runtime /etc/bloom-runtime.env $data $data-previous $log /etc/conf.d/bloom-runtime; do
    [ ! -e "$path" ] || failed "$path is still there"
done
if grep -q '^bloom:' /etc/passwd; then failed 'the user is still there'; fi

it 'installs into an image, without a key that all copies would share'
mkdir -p /tmp/image/etc /tmp/image/sbin
cp /etc/passwd /etc/group /tmp/image/etc/
cp /sbin/openrc-run /tmp/image/sbin/
says 0 'it makes no key there' install --root /tmp/image --from "$tarball"
grep -q '^bloom:x:[0-9]*:[0-9]*::/var/lib/bloom-runtime:/sbin/nologin$' /tmp/image/etc/passwd || failed 'no user'
[ -x /tmp/image/usr/bin/bloom-runtime ] && [ -L /tmp/image/etc/runlevels/default/bloom-runtime ] || failed 'not installed'
[ ! -e /tmp/image/etc/bloom-runtime.env ] || failed 'a key in the image'
if is_well >/dev/null 2>&1; then failed 'something was started'; fi
