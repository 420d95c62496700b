# Runs a script in a folder that holds a Debian, with nothing of this machine but the network. Run as root under
# `unshare --mount --pid --fork --kill-child`: what is mounted here is seen by nobody else, and no process outlives the script.
#
# clean.sh ROOT SCRIPT ARGUMENT ..
set -eu
root=$1 script=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# A container may have made this a link into a file system that is not there.
rm -f "$root/etc/resolv.conf"
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
# As Debian's own builders have it: no package starts a service here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    sh "$script" "$@"
