//! pg_dump and pg_restore: every way back gives the same bytes, checked row by row as they load.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;

use zeroauth_audit_tests::wait_until;

use crate::fault_load::load;
use crate::support::{DEADLINE, Database, SetOnDrop, Sql, assert_whole, shared, succeed};

/// Everything that is stored, in an order of its own.
pub const DIGEST: &str = "SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY tenant_id COLLATE \"C\", chain, seq)), md5(string_agg(encode(event_hash || prev_hash || coalesce(salt, '') || coalesce(private_hash, ''), 'hex'), '' ORDER BY tenant_id COLLATE \"C\", chain, seq)) FROM audit_events e";

/// Statements that fill a trail with what a dump has to carry: several chains, odd text, large rows.
pub fn fill(database: &Database) {
    let mut holder = database.client();
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'holds chain 0' FROM generate_series(1, 20) i");
    let mut client = database.client();
    client.run(
        r#"INSERT INTO audit_events (tenant_id, action, occurred_at, ip, details, resource, actor_id, error_message)
           SELECT 'tenant ' || i % 5, E'tab\there \\ and \\N ' || i, CASE i % 7 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE '2024-01-01'::timestamptz + i * interval '1.000001 s' END,
                  CASE i % 3 WHEN 0 THEN inet '10.0.0.7/8' WHEN 1 THEN inet '2001:db8::7' END,
                  CASE WHEN i % 50 = 0 THEN jsonb_build_object('large', (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 400) j)) WHEN i % 4 <> 0 THEN jsonb_build_object('zebra', i * 1.50, 'a', E'\n"\\') END,
                  CASE i % 3 WHEN 0 THEN '' WHEN 1 THEN E'\r\n' END, E'actor\t' || i, 'é🔒'
           FROM generate_series(1, 400) i"#,
    );
    holder.run("COMMIT");
}

fn source(name: &str) -> Database {
    let database = Database::audited(name);
    fill(&database);
    let mut client = database.client();
    assert_eq!(client.line("SELECT max(chain) FROM audit_events"), "1");
    assert_whole(&mut client);
    database
}

/// Asserts that `copy` holds the same bytes, verifies, and goes on.
#[track_caller]
fn assert_same(original: &Database, copy: &Database) {
    let mut client = copy.client();
    assert_eq!(client.line(DIGEST), original.client().line(DIGEST));
    assert_whole(&mut client);
    let head = client
        .line("SELECT max(seq) FROM audit_events WHERE tenant_id = 'tenant 1' AND chain = 0")
        .parse::<i64>()
        .unwrap();
    assert_eq!(
        client.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'goes on') RETURNING chain, seq"
        ),
        format!("0|{}", head + 1)
    );
    client.refused("ZA003", "DELETE FROM audit_events");
    assert_eq!(client.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    assert_whole(&mut client);
}

/// A path in the cluster's own folder, which goes with it.
fn path(name: &str) -> PathBuf {
    shared().data_dir().parent().unwrap().join(name)
}

fn plain_dump(database: &Database, options: &[&str]) -> String {
    succeed(shared().command("pg_dump").args(options).arg(&database.name))
}

#[test]
fn pitfall_20_a_plain_dump_through_psql_gives_the_same_bytes() {
    let (from, to) = (source("dump_plain"), Database::empty("dump_plain_to"));
    // From 18 on a dump can bring the planner's statistics, which are not the trail and are let through.
    let statistics = shared().installation().major() >= 18;
    let dump = plain_dump(&from, if statistics { &["--statistics"] } else { &[] });
    assert_eq!(dump.contains("pg_restore_relation_stats"), statistics);
    assert!(
        dump.contains("CREATE EXTENSION") && dump.contains("COPY public.audit_events "),
        "the rows are in the dump"
    );
    let output = shared().psql(&to.name, &dump).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert_same(&from, &to);
}

#[test]
fn pitfall_20_a_dump_as_inserts_gives_the_same_bytes() {
    let (from, to) = (source("dump_inserts"), Database::empty("dump_inserts_to"));
    for options in [vec!["--column-inserts"], vec!["--inserts", "--rows-per-insert=50"]] {
        let to = if options.len() == 1 { &to } else { &Database::empty("dump_rows_to") };
        let output = shared().psql(&to.name, &plain_dump(&from, &options)).unwrap();
        assert!(output.status.success(), "{}", output.stderr);
        assert_same(&from, to);
    }
}

#[test]
fn pitfall_20_a_custom_dump_through_pg_restore_gives_the_same_bytes() {
    let (from, to) = (source("dump_custom"), Database::empty("dump_custom_to"));
    let file = path("dump_custom.dump");
    succeed(shared().command("pg_dump").arg("-Fc").arg("-f").arg(&file).arg(&from.name));
    succeed(shared().command("pg_restore").args(["--exit-on-error", "-d", &to.name]).arg(&file));
    assert_same(&from, &to);

    let single = Database::empty("dump_single_to");
    succeed(shared().command("pg_restore").args(["--single-transaction", "-d", &single.name]).arg(&file));
    assert_same(&from, &single);

    // Data only, into a database whose extension is there already.
    let data_only = Database::audited("dump_data_to");
    succeed(
        shared()
            .command("pg_restore")
            .args(["--data-only", "--exit-on-error", "-d", &data_only.name])
            .arg(&file),
    );
    assert_same(&from, &data_only);
}

#[test]
fn pitfall_20_a_parallel_dump_and_restore_give_the_same_bytes() {
    let (from, to) = (source("dump_parallel"), Database::empty("dump_parallel_to"));
    from.client().run("CREATE TABLE unrelated AS SELECT generate_series(1, 1000) AS i; CREATE INDEX ON unrelated (i); CREATE INDEX by_actor ON audit_events (actor_id)");
    let folder = path("dump_parallel.dir");
    succeed(shared().command("pg_dump").args(["-Fd", "--jobs", "2", "-f"]).arg(&folder).arg(&from.name));
    succeed(shared().command("pg_restore").args(["--exit-on-error", "-j", "2", "-d", &to.name]).arg(&folder));
    assert_same(&from, &to);
}

#[test]
fn pitfall_20_a_tar_and_a_folder_of_files_give_the_same_bytes() {
    let from = source("dump_files");
    for (format, name) in [("-Ft", "dump_files.tar"), ("-Fd", "dump_files.dir")] {
        let (to, file) = (Database::empty("dump_files_to"), path(name));
        succeed(shared().command("pg_dump").args([format, "-f"]).arg(&file).arg(&from.name));
        succeed(shared().command("pg_restore").args(["--exit-on-error", "-d", &to.name]).arg(&file));
        assert_same(&from, &to);
    }
}

#[test]
fn pitfall_20_a_parallel_dump_taken_while_others_append_holds_a_prefix_of_every_chain() {
    let (from, to) = (source("dump_load"), Database::empty("dump_load_to"));
    let folder = path("dump_load.dir");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (over, mut client) = (&over, from.client());
            scope.spawn(move || load(&mut client, seed, over));
        }
        let _over = SetOnDrop(&over);
        let more_than = |count: u32| {
            let mut client = from.client();
            wait_until(DEADLINE, "more events", || {
                client.line("SELECT count(*) FROM audit_events").parse::<u32>().unwrap() > count
            });
            client.line("SELECT count(*) FROM audit_events").parse::<u32>().unwrap()
        };
        more_than(500);
        succeed(shared().command("pg_dump").args(["-Fd", "--jobs", "2", "-f"]).arg(&folder).arg(&from.name));
        more_than(more_than(0));
    });
    succeed(shared().command("pg_restore").args(["--exit-on-error", "-j", "2", "-d", &to.name]).arg(&folder));
    let (mut all, mut there) = (from.client(), to.client());
    assert_whole(&mut all);
    assert_whole(&mut there);
    let events = "SELECT encode(event_hash, 'hex') FROM audit_events ORDER BY 1";
    let (all, there) = (all.lines(events), there.lines(events));
    assert!(500 < there.len() && there.len() < all.len(), "{} of {} events", there.len(), all.len());
    assert!(there.iter().all(|event| all.binary_search(event).is_ok()), "nothing but what was written");
}

#[test]
fn pitfall_20_a_data_only_restore_with_triggers_disabled_still_checks_or_says_why_not() {
    // --disable-triggers asks for ALTER TABLE .. DISABLE TRIGGER, which the guards refuse: nothing gets in unchecked.
    let (from, to) = (source("dump_disabled"), Database::audited("dump_disabled_to"));
    let dump = plain_dump(&from, &["--data-only", "--disable-triggers"]);
    let output = shared().psql(&to.name, &dump).unwrap();
    assert!(output.stderr.contains("ZA004"), "{}", output.stderr);
    assert_eq!(to.client().line("SELECT count(*) FROM audit_events"), "0");
}

#[test]
fn what_users_added_around_the_trail_comes_back_with_it() {
    let (from, to) = (source("dump_around"), Database::empty("dump_around_to"));
    let reader = from.role("reader");
    from.client().run(&format!(
        "CREATE TABLE note (tenant_id text, event_id uuid, body text, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id));
         INSERT INTO note SELECT tenant_id, event_id, 'x' FROM audit_events LIMIT 5;
         GRANT EXECUTE ON FUNCTION audit_verify TO \"{reader}\"",
    ));
    let output = shared().psql(&to.name, &plain_dump(&from, &[])).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert_same(&from, &to);
    assert_eq!(to.client().line("SELECT count(*) FROM note"), "5");
    assert_eq!(to.client_as(&reader).line("SELECT count(*) FROM audit_verify() WHERE ok"), "5");
}

#[test]
fn pitfall_20_a_row_changed_in_the_dump_is_refused_by_tenant_chain_and_seq() {
    let from = source("dump_changed");
    let dump = plain_dump(&from, &[]);
    let place = from.client().line("SELECT chain, seq FROM audit_events WHERE action LIKE '% 123'");
    let (chain, seq) = place.split_once('|').unwrap();
    for (was, is) in [(" and \\\\N 123\t", " and \\\\N 124\t"), ("actor\\t123\t", "actor\\t12\t")] {
        let to = Database::empty("dump_changed_to");
        assert!(dump.contains(was), "{was:?}");
        let forged = dump.replacen(was, is, 1);
        let output = shared().psql(&to.name, &forged).unwrap();
        assert!(!output.status.success());
        let error = output
            .stderr
            .lines()
            .find(|line| line.contains("ZA002"))
            .unwrap_or_else(|| panic!("{}", output.stderr));
        for part in ["tenant 3", chain, seq] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            to.client().line("SELECT count(*) FROM audit_events"),
            "0",
            "nothing of the table is kept"
        );
    }
}

#[test]
fn a_row_left_out_of_the_dump_is_a_gap_after_the_restore() {
    let (from, to) = (source("dump_shortened"), Database::empty("dump_shortened_to"));
    let dump = plain_dump(&from, &[]);
    let shortened: Vec<&str> = dump.lines().filter(|line| !line.contains("actor\\t123\t")).collect();
    assert!(shortened.len() == dump.lines().count() - 1);
    let output = shared().psql(&to.name, &(shortened.join("\n") + "\n")).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let place =
        from.client().line("SELECT 'gap', tenant_id, chain, seq FROM audit_events WHERE action LIKE '% 123'");
    assert_eq!(to.client().lines("SELECT class, tenant_id, chain, seq FROM audit_findings()"), [place]);
}
