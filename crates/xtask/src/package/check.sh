# The packages of /packages on a Debian that has never seen the project, as a DBA uses them. Each step is a line `ok ..` or
# `not ok ..` on standard output; the first that fails is the last, and standard error says what it printed.
#
# check.sh SUITE MAJOR VERSION
set -u
suite=$1 major=$2 version=$3
package=postgresql-$major-zeroauth-audit
conf=/etc/postgresql/$major/main/conf.d/zeroauth_audit.conf

step() {
    name=$1
    shift
    if "$@" >/step.log 2>&1; then
        echo "ok $name"
    else
        echo "not ok $name"
        sed 's/^/    /' /step.log >&2
        exit 1
    fi
}

sql() { runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }
install() { apt-get -qq install -y --no-install-recommends "$@"; }
is() { [ "$1" = "$2" ] || { echo "found <$1>, expected <$2>"; return 1; }; }
events() { sql audit "SELECT count(*), md5(string_agg(e::text, ' ' ORDER BY e::text)) FROM audit_events e WHERE tenant_id = 'acme'"; }
append() { sql audit "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '$1')"; }
verified() { is "$(sql audit "SELECT v.ok FROM (SELECT * FROM audit_verify('acme')) v")" t; }
version_is() { is "$(dpkg-query -W -f '${Version}' "$1")" "$2"; }

no_rust() { ! command -v cargo && ! command -v rustc && ! command -v cc; }
installs() {
    # debootstrap writes one line; an installed Debian has these, too.
    if [ "$suite" != sid ]; then
        sed -n "h; s/ $suite / $suite-updates /p; g; s/debian $suite /debian-security $suite-security /p" /etc/apt/sources.list \
            >/etc/apt/sources.list.d/updates.list
    fi
    apt-get -qq update && install /packages/*.deb
}
preloads() {
    echo "shared_preload_libraries = 'zeroauth_audit'" >"$conf" &&
        # Not part of what is checked: other servers may have the port.
        echo "listen_addresses = ''" >"/etc/postgresql/$major/main/conf.d/alone.conf" &&
        pg_ctlcluster "$major" main start &&
        is "$(sql postgres 'SHOW shared_preload_libraries')" zeroauth_audit
}
creates() {
    runuser -u postgres -- createdb audit && sql audit 'CREATE EXTENSION zeroauth_audit' >/created 2>&1 &&
        cat /created && is "$(sed 's/:.*//' /created)" "$(printf 'NOTICE\nHINT')"
}
# As in docs/install.md; the other one is what a cluster that was made under LANG=C gives.
wants_utf8() {
    runuser -u postgres -- createdb --template=template0 --encoding=SQL_ASCII --locale=C ascii || return
    if sql ascii 'CREATE EXTENSION zeroauth_audit' >/refused 2>&1; then echo 'created in SQL_ASCII'; return 1; fi
    cat /refused && grep -q 'needs a UTF8 database, this one is SQL_ASCII' /refused &&
        runuser -u postgres -- createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 utf8 &&
        sql utf8 'CREATE EXTENSION zeroauth_audit' && runuser -u postgres -- dropdb utf8 && runuser -u postgres -- dropdb ascii
}
verifies() {
    for action in open read close; do append "$action" || return; done
    verified && is "$(sql audit "SELECT count(*) FROM audit_events WHERE tenant_id = 'acme'")" 3
}

# The same package with the next Debian revision.
next() {
    mkdir /next && for file in /packages/*.deb; do
        dpkg-deb -R "$file" /unpacked && sed -i 's/^Version: .*/&+next/' /unpacked/DEBIAN/control &&
            dpkg-deb --root-owner-group -b /unpacked "/next/$(basename "$file")" && rm -r /unpacked || return
    done
}
upgrades() {
    events >/before && install /next/*.deb && version_is "$package" "$version+next" && events | diff /before - &&
        append after-upgrade && verified
}
restarts() { events >/before && pg_ctlcluster "$major" main restart && events | diff /before - && append restarted && verified; }

program() { is "$(zeroauth-audit --version)" "zeroauth-audit ${version%-*}" && zeroauth-audit keygen --out /key --origin log.example.org/audit; }
describes() {
    for command in '' $(zeroauth-audit help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/-\1/p' | grep -v -- '^-help$'); do
        zcat "/usr/share/man/man1/zeroauth-audit$command.1.gz" | grep -q '^\.TH' || { echo "no page of $command"; return 1; }
    done
    bash -n /usr/share/bash-completion/completions/zeroauth-audit &&
        bash -c '. /usr/share/bash-completion/completions/zeroauth-audit && complete -p zeroauth-audit' &&
        grep -q '^#compdef zeroauth-audit' /usr/share/zsh/vendor-completions/_zeroauth-audit &&
        grep -q 'verify-export' /usr/share/fish/vendor_completions.d/zeroauth-audit.fish
}
# With a module for host names that belongs to the glibc of this Debian.
looks_up() (
    install ca-certificates libnss-myhostname && grep -q '^hosts:.*myhostname' /etc/nsswitch.conf || return
    # Files with secrets are their owner's alone.
    umask 077
    printf '%064d' 1 >/payer
    for host in localhost no-such-host.invalid; do
        echo "https://$host:1/" >/rpc
        address=0x5fbdb2315678afecb367f032d93f642f64180aa3
        zeroauth-audit deploy-contract --rpc-file /rpc --chain-id 1 --origin log.example.org/audit --anchorer $address \
            --owner $address --key-file /payer --keep /keep --wait 1 >/looked 2>&1
        is "$?" 2 && grep 'endpoint 1: the connection' /looked || { cat /looked; return 1; }
    done
)

# While the server runs.
removes() {
    events >/before && apt-get -qq remove -y "$package" >/removed 2>&1 && cat /removed &&
        grep -q "Take zeroauth_audit out of shared_preload_libraries of $major/main" /removed &&
        [ ! -e "/usr/lib/postgresql/$major/lib/zeroauth_audit.so" ] && events | diff /before -
}
refuses_to_start() {
    pg_ctlcluster "$major" main stop || return
    if pg_ctlcluster "$major" main start >/start 2>&1; then echo 'it started without the library'; return 1; fi
    cat /start && grep -q 'could not access file "zeroauth_audit"' "/var/log/postgresql/postgresql-$major-main.log"
}
keeps_data() {
    rm "$conf" && pg_ctlcluster "$major" main start && events | diff /before - &&
        if append without-library; then echo 'an event was added without the library'; return 1; fi
}
comes_back() {
    install /next/$package*.deb && echo "shared_preload_libraries = 'zeroauth_audit'" >"$conf" &&
        pg_ctlcluster "$major" main restart && events | diff /before - && append back && verified
}
purges() {
    events >/before && apt-get -qq purge -y "$package" zeroauth-audit && [ ! -e /usr/bin/zeroauth-audit ] &&
        rm "$conf" && pg_ctlcluster "$major" main restart && events | diff /before -
}

step 'there is no compiler' no_rust
step 'the packages install' installs
step 'a server preloads the library' preloads
step 'CREATE EXTENSION says what is missing, and warns of nothing' creates
step 'a database that is not UTF-8 is refused, one made as the documents say is not' wants_utf8
step 'events are inserted and verified' verifies
step 'the next revision is made' next
step 'the package is upgraded while the server runs, and no event changes' upgrades
step 'the server restarts with the upgraded package' restarts
step "the auditor's program runs" program
step 'it has manual pages and completions' describes
step 'it looks names up and loads nothing of this system' looks_up
step 'the package is removed while the server runs, with a warning' removes
step 'while it is still to be preloaded, the server does not start' refuses_to_start
step 'taken out, the server starts, every event is there, and none is added' keeps_data
step 'installed again, it goes on' comes_back
step 'both are purged, and every event is there' purges
