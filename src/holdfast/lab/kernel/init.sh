#!/bin/sh
# Process 1 of the throw-away kernel. Its root is the host's /, read-only over hostfs; an overlay in memory makes a
# writable view of it. Not for a busybox shell: that runs its applets as /proc/self/exe, which here is the host's
# linux.uml. The kernel hands its unknown parameters on as environment variables: holdfast_output is one.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -n -t proc proc /proc
insmod "/usr/lib/uml/modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
mount -n -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -n -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
root=/mnt/root
mount -n -t proc proc $root/proc
mount -n -t sysfs sysfs $root/sys
mount -n --bind /dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm
mount -n -t devpts -o mode=620,ptmxmode=666 devpts $root/dev/pts
mount -n -t tmpfs tmpfs $root/dev/shm
# What the host has there is its own business.
mount -n -t tmpfs -o mode=755 tmpfs $root/run
mkdir -p $root/run/lock $root/run/netns $root/run/output $root/lib/modules
mount -n -t hostfs none $root/run/output -o "$holdfast_output"
# modprobe, and the kernel when it loads a module by itself, look for them in /lib/modules.
mount -n --bind /usr/lib/uml/modules $root/lib/modules
exec chroot $root /bin/sh /run/output/main
