# Installs the packages given as arguments; run as root. Fails with apt's own message.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# A fresh postgresql-15 would make and start a cluster of its own. Nobody asked for one.
drop_in=/etc/postgresql-common/createcluster.d/zeroauth-audit-setup.conf
if ! dpkg-query -W -f '${Status}' postgresql-common 2>/dev/null | grep -q 'ok installed'; then
    mkdir -p "${drop_in%/*}"
    echo 'create_main_cluster = false' >"$drop_in"
    trap 'rm -f "$drop_in"; rmdir --ignore-fail-on-non-empty "${drop_in%/*}" 2>/dev/null || true' EXIT
fi
apt-get -qq install -y --no-install-recommends "$@"
