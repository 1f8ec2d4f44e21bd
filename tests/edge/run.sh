#!/bin/sh
# The service, the installer and nginx with the real thing: Debian's OpenRC, systemd and nginx in a tree of
# their own, and a tree of busybox and OpenRC, which is what Alpine is. Needs root and namespaces; says so and fails
# where they are not. The trees are kept in .tools/edge; each test gets a fresh layer over one.
#   sh tests/edge/run.sh [TEST...]     a TEST is TREE/FILE, such as debian/service or systemd/systemd
# BLOOM_PROGRAM is another program for this machine than the one that it builds, such as a released one.
set -eu
cd "$(dirname "$0")/../.."
project=$PWD
trees=$project/.tools/edge

[ "$(id -u)" = 0 ] || { echo "tests/edge: these tests need root, to make trees and namespaces" >&2; exit 77; }
unshare --mount --pid --net --cgroup --fork true 2>/dev/null || {
    echo "tests/edge: this machine permits no namespaces (unshare --mount --pid --net --cgroup)" >&2
    exit 69
}
missing=''
for pair in debootstrap:debootstrap busybox:busybox-static shellcheck:shellcheck openssl:openssl strip:binutils; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
# shellcheck disable=SC2086 # several packages
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || { echo "please install:$missing" >&2; exit 69; }
    echo "== installing$missing"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing
fi

# A tree that is there is whole: it gets its name last.
make_debian() { # of version 13, whose OpenRC is as new as Alpine's
    echo "== making a Debian tree with OpenRC, systemd and nginx, once"
    {
        debootstrap --variant=minbase --include=openrc trixie "$1" \
            "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" &&
            cp /etc/resolv.conf "$1/etc/" &&
            DEBIAN_FRONTEND=noninteractive chroot "$1" sh -ec 'apt-get update
                apt-get install -y --no-install-recommends curl procps logrotate nginx-light systemd dbus'
    } >"$trees/debian.log" 2>&1 || { tail -n 20 "$trees/debian.log" >&2; return 1; }
    rm -rf "$1/var/cache/apt" "$1/var/lib/apt/lists" "$1/usr/share/doc" "$1/usr/share/locale"
}
make_busybox() {
    echo "== making a tree of busybox and OpenRC, once"
    for folder in bin dev etc/init.d etc/conf.d etc/pam.d home proc root run sbin sys tmp usr/bin usr/lib usr/lib64 \
        usr/sbin var/lib var/log; do
        mkdir -p "$1/$folder"
    done
    ln -s usr/lib usr/lib64 "$1/"
    chmod 1777 "$1/tmp"
    cp "$(command -v busybox)" "$1/bin/busybox"
    for applet in $("$1/bin/busybox" --list-full); do
        mkdir -p "$1/$(dirname "$applet")"
        [ -e "$1/$applet" ] || ln -s /bin/busybox "$1/$applet"
    done
    debian=$trees/debian
    cp -a "$debian/usr/lib/rc" "$1/usr/lib/"
    cp "$debian/etc/rc.conf" "$1/etc/"
    mkdir -p "$1/etc/runlevels/default" "$1/etc/runlevels/sysinit" "$1/etc/runlevels/boot"
    for program in openrc openrc-run rc-service rc-update supervise-daemon; do
        rm -f "$1/sbin/$program"
        cp -L "$debian/sbin/$program" "$1/sbin/$program"
    done
    # Debian's OpenRC looks for these.
    : >"$1/etc/insserv.conf"
    for level in 0 1 2 3 4 5 6 S; do mkdir "$1/etc/rc$level.d"; done
    rm -f "$1/usr/bin/install"
    cp "$debian/usr/bin/curl" "$debian/usr/bin/install" "$1/usr/bin/"
    # shellcheck disable=SC2016 # of that shell
    for library in $(chroot "$debian" sh -c 'ldd /sbin/openrc* /sbin/rc-* /sbin/supervise-daemon /lib/rc/bin/* /usr/bin/curl /usr/bin/install
        echo /usr/lib/*/libgcc_s.so.1 /usr/lib/*/libm.so.6 /usr/lib/*/security/pam_permit.so' 2>/dev/null |
        grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
        mkdir -p "$1/$(dirname "$library")"
        cp -L "$debian/$library" "$1/$library"
    done
    for kind in auth account session; do echo "$kind required pam_permit.so"; done >"$1/etc/pam.d/supervise-daemon"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
    echo 'root:x:0:' >"$1/etc/group"
    echo 'root:*:1::::::' >"$1/etc/shadow"
}
mkdir -p "$trees"
for tree in debian busybox; do
    [ ! -d "$trees/$tree" ] || continue
    rm -rf "$trees/$tree.part"
    "make_$tree" "$trees/$tree.part"
    mv "$trees/$tree.part" "$trees/$tree"
done

shellcheck -x openrc/install.sh openrc/pack.sh tests/edge/*.sh
shellcheck -s sh -e SC2034,SC2154,SC3043 openrc/bloom-runtime openrc/bloom-worker
shellcheck -s sh -e SC2034,SC2154 openrc/conf.d/* openrc/APKBUILD openrc/*.pre-install openrc/*.post-install

[ -n "${BLOOM_PROGRAM:-}" ] || cargo build --locked --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A tarball as it is published.
mkdir "$work/dist" "$work/newer"
strip -o "$work/bloom-runtime" "${BLOOM_PROGRAM:-target/debug/bloom-runtime}"
sh openrc/pack.sh "$work/bloom-runtime" "$(uname -m)-unknown-linux-musl" "$work/dist" >/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bloom.example \
    -keyout "$work/bloom-runtime.key" -out "$work/bloom-runtime.crt" 2>/dev/null

[ $# -gt 0 ] || set -- debian/service debian/install debian/worker debian/nginx busybox/service busybox/install \
    busybox/package systemd/systemd
run() { # run TEST: in namespaces of its own; its output and its code go into files
    tree=${1%/*} systemd=''
    [ "$tree" != systemd ] || { tree=debian && systemd=yes; }
    code=0
    timeout -s KILL 300 unshare --mount --pid --net --cgroup --fork --kill-child sh tests/edge/enter.sh \
        "$trees/$tree" "$work" "tests/edge/${1#*/}.sh" $systemd </dev/null >"$work/$(echo "$1" | tr / -).out" 2>&1 || code=$?
    echo "$code" >"$work/$(echo "$1" | tr / -).code"
}
# They mostly wait, so all of them at once.
began=$(date +%s)
for test in "$@"; do run "$test" & done
wait
failed=''
for test in "$@"; do
    echo "== $test"
    out=$work/$(echo "$test" | tr / -)
    cat "$out.out"
    [ "$test" != systemd/systemd ] || cat "$work/said"
    [ "$(cat "$out.code")" = 0 ] || failed="$failed $test"
done
[ -z "$failed" ] || { echo "tests/edge: failed:$failed" >&2; exit 1; }
echo "== all well, $(($(date +%s) - began)) s"
