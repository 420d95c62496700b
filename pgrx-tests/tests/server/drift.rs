//! What one run of the job drift finds, of every class, and what becomes of its alerts.

use postgres::Client;

use crate::support::{Database, Sql};
use crate::tamper::trail;
use crate::tamper_columns::COLUMNS;

/// Runs the job, which has to end well, and returns its summary.
#[track_caller]
pub fn drift(client: &mut Client) -> serde_json::Value {
    let result = client.line("SELECT zeroauth_audit_internal.run_job('drift')");
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["status"], "succeeded", "{result}");
    result["summary"].clone()
}

/// Fingerprints of unresolved alerts, but for those about what the tests do under maintenance.
#[track_caller]
pub fn alerts(client: &mut Client) -> Vec<String> {
    // Printed where a test fails: a fingerprint does not say what went wrong.
    for detail in client.lines(
        "SELECT fingerprint, message, evidence FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' ORDER BY 1",
    ) {
        eprintln!("alert {detail}");
    }
    client
        .lines("SELECT fingerprint FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind NOT IN ('maintenance_used', 'state_written', 'settings_written', 'job_off') ORDER BY 1")
}

/// What a superuser writes who recomputes a chain of a tenant from one event on.
pub fn recompute(client: &mut Client) {
    let public = COLUMNS[..23].join(", ");
    client.run(&format!(
        "CREATE FUNCTION recompute(tenant text, link smallint, first bigint) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE at bigint; last bytea := decode(repeat('00', 32), 'hex');
         BEGIN
             SELECT event_hash INTO last FROM audit_events WHERE tenant_id = tenant AND chain = link AND seq = first - 1;
             last := coalesce(last, decode(repeat('00', 32), 'hex'));
             FOR at IN SELECT seq FROM audit_events WHERE tenant_id = tenant AND chain = link AND seq >= first ORDER BY seq LOOP
                 UPDATE audit_events SET prev_hash = last WHERE tenant_id = tenant AND chain = link AND seq = at;
                 UPDATE audit_events SET event_hash = zeroauth_audit_internal.event_hash(prev_hash, {public}, zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details))
                 WHERE tenant_id = tenant AND chain = link AND seq = at RETURNING event_hash INTO last;
             END LOOP;
         END $$"
    ));
}

/// A trail of two tenants with three chains of ten events each, which a run has seen; the session is in maintenance.
fn seen(name: &str) -> (Database, Client) {
    let (database, mut client) = trail(name);
    recompute(&mut client);
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    (database, client)
}

/// Tampers, runs the job, asserts which alerts there are, and takes it all back.
#[track_caller]
fn case(client: &mut Client, tampering: &str, expected: &[&str]) {
    client.run(&format!("BEGIN; {tampering}"));
    drift(client);
    assert_eq!(alerts(client), expected, "after {tampering}");
    assert_eq!(
        client.lines(
            "SELECT DISTINCT severity, state, kind = split_part(fingerprint, ':', 1) FROM zeroauth_audit_internal.alerts"
        ),
        ["1|open|t"],
        "after {tampering}"
    );
    // A run that finds the same counts it up.
    drift(client);
    assert_eq!(alerts(client), expected, "after {tampering}, a second time");
    assert_eq!(
        client.line("SELECT min(occurrences) > 1 FROM zeroauth_audit_internal.alerts"),
        "t",
        "after {tampering}"
    );
    client.run("ROLLBACK");
}

const AT: &str = "WHERE tenant_id = 'acme' AND chain = 1";

#[test]
fn pitfall_26_changed_content_and_broken_links_are_found_whatever_the_hashes_say() {
    let (_database, mut client) = seen("drift_content");
    let public = COLUMNS[..23].join(", ").replace("action", "'forged'");
    for (tampering, expected) in [
        (format!("UPDATE audit_events SET action = 'forged' {AT} AND seq = 5"), "content_mismatch:acme:1"),
        (format!("UPDATE audit_events SET details = NULL {AT} AND seq = 10"), "content_mismatch:acme:1"),
        (format!("UPDATE audit_events SET outcome = 'denied' {AT}"), "content_mismatch:acme:1"),
        (
            format!("UPDATE audit_events SET action = 'forged', event_hash = zeroauth_audit_internal.event_hash(prev_hash, {public}, zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)) {AT} AND seq = 5"),
            "link_broken:acme:1",
        ),
        ("UPDATE audit_events SET tenant_id = 'initech' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 1".into(), "content_mismatch:initech:0 gap:acme:0"),
    ] {
        case(&mut client, &tampering, &expected.split(' ').collect::<Vec<_>>());
    }
    // An event's hash alone: its content does not have it, the next does not follow it, and the watermark remembers another.
    case(
        &mut client,
        &format!("UPDATE audit_events SET event_hash = sha256(event_hash) {AT} AND seq = 5"),
        &["content_mismatch:acme:1", "link_broken:acme:1"],
    );
}

#[test]
fn pitfall_17_events_deleted_at_the_beginning_or_in_the_middle_are_a_gap() {
    let (_database, mut client) = seen("drift_gap");
    for seqs in ["= 5", "< 4", "IN (3, 4, 7)", "= 1"] {
        case(&mut client, &format!("DELETE FROM audit_events {AT} AND seq {seqs}"), &["gap:acme:1"]);
    }
    // Renumbered and recomputed, the chain is whole, but shorter than it was.
    case(
        &mut client,
        &format!(
            "DELETE FROM audit_events {AT} AND seq < 4; UPDATE audit_events SET seq = seq + 100 {AT}; UPDATE audit_events SET seq = seq - 103 {AT}; SELECT recompute('acme', 1::smallint, 1)"
        ),
        &["tail_truncated:acme:1"],
    );
}

#[test]
fn pitfall_15_the_newest_events_deleted_are_a_truncated_tail_and_a_deleted_chain_is_missing() {
    let (_database, mut client) = seen("drift_tail");
    case(&mut client, &format!("DELETE FROM audit_events {AT} AND seq = 10"), &["tail_truncated:acme:1"]);
    case(&mut client, &format!("DELETE FROM audit_events {AT} AND seq > 1"), &["tail_truncated:acme:1"]);
    case(&mut client, &format!("DELETE FROM audit_events {AT}"), &["chain_missing:acme:1"]);
    case(
        &mut client,
        "DELETE FROM audit_events WHERE chain = 2 OR tenant_id = 'globex' AND seq > 8",
        &[
            "chain_missing:acme:2",
            "chain_missing:globex:2",
            "tail_truncated:globex:0",
            "tail_truncated:globex:1",
        ],
    );
    // As many written anew as were deleted: the event that was there is another one.
    case(
        &mut client,
        "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 AND seq > 7; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'made up' FROM generate_series(1, 5)",
        &["content_mismatch:acme:0"],
    );
}

#[test]
fn pitfall_16_a_deleted_tenant_is_missing_once_however_many_chains_it_had() {
    let (_database, mut client) = seen("drift_tenant");
    case(&mut client, "DELETE FROM audit_events WHERE tenant_id = 'acme'", &["tenant_missing:acme:"]);
    case(&mut client, "TRUNCATE audit_events", &["tenant_missing:acme:", "tenant_missing:globex:"]);
    client.run("BEGIN; DELETE FROM audit_events WHERE tenant_id = 'acme'");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT message, evidence ->> 'events', jsonb_array_length(evidence -> 'was_there'), tenant FROM zeroauth_audit_internal.alerts"),
        "the whole trail of tenant \"acme\" is gone: 30 events in 3 chains|30|3|acme"
    );
    client.run("ROLLBACK");
}

#[test]
fn pitfall_27_a_chain_recomputed_behind_the_last_event_seen_is_found_by_the_watermark() {
    let (_database, mut client) = seen("drift_recomputed");
    case(
        &mut client,
        &format!(
            "UPDATE audit_events SET action = 'forged' {AT} AND seq = 3; SELECT recompute('acme', 1::smallint, 3)"
        ),
        &["content_mismatch:acme:1"],
    );
    assert_eq!(
        client.line("SELECT count(*) FROM audit_findings()"),
        "0",
        "and nothing else is left of it after the rollback"
    );
}

#[test]
fn pitfall_28_whoever_edits_the_watermark_with_the_events_is_not_found_without_checkpoints() {
    let (_database, mut client) = seen("drift_edited");
    for tampering in [
        format!("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events {AT} AND seq > 7; UPDATE zeroauth_audit_internal.watermarks w SET head_seq = 7, head_hash = (SELECT event_hash FROM audit_events e {AT} AND seq = 7) {AT}"),
        "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'acme'; DELETE FROM zeroauth_audit_internal.watermarks WHERE tenant_id = 'acme'".into(),
    ] {
        client.run(&format!("BEGIN; {tampering}"));
        drift(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0], "{tampering}");
        client.run("ROLLBACK");
    }
}

#[test]
fn pitfall_23_different_defects_are_different_alerts_each_with_its_place() {
    let (_database, mut client) = seen("drift_classes");
    case(
        &mut client,
        "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 5; DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq = 5;
         DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 2 AND seq = 10; UPDATE audit_events SET prev_hash = sha256(prev_hash) WHERE tenant_id = 'globex' AND chain = 0 AND seq = 5",
        &["content_mismatch:acme:0", "content_mismatch:globex:0", "gap:acme:1", "link_broken:globex:0", "tail_truncated:acme:2"],
    );
    let without_keys = "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey; ALTER TABLE audit_events DROP CONSTRAINT audit_events_event_id_key;";
    case(
        &mut client,
        &format!(
            "ALTER TABLE audit_events DISABLE TRIGGER ALL; {without_keys} INSERT INTO audit_events SELECT * FROM audit_events {AT} AND seq = 5; ALTER TABLE audit_events ENABLE TRIGGER zeroauth_audit_refuse_row"
        ),
        &["fork:acme:1"],
    );
    case(
        &mut client,
        &format!(
            "ALTER TABLE audit_events DISABLE TRIGGER ALL; {without_keys} ALTER TABLE audit_events ALTER tenant_id DROP NOT NULL; INSERT INTO audit_events SELECT NULL, {} FROM audit_events {AT} AND seq = 5",
            COLUMNS[1..].join(", ")
        ),
        &["content_mismatch::"],
    );
}

#[test]
fn a_forged_event_at_either_end_of_the_range_is_found_and_breaks_nothing() {
    let (_database, mut client) = seen("drift_extremes");
    let forge = |seq: &str| {
        format!(
            "ALTER TABLE audit_events DISABLE TRIGGER ALL; INSERT INTO audit_events SELECT tenant_id, chain, {seq}, gen_random_uuid(), {} FROM audit_events {AT} AND seq = 5",
            COLUMNS[4..].join(", ")
        )
    };
    case(&mut client, &forge("9223372036854775807"), &["content_mismatch:acme:1", "gap:acme:1"]);
    case(
        &mut client,
        &forge("-9223372036854775808"),
        &["content_mismatch:acme:1", "fork:acme:1", "gap:acme:1"],
    );
    client.run(&format!("BEGIN; {}", forge("9223372036854775807")));
    drift(&mut client);
    client.run("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1");
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["chain_missing:acme:1", "content_mismatch:acme:1", "gap:acme:1"]);
    assert_eq!(client.line("SELECT state, events FROM audit_integrity('acme')"), "tampered|20");
    client.run("ROLLBACK");
}

#[test]
fn thousands_of_forged_events_are_one_alert_that_names_a_few() {
    let database = Database::audited("drift_many");
    let mut client = database.client();
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5000)");
    drift(&mut client);
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y'");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT fingerprint, evidence ->> 'events', evidence ->> 'first_seq', evidence ->> 'last_seq', jsonb_array_length(evidence -> 'places'), length(evidence::text) < 4000 FROM zeroauth_audit_internal.alerts"),
        "content_mismatch:acme:0|1000|4001|5000|5|t"
    );
    let place = "SELECT evidence #>> '{places,0,seq}', (evidence #>> '{places,0,event_id}')::uuid = event_id, evidence #>> '{places,0,expected}' = encode(event_hash, 'hex'), (evidence #>> '{places,0,actual}') <> encode(event_hash, 'hex')
                 FROM zeroauth_audit_internal.alerts, audit_events WHERE tenant_id = 'acme' AND seq = 4001";
    assert_eq!(client.line(place), "4001|t|t|t");
}

#[test]
fn an_alert_is_resolved_by_a_run_that_finds_the_events_again_but_not_before_a_person_acknowledged_it() {
    let (_database, mut client) = seen("drift_resolved");
    client.run("CREATE TABLE kept AS SELECT * FROM audit_events");
    let restore = |client: &mut Client, condition: &str| {
        client.run(&format!("DELETE FROM audit_events WHERE {condition}; INSERT INTO audit_events SELECT * FROM kept WHERE {condition}"));
    };
    let state = "SELECT string_agg(state || (condition_gone_at IS NOT NULL)::int, ' ' ORDER BY fingerprint) FROM zeroauth_audit_internal.alerts";
    client.run(
        "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 5; DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq = 5;
         DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 2 AND seq > 5; DELETE FROM audit_events WHERE tenant_id = 'globex'",
    );
    drift(&mut client);
    assert_eq!(
        alerts(&mut client),
        ["content_mismatch:acme:0", "gap:acme:1", "tail_truncated:acme:2", "tenant_missing:globex:"]
    );
    assert_eq!(client.line(state), "open0 open0 open0 open0");
    client.run("SELECT audit_alert_acknowledge(id, 'looking') FROM zeroauth_audit_internal.alerts WHERE kind IN ('content_mismatch', 'tail_truncated')");
    drift(&mut client);
    assert_eq!(client.line(state), "acknowledged0 open0 acknowledged0 open0", "nothing is gone yet");
    // Half of it back is not enough.
    restore(&mut client, "tenant_id = 'globex' AND chain < 2");
    restore(&mut client, "tenant_id = 'acme'");
    drift(&mut client);
    assert_eq!(client.line(state), "resolved0 open1 resolved0 open0");
    restore(&mut client, "tenant_id = 'globex'");
    drift(&mut client);
    assert_eq!(client.line(state), "resolved0 open1 resolved0 open1");
    client.run("SELECT audit_alert_acknowledge(id, 'it was a disk') FROM zeroauth_audit_internal.alerts WHERE state = 'open'");
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.drift_findings"), "0");
    assert_eq!(client.line("SELECT count(*) FROM audit_findings()"), "0");
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
}

#[test]
fn what_can_never_come_back_is_settled_by_hand_and_what_remains_is_watched_on() {
    let (_database, mut client) = seen("drift_settled");
    client.run("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq > 8");
    drift(&mut client);
    let settle = "SELECT audit_alert_acknowledge(id, 'a known restore') FROM zeroauth_audit_internal.alerts WHERE state = 'open'; SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'a known restore') FROM zeroauth_audit_internal.alerts WHERE state = 'acknowledged'";
    client.run(settle);
    for _ in 0..2 {
        drift(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0]);
    }
    // The shorter tail is what is remembered now.
    client.run("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq > 7");
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["tail_truncated:acme:1"]);
    assert_eq!(
        client.line("SELECT message FROM zeroauth_audit_internal.alerts WHERE state = 'open'"),
        "the newest events of chain 1 of tenant \"acme\" are gone: 1, from seq 8 on"
    );
    // An alert that the events themselves give is not settled by a word.
    client.run(settle);
    client
        .run("UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 5");
    drift(&mut client);
    client.run(settle);
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["content_mismatch:acme:0"]);
}

#[test]
fn a_tenant_can_have_a_number_of_rows_of_its_own() {
    let (_database, mut client) = seen("drift_override");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenants SET drift_rows = 3");
    // Three in all, and the head of each chain.
    client.run("BEGIN; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'globex' AND seq = 5");
    assert_eq!(drift(&mut client)["events"], 2 * 5);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.tenants (tenant_id, drift_rows) VALUES ('globex', 29), ('nobody', 5)");
    drift(&mut client);
    assert_eq!(
        alerts(&mut client),
        ["content_mismatch:globex:0", "content_mismatch:globex:1", "content_mismatch:globex:2"]
    );
    client.run("ROLLBACK");
    client.refused("23514", "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenants SET drift_rows = 0");
    client.refused("23514", "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenants SET drift_rows = 100001");
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.tenants WHERE first_seen IS NULL"),
        "0"
    );
}

#[test]
fn pitfall_23_what_could_not_be_checked_is_a_failed_run_and_neither_a_finding_nor_ok() {
    let (database, mut client) = seen("drift_could_not");
    let failed = |client: &mut Client| {
        let result =
            client.line("SELECT r ->> 'status', r ->> 'code', r ->> 'error' FROM zeroauth_audit_internal.run_job('drift') r");
        assert_eq!(alerts(client), [] as [&str; 0], "{result}");
        result
    };
    // The newest event of a chain, stored again where the indexes do not see it.
    let index = |ready: bool| {
        format!(
            "UPDATE pg_index SET indisready = {ready}, indisvalid = {ready} WHERE indrelid = 'audit_events'::regclass"
        )
    };
    client.run(&format!("CREATE TEMP TABLE kept AS SELECT * FROM audit_events {AT} AND seq = 10; DELETE FROM audit_events {AT} AND seq = 10; ALTER TABLE audit_events DISABLE TRIGGER ALL"));
    client.run(&index(false));
    client.run("INSERT INTO audit_events SELECT * FROM kept");
    client.run(&index(true));
    client.run("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain");
    assert_eq!(
        failed(&mut client),
        "failed|ZA006|could not check one place: tenant \"acme\": audit_events and its primary key do not show the same rows"
    );
    assert_eq!(
        client.lines("SELECT tenant_id, state, reasons FROM audit_integrity()"),
        ["acme|unchecked|{could_not_check}", "globex|ok|{}"]
    );
    client.run("REINDEX TABLE audit_events");
    drift(&mut client);
    assert_eq!(client.lines("SELECT tenant_id, state FROM audit_integrity()"), ["acme|ok", "globex|ok"]);
    // A snapshot that is older than what its own transaction wrote.
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert!(failed(&mut client).starts_with("failed|ZA006|could not check: "));
    client.run("ROLLBACK");
    // A tenant that cannot be read keeps no other from being checked.
    client.run("INSERT INTO audit_events (tenant_id, action, user_agent) SELECT 'broken', 'x', string_agg(md5(i::text), '') FROM generate_series(1, 2000) i; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'globex' AND seq = 5; CREATE EXTENSION pg_surgery");
    let toast =
        client.line("SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'audit_events'::regclass");
    client.run(&format!("SELECT heap_force_kill('{toast}'::regclass, ARRAY(SELECT ctid FROM {toast}))"));
    assert!(
        client
            .line("SELECT r ->> 'status', r ->> 'code', r ->> 'error' FROM zeroauth_audit_internal.run_job('drift') r")
            .starts_with("failed|ZA006|could not check one place: tenant \"broken\": XX00")
    );
    assert_eq!(
        alerts(&mut client),
        ["content_mismatch:globex:0", "content_mismatch:globex:1", "content_mismatch:globex:2"]
    );
    assert_eq!(
        client.line("SELECT state, reasons FROM audit_integrity('broken')"),
        "unchecked|{could_not_check,never_checked}"
    );
    drop(database);
}
