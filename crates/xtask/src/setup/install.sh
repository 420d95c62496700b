# Installs the packages given as arguments; run as root. Fails with apt's own message; standard output is apt's status, line by
# line, as the file README.progress-reporting of the package libapt-pkg-doc describes it.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
drop_in=/etc/postgresql-common/createcluster.d/zeroauth-audit-setup.conf
unit=/etc/systemd/system/prometheus-alertmanager.service
fresh() { ! dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
undo=
trap 'eval "$undo"' EXIT
# A fresh postgresql-15 would make and start a cluster of its own. Nobody asked for one.
if fresh postgresql-common; then
    mkdir -p "${drop_in%/*}"
    echo 'create_main_cluster = false' >"$drop_in"
    undo='rm -f "$drop_in"; rmdir --ignore-fail-on-non-empty "${drop_in%/*}" 2>/dev/null || true;'
fi
# Nor for an Alertmanager that runs, now or after the next boot: tests start their own.
if fresh prometheus-alertmanager && [ ! -e "$unit" ]; then
    mkdir -p "${unit%/*}"
    ln -s /dev/null "$unit"
    undo="$undo"' rm -f "$unit"; deb-systemd-helper disable prometheus-alertmanager.service >/dev/null 2>&1 || true;'
fi
apt-get -qq -o APT::Status-Fd=3 install -y --no-install-recommends "$@" 3>&1 >/dev/null
