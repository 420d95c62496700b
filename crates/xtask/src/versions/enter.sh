# Runs a command inside a folder that holds a Debian. Run as root under `unshare --mount`: what is mounted here is seen by
# nobody else and gone with the last process inside, however that ends.
#
# enter.sh ROOT WORKSPACE TARGET UID:GID [SHARED ..] -- COMMAND ..
#
# The workspace lies at the same path inside, with TARGET in the place of its target folder; so do the SHARED folders.
set -eu
root=$1 workspace=$2 target=$3 user=$4
shift 4
show() {
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
}
for place in /proc /sys /dev; do
    mount --rbind "$place" "$root$place"
done
show "$workspace" "$workspace"
show "$target" "$workspace/target"
while [ "$1" != -- ]; do
    show "$1" "$1"
    shift
done
shift
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
# initdb wants to know the name of whoever runs it.
uid=${user%:*}
if ! grep -q "^[^:]*:[^:]*:$uid:" "$root/etc/passwd"; then
    echo "tester:x:$user::/nonexistent:/bin/sh" >>"$root/etc/passwd"
fi
exec chroot --userspec="$user" "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "$workspace" "$@"
