# make.sh DEBOOTSTRAP SUITE FOLDER: makes a Debian in FOLDER; run as root. It is made under another name and renamed: a
# half-made one is never taken for whole.
set -eu
draft=$3.draft
rm -rf "$draft"
"$1" --variant=minbase "$2" "$draft" >"$3.log"
# sid's index expires within a week, and a mirror may lag behind. Signatures are checked all the same.
echo 'Acquire::Check-Valid-Until "false";' >"$draft/etc/apt/apt.conf.d/99lagging-mirror"
mv "$draft" "$3"
