#!/bin/sh
# enter.sh TREE WORK TEST [systemd]: runs TEST inside of TREE, whose changes are gone afterwards; with systemd as
# the first process if so asked. Called in namespaces of its own for mounts, processes and the network, where
# every port is free.
set -eu
tree=$1 work=$2 test=$3
root=/mnt/root
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs /mnt
mkdir /mnt/changes /mnt/work $root
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/changes,workdir=/mnt/work" overlay $root
mkdir -p $root/project $root/made $root/.before
mount --bind "$PWD" $root/project
mount -o remount,ro,bind $root/project
mount --bind "$work" $root/made
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/run
busybox ip link set lo up
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -z "${4:-}" ]; then
    exec chroot $root /usr/bin/env -i PATH=$path HOME=/root TERM=dumb /bin/sh -eu "/project/$test"
fi

mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
cat >$root/etc/systemd/system/edge-test.service <<END
[Service]
Type=oneshot
Environment=HOME=/root PATH=$path
StandardOutput=file:/made/said
StandardError=inherit
ExecStart=/bin/sh -c 'code=0; sh -eu /project/$test || code=\$\$?; systemctl exit \$\$code'
END
mkdir -p $root/etc/systemd/system/multi-user.target.wants
ln -s ../edge-test.service $root/etc/systemd/system/multi-user.target.wants/
cd $root
pivot_root . .before
umount -l /.before
exec env -i container=edge PATH=$path /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=no
