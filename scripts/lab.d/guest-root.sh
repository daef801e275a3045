#!/bin/sh
# First steps of every guest, sourced by its first process. The root is the machine's, live and read-only.
# shellcheck disable=SC1090,SC2013,SC2086,SC2034 # words, not lines; lists without quotes; for who sources it

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mark() { echo "lab: $(cut -d' ' -f1 /proc/uptime) $*"; }
die() { mark "error: $*"; sleep 1; busybox poweroff -f; }

# --- file systems
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
  case $word in lab.env=*) env=${word#lab.env=} ;; esac
done
. "$env"
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p /run/machine
# By mount(2): fsconfig(2), which the mount of Debian 13 prefers, does not know an option without a name.
busybox mount -t hostfs -o / machine /run/machine
# What the system writes to, and what it reads all the time, goes through an overlay. That one keeps
# what it has seen; all other folders are asked of the machine each time.
for dir in usr etc var; do
  mkdir -p "/run/upper/$dir/files" "/run/upper/$dir/work"
  mount -t overlay -o "lowerdir=/$dir,upperdir=/run/upper/$dir/files,workdir=/run/upper/$dir/work" \
    overlay "/$dir" || die "overlay on /$dir"
done
mount -t tmpfs log /var/log
# Where those hide what the lab needs, show the machine's again.
for dir in "$RUN" "$CACHE" "$REPO"; do
  case $dir in
    /run/* | /tmp/* | /usr/* | /etc/* | /var/*)
      mkdir -p "$dir"
      mount -o bind "/run/machine$dir" "$dir" || die "showing $dir"
      ;;
  esac
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  # Some that are listed cannot be delegated.
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
done
