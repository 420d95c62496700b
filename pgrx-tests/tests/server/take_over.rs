//! What a directory has and the database lacks: after a failover, after a restore, when two servers sign, and when the database lies.

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::log::{SEAL, cluster};
use crate::publish::{Publishing, append, judged_in, newest_in, publishing, seal};
use crate::support::sealed::{folder, published, trust};
use crate::support::{DEADLINE, SmallDisk, Sql, base_backup};

const ALERTS: &str = "SELECT severity, kind, tenant FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind NOT IN ('clock_step', 'settings_written') ORDER BY kind, tenant";
const MAINTAIN: &str = "SET LOCAL zeroauth_audit.maintenance = on";
const RESTART: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'";
const FORKED: &str = "SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'registry_forked' AND condition_gone_at IS NULL";

/// A server that goes on from a backup, with the key and the directory of the one that it was taken from, which runs no more.
fn restored(publishing: &Publishing, name: &str, backup: &std::path::Path) -> (Cluster, Client) {
    publishing.cluster.shut_down().unwrap();
    let cluster = Cluster::builder(name).data(backup).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

#[test]
fn a_failover_that_lost_no_event_takes_over_what_was_signed_and_goes_on_as_if_nothing_had_been() {
    let publishing = publishing("take_over_whole", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    // Everything is there but what the job made of it.
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'checkpoint'");
    append(&mut client, "acme", 300);
    append(&mut client, "globex", 20);
    let backup = base_backup(&publishing.cluster, &["-X", "stream"]);
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'");
    seal(&mut client);
    publishing.wait_for(&["acme 310", "globex 20"]);
    drop(client);
    let (_cluster, mut client) = restored(&publishing, "take_over_whole_restored", &backup);
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'");
    append(&mut client, "globex", 5);
    publishing.wait_for(&["acme 310", "globex 25"]);
    assert_eq!(publishing.judged(), "verified: every log only grew");
    assert_eq!(
        client.lines("SELECT tenant_id, state FROM zeroauth_audit_internal.logs WHERE state <> 'open'"),
        [] as [&str; 0]
    );
    assert_eq!(client.line("SELECT bool_and(ok) FROM audit_verify()"), "t");
    assert_eq!(
        client.lines("SELECT tenant_id, state FROM audit_integrity() WHERE state NOT IN ('ok', 'unchecked')"),
        [] as [&str; 0]
    );
    // Which it says in its own trail, and nowhere else.
    assert_eq!(
        client.line(
            "SELECT count(*) FROM audit_events WHERE action = 'registry.taken_over' AND resource = 'worm'"
        ),
        "1"
    );
    assert!(
        client.lines(ALERTS).iter().all(|alert| alert.starts_with("2|job_")),
        "{:?}",
        client.lines(ALERTS)
    );
    // Its own files are made from the tables, and that which was taken over is kept.
    assert_eq!(client.line("SELECT count(*) FILTER (WHERE file IS NOT NULL) BETWEEN 1 AND 3, bool_and(zeroauth_audit_internal.registry_run_file(number) IS NOT NULL) FROM zeroauth_audit_internal.registry_runs"), "t|t");
}

#[test]
fn a_restore_takes_over_what_is_there_and_holds_what_is_lost_and_a_tenant_that_comes_back_is_recognized() {
    let publishing = publishing("take_over_lost", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    append(&mut client, "globex", 4);
    publishing.wait_for(&["acme 10", "globex 4"]);
    let backup = base_backup(&publishing.cluster, &["-X", "stream"]);
    append(&mut client, "acme", 20);
    append(&mut client, "late", 4);
    publishing.wait_for(&["acme 30", "globex 4", "late 4"]);
    drop(client);
    let (_cluster, mut client) = restored(&publishing, "take_over_lost_restored", &backup);
    append(&mut client, "globex", 1);
    // One that is not held goes on, and what is lost is named.
    publishing.wait_for(&["acme 30", "globex 5", "late 4"]);
    assert_eq!(
        client.lines("SELECT tenant_id, known_size FROM zeroauth_audit_internal.logs WHERE state = 'held'"),
        ["acme|30"]
    );
    let alerts = client.lines(ALERTS);
    assert!(
        alerts.contains(&"1|tail_truncated|acme".to_owned())
            && alerts.contains(&"1|tenant_missing|~".to_owned()),
        "{alerts:?}"
    );
    assert_eq!(publishing.judged(), "verified: every log only grew");
    assert_eq!(client.line("SELECT ok, classes FROM audit_verify('acme')"), "f|{tail_truncated}");
    // A month later all logs are stated again, also those whose events are not here; a new directory begins there.
    let snapshots =
        "SELECT count(*) FROM zeroauth_audit_internal.registry_entries WHERE text LIKE '%snapshot begin%'";
    client.run(&format!(
        "{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '31 days'"
    ));
    client.run(RESTART);
    wait_until(3 * DEADLINE, "a snapshot", || {
        seal(&mut client);
        client.line(snapshots) == "1"
    });
    append(&mut client, "globex", 1);
    publishing.wait_for(&["acme 30", "globex 6", "late 4"]);
    assert_eq!(publishing.judged(), "verified: every log only grew");
    let second = folder(&publishing.cluster, "second");
    client.run(&format!(
        r#"SELECT audit_sink_set('zweit', 'directory', '{{"directory": "{}"}}')"#,
        second.display()
    ));
    let (key, names) = (&publishing.key, publishing.names().unwrap());
    let all = ["acme 30", "globex 6", "late 4"];
    wait_until(3 * DEADLINE, "the second directory", || newest_in(&second, key, &names) == all);
    let since = "verified: every log only grew, since the snapshot that was read first";
    assert_eq!(judged_in(&second, key), since);
    assert_eq!(client.line(snapshots), "1", "none before the next month is over");
    // It is here again, under the label that the directory knows.
    append(&mut client, "late", 2);
    wait_until(DEADLINE, "it to be recognized", || {
        client.lines(
            "SELECT tenant_id, known_size FROM zeroauth_audit_internal.logs WHERE state = 'held' ORDER BY 1",
        ) == ["acme|30", "late|4"]
    });
    assert_eq!(client.line("SELECT audit_restore_acknowledge('the disk broke')"), "2");
    append(&mut client, "acme", 1);
    append(&mut client, "late", 1);
    publishing.wait_for(&["acme 30", "acme/1 12", "globex 6", "late 4", "late/1 4"]);
    assert_eq!(publishing.judged(), "restored: every log only grew, but for 2 restores");
    assert_eq!(client.line("SELECT bool_and(ok) FROM audit_verify()"), "t");
}

#[test]
fn of_two_servers_that_sign_one_registry_each_number_is_one_of_them_s_and_both_say_so() {
    let publishing = publishing("take_over_two", &[]);
    let mut one = publishing.cluster.client();
    append(&mut one, "acme", 9);
    append(&mut one, "globex", 4);
    publishing.wait_for(&["acme 10", "globex 4"]);
    let backup = base_backup(&publishing.cluster, &["-X", "stream"]);
    let other = Cluster::builder("take_over_two_other").data(&backup).start().unwrap();
    let mut two = other.client();
    // Each has events that the other does not have.
    for round in 0..4 {
        append(&mut one, "acme", 1);
        append(&mut two, "globex", 1);
        wait_until(DEADLINE, "both to have signed", || {
            [&mut one, &mut two].iter_mut().all(|client| {
                client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'checkpoint' AND status = 'succeeded' AND started_at > now() - interval '1 minute'").parse::<i32>().unwrap() > round
            })
        });
    }
    let told = "SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind IN ('second_signer', 'tail_truncated', 'checkpoint_mismatch')";
    wait_until(3 * DEADLINE, "one of them to say so", || one.line(told) != "0" || two.line(told) != "0");
    // Of whatever each did, the directory has one history.
    let (verdict, files) =
        (publishing.judged(), published(&publishing.directory, &trust(&[&publishing.key])));
    assert_eq!(verdict, "verified: every log only grew");
    assert!(files.keys().copied().eq(1..=files.len() as u64), "without a hole");
    // And nobody signed another root for a size that is out.
    for client in [&mut one, &mut two] {
        client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'checkpoint'");
        wait_until(DEADLINE, "the run to end", || {
            client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running' AND job = 'checkpoint'") == "0"
        });
    }
    let out = |client: &mut Client| {
        client.rows("SELECT number, zeroauth_audit_internal.registry_run_file(number) FROM zeroauth_audit_internal.registry_runs WHERE number <= (SELECT max(published_to) FROM zeroauth_audit_internal.sinks)")
    };
    let here = [out(&mut one), out(&mut two)];
    // What was published meanwhile is there as well.
    let files = published(&publishing.directory, &trust(&[&publishing.key]));
    for row in here.into_iter().flatten() {
        let number: u64 = row[0].as_ref().unwrap().parse().unwrap();
        assert_eq!(row[1].as_ref(), files.get(&number).map(|(_, text)| text), "run {number}");
    }
}

#[test]
fn a_run_that_is_another_one_here_than_in_the_directory_ends_all_signing_until_it_is_right_again() {
    let publishing = publishing("take_over_forked", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    append(&mut client, "acme", 1);
    publishing.wait_for(&["acme 11"]);
    wait_until(DEADLINE, "the record", || {
        client.line("SELECT published_to = (SELECT max(number) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.sinks") == "t"
    });
    let was = client
        .line("SELECT encode(digest, 'hex') FROM zeroauth_audit_internal.registry_runs WHERE number = 1");
    client.run(&format!(
        "{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET digest = sha256('x') WHERE number = 1"
    ));
    client.run(RESTART);
    wait_until(3 * DEADLINE, "the alert", || client.line(FORKED) == "1");
    assert_eq!(
        client.line(
            "SELECT severity, message FROM zeroauth_audit_internal.alerts WHERE kind = 'registry_forked'"
        ),
        "1|run 1 contradicts what sink worm has, and nothing is signed any more: it is another one here: one of the two was rewritten, or a restored server and the one before it both signed"
    );
    assert_eq!(client.line("SELECT h ->> 'state', h -> 'reasons' ? 'registry_forked' FROM zeroauth_audit_internal.health_log() h"), "failing|t");
    append(&mut client, "globex", 1);
    wait_until(DEADLINE, "a run", || {
        client.line("SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'checkpoint'")
            == "t"
    });
    assert_eq!(publishing.newest(), ["acme 11"]);
    // What was changed is right again.
    client.run(&format!(
        "{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET digest = '\\x{was}' WHERE number = 1"
    ));
    client.run(RESTART);
    seal(&mut client);
    publishing.wait_for(&["acme 11", "globex 1"]);
    wait_until(DEADLINE, "the alert to resolve", || client.line(FORKED) == "0");
    assert_eq!(publishing.judged(), "verified: every log only grew");
}

#[test]
fn a_job_that_takes_over_and_a_worker_that_records_what_a_sink_said_do_not_wait_for_each_other_for_ever() {
    let (server, _) = cluster("take_over_deadlock");
    let (mut worker, mut job) = (server.client(), server.client());
    worker.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'); INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('worm', 'directory', '/nowhere')");
    let sealed = job.line(SEAL);
    assert!(sealed.starts_with("succeeded|"), "{sealed}");
    // Run 2, as it would be found: silence.
    worker.run(&format!("{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '11 minutes'"));
    job.line(SEAL);
    let second = job.rows("SELECT zeroauth_audit_internal.registry_run_file(2)")[0][0].clone().unwrap();
    let mut found = worker.transaction().unwrap();
    found.batch_execute(MAINTAIN).unwrap();
    found.batch_execute("DELETE FROM zeroauth_audit_internal.registry_runs WHERE number = 2").unwrap();
    found
        .execute(
            "INSERT INTO zeroauth_audit_internal.registry_found (number, sink, file) VALUES (2, 'worm', $1)",
            &[&second],
        )
        .unwrap();
    found.commit().unwrap();
    // The worker holds the sink's row from the beginning of what it records.
    let mut records = worker.transaction().unwrap();
    records.batch_execute("SET LOCAL deadlock_timeout = '50ms'; SELECT 1 FROM zeroauth_audit_internal.sinks ORDER BY name FOR NO KEY UPDATE").unwrap();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            job.run("SET deadlock_timeout = '50ms'");
            job.line(SEAL)
        });
        let mut other = server.client();
        wait_until(DEADLINE, "the job to wait", || {
            other.line("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
        });
        records.batch_execute("SELECT zeroauth_audit_internal.sink_opened('worm', '{}', '{}')").unwrap();
        records.commit().unwrap();
        let taken = taking.join().unwrap();
        assert!(taken.starts_with("succeeded|"), "{taken}");
    });
}

#[test]
fn all_tables_of_the_log_emptied_with_the_worker_running_are_told_by_the_directory() {
    let publishing = publishing("take_over_emptied", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    append(&mut client, "acme", 1);
    publishing.wait_for(&["acme 11"]);
    wait_until(DEADLINE, "the run to end", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running' AND job = 'checkpoint'") == "0"
    });
    client.run(&format!("{MAINTAIN}; DELETE FROM zeroauth_audit_internal.registry_entries; DELETE FROM zeroauth_audit_internal.registry_tiles; DELETE FROM zeroauth_audit_internal.registry_runs; DELETE FROM zeroauth_audit_internal.registry_names; DELETE FROM zeroauth_audit_internal.tiles; DELETE FROM zeroauth_audit_internal.log_intervals; DELETE FROM zeroauth_audit_internal.logs; DELETE FROM zeroauth_audit_internal.watermarks"));
    append(&mut client, "acme", 1);
    wait_until(3 * DEADLINE, "the alert", || client.line(FORKED) == "1");
    assert_eq!(publishing.newest(), ["acme 11"], "nothing of the new one is published");
    assert_eq!(publishing.judged(), "verified: every log only grew");
}

/// Whether the directory has each run of the database, as it is there, and no other.
fn has_all(publishing: &Publishing, client: &mut Client) -> bool {
    let files = published(&publishing.directory, &trust(&[&publishing.key]));
    let here = client.rows("SELECT number, zeroauth_audit_internal.registry_run_file(number) FROM zeroauth_audit_internal.registry_runs ORDER BY number");
    let here =
        here.into_iter().map(|row| (row[0].as_ref().unwrap().parse().unwrap(), row[1].clone().unwrap()));
    here.eq(files.into_iter().map(|(number, (_, text))| (number, text)))
}

#[test]
fn crashes_while_runs_are_signed_and_published_leave_no_hole_and_no_second_root() {
    let publishing = publishing("take_over_crash", &[("fsync", "on")]);
    let mut client = publishing.cluster.client();
    for round in 1..=6 {
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 500, 'x' FROM generate_series(1, 1000) i");
        append(&mut client, "acme", 1);
        std::thread::sleep(std::time::Duration::from_millis(170 * round));
        publishing.cluster.crash().unwrap();
        publishing.cluster.start_again().unwrap();
        client = publishing.cluster.client();
    }
    wait_until(3 * DEADLINE, "all to be signed and published", || {
        seal(&mut client);
        client.line(
            "SELECT (SELECT count(*) FROM audit_events) = (SELECT sum(tree_size) FROM zeroauth_audit_internal.logs)
                AND (SELECT max(entry) + 1 FROM zeroauth_audit_internal.registry_entries) = (SELECT max(size) FROM zeroauth_audit_internal.registry_runs)
                AND (SELECT max(number) FROM zeroauth_audit_internal.registry_runs) = (SELECT published_to FROM zeroauth_audit_internal.sinks)",
        ) == "t"
    });
    wait_until(DEADLINE, "all of it", || has_all(&publishing, &mut client));
    assert_eq!(publishing.judged(), "verified: every log only grew");
    assert_eq!(
        client.lines("SELECT kind, message FROM zeroauth_audit_internal.alerts WHERE severity = 1"),
        [] as [&str; 0]
    );
}

#[test]
fn a_directory_on_a_full_disk_gets_what_it_lacks_when_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let publishing = publishing("take_over_full", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    let moved = disk.path().join("audit");
    let copied = std::process::Command::new("cp").arg("-a").arg(&publishing.directory).arg(&moved).status();
    assert!(copied.unwrap().success());
    // Before anything can go there, all of it is taken.
    let filler = disk.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    client.run(&format!(
        r#"SELECT audit_sink_set('worm', config => '{{"directory": "{}"}}')"#,
        moved.display()
    ));
    append(&mut client, "acme", 5);
    wait_until(DEADLINE, "the error", || {
        client
            .line("SELECT coalesce(last_error, '') FROM zeroauth_audit_internal.sinks")
            .contains("No space left on device")
    });
    append(&mut client, "acme", 5);
    std::fs::remove_file(&filler).unwrap();
    let mut publishing = publishing;
    publishing.directory = moved;
    publishing.wait_for(&["acme 20"]);
    wait_until(DEADLINE, "all of it", || has_all(&publishing, &mut client));
    assert_eq!(publishing.judged(), "verified: every log only grew");
    let left = std::process::Command::new("find")
        .arg(&publishing.directory)
        .args(["-name", ".unfinished*"])
        .output();
    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "", "nothing half");
    assert_eq!(
        client.lines("SELECT kind FROM zeroauth_audit_internal.alerts WHERE severity = 1"),
        [] as [&str; 0]
    );
}

#[test]
fn what_is_taken_back_behind_a_run_leaves_logs_and_registry_as_they_were_after_it() {
    let (server, _) = cluster("take_over_rewind");
    let mut client = server.client();
    let state = "SELECT md5(string_agg(md5(t::text), '' ORDER BY t::text)) FROM (
        SELECT ROW('tile', tenant_id, epoch, level, place, hashes)::text FROM zeroauth_audit_internal.tiles
        UNION ALL SELECT ROW('interval', tenant_id, epoch, chain, from_seq, to_seq, first_leaf, tree_size)::text FROM zeroauth_audit_internal.log_intervals
        UNION ALL SELECT ROW('log', tenant_id, epoch, tree_size)::text FROM zeroauth_audit_internal.logs WHERE tree_size > 0
        UNION ALL SELECT ROW('entry', entry, text, tenant_id, epoch, tree_size, root, previous)::text FROM zeroauth_audit_internal.registry_entries
        UNION ALL SELECT ROW('registry', level, place, hashes)::text FROM zeroauth_audit_internal.registry_tiles) t";
    let mut states = Vec::new();
    // Edges of tiles: one, a whole tile, one more, and many tenants for the tiles of the registry.
    for (events, tenants) in [(255, 3), (1, 3), (1, 300), (700, 2)] {
        client.run(&format!("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || t, 'n' FROM generate_series(1, {events}), generate_series(1, {tenants}) t"));
        let sealed = client.line(SEAL);
        assert!(sealed.starts_with("succeeded|"), "{sealed}");
        states.push((
            client.line("SELECT max(number) FROM zeroauth_audit_internal.registry_runs"),
            client.line(state),
        ));
    }
    for (run, as_it_was) in states.iter().rev().skip(1) {
        client.run(&format!("SELECT zeroauth_audit_internal.registry_rewind({run})"));
        assert_eq!(&client.line(state), as_it_was, "run {run}");
    }
    // What was taken back is sealed again.
    let sealed = client.line(SEAL);
    assert!(sealed.starts_with("succeeded|"), "{sealed}");
    assert_eq!(client.line("SELECT bool_and(ok) FROM audit_verify()"), "t");
    assert_eq!(
        client.lines("SELECT tenant_id, state FROM audit_integrity() WHERE state NOT IN ('ok', 'unchecked')"),
        [] as [&str; 0]
    );
}
