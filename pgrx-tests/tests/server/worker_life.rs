//! The life of a worker: where it comes from, what makes it go, and that it comes back, each within its deadline.

use std::fs;
use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::sealed::{ORIGIN, folder, key_file, key_path};
use crate::support::worker::{ENDS, ONLY_PRUNE, STARTS, no_worker, timed, watcher, worker, worker_after};
use crate::support::{DEADLINE, Sql};

fn cluster(name: &str) -> Cluster {
    Cluster::builder(name).conf("fsync", "off").conf("max_prepared_transactions", "10").start().unwrap()
}

#[test]
fn a_configuration_that_is_reloaded_while_a_worker_starts_is_not_lost_on_it() {
    // Every process waits so long before it looks at signals: PostgreSQL drops a SIGHUP that comes meanwhile.
    let cluster =
        Cluster::builder("worker_reload").conf("fsync", "off").conf("post_auth_delay", "2").start().unwrap();
    let (home, key) = (folder(&cluster, "worker_reload_sink"), key_path(&cluster));
    key_file(&key, ORIGIN, 92);
    let mut client = cluster.client();
    let mut other = cluster.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    client.run(&format!(
        "SELECT audit_sink_set('worm', 'directory', '{{\"directory\": \"{}\"}}')",
        home.display()
    ));
    // The launcher has asked for a worker as soon as it has a slot, which is before that has come so far as to be shown.
    let started = "SELECT state FROM zeroauth_audit_internal.worker_status()";
    wait_until(STARTS, "the worker to be started", || client.line(started) != "none");
    other.run(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'", key.display()));
    other.run("SELECT pg_reload_conf()");
    wait_until(DEADLINE, "what the worker signs", || {
        client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'checkpoint' AND next_run > now()");
        client.line("SELECT published_to > 0 FROM zeroauth_audit_internal.sinks") == "t"
    });
}

#[test]
fn a_worker_comes_with_the_extension_and_goes_with_it() {
    let cluster = cluster("worker_comes");
    let mut watcher = watcher(&cluster);
    let mut client = cluster.client();
    assert_eq!(worker(&mut watcher, "audit"), None);
    client.run(&format!("CREATE EXTENSION zeroauth_audit; {ONLY_PRUNE}"));
    worker_after(&mut watcher, "audit", None);
    assert_eq!(
        watcher.lines("SELECT backend_type, datname, application_name, state, regexp_replace(query, 'job .*', 'job') FROM pg_stat_activity WHERE backend_type LIKE 'zeroauth_audit%' ORDER BY 1"),
        [
            "zeroauth_audit launcher|~|zeroauth_audit|idle|waiting for a database that needs a worker",
            "zeroauth_audit worker|audit|zeroauth_audit|idle|waiting for job"
        ]
    );
    client.run("DROP EXTENSION zeroauth_audit");
    no_worker(&mut watcher, "audit");
    // Rolled back, it was never there; and in another session's eyes it is not until the commit.
    client.run("BEGIN; CREATE EXTENSION zeroauth_audit; ROLLBACK");
    client.run("BEGIN; CREATE EXTENSION zeroauth_audit");
    assert_eq!(worker(&mut watcher, "audit"), None);
    client.run("COMMIT");
    worker_after(&mut watcher, "audit", None);
    // A rolled back DROP gives the worker back.
    client.run("BEGIN; DROP EXTENSION zeroauth_audit");
    no_worker(&mut watcher, "audit");
    client.run("ROLLBACK");
    worker_after(&mut watcher, "audit", None);
    // Not before: a savepoint of later takes nothing back. That of the DROP does.
    client.run("BEGIN; SAVEPOINT a; DROP EXTENSION zeroauth_audit; RELEASE a; SAVEPOINT b; SAVEPOINT c; ROLLBACK TO b");
    std::thread::sleep(std::time::Duration::from_secs(2));
    no_worker(&mut watcher, "audit");
    client.run("ROLLBACK");
    worker_after(&mut watcher, "audit", None);
    client.run("BEGIN; SAVEPOINT a; DROP EXTENSION zeroauth_audit; ROLLBACK TO a");
    worker_after(&mut watcher, "audit", None);
    client.run("COMMIT");
    client.run("DROP EXTENSION zeroauth_audit CASCADE");
    no_worker(&mut watcher, "audit");
    client.run("CREATE SCHEMA gone; CREATE EXTENSION zeroauth_audit SCHEMA gone");
    worker_after(&mut watcher, "audit", None);
    client.run("DROP SCHEMA gone CASCADE");
    no_worker(&mut watcher, "audit");
}

#[test]
fn statements_that_need_the_database_do_not_wait_for_the_worker() {
    let cluster = cluster("worker_databases");
    let mut watcher = watcher(&cluster);
    let folder = cluster.data_dir().parent().unwrap().join("space");
    let made = cluster.command("mkdir").arg(&folder).status().unwrap();
    assert!(made.success());
    watcher.run(&format!("CREATE TABLESPACE space LOCATION '{}'", folder.display()));
    for round in 0..3 {
        watcher.run("CREATE DATABASE one");
        cluster.connect("postgres", "one").unwrap().run("CREATE EXTENSION zeroauth_audit");
        worker_after(&mut watcher, "one", None);
        assert!(timed(|| watcher.run("CREATE DATABASE copy TEMPLATE one")) < ENDS);
        // The copy has the extension, and nobody created it there.
        worker_after(&mut watcher, "copy", None);
        worker_after(&mut watcher, "one", None);
        assert!(timed(|| watcher.run("ALTER DATABASE one SET TABLESPACE space")) < ENDS);
        worker_after(&mut watcher, "one", None);
        assert!(timed(|| watcher.run("ALTER DATABASE one RENAME TO two")) < ENDS);
        worker_after(&mut watcher, "two", None);
        assert!(timed(|| watcher.run("DROP DATABASE two")) < ENDS);
        no_worker(&mut watcher, "two");
        let drop = if round == 0 { "DROP DATABASE copy WITH (FORCE)" } else { "DROP DATABASE copy" };
        assert!(timed(|| watcher.run(drop)) < ENDS);
        no_worker(&mut watcher, "copy");
    }
    assert!(!cluster.log().contains("FATAL"), "{}", cluster.log());
}

#[test]
fn a_statement_that_fails_gives_the_worker_back_and_a_stranger_cannot_stop_it() {
    let cluster = cluster("worker_back");
    let mut watcher = watcher(&cluster);
    cluster.client().run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    watcher.run("CREATE ROLE stranger LOGIN CREATEDB");
    let pid = worker_after(&mut watcher, "audit", None);
    let mut stranger = cluster.connect("stranger", "postgres").unwrap();
    for sql in [
        "DROP DATABASE audit",
        "ALTER DATABASE audit RENAME TO x",
        "CREATE DATABASE x TEMPLATE audit",
        "ALTER DATABASE audit SET TABLESPACE pg_default",
    ] {
        stranger.refused("42501", sql);
    }
    cluster.connect("stranger", "audit").unwrap().refused("42501", "DROP EXTENSION zeroauth_audit");
    assert_eq!(worker(&mut watcher, "audit"), Some(pid), "a stranger's attempts leave it alone");
    // A session is connected: the statement fails, and the worker comes back.
    let mut client = cluster.client();
    watcher.refused("55006", "DROP DATABASE audit");
    let pid = worker_after(&mut watcher, "audit", Some(pid));
    client.refused("ZA004", "DROP EXTENSION zeroauth_audit");
    worker_after(&mut watcher, "audit", Some(pid));
}

#[test]
fn it_comes_back_after_every_kind_of_end() {
    let cluster = cluster("worker_ends");
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    let mut one = watcher(&cluster);
    let pid = worker_after(&mut one, "audit", None);
    assert_eq!(one.line(&format!("SELECT pg_terminate_backend({pid})")), "t");
    let pid = worker_after(&mut one, "audit", Some(pid));
    // The launcher's end leaves the worker alone, and the next launcher knows it.
    one.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit launcher'");
    wait_until(STARTS, "another launcher", || {
        one.line("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit launcher' AND state = 'idle'") == "1"
    });
    assert_eq!(worker(&mut one, "audit"), Some(pid));
    one.run(&format!("SELECT pg_terminate_backend({pid})"));
    let pid = worker_after(&mut one, "audit", Some(pid));
    // A crash of the worker, and one of another backend.
    // A session of before is ended by the restart: one that is made sooner may be ended with it.
    let mut witness = watcher(&cluster);
    assert!(cluster.kill(pid).unwrap());
    wait_until(STARTS, "the restart", || witness.simple_query("SELECT 1").is_err());
    let mut one = reconnected(&cluster);
    let pid = worker_after(&mut one, "audit", Some(pid));
    let mut witness = watcher(&cluster);
    let victim = one.line("SELECT pg_backend_pid()").parse().unwrap();
    assert!(cluster.kill(victim).unwrap());
    wait_until(STARTS, "the restart", || witness.simple_query("SELECT 1").is_err());
    let mut one = reconnected(&cluster);
    let pid = worker_after(&mut one, "audit", Some(pid));
    // A restart, and a crash of the whole server.
    let stopped = timed(|| cluster.shut_down().unwrap());
    assert!(stopped < ENDS, "{stopped:?}");
    cluster.start_again().unwrap();
    let pid = worker_after(&mut reconnected(&cluster), "audit", Some(pid));
    cluster.crash().unwrap();
    cluster.start_again().unwrap();
    worker_after(&mut reconnected(&cluster), "audit", Some(pid));
}

/// A connection to a server that may be restarting after a crash.
fn reconnected(cluster: &Cluster) -> postgres::Client {
    let mut found = None;
    wait_until(DEADLINE, "the server to answer", || {
        found = cluster
            .connect("postgres", "postgres")
            .ok()
            .and_then(|mut client| client.batch_execute("SELECT 1").is_ok().then_some(client));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn several_databases_have_a_worker_each_and_others_none() {
    let cluster = Cluster::builder("worker_several")
        .conf("fsync", "off")
        .conf("max_worker_processes", "12")
        .start()
        .unwrap();
    let mut watcher = watcher(&cluster);
    for n in 0..6 {
        watcher.run(&format!("CREATE DATABASE d{n}"));
        if n % 2 == 0 {
            cluster.connect("postgres", &format!("d{n}")).unwrap().run("CREATE EXTENSION zeroauth_audit");
        }
    }
    let all = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker' AND state = 'idle'";
    wait_until(STARTS, "three workers", || watcher.line(all) == "d0 d2 d4");
    cluster.restart().unwrap();
    let mut watcher = reconnected(&cluster);
    wait_until(STARTS, "three workers after a restart", || watcher.line(all) == "d0 d2 d4");
}

#[test]
fn without_room_there_is_one_line_and_it_is_tried_again() {
    let cluster = Cluster::builder("worker_room")
        .conf("fsync", "off")
        .conf("max_worker_processes", "3")
        .conf("max_logical_replication_workers", "0")
        .start()
        .unwrap();
    let mut watcher = watcher(&cluster);
    for n in 0..3 {
        watcher.run(&format!("CREATE DATABASE d{n}"));
        cluster.connect("postgres", &format!("d{n}")).unwrap().run("CREATE EXTENSION zeroauth_audit");
    }
    worker_after(&mut watcher, "d0", None);
    worker_after(&mut watcher, "d1", None);
    let lines = |log: &str| {
        log.lines()
            .filter(|line| {
                line.contains("WARNING") && line.contains("zeroauth_audit cannot start the worker")
            })
            .count()
    };
    wait_until(STARTS, "the warning", || lines(&cluster.log()) == 1);
    assert!(cluster.log().contains("HINT:  Raise max_worker_processes"), "{}", cluster.log());
    let mut unlucky = cluster.connect("postgres", "d2").unwrap();
    let health = "SELECT h ->> 'state', h -> 'reasons', h #> '{worker,alive}' FROM audit_health() h";
    wait_until(STARTS, "the health to say so", || {
        unlucky.line(health) == r#"failing|["worker_not_alive"]|false"#
    });
    // Room is made: no need to wait for the next try.
    watcher.run("DROP DATABASE d0");
    worker_after(&mut watcher, "d2", None);
    assert_eq!(lines(&cluster.log()), 1, "{}", cluster.log());
}

#[test]
fn a_prepared_transaction_brings_the_worker_when_it_commits() {
    let cluster = cluster("worker_prepared");
    let mut watcher = watcher(&cluster);
    let mut client = cluster.client();
    client.run("BEGIN; CREATE EXTENSION zeroauth_audit; PREPARE TRANSACTION 'create'");
    assert_eq!(worker(&mut watcher, "audit"), None);
    client.run("COMMIT PREPARED 'create'");
    let pid = worker_after(&mut watcher, "audit", None);
    client.run("BEGIN; DROP EXTENSION zeroauth_audit; PREPARE TRANSACTION 'drop'");
    client.run("ROLLBACK PREPARED 'drop'");
    let pid = worker_after(&mut watcher, "audit", Some(pid));
    client.run("BEGIN; DROP EXTENSION zeroauth_audit; PREPARE TRANSACTION 'drop'");
    client.run("COMMIT PREPARED 'drop'");
    no_worker(&mut watcher, "audit");
    let _ = pid;
}

#[test]
fn a_waiting_worker_costs_nothing() {
    let cluster = cluster("worker_idle");
    cluster.client().run(&format!("CREATE EXTENSION zeroauth_audit; {ONLY_PRUNE}"));
    let mut watcher = watcher(&cluster);
    let pid = worker_after(&mut watcher, "audit", None);
    let launcher: i32 = watcher
        .line("SELECT pid FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit launcher'")
        .parse()
        .unwrap();
    let switches = |pid: i32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = (switches(pid), switches(launcher));
    std::thread::sleep(Duration::from_secs(10)); // what is measured is this time itself
    let after = (switches(pid), switches(launcher));
    assert!(after.0 - before.0 <= 2 && after.1 - before.1 <= 2, "{before:?} {after:?}");
}

#[test]
fn with_the_setting_off_nothing_runs() {
    let cluster = Cluster::builder("worker_off")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run("CREATE DATABASE other TEMPLATE template0");
    client.run("DROP DATABASE other");
    assert_eq!(
        client.line("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'zeroauth_audit%'"),
        "0"
    );
    assert_eq!(
        client.line("SELECT enabled, launcher, pid FROM zeroauth_audit_internal.worker_status()"),
        "f|~|~"
    );
    client.refused("55P02", "SET zeroauth_audit.worker = on");
}
