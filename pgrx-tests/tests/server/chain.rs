//! Appending: what an INSERT stores, through every kind of statement that stores rows.

use std::io::Write;

use crate::support::audit::place;
use crate::support::{Database, Sql, assert_whole, findings, pages, verdict};

#[test]
fn a_tenant_and_an_action_are_enough() {
    let database = Database::audited("chain_defaults");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'login')");
    assert_eq!(
        client.line(
            "SELECT tenant_id, chain, seq, action, outcome, severity, db_role, hash_version, occurred_at <= recorded_at,
                    recorded_at BETWEEN now() - interval '1 minute' AND now(), length(salt), private_hash IS NULL, length(event_hash),
                    prev_hash = decode(repeat('00', 32), 'hex'), details IS NULL
             FROM audit_events"
        ),
        "acme|0|1|login|success|info|postgres|1|t|t|16|t|32|t|t"
    );
    assert_eq!(verdict(&mut client, "acme"), "t|1|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn event_ids_are_version_7_and_salts_differ() {
    let database = Database::audited("chain_ids");
    let mut client = database.client();
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 1000)");
    assert_eq!(
        client.line(
            "SELECT count(DISTINCT event_id), count(DISTINCT salt), bool_and(substr(event_id::text, 15, 1) = '7'), bool_and(substr(event_id::text, 20, 1) IN ('8', '9', 'a', 'b'))
             FROM audit_events"
        ),
        "1000|1000|t|t"
    );
    // The first 48 bits are milliseconds since 1970.
    assert_eq!(
        client.line("SELECT abs(('x0000' || substr(replace(zeroauth_audit_internal.uuid_v7()::text, '-', ''), 1, 12))::bit(64)::bigint - extract(epoch FROM clock_timestamp()) * 1000) < 5000"),
        "t"
    );
}

#[test]
fn returning_tells_chain_seq_and_hash_as_they_are_stored() {
    let database = Database::audited("chain_returning");
    let mut client = database.client();
    let returned = client.lines("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'a'), ('globex', 'b'), ('acme', 'c') RETURNING tenant_id, chain, seq, event_id, encode(event_hash, 'hex')");
    let stored = client.lines(
        "SELECT tenant_id, chain, seq, event_id, encode(event_hash, 'hex') FROM audit_events ORDER BY action",
    );
    assert_eq!(returned, stored);
    assert!(
        returned[0].starts_with("acme|0|1|")
            && returned[1].starts_with("globex|0|1|")
            && returned[2].starts_with("acme|0|2|"),
        "{returned:?}"
    );
    assert_eq!(
        client.line("SELECT bool_and(prev_hash = coalesce(before, decode(repeat('00', 32), 'hex'))) FROM (SELECT prev_hash, lag(event_hash) OVER (PARTITION BY tenant_id, chain ORDER BY seq) AS before FROM audit_events) AS e"),
        "t"
    );
}

#[test]
fn one_transaction_appends_to_many_tenants() {
    let database = Database::audited("chain_tenants");
    let mut client = database.client();
    client.run("BEGIN");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3000, 'x' FROM generate_series(1, 9000) i");
    // Tenants share 256 lock buckets: the lock table must not grow with the tenants.
    let locks: u32 = client
        .line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        .parse()
        .unwrap();
    assert!((1..=256).contains(&locks), "{locks} locks");
    let mut other = database.client();
    other.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'y' FROM generate_series(0, 2999) i");
    client.run("COMMIT");
    assert_eq!(
        client.line("SELECT count(*), count(DISTINCT tenant_id), max(chain) FROM audit_events"),
        "12000|3000|1"
    );
    assert_whole(&mut client);
}

#[test]
fn copy_chains_every_row_and_takes_the_given_columns_only() {
    let database = Database::audited("chain_copy");
    let mut client = database.client();
    let mut copy = client.copy_in("COPY audit_events (tenant_id, action, details) FROM STDIN").unwrap();
    for i in 0..2000 {
        writeln!(copy, "tenant {}\taction {i}\t{{\"b\": 1, \"a\": {i}}}", i % 7).unwrap();
    }
    assert_eq!(copy.finish().unwrap(), 2000);
    assert_eq!(client.line("SELECT count(*), max(seq), max(chain) FROM audit_events"), "2000|286|0");
    assert_whole(&mut client);
}

#[test]
fn insert_select_from_the_trail_itself_ends() {
    let database = Database::audited("chain_select");
    let mut client = database.client();
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 500)");
    for _ in 0..2 {
        client.run("INSERT INTO audit_events (tenant_id, action, details) SELECT tenant_id, action, to_jsonb(seq) FROM audit_events");
    }
    assert_eq!(verdict(&mut client, "acme"), "t|2000|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn a_data_modifying_cte_chains_what_it_inserts() {
    let database = Database::audited("chain_cte");
    let mut client = database.client();
    client.run("CREATE TABLE account (id int, balance int); INSERT INTO account VALUES (1, 100), (2, 50)");
    let returned = client.lines(
        "WITH moved AS (UPDATE account SET balance = balance - 10 RETURNING id, balance),
              first AS (INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'withdraw', to_jsonb(moved) FROM moved RETURNING chain, seq),
              second AS (INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'notify') RETURNING chain, seq)
         SELECT * FROM first UNION ALL SELECT * FROM second ORDER BY 2",
    );
    assert_eq!(returned, ["0|1", "0|2", "0|3"]);
    assert_whole(&mut client);
}

#[test]
fn merge_inserts_what_is_not_there_yet() {
    let database = Database::audited("chain_merge");
    let mut client = database.client();
    let merge = "MERGE INTO audit_events AS e
         USING (SELECT format('00000000-0000-7000-8000-%s', lpad(i::text, 12, '0'))::uuid AS id FROM generate_series(1, 10) i) AS new
         ON e.tenant_id = 'acme' AND e.event_id = new.id
         WHEN NOT MATCHED THEN INSERT (tenant_id, event_id, action) VALUES ('acme', new.id, 'merged')";
    client.run(merge);
    client.run(merge);
    assert_eq!(verdict(&mut client, "acme"), "t|10|1|0|{}");
    client.refused("ZA003", &format!("{merge} WHEN MATCHED THEN UPDATE SET action = 'changed'"));
    client.refused("ZA003", &format!("{merge} WHEN MATCHED THEN DELETE"));
    assert_whole(&mut client);
}

#[test]
fn an_after_trigger_may_append_further_events() {
    let database = Database::audited("chain_after");
    let mut client = database.client();
    client.run(
        "CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO audit_events (tenant_id, action, details) VALUES (NEW.tenant_id, 'echo', to_jsonb(NEW.seq)), ('echoes', NEW.action, NULL); RETURN NULL; END $$;
         CREATE TRIGGER echo AFTER INSERT ON audit_events FOR EACH ROW WHEN (NEW.action NOT IN ('echo') AND NEW.tenant_id <> 'echoes') EXECUTE FUNCTION echo();
         INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'a'), ('acme', 'b'), ('globex', 'c');
         INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'd')",
    );
    assert_eq!(
        client.lines("SELECT tenant_id, count(*), max(chain) FROM audit_events GROUP BY 1 ORDER BY 1"),
        ["acme|6|0", "echoes|4|0", "globex|2|0"]
    );
    assert_whole(&mut client);
}

#[test]
fn a_foreign_key_may_point_at_an_event() {
    let database = Database::audited("chain_fk");
    let mut client = database.client();
    client.run(
        "CREATE TABLE note (tenant_id text, event_id uuid, body text, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id));
         WITH e AS (INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING tenant_id, event_id) SELECT * FROM e",
    );
    client.run("INSERT INTO note SELECT tenant_id, event_id, 'kept' FROM audit_events");
    client.refused("23503", "INSERT INTO note VALUES ('acme', gen_random_uuid(), 'points nowhere')");
    assert_whole(&mut client);
}

#[test]
fn events_are_counted_or_not_all_the_same() {
    let database = Database::audited("chain_track_counts");
    let mut client = database.client();
    client.run("SET track_counts = off; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 100)");
    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'a'); SAVEPOINT s; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'b'); ROLLBACK TO s; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'c'); COMMIT");
    assert_eq!(verdict(&mut client, "acme"), "t|102|1|0|{}");
}

#[test]
fn pitfall_08_bulk_load_stays_linear() {
    let database = Database::audited("chain_bulk");
    let mut client = database.client();
    let mut each = |rows: u32, statement: &str| {
        pages(&mut client, &statement.replace("ROWS", &rows.to_string())) as f64 / f64::from(rows)
    };
    let insert =
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, ROWS)";
    // One transaction, one row a statement.
    let loop_over = "DO $$ BEGIN FOR i IN 1 .. ROWS LOOP INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'); END LOOP; END $$";
    for statement in [insert, loop_over] {
        let (small, large) = (each(2_000, statement), each(40_000, statement));
        println!("{small:.1} pages a row of 2,000, {large:.1} pages a row of 40,000");
        // Walking the chain, or updating a head row, for every row would make this 20 and more.
        assert!(large < small * 2.0, "{small:.1} pages a row of 2,000, {large:.1} pages a row of 40,000");
    }
    assert_eq!(verdict(&mut client, "acme"), "t|84000|1|0|{}");
}

#[test]
fn pitfall_10_nanoseconds_of_a_client_are_hashed_as_the_microseconds_stored() {
    let database = Database::audited("chain_nanoseconds");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action, occurred_at) VALUES
           ('acme', 'x', '2024-05-06 07:08:09.123456789Z'), ('acme', 'x', '2024-05-06 07:08:09.9999999+05:30'), ('acme', 'x', '1969-12-31 23:59:59.9999995Z')",
    );
    assert_eq!(
        client.lines("SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM audit_events ORDER BY seq"),
        ["2024-05-06 07:08:09.123457", "2024-05-06 01:38:10.000000", "1970-01-01 00:00:00.000000"]
    );
    assert_whole(&mut client);
}

#[test]
fn pitfall_11_jsonb_is_hashed_as_stored_whatever_the_order_of_its_keys() {
    let database = Database::audited("chain_jsonb");
    let mut client = database.client();
    client.run(
        r#"INSERT INTO audit_events (tenant_id, action, details) VALUES
           ('acme', 'x', '{"zebra": 1, "a": {"y": [3, 2,1], "x": 1.50}, "zebra": 2}'), ('acme', 'x', ' [1E2, -0.0,  1.230e-5, "\u00e9"] '), ('acme', 'x', 'null'), ('acme', 'x', '""')"#,
    );
    assert_eq!(
        client.lines("SELECT details FROM audit_events ORDER BY seq"),
        [
            r#"{"a": {"x": 1.50, "y": [3, 2, 1]}, "zebra": 2}"#,
            r#"[100, 0.0, 0.00001230, "é"]"#,
            "null",
            r#""""#
        ]
    );
    assert_whole(&mut client);
}

#[test]
fn pitfall_12_backslashes_are_hashed_as_bytes() {
    let database = Database::audited("chain_backslashes");
    let mut client = database.client();
    client.run(r"INSERT INTO audit_events (tenant_id, action, resource, actor_id) VALUES ('a\c', '\x41', 'C:\new\table', '\\'), ('a\c', '\', E'\\N', '\.'), ('a\c', '\u0041', '\000', E'\t\\t')");
    assert_eq!(
        client.line(r"SELECT count(*), count(DISTINCT event_hash) FROM audit_events WHERE tenant_id = 'a\c'"),
        "3|3"
    );
    assert_eq!(verdict(&mut client, r"a\c"), "t|3|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn a_rolled_back_bulk_load_does_not_slow_what_follows() {
    // It leaves dead entries where the head is looked for; each of them may be stepped over once, not for every insert.
    let database = Database::audited("chain_dead");
    let mut client = database.client();
    client.run("ALTER TABLE audit_events SET (autovacuum_enabled = off)");
    let insert = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')";
    let hundred = |client: &mut postgres::Client| (0..100).map(|_| pages(client, insert)).sum::<u64>();
    let before = hundred(&mut client);
    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 50000); ROLLBACK");
    client.run(insert);
    let after = hundred(&mut client);
    println!("100 inserts looked at {before} pages before and {after} after");
    assert!(after < before * 2, "100 inserts looked at {before} pages before and {after} after");
    assert_eq!(verdict(&mut client, "acme"), "t|201|1|0|{}");
}

#[test]
fn row_locks_on_the_head_do_not_mislead_the_chain() {
    let database = Database::audited("chain_row_locks");
    let (mut client, mut locker, mut sharer) = (database.client(), database.client(), database.client());
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y')");
    locker.run("BEGIN; SELECT FROM audit_events WHERE seq = 1 FOR UPDATE; SELECT FROM audit_events WHERE seq = 2 FOR KEY SHARE");
    sharer.run("BEGIN; SELECT FROM audit_events WHERE seq = 2 FOR KEY SHARE");
    client.run("SET lock_timeout = '1s'");
    let one =
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";
    assert_eq!(client.line(one), "0/3");
    sharer.run("SELECT FROM audit_events WHERE seq = 3 FOR UPDATE");
    assert_eq!(client.line(one), "0/4");
    sharer.run("ROLLBACK");
    locker.run("COMMIT");
    assert_eq!(client.line(one), "0/5");
    assert_whole(&mut client);
}

#[test]
fn a_trigger_made_in_maintenance_is_hashed_with_when_it_runs_before_and_found_out_when_it_runs_after() {
    let database = Database::audited("chain_other_triggers");
    let mut client = database.client();
    client.run(
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.details := jsonb_build_object('by', TG_NAME); RETURN NEW; END $$;
         SET zeroauth_audit.maintenance = on; CREATE TRIGGER aaa BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION change();
         INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5)",
    );
    assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE details = '{\"by\": \"aaa\"}'"), "5");
    assert_whole(&mut client);
    client.run("DROP TRIGGER aaa ON audit_events; CREATE TRIGGER zzzz BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION change()");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y')");
    assert_eq!(
        findings(&mut client, ""),
        [place("content_mismatch", "acme", 0, 6), place("content_mismatch", "acme", 0, 7)]
    );
}
