#!/bin/sh
# openrc/APKBUILD as far as it goes without abuild and Alpine's adduser: its package step, its post-install.
# shellcheck source=tests/edge/checks.sh
. /project/tests/edge/checks.sh
mkdir -p /tmp/source/target/release
cp -R /project/openrc /project/docs /project/README.md /tmp/source/
tar -xzf /made/dist/*.tar.gz -C /tmp
cp /tmp/bloom-runtime-*/bloom-runtime /tmp/source/target/release/

it 'packs what install.sh installs'
boot_openrc
sh /project/openrc/install.sh --worker --from /made/dist/*.tar.gz >/dev/null
pkgdir=/tmp/packed
export pkgdir
(cd /tmp/source && . /project/openrc/APKBUILD && package)
for file in usr/bin/bloom-runtime etc/init.d/bloom-runtime etc/init.d/bloom-worker etc/conf.d/bloom-runtime etc/logrotate.d/bloom-runtime; do
    cmp "/$file" "/tmp/packed/$file" || failed "$file is another"
done
is "$(stat -c '%a %U' /tmp/packed/var/lib/bloom-runtime)" '700 bloom'
is "$(stat -c '%a %U' /tmp/packed/var/lib/bloom-worker)" '700 bloom-worker'
# shellcheck disable=SC2154 # of that file
is "$(. /project/openrc/APKBUILD && echo "$pkgver")" "$(sed -n 's/^version = "\(.*\)"/\1/p' /project/Cargo.toml | head -n 1)"

it 'makes a key after the installation, and leaves one that is there'
rm -f /etc/bloom-runtime.env
sh /project/openrc/bloom-runtime.post-install >/dev/null
is "$(stat -c '%a %U' /etc/bloom-runtime.env)" '600 bloom'
before=$(cat /etc/bloom-runtime.env)
sh /project/openrc/bloom-runtime.post-install >/dev/null
is "$(cat /etc/bloom-runtime.env)" "$before"
