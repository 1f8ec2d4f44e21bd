#!/bin/sh
# enter.sh TREE WORK TEST: runs TEST inside of TREE, whose changes are gone afterwards. Called in namespaces
# of its own for mounts, processes and the network, where every port is free.
set -eu
tree=$1 work=$2 test=$3
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs /mnt
mkdir /mnt/changes /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/changes,workdir=/mnt/work" overlay /mnt/root
root=/mnt/root
mkdir -p "$root/project" "$root/made"
mount --bind "$PWD" "$root/project"
mount -o remount,ro,bind "$root/project"
mount --bind "$work" "$root/made"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
busybox ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root TERM=dumb /bin/sh -eu "/project/$test"
