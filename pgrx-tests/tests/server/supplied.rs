//! Rows that arrive with their hashes: checked, never hashed again, and kept as they are.

use postgres::Client;

use crate::support::audit::{export, place, reference_places};
use crate::support::{Database, Sql, assert_whole, findings, verdict};

/// A database with a trail over two tenants, and an empty one to load it into.
fn two_databases(name: &str) -> (Database, Database) {
    let (from, to) = (Database::audited(&format!("{name}_from")), Database::audited(&format!("{name}_to")));
    from.client().run(
        "INSERT INTO audit_events (tenant_id, action, actor_id, details, ip)
         SELECT CASE WHEN i % 3 = 0 THEN 'globex' ELSE 'acme' END, 'step ' || i, 'actor ' || i, jsonb_build_object('i', i), '10.0.0.7'
         FROM generate_series(1, 60) i",
    );
    (from, to)
}

/// Moves rows from one database to the other as INSERT statements would; `change` alters the row on its way.
fn transfer(from: &Database, to: &Database, query: &str) -> Result<u64, postgres::Error> {
    use std::io::{Read, Write};
    let mut bytes = Vec::new();
    from.client().copy_out(&format!("COPY ({query}) TO STDOUT")).unwrap().read_to_end(&mut bytes).unwrap();
    let mut client = to.client();
    let mut copy = client.copy_in("COPY audit_events FROM STDIN")?;
    copy.write_all(&bytes).unwrap();
    copy.finish()
}

const DIGEST: &str =
    "SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY tenant_id, chain, seq)) FROM audit_events e";

#[test]
fn a_superuser_s_rows_are_kept_byte_for_byte_in_any_order() {
    let (from, to) = two_databases("supplied_order");
    transfer(&from, &to, "SELECT * FROM audit_events ORDER BY md5(event_id::text)").unwrap();
    let (mut old, mut new) = (from.client(), to.client());
    assert_eq!(old.line(DIGEST), new.line(DIGEST));
    assert_whole(&mut new);
    // The next event continues what was loaded.
    assert_eq!(
        new.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq"
        ),
        "0/41"
    );
    assert_whole(&mut new);
}

#[test]
fn a_row_whose_hash_does_not_match_is_refused_by_tenant_chain_and_seq() {
    let (from, to) = two_databases("supplied_forged");
    let columns: Vec<String> = from.client().lines("SELECT attname FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0 ORDER BY attnum");
    let forged = |column: &str, value: &str| {
        columns
            .iter()
            .map(|c| if c == column { format!("{value} AS {c}") } else { c.clone() })
            .collect::<Vec<_>>()
            .join(", ")
    };
    for (column, value) in [
        ("action", "action || '!'"),
        ("occurred_at", "occurred_at + interval '1 microsecond'"),
        ("recorded_at", "recorded_at - interval '1 day'"),
        ("db_role", "'somebody'"),
        ("actor_id", "NULL"),
        ("details", "details || '{\"x\": 1}'"),
        ("ip", "'10.0.0.7/8'"),
        ("salt", "sha256(salt)::bytea"),
        ("prev_hash", "sha256(prev_hash)"),
        ("event_hash", "sha256(event_hash)"),
        ("error_message", "''"),
    ] {
        let value = if column == "salt" { "substr(sha256(salt), 1, 16)" } else { value };
        let query = format!(
            "SELECT {} FROM audit_events WHERE tenant_id = 'globex' AND seq = 7",
            forged(column, value)
        );
        let error = transfer(&from, &to, &query).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "ZA002", "{column}: {error}");
        for part in ["globex", "0", "7"] {
            assert!(error.message().contains(part), "{column}: {}", error.message());
        }
        assert!(error.hint().is_some(), "{column}");
    }
    assert_eq!(to.client().line("SELECT count(*) FROM audit_events"), "0");
}

#[test]
fn a_row_under_another_place_is_refused() {
    let (from, to) = two_databases("supplied_moved");
    for (column, value) in [("tenant_id", "'initech'"), ("chain", "1"), ("seq", "seq + 100")] {
        let columns = from.client().line("SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0");
        let columns = columns.replacen(column, &format!("{value} AS {column}"), 1);
        let error = transfer(
            &from,
            &to,
            &format!("SELECT {columns} FROM audit_events WHERE tenant_id = 'globex' AND seq = 7"),
        )
        .unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("ZA002"), "{column}");
    }
}

#[test]
fn an_erased_row_is_neither_loaded_nor_whole_since_nothing_explains_it_yet() {
    let (from, to) = two_databases("supplied_erased");
    let mut old = from.client();
    // What an erasure leaves: the commitment, without the fields and their salt.
    old.run(
        "SET zeroauth_audit.maintenance = on;
         UPDATE audit_events SET private_hash = zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details),
                                 salt = NULL, actor_type = NULL, actor_id = NULL, ip = NULL, user_agent = NULL, error_message = NULL, details = NULL
         WHERE tenant_id = 'globex' AND seq IN (1, 5)",
    );
    // Its event_hash still verifies, so the reference has nothing to say; the verifier names it all the same.
    let erased = [place("content_mismatch", "globex", 0, 1), place("content_mismatch", "globex", 0, 5)];
    assert_eq!(findings(&mut old, ""), erased);
    assert_eq!(reference_places(&export(&mut old)), Default::default());
    let error = transfer(&from, &to, "SELECT * FROM audit_events WHERE tenant_id = 'globex' AND seq = 5")
        .unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("ZA002"));
}

#[test]
fn pitfall_14_another_hash_version_is_refused_not_guessed() {
    let (from, to) = two_databases("supplied_version");
    let columns = from.client().line("SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0");
    let columns = columns.replace("hash_version", "2::smallint");
    let error = transfer(
        &from,
        &to,
        &format!("SELECT {columns} FROM audit_events WHERE tenant_id = 'globex' AND seq = 7"),
    )
    .unwrap_err();
    let code = error.code().map(|c| c.code().to_owned());
    assert!(matches!(code.as_deref(), Some("ZA002" | "23514")), "{error}");

    // And a stored row of a version that this verifier does not know is never called whole.
    let mut old = from.client();
    old.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row; UPDATE audit_events SET hash_version = 2 WHERE tenant_id = 'globex' AND seq = 7");
    assert_eq!(findings(&mut old, ""), [place("content_mismatch", "globex", 0, 7)]);
}

#[test]
fn pitfall_19_replica_role_neither_skips_the_chain_nor_hashes_again() {
    let (from, to) = two_databases("supplied_replica");
    let mut client = to.client();
    client.run("SET session_replication_role = replica; INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'x')");
    assert_eq!(verdict(&mut client, "initech"), "t|1|1|0|{}");
    client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    client.refused("ZA003", "DELETE FROM audit_events");
    client.refused("ZA003", "TRUNCATE audit_events");
    client.refused("ZA001", "INSERT INTO audit_events (tenant_id, action, seq) VALUES ('initech', 'x', 2)");

    use std::io::{Read, Write};
    let mut bytes = Vec::new();
    from.client().copy_out("COPY audit_events TO STDOUT").unwrap().read_to_end(&mut bytes).unwrap();
    let mut copy = client.copy_in("COPY audit_events FROM STDIN").unwrap();
    copy.write_all(&bytes).unwrap();
    copy.finish().unwrap();
    client.run("RESET session_replication_role");
    assert_eq!(
        client.line(&DIGEST.replace("audit_events e", "audit_events e WHERE tenant_id <> 'initech'")),
        from.client().line(DIGEST)
    );
    assert_whole(&mut client);
}

#[test]
fn the_same_rows_loaded_twice_are_there_once_and_another_row_in_the_place_of_one_is_refused() {
    let (from, to) = two_databases("supplied_twice");
    transfer(&from, &to, "SELECT * FROM audit_events WHERE seq <= 4").unwrap();
    let mut client = to.client();
    let stored = client.line(DIGEST);
    // An interrupted load, begun again, and once more with what the statement itself brings twice.
    transfer(&from, &to, "SELECT * FROM audit_events WHERE seq = 3").unwrap();
    assert_eq!(client.line(DIGEST), stored);
    transfer(&from, &to, "SELECT * FROM audit_events UNION ALL SELECT * FROM audit_events WHERE seq > 4")
        .unwrap();
    assert_eq!(client.line(DIGEST), from.client().line(DIGEST));
    assert_whole(&mut client);
    assert_eq!(client.line("WITH again AS (INSERT INTO audit_events SELECT * FROM audit_events RETURNING 1) SELECT count(*) FROM again"), "0");

    // The event of another trail that has the place of one: both hashes are named, and nothing is stored.
    let other = Database::audited("supplied_twice_other");
    let mut theirs = other.client();
    theirs.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let hash = |client: &mut Client| {
        client.line("SELECT left(encode(event_hash, 'hex'), 8) FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 AND seq = 1")
    };
    let (ours, their) = (hash(&mut client), hash(&mut theirs));
    let error = transfer(&other, &to, "SELECT * FROM audit_events").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "ZA002");
    assert_eq!(error.message(), "another event is there already: tenant \"acme\", chain 0, seq 1");
    let said = format!(
        "The event_hash of the one that is here is {ours}.., and that of the one that comes {their}..."
    );
    assert_eq!(error.detail(), Some(said.as_str()));
    assert_whole(&mut client);
}

#[test]
fn a_supplied_row_between_a_dropped_and_a_chained_one_does_not_vouch_for_the_dropped_one() {
    // As many rows as expected were stored since the dropped row was chained, only not that row.
    let (from, to) = two_databases("supplied_between");
    let mut client = to.client();
    client.run("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('initech', '00000000-0000-7000-8000-000000000001', 'known')");
    let literals = from.client().line("SELECT 'INSERT INTO audit_events SELECT (r).* FROM (SELECT jsonb_populate_record(NULL::audit_events, ' || quote_literal(to_jsonb(e)::text) || '::jsonb) AS r) s' FROM audit_events e WHERE tenant_id = 'globex' AND seq = 7");
    client.run("BEGIN");
    let dropped = "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('initech', '00000000-0000-7000-8000-000000000001', 'dropped') ON CONFLICT DO NOTHING";
    client.run(dropped);
    client.run(&literals);
    assert_eq!(client.line("INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'x') RETURNING chain || '/' || seq"), "0/2");
    client.run("COMMIT");

    // The same with a row that was stored past a disabled trigger.
    client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; CREATE TEMP TABLE one AS SELECT * FROM audit_events WHERE tenant_id = 'globex'; DELETE FROM audit_events WHERE tenant_id = 'globex'");
    client.run("COMMIT; BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
    client.run(dropped);
    client.run("ALTER TABLE audit_events DISABLE TRIGGER zzz_zeroauth_audit_chain; INSERT INTO audit_events SELECT * FROM one; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain");
    assert_eq!(client.line("INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'x') RETURNING chain || '/' || seq"), "0/3");
    client.run("COMMIT");
    assert_eq!(findings(&mut client, "'initech'"), []);
}

#[test]
fn a_truncate_in_maintenance_is_noticed_by_the_transaction_that_made_it() {
    let (from, to) = two_databases("supplied_truncate");
    let mut client = to.client();
    let literals = from.client().line("SELECT 'INSERT INTO audit_events SELECT (r).* FROM (SELECT jsonb_populate_record(NULL::audit_events, ' || quote_literal(to_jsonb(e)::text) || '::jsonb) AS r) s' FROM audit_events e WHERE tenant_id = 'globex' AND seq = 1");
    let one =
        "INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'x') RETURNING chain || '/' || seq";
    client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
    assert_eq!(client.line(one), "0/1");
    client.run("TRUNCATE audit_events");
    client.run(&literals);
    assert_eq!(client.line(one), "0/1");
    client.run("DELETE FROM audit_events WHERE tenant_id = 'initech'");
    assert_eq!(client.line(one), "0/1");
    client.run("COMMIT");
    assert_whole(&mut client);
}
