#!/bin/sh
# The first process of a laboratory guest. Everything lives in memory; what must outlast a power cut is on the
# disk with the serial "labstate", which becomes /var/lib/expunge.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
modprobe -a configfs
mount -t configfs configfs /sys/kernel/config 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
exec </dev/console >/dev/console 2>&1
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr

for word in $(cat /proc/cmdline); do
    case $word in
        lab.machine=*) echo "${word#*=}" >/etc/machine-id ;;
        lab.name=*) hostname "${word#*=}" ;;
        lab.state) state=yes ;;
    esac
done

# The network first: sshd is up while the disks are still being found.
modprobe virtio_pci
modprobe virtio_net
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mkdir -p /run/sshd /run/lock /run/udev
/usr/sbin/sshd

modprobe -a nvme ahci sd_mod sg virtio_scsi xhci_pci usb_storage uas
echo "lab: modules after $(cut -d" " -f1 /proc/uptime) s"
/lib/systemd/systemd-udevd --daemon
# Only what has to do with disks: looking for drivers of everything else takes half the boot.
for kind in nvme nvme-subsystem scsi scsi_host scsi_disk scsi_generic block bdi usb; do
    set -- "$@" "--subsystem-match=$kind"
done
udevadm trigger --action=add "$@"
udevadm settle --timeout=60

if [ "$state" = yes ]; then
    modprobe virtio_blk
    modprobe ext4
    udevadm settle --timeout=60
    mkdir -p /var/lib/expunge
    for disk in /sys/block/vd*; do
        if [ "$(cat "$disk/serial" 2>/dev/null)" = labstate ]; then
            mount -t ext4 "/dev/${disk##*/}" /var/lib/expunge
        fi
    done
fi
touch /run/lab-ready
echo "lab: ready after $(cut -d" " -f1 /proc/uptime) s"
# Collect whatever is orphaned, for ever.
while :; do
    sleep 3600 &
    wait
done
