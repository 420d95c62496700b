//! Failover under load, and a synchronous standby that disappears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::dump::DIGEST;
use crate::fault_load::{assert_only_tails_lost, load};
use crate::support::{SetOnDrop, Sql, assert_whole, promote, standby_of, succeed};

const DEADLINE: Duration = Duration::from_secs(60);

/// A primary that a standby, and `pg_rewind` later, can follow.
fn primary(name: &str) -> Cluster {
    let primary = Cluster::builder(name)
        .conf("fsync", "off")
        .conf("wal_log_hints", "on")
        .conf("wal_keep_size", "512MB")
        .conf("wal_retrieve_retry_interval", "200ms")
        .start()
        .unwrap();
    primary.client().run("CREATE EXTENSION zeroauth_audit");
    primary
}

#[track_caller]
fn caught_up(primary: &mut Client, standby: &mut Client) {
    let position = primary.line("SELECT pg_current_wal_insert_lsn()");
    wait_until(DEADLINE, "the standby to have replayed", || {
        standby.line(&format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)")) == "t"
    });
    assert_eq!(primary.line(DIGEST), standby.line(DIGEST));
}

/// Everything that reads, as statements that leave the transaction without an XID.
const READERS: [&str; 10] = [
    "SELECT count(*) FROM audit_verify('tenant 1')",
    "SELECT count(*) FROM audit_verify('tenant 1', 5)",
    "SELECT count(*) FROM audit_verify()",
    "SELECT count(*) FROM audit_findings()",
    "SELECT count(*) FROM audit_findings('tenant 1', 5)",
    "SELECT count(*) FROM audit_export()",
    "SELECT count(*) FROM audit_export('tenant 1')",
    "SELECT count(*) FROM audit_progress() WHERE what = 'verification'",
    "SELECT count(*) FROM audit_guards()",
    "SELECT count(*) FROM (SELECT zeroauth_audit_internal.uuid_v7(), zeroauth_audit_internal.private_hash('\\x00112233445566778899aabbccddeeff', NULL, NULL, NULL, NULL, NULL, NULL)) x",
];

#[test]
fn nothing_that_reads_assigns_a_transaction_id_on_the_primary_nor_needs_one_on_a_standby() {
    let primary = primary("readers");
    let mut on_primary = primary.client();
    on_primary.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3, 'x' FROM generate_series(1, 300) i");
    let standby = standby_of(&primary, "readers_standby");
    let mut on_standby = standby.client();
    caught_up(&mut on_primary, &mut on_standby);
    assert_eq!(on_standby.line("SELECT pg_is_in_recovery()"), "t");
    for sql in READERS {
        // Under an isolation level with one snapshot, both servers answer the same.
        for client in [&mut on_primary, &mut on_standby] {
            client.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
            client.line(sql);
            if client.line("SELECT pg_is_in_recovery()") == "f" {
                assert_eq!(client.line("SELECT pg_current_xact_id_if_assigned()"), "~", "{sql}");
            }
            client.run("COMMIT");
        }
        if !sql.contains("zeroauth_audit_internal.uuid_v7") {
            assert_eq!(on_primary.line(sql), on_standby.line(sql), "{sql}");
        }
    }
}

#[test]
fn a_standby_promoted_under_load_goes_on_and_the_old_primary_follows_it_after_a_rewind() {
    let old = primary("rewound");
    old.client().run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 4, 'before' FROM generate_series(1, 400) i");
    let new = standby_of(&old, "promoted");
    let run = |server: &Cluster, seed: u64, until: &dyn Fn()| {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writing: Vec<_> = (0..4)
                .map(|connection| {
                    let (over, mut client) = (&over, server.client());
                    scope.spawn(move || load(&mut client, seed + connection, over))
                })
                .collect();
            let _over = SetOnDrop(&over);
            until();
            over.store(true, Ordering::Relaxed);
            writing.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let more_than = |server: &Cluster, count: i64| {
        let mut client = server.client();
        wait_until(DEADLINE, "more events", || {
            client.line("SELECT count(*) FROM audit_events").parse::<i64>().unwrap() > count
        });
    };
    // Promoted in the middle of the load on the old primary, which for a while does not know: the two histories part.
    let at_old = run(&old, 0, &|| {
        more_than(&old, 500);
        promote(&mut new.client());
        let there = old.client().line("SELECT count(*) FROM audit_events").parse::<i64>().unwrap();
        more_than(&old, there + 100);
        old.crash().unwrap();
    });
    let mut on_new = new.client();
    assert_eq!(on_new.line("SELECT pg_is_in_recovery()"), "f");
    let (acknowledged, lost) = assert_only_tails_lost(&mut on_new, &at_old);
    assert!(0 < lost && lost < acknowledged, "{lost} of {acknowledged} lost: the histories do not part");
    assert_whole(&mut on_new);
    let at_new = run(&new, 100, &|| more_than(&new, 900));
    assert_eq!(assert_only_tails_lost(&mut on_new, &at_new).1, 0);

    // pg_rewind brings the other server's configuration along: ours is put back.
    let conf = old.data_dir().join("postgresql.conf");
    let kept = std::fs::read(&conf).unwrap();
    let source =
        format!("host={} port={} user=postgres dbname=postgres", new.socket_dir().display(), new.port());
    // Up to PostgreSQL 15 the new timeline is only in the control file, where pg_rewind looks, after a checkpoint.
    on_new.run("CHECKPOINT");
    // Its own recovery after the crash is run by a single-user server that loads the library too.
    succeed(
        old.command("pg_rewind").arg("-R").arg("-D").arg(old.data_dir()).args(["--source-server", &source]),
    );
    std::fs::write(&conf, kept).unwrap();
    old.start_again().unwrap();
    let mut on_old = old.client();
    assert_eq!(on_old.line("SELECT pg_is_in_recovery()"), "t");
    // The writers of the new primary have only now a standby that sees every row they append.
    let _ = run(&new, 200, &|| more_than(&new, 1200));
    caught_up(&mut on_new, &mut on_old);
    assert_whole(&mut on_old);
    assert_whole(&mut on_new);
}

/// Ends, when an assertion fails, what would wait for the standby for ever.
struct CrashOnPanic<'a>(&'a Cluster);

impl Drop for CrashOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.crash();
        }
    }
}

#[test]
fn a_synchronous_standby_that_disappears_stops_commits_but_nobody_waits_for_a_chain() {
    let primary = primary("synchronous");
    let mut client = primary.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'before')");
    let standby = standby_of(&primary, "synchronous_standby");
    client.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
    client.run("SELECT pg_reload_conf()");
    wait_until(DEADLINE, "the standby to be synchronous", || {
        client.lines("SELECT sync_state FROM pg_stat_replication") == ["sync"]
    });
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'on both')");
    standby.shut_down().unwrap();
    wait_until(DEADLINE, "the standby to be gone", || {
        client.line("SELECT count(*) FROM pg_stat_replication") == "0"
    });
    client.run("SET synchronous_commit = local");

    let (tell, told) = mpsc::channel();
    let mut config = primary.config();
    config.user("postgres").dbname("audit").notice_callback(move |notice| {
        let _ = tell.send(format!("{} {}", notice.severity(), notice.message()));
    });
    let mut first = config.connect(postgres::NoTls).unwrap();
    thread::scope(|scope| {
        let _ends = CrashOnPanic(&primary);
        let insert = |action: &'static str| {
            let mut client = primary.client();
            scope.spawn(move || {
                client.line(&format!("SET lock_timeout = '5s'; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '{action}') RETURNING chain"))
            })
        };
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let cancelled = scope.spawn(move || {
            first.line(
                "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'cancelled') RETURNING chain",
            )
        });
        wait_until(DEADLINE, "the first commit to wait for the standby", || client.line(waits) == "1");
        // The first one keeps chain 0 while it waits; the others take chains of their own, and come as far as it did.
        let others = [insert("waits"), insert("waits too")];
        wait_until(DEADLINE, "all three to wait for the standby", || client.line(waits) == "3");
        assert_eq!(
            client.line("SELECT count(*) FROM pg_locks WHERE NOT granted"),
            "0",
            "nobody waits for a lock"
        );
        assert_eq!(
            client.line(
                "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'local') RETURNING chain"
            ),
            "3"
        );
        assert_eq!(
            client.lines("SELECT action FROM audit_events WHERE seq > 0 ORDER BY chain, seq"),
            ["before", "on both", "local"]
        );

        // A cancel ends the wait, not the commit.
        client.run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%''cancelled''%'");
        assert_eq!(cancelled.join().unwrap(), "0");
        let warning = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(warning, "WARNING canceling wait for synchronous replication due to user request");
        assert_eq!(client.line("SELECT chain, seq FROM audit_events WHERE action = 'cancelled'"), "0|3");
        assert_eq!(client.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after it') RETURNING chain IN (0, 3)"), "t");
        assert_whole(&mut client);

        standby.start_again().unwrap();
        let mut chains = others.map(|other| other.join().unwrap());
        chains.sort();
        assert_eq!(chains, ["1", "2"]);
    });
    client.run("SET synchronous_commit = on; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'on both again')");
    let mut on_standby = standby.client();
    caught_up(&mut client, &mut on_standby);
    assert_whole(&mut client);
    assert_whole(&mut on_standby);
    assert_eq!(on_standby.line("SELECT count(*) FROM audit_events"), "8");
}
